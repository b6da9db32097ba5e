package sched

import (
	"slices"
	"strconv"
	"strings"
)

// Newest lists the last n jobs and all that run, or only those that run, ascending.
func (s *State) Newest(n int, runningOnly bool) []uint64 {
	var ids []uint64
	for id := s.nextID - 1; id > 0 && n > 0 && !runningOnly; id-- {
		if s.index.mark[id] != 0 {
			ids = append(ids, id)
			n--
		}
	}
	slices.Reverse(ids)
	for id := range s.active {
		ids = insert(ids, id)
	}
	return ids
}

// Overview is a listing in which a matrix, or a tag, stands for its jobs.
type Overview struct {
	Jobs     []uint64
	Matrices []uint64
	Tags     []uint64
}

// Overview gives the last n rows and all that run, of jobs with ids above after. It looks at the
// newest rows first and stops when it has enough, so that it costs the same whatever the history.
func (s *State) Overview(n int, after uint64, runningOnly bool) Overview {
	var o Overview
	seen := map[uint64]bool{} // matrices and tags that have their row
	row := func(id uint64) {
		if c, ok := s.cellOf(id); ok {
			if !seen[c.matrix.Id] {
				seen[c.matrix.Id] = true
				o.Matrices = append(o.Matrices, c.matrix.Id)
				n--
			}
			return
		}
		if tag := s.tagOfJob(id); tag != 0 {
			if !seen[tag] {
				seen[tag] = true
				o.Tags = append(o.Tags, tag)
				n--
			}
			return
		}
		o.Jobs = insert(o.Jobs, id)
		n--
	}
	for id := s.nextID - 1; id > after && n > 0 && !runningOnly; id-- {
		if s.index.mark[id] == 0 {
			continue
		}
		row(id)
		if h := s.home(id); h != nil {
			id = h.first // the loop goes on below it
		} else if t := s.tags[s.tagOfJob(id)]; t != nil {
			id = t.runOf(id)
		}
	}
	for _, id := range s.Newest(0, true) {
		if id > after && !slices.Contains(o.Jobs, id) {
			row(id)
		}
	}
	slices.Sort(o.Matrices)
	slices.Sort(o.Tags)
	return o
}

// tagOfJob finds the tag of a job without decoding its record.
func (s *State) tagOfJob(id uint64) uint64 {
	if j := s.live[id]; j != nil {
		return j.Tag
	}
	for _, t := range s.tags {
		if t.has(id) {
			return t.Id
		}
	}
	return 0
}

// Count counts the given jobs.
func (s *State) Count(ids []uint64) Counts {
	var c Counts
	for _, id := range ids {
		c.add(s.index.mark[id], 1)
	}
	return c
}

// Cells lists the jobs that count for the cells of a matrix, ascending.
func (s *State) Cells(id uint64) []uint64 { return s.cells(s.matrices[id], Selector{}) }

// ForgetMatrix forgets all jobs of a matrix, canceling those that run.
func (s *State) ForgetMatrix(id uint64) Operation {
	m := s.matrices[id]
	ids := s.keep(s.cells(m, Selector{}), Selector{})
	for _, again := range m.Restarted { // and those that a newer one has taken the place of
		if s.index.mark[again.Job] != 0 {
			ids = append(ids, again.Job)
		}
	}
	for c := range m.Cells {
		if first := m.id(c); s.index.mark[first] != 0 && m.counting(c) != first {
			ids = append(ids, first)
		}
	}
	slices.Sort(ids)
	return Operation{Op: OpForget, Jobs: slices.Compact(ids)}
}

// Candidate completes a word of a command line.
type Candidate struct{ Value, Description string }

// Complete gives at most limit candidates of a kind that begin with the prefix, jobs the newest
// first.
func (s *State) Complete(kind, prefix string, limit int) []Candidate {
	var out []Candidate
	add := func(value, description string) {
		if len(out) < limit && strings.HasPrefix(value, prefix) {
			out = append(out, Candidate{value, description})
		}
	}
	switch kind {
	case "job":
		s.completeSelector(prefix, add)
		for id := s.nextID - 1; id > 0 && len(out) < limit; id-- {
			if s.index.mark[id] == 0 || !strings.HasPrefix(strconv.FormatUint(id, 10), prefix) {
				continue
			}
			add(strconv.FormatUint(id, 10), StatusName(s.Status(id))+" "+
				oneLine(string(s.Job(id).Cmd), 60))
		}
	case "machine":
		for _, addr := range s.Providers() {
			add(addr, s.providers[addr].Class+" partition of Slurm")
		}
		for _, addr := range s.Machines() {
			m := s.machines[addr]
			add(addr, strings.TrimSpace(m.Class+" "+string(m.link)))
		}
	case "class":
		for _, name := range s.Classes() {
			n := 0
			if c := s.classes[name]; c != nil {
				n = len(c.machines)
			}
			add(name, strconv.Itoa(n)+" machines")
		}
	case "tag":
		for _, id := range s.Tags() {
			add(s.tags[id].Name, strconv.Itoa(s.tags[id].counts.Total())+" jobs")
		}
	case "matrix":
		for i := len(s.order) - 1; i >= 0; i-- {
			m := s.order[i]
			add(strconv.FormatUint(m.Id, 10), oneLine(string(m.Template.Cmd), 60))
			if m.Name != "" {
				add(m.Name, oneLine(string(m.Template.Cmd), 60))
			}
		}
	case "axis":
		s.completeAxes(prefix, add)
	case "resource":
		for _, r := range s.Resources() {
			add(r.Name, "the pool has "+ResourceText(r.Resource))
		}
	case "need":
		s.completeNeeds(prefix, add)
	case "equipment":
		s.completeEquipment(prefix, add)
	case "with":
		s.completeWith(prefix, add)
	case "stage":
		s.completeStages(add)
	case "var":
		for _, v := range s.Vars() {
			if v.Secret {
				add(v.Name, "secret")
			} else {
				add(v.Name, oneLine(string(v.Value), 60))
			}
		}
	}
	return out
}

// completeSelector gives the selectors that begin like the prefix, when it begins like one at all.
func (s *State) completeSelector(prefix string, add func(value, description string)) {
	switch {
	case strings.HasPrefix(prefix, ":"):
		for _, name := range sorted(statusFilters) {
			if name != "cancelled" { // understood, but one spelling is enough to show
				add(":"+name, strconv.Itoa(s.counts.By[statusFilters[name]])+" jobs")
			}
		}
		add(":uncopied", "results still to copy, or failed to")
	case strings.HasPrefix(prefix, "%"):
		s.completeMatrix(prefix, add)
	case strings.HasPrefix(prefix, "@"):
		for _, id := range s.Tags() {
			add("@"+s.tags[id].Name, strconv.Itoa(s.tags[id].counts.Total())+" jobs")
		}
	case strings.HasPrefix(prefix, "class="):
		for _, name := range s.Classes() {
			add("class="+name, strconv.Itoa(len(s.classes[name].machines))+" machines")
		}
	case strings.HasPrefix(prefix, "machine="):
		for _, addr := range s.Machines() {
			add("machine="+addr, s.machines[addr].Class)
		}
	case prefix != "":
		for _, word := range []string{"last", "class=", "machine="} {
			add(word, "")
		}
	}
}
