package sched

import (
	"fmt"
	"time"

	"jobserver/sched/statepb"
)

// No second attempt runs while anything of the first lives, whatever has become of it: its machine
// was removed, its directory was, the user gave it up, or restarts it while it runs. A run that is
// given up is ended on its machine, which takes as long as the grace that it has; until that is
// known the job waits. Only where the machine can't be reached nobody knows: after unreachedFor the
// job goes on, and this is said.

// unreachedFor is how long a machine has to be out of reach before nobody waits any more for what
// may live there: longer than the grace that runs have.
const unreachedFor = time.Minute

// mayLive is an attempt, of a job or of the one that it restarts, of which something may live
// still.
type mayLive struct {
	job     uint64
	attempt int32
	machine string
}

func (l *mayLive) String() string {
	return fmt.Sprintf("attempt %d of job %d on %s", l.attempt, l.job, l.machine)
}

// livesStill is an attempt of which something may live and that may be a second one of the job, or
// nil. Whether its machine can be reached is another matter.
func (s *State) livesStill(j *statepb.Job) *mayLive {
	for _, o := range s.debts.living[j.Id] {
		return &mayLive{job: j.Id, attempt: o.Run.Attempt, machine: o.Run.Machine}
	}
	if j.RestartOf == 0 {
		return nil
	}
	for _, o := range s.debts.living[j.RestartOf] {
		return &mayLive{job: j.RestartOf, attempt: o.Run.Attempt, machine: o.Run.Machine}
	}
	if old := s.live[j.RestartOf]; old != nil && old.Status == Running && old.Canceling {
		return &mayLive{job: old.Id, attempt: last(old.Job).Number, machine: last(old.Job).Machine}
	}
	return nil
}

// lingers is what a job that waits has to wait for, as it may live still, or nil.
func (s *State) lingers(j *statepb.Job) *mayLive {
	if l := s.livesStill(j); l != nil && s.reached(l.machine) {
		return l
	}
	return nil
}

// reached says that a machine can be reached, or could until a moment ago, or that this isn't known
// yet.
func (s *State) reached(addr string) bool {
	since, away := s.unreached[addr]
	return !away || s.looked < since+int64(unreachedFor)
}

// reach notes whether a machine can be reached, also one that isn't in the pool any more.
func (s *State) reach(addr string, reached bool, now time.Time) {
	_, away := s.unreached[addr]
	switch {
	case reached:
		delete(s.unreached, addr)
	case !away:
		s.unreached[addr] = now.UnixNano()
	}
}

// endLingering queues the jobs that waited for something to end that has ended, or of which nobody
// knows any more.
func (s *State) endLingering() {
	if len(s.lingering) == 0 {
		return
	}
	over := map[uint64]bool{}
	for id, j := range s.lingering {
		if s.lingers(j.Job) == nil {
			over[id] = true
		}
	}
	for _, id := range sortedIDs(over) {
		s.enqueue(s.lingering[id])
	}
}

// lingersUntil is when a job stops waiting for what may live on a machine that is out of reach; 0:
// not for that reason.
func (s *State) lingersUntil(j *statepb.Job) int64 {
	if l := s.lingers(j); l != nil {
		if since, away := s.unreached[l.machine]; away {
			return since + int64(unreachedFor)
		}
	}
	return 0
}

// whyLingers says what a job waits for that may live still, "" for nothing.
func (s *State) whyLingers(j *statepb.Job, now time.Time) string {
	l := s.lingers(j)
	if l == nil {
		return ""
	}
	text := fmt.Sprintf("it waits until %s has ended", l)
	if until := s.lingersUntil(j); until != 0 {
		text += fmt.Sprintf(", which can't be reached, and for another %s at most", Time(until).
			Sub(now).Round(time.Second))
	}
	return text
}
