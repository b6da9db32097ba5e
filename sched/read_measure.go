package sched

import "time"

// What those ask who measure the daemon. None of it costs more with a longer history.

// CountsByClass counts the jobs of each class that has any.
func (s *State) CountsByClass() map[string]Counts {
	counts := map[string]Counts{}
	for class, c := range s.index.counts {
		if c != (Counts{}) {
			counts[s.index.names[class]] = c
		}
	}
	return counts
}

// WaitingSince says of each class with a queue since when the job at its head has waited: since its
// submission, or since its retry was due.
func (s *State) WaitingSince() map[string]time.Time {
	since := map[string]time.Time{}
	for name, c := range s.classes {
		if len(c.line) > 0 {
			first := c.line[0].first()
			j := first.record()
			at := max(j.SubmittedAt, j.NotBefore)
			if m := first.matrix; m != nil {
				at = m.SubmittedAt
			}
			since[name] = Time(at)
		}
	}
	return since
}

// CountPaused counts the jobs that are paused, or are to be.
func (s *State) CountPaused() (n int) {
	for id := range s.active {
		if j := s.live[id]; j != nil && PauseOf(j.Job) != "" {
			n++
		}
	}
	return n
}

// CountBlocked counts the jobs that wait for what can't come at present.
func (s *State) CountBlocked() (n int) {
	for _, m := range s.order {
		switch {
		case m.gate != nil && m.gate.door == doorBlocked:
			if !m.Held {
				n += m.untouched // the others are behind the gate themselves, unless they are free
			}
		case m.relation != nil && !m.relation.stale:
			n += m.relation.stuckCells
		}
	}
	for _, g := range s.gates.byKey {
		if g.door != doorBlocked {
			continue
		}
		for _, j := range g.jobs {
			n += b2i(j.Status == Waiting)
		}
	}
	return n
}
