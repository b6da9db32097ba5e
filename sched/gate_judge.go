package sched

import (
	"slices"

	"jobserver/sched/statepb"
)

// verdict tells those who wait for a job what it means for them.
type verdict uint8

const (
	pending  verdict = iota // it hasn't ended
	stuck                   // it hasn't ended, and can't at present
	good                    // it is done, and its results, if it named any, are on the host
	uncopied                // it is done, and its results could not be copied
	bad                     // it failed, was lost or canceled
	verdicts
)

// tellings counts jobs by verdict.
type tellings [verdicts]int

// door says whether those behind a gate may start.
type door uint8

const (
	doorWaits    door = iota // for what hasn't ended
	doorOpen                 // they may start
	doorBlocked              // they can't, unless what they wait for is run again
	doorUnneeded             // they are to run only if something fails, and nothing did
)

// verdictOf tells of a root what those are told who wait for it.
func (s *State) verdictOf(root uint64) verdict {
	id := s.newest(root)
	if id == 0 {
		if v, known := s.gates.last[root]; known {
			return v
		}
		return bad
	}
	if v := told(s.index.mark[id]); v != pending || !s.isBlocked(id) {
		return v
	}
	return stuck
}

// told is the verdict that a status gives.
func told(mark uint8) verdict {
	switch Status(mark & 0x0f) {
	case Done:
		if statepb.Results(mark>>4) == statepb.Results_RESULTS_FAILED {
			return uncopied
		}
		return good
	case Failed, Lost, Canceled:
		return bad
	}
	return pending
}

// isBlocked says that a job waits for something that can't come at present.
func (s *State) isBlocked(id uint64) bool {
	switch s.index.status(id) {
	case Waiting:
	case Held:
		return s.heldBack(id) != ""
	default:
		return false
	}
	after, g := (*statepb.After)(nil), (*gate)(nil)
	c, inMatrix := s.cellOf(id)
	if j := s.live[id]; j != nil {
		after, g = j.After, j.gate
	} else if inMatrix {
		after, g = c.matrix.Template.After, c.matrix.gate
	}
	if g != nil && g.door == doorBlocked {
		return true
	}
	return inMatrix && after.GetCells() != 0 && c.matrix.relation.isStuck(c.cell)
}

// mayStart says that nothing that a job waits for keeps it from being dispatched.
func (s *State) mayStart(j *job) bool {
	if j.gate != nil && j.gate.door != doorOpen || !s.isDue(j.Job, j.Id, &j.released, &j.timed) {
		return false
	}
	if j.After.GetCells() == 0 {
		return true
	}
	m := s.matrices[j.Matrix]
	return m == nil || m.relation.isReady(uint32(j.Cell))
}

// noted tells those who wait for a job, or for its matrix, that its status has changed.
func (s *State) noted(id uint64) {
	c, inMatrix := s.cellOf(id)
	if len(s.gates.watch) == 0 && (!inMatrix || c.matrix.isLoose()) {
		return
	}
	root := s.rootOf(id)
	if v, known := s.gates.last[root]; known && s.newest(root) != 0 { // it runs again
		delete(s.gates.last, root)
		if inMatrix {
			c.matrix.gone[v]--
		}
	}
	s.retell(id)
}

// retell brings what is told of a job, and of the cell that it runs, up to date. Whether the cell
// waits in vain comes first, as the verdict on it depends on that.
func (s *State) retell(id uint64) {
	c, inMatrix := s.cellOf(id)
	if inMatrix {
		s.restick(c.matrix, c.cell)
	}
	s.rejudge(s.rootOf(id))
	if !inMatrix {
		return
	}
	for _, f := range c.matrix.followers {
		s.cellTold(f, c.cell)
	}
	for _, t := range c.matrix.watchers {
		s.regate(t.gate)
	}
}

// isLoose says that a matrix waits for nothing cell by cell, and nobody for it.
func (m *matrix) isLoose() bool {
	return m.relation == nil && len(m.followers)+len(m.watchers) == 0
}

// rejudge brings what is told of a root up to date.
func (s *State) rejudge(root uint64) {
	w := s.gates.watch[root]
	if w == nil {
		return
	}
	v := s.verdictOf(root)
	if v == w.verdict {
		return
	}
	old := w.verdict
	w.verdict = v
	for _, t := range w.terms {
		t.roots[old]--
		t.roots[v]++
	}
	for _, t := range slices.Clone(w.terms) {
		s.regate(t.gate)
	}
}

// tellingsOf counts the cells of a matrix by what is told of them.
func (m *matrix) tellingsOf() tellings {
	t := m.gone
	by := m.counts.By
	t[good] += by[Done] - m.counts.Uncopied
	t[uncopied] += m.counts.Uncopied
	t[bad] += by[Failed] + by[Canceled] + by[Lost]
	t[pending] += by[Waiting] + by[Held] + by[Running] + by[Copying]
	blocked := len(m.heldBack) + m.apartBlocked
	switch {
	case m.gate != nil && m.gate.door == doorBlocked:
		blocked += by[Waiting] - len(m.apart)
	case m.relation != nil:
		blocked += m.relation.stuckCells
	}
	t[stuck] += blocked
	t[pending] -= blocked
	return t
}

// judge says whether those behind a gate may start.
func (g *gate) judge() door {
	is := doorOpen
	for _, t := range g.terms {
		switch d := t.judge(); {
		case d == doorUnneeded || is == doorUnneeded:
			is = doorUnneeded
		case d == doorBlocked || is == doorBlocked:
			is = doorBlocked
		case d == doorWaits:
			is = doorWaits
		}
	}
	return is
}

func (t *term) all() tellings {
	n := t.roots
	for _, m := range t.matrices {
		for v, k := range m.tellingsOf() {
			n[v] += k
		}
	}
	return n
}

func (t *term) judge() door {
	n := t.all()
	switch {
	case n[stuck] > 0, t.when == statepb.When_ALL_DONE && n[bad]+n[uncopied] > 0:
		return doorBlocked
	case n[pending] > 0:
		return doorWaits
	case t.when == statepb.When_ONE_FAILED && n[bad] == 0:
		return doorUnneeded
	}
	return doorOpen
}

// direct says that what blocks a gate is an end, and not that something waits in vain itself.
func (g *gate) direct() bool {
	for _, t := range g.terms {
		if n := t.all(); n[stuck] > 0 {
			return false
		}
	}
	return true
}
