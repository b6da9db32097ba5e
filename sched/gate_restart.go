package sched

import (
	"maps"
	"slices"

	"jobserver/sched/statepb"
)

// Which job counts: the newest job of a cell, and the newest restart of a job; of one that was
// forgotten, the one before, and of one of which nothing is left, how it last was. So each is known
// by its root: the first job of its cell, or the job that was restarted first.

// rootOf is the job by which a job and all that ran it again are known.
func (s *State) rootOf(id uint64) uint64 {
	if c, ok := s.cellOf(id); ok {
		return c.matrix.id(c.cell)
	}
	if root := s.gates.roots[id]; root != 0 {
		return root
	}
	return id
}

// newest is the job that counts for a root: the newest that there is, 0 when nothing is left.
func (s *State) newest(root uint64) uint64 {
	var later []uint64
	if c, ok := s.cellOf(root); ok {
		later = c.matrix.again[c.cell]
	} else {
		later = s.gates.restarts[root]
	}
	for _, id := range slices.Backward(later) {
		if s.index.mark[id] != 0 {
			return id
		}
	}
	if s.index.mark[root] != 0 {
		return root
	}
	return 0
}

// restarted notes that a job of no matrix runs another one again. One that is like a cell and isn't
// in its place is none of these: it begins a root of its own.
func (s *State) restarted(id, of uint64) {
	if _, ok := s.cellOf(of); ok {
		return
	}
	root := s.rootOf(of)
	s.gates.roots[id] = root
	s.gates.restarts[root] = append(s.gates.restarts[root], id)
}

// forgetRoot drops what is known of a root for those alone who wait for it.
func (s *State) forgetRoot(root uint64) {
	if s.isWatching(root) || s.newest(root) != 0 {
		return
	}
	if v, known := s.gates.last[root]; known {
		delete(s.gates.last, root)
		if c, ok := s.cellOf(root); ok {
			c.matrix.gone[v]--
		}
	}
	for _, id := range s.gates.restarts[root] {
		delete(s.gates.roots, id)
	}
	delete(s.gates.restarts, root)
}

// forgetLast drops it of all cells of a matrix for which nobody waits any more.
func (s *State) forgetLast(m *matrix) {
	if len(m.watchers)+len(m.followers) > 0 || m.gone == (tellings{}) {
		return
	}
	for c := range m.Cells {
		s.forgetRoot(m.id(c))
	}
}

// forgetting notes how a job was that is about to be forgotten, if it is the last of its root.
func (s *State) forgetting(id uint64) {
	root := s.rootOf(id)
	if s.newest(root) != id || !s.isWatching(root) {
		return
	}
	mark := s.index.mark[id]
	s.index.mark[id] = 0
	left := s.newest(root)
	s.index.mark[id] = mark
	if left != 0 {
		return
	}
	v := told(mark)
	s.gates.last[root] = v
	if c, ok := s.cellOf(root); ok {
		c.matrix.gone[v]++
	}
}

// restartsRecord and lastRecord are what of gates is durable, by id.
func (s *State) restartsRecord() *statepb.Restarts {
	r := &statepb.Restarts{}
	for _, id := range slices.Sorted(maps.Keys(s.gates.roots)) {
		r.Job, r.Of = append(r.Job, id), append(r.Of, s.gates.roots[id])
	}
	return r
}

func (s *State) lastRecord() *statepb.Last {
	r := &statepb.Last{}
	for _, id := range slices.Sorted(maps.Keys(s.gates.last)) {
		r.Job = append(r.Job, id)
		r.Verdict = append(r.Verdict, byte(s.gates.last[id]))
	}
	return r
}
