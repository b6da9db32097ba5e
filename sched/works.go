package sched

import (
	"slices"

	"jobserver/sched/statepb"
)

// keptWorks is how many matrices and commands are remembered with the machines that they succeeded on, and
// keptSuccesses how many machines of each: two suffice to know that another one can.
const (
	keptWorks     = 10_000
	keptSuccesses = 2
)

// works says which machines have succeeded with a matrix or a command, for the newest of them.
type works struct {
	machines map[string][]string
	order    []string // a ring once it is full
	next     int
}

func newWorks() works { return works{machines: map[string][]string{}} }

// add notes a success, and says whether it is news.
func (w *works) add(work, addr string) bool {
	have, known := w.machines[work]
	if slices.Contains(have, addr) {
		return false
	}
	if len(have) == keptSuccesses { // the oldest may have left the pool long ago
		have = append(have[:0], have[1:]...)
	}
	w.machines[work] = append(have, addr)
	if known {
		return true
	}
	if len(w.order) < keptWorks {
		w.order = append(w.order, work)
		return true
	}
	delete(w.machines, w.order[w.next])
	w.order[w.next] = work
	w.next = (w.next + 1) % keptWorks
	return true
}

// others are the machines of the class, but for this one, that have succeeded with the work, of those that are remembered.
func (w *works) others(work, addr string, c *class) []string {
	var found []string
	for _, a := range w.machines[work] {
		if a != addr && slices.ContainsFunc(c.machines, func(m *machine) bool { return m.Addr == a }) {
			found = append(found, a)
		}
	}
	return found
}

// each visits them, oldest first.
func (w *works) each(f func(*statepb.Work) error) error {
	for i := range w.order {
		work := w.order[(w.next+i)%len(w.order)]
		if err := f(&statepb.Work{Key: work, Machines: w.machines[work]}); err != nil {
			return err
		}
	}
	return nil
}
