package sched

import "slices"

// AwaitedBy lists the jobs that a job has waited for, as far as they are there, ascending: of each
// the newest restart, of each cell the newest job.
func (s *State) AwaitedBy(job uint64) []uint64 {
	j := s.Job(job)
	if j == nil {
		return nil
	}
	var ids []uint64
	add := func(id uint64) {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	for _, t := range j.After.GetTerms() {
		for _, span := range t.Jobs {
			for id := span.First; id <= span.Last; id++ {
				add(s.newest(s.rootOf(id)))
			}
		}
		for _, id := range t.Matrices {
			if m := s.matrices[id]; m != nil {
				for c := range m.Cells {
					add(s.newest(m.id(c)))
				}
			}
		}
	}
	m := s.matrices[j.Matrix]
	if j.After.GetCells() != 0 && m != nil && m.relation != nil && !m.relation.stale {
		r := m.relation
		for _, c := range r.awaited(uint32(j.Cell)) {
			add(s.newest(r.of.id(c)))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// awaited are the cells of the other matrix that a cell waits for.
func (r *relation) awaited(c uint32) []uint32 {
	g, ok := r.groupOf(r.matrix.Matrix, r.of.Matrix, c)
	switch {
	case !ok:
		return nil
	case r.group(g).cells == 1:
		return []uint32{r.group(g).newest}
	case r.others == nil: // wanted by few, and made once for all of them
		r.others = make([][]uint32, len(r.groups))
		for other := range r.of.Cells {
			if g := r.groupOfOther(other); r.group(g).cells > 1 {
				r.others[g] = append(r.others[g], other)
			}
		}
	}
	return r.others[g]
}
