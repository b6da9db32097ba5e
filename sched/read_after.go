package sched

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"jobserver/sched/statepb"
)

// What a job waits for, in words.

// firstTold is the first job of a term of which something is told, 0 for none. For a cell it is the
// job that counts.
func (s *State) firstTold(t *statepb.Term, v verdict) uint64 {
	for _, span := range t.Jobs {
		for id := span.First; id <= span.Last; id++ {
			if s.verdictOf(s.rootOf(id)) == v {
				return s.counts1(id)
			}
		}
	}
	for _, id := range t.Matrices {
		m := s.matrices[id]
		if m == nil || m.tellingsOf()[v] == 0 {
			continue
		}
		for c := range m.Cells {
			if s.verdictOf(m.id(c)) == v {
				return s.counts1(m.id(c))
			}
		}
	}
	return 0
}

// counts1 is the job that counts for one, or itself when nothing is left.
func (s *State) counts1(id uint64) uint64 {
	if newest := s.newest(s.rootOf(id)); newest != 0 {
		return newest
	}
	return id
}

// toldWords says of a job why others wait for it.
func (s *State) toldWords(id uint64, v verdict) string {
	switch {
	case v == stuck && s.heldBack(id) != "":
		return "is held: " + s.heldBack(id)
	case v == stuck:
		return "is blocked itself"
	case v == uncopied:
		return "has succeeded, but its results were not copied, or not all of them"
	case v == pending:
		return "is " + StatusName(s.Status(id))
	case s.Status(id) == 0:
		return "did not succeed, and was forgotten"
	case s.Status(id) == Canceled:
		return "was canceled"
	case s.Status(id) == Lost:
		return "is lost"
	}
	return StatusName(s.Status(id))
}

// whyDoor says in a few words what keeps a gate from opening.
func (s *State) whyDoor(g *gate) string {
	for _, v := range []verdict{stuck, bad, uncopied, pending} {
		for i, t := range g.terms {
			if t.when != statepb.When_ALL_DONE && (v == bad || v == uncopied) || t.all()[v] == 0 {
				continue
			}
			rec := g.after.Terms[i]
			id := s.firstTold(rec, v)
			what := fmt.Sprintf("job %d %s", id, s.toldWords(id, v))
			if n := t.all()[v]; n > 1 {
				what += fmt.Sprintf(", and %d others of %s", n-1, rec.Text)
			}
			return what
		}
	}
	return ""
}

// whyCell says what keeps a cell that waits for cells.
func (s *State) whyCell(m *matrix, c uint32) string {
	id, v := s.cellHolder(m, c)
	if id == 0 {
		return fmt.Sprintf("matrix %d has no cell like it", m.relation.of.Id)
	}
	return fmt.Sprintf("job %d of matrix %d %s", id, m.relation.of.Id, s.toldWords(id, v))
}

// cellHolder is the first job for which a cell waits, the worst first, 0 when there is no cell like
// it.
func (s *State) cellHolder(m *matrix, c uint32) (uint64, verdict) {
	r := m.relation
	mine, ok := r.groupOf(m.Matrix, r.of.Matrix, c)
	if !ok {
		return 0, bad
	}
	for _, v := range []verdict{bad, uncopied, stuck, pending} {
		for other := range r.of.Cells {
			if r.told[other] == v && r.groupOfOther(other) == mine {
				return s.counts1(r.of.id(other)), v
			}
		}
	}
	return 0, pending
}

// WithDependents adds to some jobs those that wait for them, and those that wait for these,
// ascending. Of what runs already nothing is added: it doesn't wait any more.
func (s *State) WithDependents(ids []uint64) []uint64 {
	all := map[uint64]bool{}
	var add func(id uint64)
	behind := func(g *gate) {
		for _, id := range slices.Sorted(maps.Keys(g.jobs)) {
			add(id)
		}
		for _, id := range slices.Sorted(maps.Keys(g.matrices)) {
			for c := range g.matrices[id].Cells {
				add(g.matrices[id].counting(c))
			}
		}
	}
	expand := func(id uint64) {
		if w := s.gates.watch[s.rootOf(id)]; w != nil {
			for _, t := range w.terms {
				behind(t.gate)
			}
		}
		c, ok := s.cellOf(id)
		if !ok {
			return
		}
		for _, t := range c.matrix.watchers {
			behind(t.gate)
		}
		for _, f := range c.matrix.followers {
			for _, own := range f.relation.waiting(f.relation.groupOfOther(c.cell)) {
				add(f.counting(own))
			}
		}
	}
	add = func(id uint64) {
		if status := s.Status(id); !all[id] && (status == Waiting || status == Held) {
			all[id] = true
			expand(id)
		}
	}
	for _, id := range ids {
		expand(id)
	}
	for _, id := range ids {
		all[id] = true
	}
	return sortedIDs(all)
}

// IsBlocked says that a job waits for something that can't come at present.
func (s *State) IsBlocked(id uint64) bool {
	return s.index.status(id) == Waiting && s.isBlocked(id)
}

// CanMove says that a job which hasn't ended may go on without anybody's doing.
func (s *State) CanMove(id uint64) bool { return !s.isBlocked(id) }

// AfterText writes what a job waits for, as it was asked for: one text for each flag.
func AfterText(a *statepb.After) []string {
	var out []string
	for _, t := range a.GetTerms() {
		flag := map[statepb.When]string{
			statepb.When_ALL_DONE: "after", statepb.When_ALL_ENDED: "after-any",
			statepb.When_ONE_FAILED: "after-failed",
		}[t.When]
		out = append(out, flag+" "+t.Text)
	}
	if a.GetCells() != 0 {
		out = append(out, fmt.Sprintf("after-cell %d", a.Cells))
	}
	return out
}

// AfterNames writes what a matrix waits for, with the names of other matrices where they have any.
func (s *State) AfterNames(a *statepb.After) []string {
	name := func(id uint64) string {
		if m := s.matrices[id]; m != nil && m.Name != "" && s.named[m.Name] == id {
			return m.Name
		}
		return fmt.Sprint(id)
	}
	out := AfterText(a)
	for i, t := range a.GetTerms() {
		if len(t.Jobs) > 0 {
			continue
		}
		flag, _, _ := strings.Cut(out[i], " ")
		var names []string
		for _, id := range t.Matrices {
			names = append(names, "%"+name(id))
		}
		out[i] = flag + " " + strings.Join(names, " ")
	}
	if a.GetCells() != 0 {
		out[len(out)-1] = "after-cell " + name(a.Cells)
	}
	return out
}

// whyAfter explains a job that waits for others; ok is false when it doesn't.
func (s *State) whyAfter(j *statepb.Job) (r Reasoning, ok bool) {
	g := s.gateFor(j)
	m := s.matrices[j.Matrix]
	var holder uint64
	var v verdict
	switch {
	case g != nil && g.door != doorOpen:
		r.Summary = s.whyDoor(g)
		for _, v = range []verdict{stuck, bad, uncopied, pending} {
			for i, t := range g.terms {
				if holder == 0 && t.all()[v] > 0 &&
					(t.when == statepb.When_ALL_DONE || v == stuck || v == pending) {
					holder = s.firstTold(g.after.Terms[i], v)
				}
			}
			if holder != 0 {
				break
			}
		}
	case j.After.GetCells() != 0 && m != nil && m.relation != nil &&
		!m.relation.isReady(uint32(j.Cell)):
		r.Summary = s.whyCell(m, uint32(j.Cell))
		holder, v = s.cellHolder(m, uint32(j.Cell))
	default:
		return r, false
	}
	r.Details = append(r.Details, "it is to run "+strings.Join(AfterText(j.After), " and "))
	if !s.isBlocked(j.Id) {
		r.Summary = "it waits for other jobs: " + r.Summary
		return r, true
	}
	r.Summary = "it is blocked: " + r.Summary
	free := fmt.Sprintf("`jobserver job unhold %d` lets it run without", j.Id)
	switch {
	case v == stuck:
		r.Hint = fmt.Sprintf("`jobserver why %d` says why that one is; %s", holder, free)
	case v == uncopied:
		r.Hint = fmt.Sprintf("`jobserver job recopy %d` copies them again; %s", holder, free)
	case holder != 0 && s.Status(holder) != 0:
		r.Hint = fmt.Sprintf("`jobserver job restart %d` runs that one again; %s", holder, free)
	default:
		r.Hint = free
	}
	return r, true
}

// gateFor is the gate of a job that has a record or not.
func (s *State) gateFor(j *statepb.Job) *gate {
	if live := s.live[j.Id]; live != nil {
		return live.gate
	}
	if m := s.matrices[j.Matrix]; m != nil && !Final(j.Status) {
		return m.gate
	}
	return nil
}

// aboutBlocked tells of what the newest change has blocked: once for each cause, however many wait
// for it.
func (s *State) aboutBlocked(e Event) (events []Event) {
	for _, g := range s.gates.blocked {
		var ids []uint64
		n := 0
		for _, id := range slices.Sorted(maps.Keys(g.jobs)) {
			if g.jobs[id].Status == Waiting {
				ids = append(ids, id)
			}
		}
		n = len(ids)
		for _, id := range slices.Sorted(maps.Keys(g.matrices)) {
			m := g.matrices[id]
			if n += m.untouched; len(ids) == 0 && m.untouched > 0 {
				ids = append(ids, m.id(m.firstUntouched()))
			}
		}
		if n > 0 {
			events = append(events, s.aboutOneBlocked(e, ids[0], n, s.whyDoor(g)))
		}
	}
	for _, b := range s.gates.cells {
		first, n := uint64(0), 0
		for _, c := range b.cells {
			if b.matrix.relation.isStuck(c) {
				if n++; first == 0 {
					first = b.matrix.counting(c)
				}
			}
		}
		if n > 0 {
			why := fmt.Sprintf("job %d did not succeed", b.by)
			if b.by != 0 {
				why = fmt.Sprintf("job %d %s", b.by, s.toldWords(b.by, told(s.index.mark[b.by])))
			}
			events = append(events, s.aboutOneBlocked(e, first, n, why))
		}
	}
	return events
}

func (s *State) aboutOneBlocked(e Event, id uint64, n int, why string) Event {
	e.Kind, e.Warn, e.Cause = EventJobBlocked, true, why
	what := fmt.Sprintf("job %d can't start", id)
	if n > 1 {
		what = fmt.Sprintf("job %d and %d others can't start", id, n-1)
	}
	return s.aboutJob(e, id, "%s: %s", what, why)
}

// firstUntouched is the first cell that has no record, whatever it waits for; Cells when there is
// none.
func (m *matrix) firstUntouched() uint32 {
	c := uint32(0)
	for c < m.Cells && m.isTouched(c) {
		c++
	}
	return c
}
