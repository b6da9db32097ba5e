package sched

import (
	"fmt"
	"slices"
	"strings"

	"jobserver/sched/statepb"
)

// Whose fault is it? A machine that fails every job would eat the queue, since it is free again at once; a matrix that can't
// succeed would empty the class, if its failures were counted against the machines. So four failures in a row, of
// different jobs, only make a machine suspect. Another machine of its class decides: if it has succeeded with
// the same matrix or command, the suspect is set aside in CLASS-broken; until then it rests. If another machine
// fails four times as well, the work is to blame: a matrix is held, and both go on.

// failuresInRow is how many different jobs have to fail in a row before a machine is suspect.
const failuresInRow = 4

// brokenSuffix makes the class in which machines of a class are set aside.
const brokenSuffix = "-broken"

// unknownHostClass is where machines go whose host key isn't the one on record.
const unknownHostClass = "error-unknown-host"

// workOf names what a job runs, so that failures and successes of the same work can be compared.
func workOf(j *statepb.Job) string {
	if j.Matrix != 0 {
		return fmt.Sprintf("%%%d", j.Matrix)
	}
	return string(j.Cmd)
}

// blame counts a failure against the machine, once for each job.
func (s *State) blame(j *job, a *statepb.Attempt) {
	m := s.machines[a.Machine]
	if m == nil {
		return
	}
	f := &statepb.Failure{Job: j.Id, Work: workOf(j.Job), Error: Reason(a)}
	m.LastError = fmt.Sprintf("job %d %s", j.Id, f.Error)
	if slices.ContainsFunc(m.Failures, func(o *statepb.Failure) bool { return o.Job == j.Id }) {
		return
	}
	m.Failures = append(m.Failures, f)
	if n := len(m.Failures); n > 2*failuresInRow {
		m.Failures = slices.Delete(m.Failures, 0, n-2*failuresInRow)
	}
	s.dirty[m.Class] = true
}

// worked clears the machine, and remembers that the work can succeed there.
func (s *State) worked(j *job, a *statepb.Attempt) {
	m := s.machines[a.Machine]
	if m == nil {
		return
	}
	m.Failures = nil
	if s.works.add(workOf(j.Job), a.Machine) {
		s.dirty[m.Class] = true
	}
}

// judge says what becomes of the suspects of a class, or nil.
func (s *State) judge(c *class) *Change {
	if strings.HasSuffix(c.name, brokenSuffix) || c.name == unknownHostClass || c.name == "" {
		return nil
	}
	var resting []*machine
	for _, m := range c.machines {
		if !m.resting() {
			continue
		}
		reason := fmt.Sprintf("%d jobs in a row failed here, the last: %s", len(m.Failures), m.LastError)
		if len(c.machines) == 1 {
			return moved(m.Addr, c.name+brokenSuffix, reason)
		}
		for _, f := range m.Failures {
			if other := s.works.other(f.Work, m.Addr, c); other != "" {
				return moved(m.Addr, c.name+brokenSuffix, reason+"; the same work succeeded on "+other)
			}
		}
		resting = append(resting, m)
	}
	if len(resting) < 2 {
		return nil
	}
	// Two machines fail alike: the work is to blame. A matrix that failed on both is held first, so that it doesn't go on
	// failing; then all of them are cleared.
	for _, f := range resting[0].Failures {
		id := matrixOfWork(f.Work)
		m := s.matrices[id]
		if m == nil || m.Held || !slices.ContainsFunc(resting[1].Failures, func(o *statepb.Failure) bool { return o.Work == f.Work }) {
			continue
		}
		return &Change{MatrixHeld: &statepb.MatrixHeld{Matrix: id, Held: true, Why: fmt.Sprintf(
			"%d jobs in a row failed on %s and on %s, the last: %s", failuresInRow, resting[0].Addr, resting[1].Addr, f.Error)}}
	}
	cleared := &statepb.MachineCleared{Addr: resting[0].Addr}
	for _, m := range resting[1:] {
		cleared.Others = append(cleared.Others, m.Addr)
	}
	return &Change{MachineCleared: cleared}
}

func moved(addr, class, reason string) *Change {
	return &Change{MachineMoved: &statepb.MachineMoved{Addr: addr, Class: class, Reason: reason}}
}

func matrixOfWork(work string) (id uint64) {
	if n, err := fmt.Sscanf(work, "%%%d", &id); n != 1 || err != nil {
		return 0
	}
	return id
}

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
	if slices.Contains(have, addr) || len(have) >= keptSuccesses {
		return false
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

// other is a machine of the class, not this one, that has succeeded with the work.
func (w *works) other(work, addr string, c *class) string {
	for _, a := range w.machines[work] {
		if a != addr && slices.ContainsFunc(c.machines, func(m *machine) bool { return m.Addr == a }) {
			return a
		}
	}
	return ""
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
