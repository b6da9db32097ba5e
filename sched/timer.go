package sched

import (
	"container/heap"

	"jobserver/sched/statepb"
)

// Jobs that aren't to start before some time. A clock that is set forward starts them early by the
// clock that they were given, one that is set back late; never twice, as what has been released
// stays so.

// timer is the time from which a job, or a matrix, may start.
type timer struct {
	at  int64
	id  uint64 // of either
	pos int
}

func (t *timer) before(o *timer) bool {
	if t.at != o.at {
		return t.at < o.at
	}
	return t.id < o.id
}
func (t *timer) place() *int { return &t.pos }

// isDue says that the time has come from which a job may start, and has it looked at again when it
// comes else.
func (s *State) isDue(j *statepb.Job, id uint64, released *bool, waits *int64) bool {
	switch {
	case j.StartAfter == 0, *released:
		return true
	case j.StartAfter <= s.looked:
		*released = true
		return true
	}
	if *waits != j.StartAfter {
		*waits = j.StartAfter
		heap.Push(&s.timers, &timer{at: j.StartAfter, id: id})
	}
	return false
}

// ring queues what may start now.
func (s *State) ring() {
	for len(s.timers) > 0 && s.timers[0].at <= s.looked {
		t := heap.Pop(&s.timers).(*timer)
		if j := s.live[t.id]; j != nil {
			s.enqueue(j)
		} else if m := s.matrices[t.id]; m != nil {
			s.queueMatrix(m)
			for _, id := range s.liveOf(m) {
				s.enqueue(s.live[id])
			}
		}
	}
}
