package sched

import "jobserver/sched/statepb"

// keptWorks is of how many matrices and commands the need is remembered, the newest.
const keptWorks = 10_000

// works says of matrices and commands how many of their failures in a row say anything, where that
// isn't firstNeed.
type works struct {
	needs map[string]int
	order []string // a ring once it is full
	next  int
}

func newWorks() works { return works{needs: map[string]int{}} }

func (w *works) need(work string) int {
	if n, ok := w.needs[work]; ok {
		return n
	}
	return firstNeed
}

// double raises the need of a work: its failures have said nothing.
func (w *works) double(work string) { w.set(work, min(2*w.need(work), maxNeed)) }

func (w *works) set(work string, need int) {
	if _, known := w.needs[work]; !known {
		if len(w.order) < keptWorks {
			w.order = append(w.order, work)
		} else {
			delete(w.needs, w.order[w.next])
			w.order[w.next] = work
			w.next = (w.next + 1) % keptWorks
		}
	}
	w.needs[work] = need
}

// each visits them, oldest first.
func (w *works) each(f func(*statepb.Work) error) error {
	for i := range w.order {
		work := w.order[(w.next+i)%len(w.order)]
		if err := f(&statepb.Work{Key: work, Need: int32(w.needs[work])}); err != nil {
			return err
		}
	}
	return nil
}
