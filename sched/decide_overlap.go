package sched

import (
	"fmt"
	"slices"
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

// mayLive is an attempt, of a job or of one that it runs again, of which something may live still.
type mayLive struct {
	job     uint64
	attempt int32
	machine string
	driver  bool // it runs on the host
}

func (l *mayLive) String() string {
	where := l.machine
	if l.driver {
		where = "this host"
	}
	return fmt.Sprintf("attempt %d of job %d on %s", l.attempt, l.job, where)
}

// remains are the attempts of which something may live, so that a job which waits would be a second
// one: its own, and those of the jobs that it runs again. Whether their machines can be reached is
// another matter.
func (s *State) remains(j *statepb.Job) (all []*mayLive) {
	for _, id := range s.lineOf(j) {
		owed := s.debts.living[id]
		for _, token := range sorted(owed) {
			r := owed[token].Run
			all = append(all, &mayLive{r.Job, r.Attempt, r.Machine, r.Driver})
		}
		if old := s.live[id]; id != j.Id && isEnding(old) {
			a := last(old.Job)
			for _, r := range alive(a) {
				all = append(all, &mayLive{id, a.Number, r.Machine, a.Driver})
			}
		}
	}
	return all
}

// lineOf is a job and those that it runs again, as far as something might live of them.
func (s *State) lineOf(j *statepb.Job) []uint64 {
	line := append(make([]uint64, 0, 4), j.Id)
	others := []uint64{j.RestartOf, s.rootOf(j.Id), s.rootOf(j.RestartOf)}
	for _, id := range append(others, j.Elders...) {
		if id != 0 && !slices.Contains(line, id) {
			line = append(line, id)
		}
	}
	return line
}

// eldersOf are those, before the one that a new job runs again, of which something may live. The
// one that it runs again may have been canceled while it waited for them.
func (s *State) eldersOf(j *statepb.Job) (elders []uint64) {
	if j.RestartOf == 0 || s.home(j.RestartOf) != nil { // a cell's first job runs none again
		return nil
	}
	before := s.Job(j.RestartOf)
	if before == nil {
		return nil
	}
	for _, id := range append([]uint64{before.RestartOf}, before.Elders...) {
		if s.debts.living[id] != nil || isEnding(s.live[id]) {
			elders = append(elders, id)
		}
	}
	return elders
}

// isEnding says that a job runs and is being canceled.
func isEnding(j *job) bool { return j != nil && j.Status == Running && j.Canceling }

// livesStill is the first of what remains, or nil.
func (s *State) livesStill(j *statepb.Job) *mayLive {
	for _, l := range s.remains(j) {
		return l
	}
	return nil
}

// lingers is what a job that waits has to wait for, as it may live still, or nil.
func (s *State) lingers(j *statepb.Job) *mayLive {
	for _, l := range s.remains(j) {
		if l.driver || s.reached(l.machine) {
			return l
		}
	}
	return nil
}

// lingersAfterAll takes a job out of its queue that has to wait: it was queued as a machine was out
// of reach, which is back and may have kept what was started there.
func (s *State) lingersAfterAll(it *item) bool {
	if it.job == nil || s.lingers(it.job.Job) == nil {
		return false
	}
	s.enqueue(it.job)
	return true
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
	if l := s.lingers(j); l != nil && !l.driver {
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
