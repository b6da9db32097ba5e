package sched

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"jobserver/sched/statepb"
)

// Trials: which job a machine or a matrix that is accused, or that was judged, is tried with; see
// decide_faults.go.

// tries is the change that begins the next trial of a class that needs a job of its own choice, or
// nil. A suspect is also tried with whatever comes next in the queue: see roomAmong.
func (s *State) tries(c *class, now time.Time) *Change {
	var rooms []*machine // made once
	roomy := func() []*machine {
		if rooms == nil {
			rooms = append(slices.Clone(c.ready), s.roomAmong(c.watched, now)...)
		}
		return rooms
	}
	for _, m := range s.roomAmong(c.watched, now) {
		if !m.suspect() || m.Trials > 0 {
			continue
		}
		if of, cell, ok := s.farCellFor(m); ok && s.takes(m, of.Template, now) {
			return s.trial(of.job(cell), m, statepb.Trial_TRIAL_FAR, now)
		}
	}
	for _, m := range s.accusedIn(c) {
		if m.TrialJob != 0 && s.underTrial(m.TrialJob) {
			continue
		}
		if ch := s.tryMatrix(m, c, roomy, now); ch != nil {
			return ch
		}
	}
	for _, m := range c.watched {
		if ch := s.tryAside(m, now); ch != nil {
			return ch
		}
	}
	return nil
}

// underTrial says that a job runs, and that this is a trial.
func (s *State) underTrial(job uint64) bool {
	j := s.live[job]
	return j != nil && j.Status == Running && last(j.Job).Trial != statepb.Trial_TRIAL_NONE
}

// trial is the change that sends a job to a machine as a trial.
func (s *State) trial(j *statepb.Job, m *machine, kind statepb.Trial, now time.Time) *Change {
	ms := []*machine{m}
	if isGang(j.Needs) {
		ms = s.muster(j, m, nil, now)
	}
	c := s.dispatched(j, ms, now)
	if c.Dispatched != nil {
		c.Dispatched.Attempt.Trial = kind
	}
	return c
}

// tryMatrix tries an accused matrix with its far cell, or one that is held with any, when its time
// has come.
func (s *State) tryMatrix(m *matrix, c *class, roomy func() []*machine, now time.Time) *Change {
	if m.faulty() {
		if m.TrialAt > now.UnixNano() {
			return nil
		}
		j := s.heldCell(m)
		if j == nil || s.lingers(j) != nil {
			return nil
		}
		if best := s.bestOf(roomy(), j, nil, now); best != nil {
			return s.trial(j, best, statepb.Trial_TRIAL_HELD, now)
		}
		return nil
	}
	if m.Row[len(m.Row)-1].Far { // nothing has failed since the last one
		return nil
	}
	on := machinesOf(m.Row)
	all := c.allAmong(on)
	if len(on) < 2 && !all {
		return nil
	}
	far, ok := m.farCell()
	if !ok {
		return nil
	}
	if all {
		on = nil
	}
	if best := s.bestOf(roomy(), m.Template, on, now); best != nil {
		return s.trial(m.job(far), best, statepb.Trial_TRIAL_FAR, now)
	}
	return nil
}

// takes says that a job could be sent to a machine now, which has a slot and may have work.
func (s *State) takes(m *machine, j *statepb.Job, now time.Time) bool {
	return s.hasRoom(j.Needs, m) && fits(j, m, now) && s.whyLimit(j) == "" &&
		(!isGang(j.Needs) || s.muster(j, m, nil, now) != nil)
}

// bestOf is the best of some machines with room that may have a job and aren't to be passed over,
// one that isn't suspect if there is any, or nil.
func (s *State) bestOf(
	rooms []*machine, j *statepb.Job, passed []string, now time.Time,
) (best *machine) {
	better := func(a, b *machine) bool {
		if a.suspect() != b.suspect() {
			return b.suspect()
		}
		return a.before(b)
	}
	for _, m := range rooms {
		if m.able() && s.takes(m, j, now) && !slices.Contains(passed, m.Addr) &&
			(best == nil || better(m, best)) {
			best = m
		}
	}
	return best
}

// tryAside tries a machine that was set aside with a job of the class that it came from.
func (s *State) tryAside(m *machine, now time.Time) *Change {
	if !m.aside() || m.TrialAt > now.UnixNano() || m.scanAt > now.UnixNano() || m.room == 0 ||
		!m.usable(now) ||
		s.setupDue(m, now) || s.underTrial(m.TrialJob) {
		return nil
	}
	home := s.class(m.HomeClass)
	it := home.firstThat(func(j *statepb.Job) bool {
		// Where no other machine is left, a job is better failed than never run.
		return s.takes(m, j, now) && (home.able < lots(j.Class, j.Needs)[0].count || retries(j)) &&
			s.lingers(j) == nil
	})
	if it == nil {
		m.scanAt = now.Add(scanPause).UnixNano()
		return nil
	}
	j := it.record()
	if it.matrix != nil {
		j = it.matrix.job(it.matrix.next)
	}
	return s.trial(j, m, statepb.Trial_TRIAL_ASIDE, now)
}

// retries says that a job may fail once more.
func retries(j *statepb.Job) bool { return j.MaxFailures < 0 || j.Failures < j.MaxFailures }

// firstThat is the first that waits in a class and of which ok says so, or nil.
func (c *class) firstThat(ok func(*statepb.Job) bool) (first *item) {
	for _, sh := range c.line {
		if first != nil && first.before(sh.first()) {
			break
		}
		for _, it := range sh.queue {
			if (first == nil || it.before(first)) && ok(it.record()) {
				first = it
			}
		}
	}
	return first
}

// farCellFor is the far cell of the newest matrix in a machine's row that has one.
func (s *State) farCellFor(m *machine) (of *matrix, cell uint32, ok bool) {
	for _, f := range slices.Backward(m.Failures) {
		of := s.matrices[matrixOfWork(f.Work)]
		if f.Excused || of == nil || of.Held || of.Template.Class != m.Class {
			continue
		}
		if cell, ok := of.farCell(); ok {
			return of, cell, true
		}
	}
	return nil, 0, false
}

func (s *State) hasFarCell(m *machine) bool {
	_, _, ok := s.farCellFor(m)
	return ok
}

// farCell is the untouched cell of a matrix that tells most of the others, since bad cells come one
// after the other: its last one, the middle one, those at the quarters, the eighths … and then the
// last of those that are left.
func (m *matrix) farCell() (cell uint32, ok bool) {
	if m.untouched == 0 || !m.mayRunAny() {
		return 0, false
	}
	for m.isTouched(m.top - 1) {
		m.top--
	}
	if m.top == m.Cells && m.mayRun(m.Cells-1) {
		return m.Cells - 1, true
	}
	for parts := uint64(2); parts <= 64; parts *= 2 {
		for i := uint64(1); i < parts; i += 2 {
			if c := uint32(i * uint64(m.Cells) / parts); m.mayRun(c) {
				return c, true
			}
		}
	}
	if m.mayRun(m.top - 1) {
		return m.top - 1, true
	}
	return m.next, true
}

func (m *matrix) hasFarCell() bool { return m.untouched > 0 && m.mayRunAny() }

// heldCell is a job of a matrix that is held to try it with: its far cell, or else the first one
// that is held.
func (s *State) heldCell(m *matrix) *statepb.Job {
	if far, ok := m.farCell(); ok {
		return m.job(far)
	}
	for _, id := range s.liveOf(m) {
		if j := s.live[id]; j.Status == Held && j.HeldWhy == "" && s.mayStart(j) {
			return j.Job
		}
	}
	return nil
}

// mayTry says that a machine which is watched for its failures may be given one job now: nothing
// that it was given since it became suspect runs there, nor anything that is to show whether it can
// start jobs at all.
func (s *State) mayTry(m *machine) bool {
	for _, id := range m.slots {
		j := s.live[id]
		if j == nil {
			continue
		}
		a := rankOn(last(j.Job), m.Addr)
		if a == nil || a.Idle { // nothing of it runs here
			continue
		}
		if m.suspect() && a.Seq > m.Suspect && j.Status == Running ||
			m.Own > 0 && !m.OwnDied && a.Seq > m.OwnSeq && !a.StepStarted {
			return false
		}
	}
	return true
}

// avoided lists the machines that a retry passes over: those on which it has failed, as long as
// there is another that may have it, for avoidFor; and after that, those of them that are suspect.
func (s *State) avoided(j *statepb.Job, class []*machine, now time.Time) []string {
	failed := failedOn(j)
	if failed == nil || !slices.ContainsFunc(class, func(m *machine) bool {
		return m.sound() && !slices.Contains(failed, m.Addr) && !s.setupDue(m, now) &&
			fits(j, m, now)
	}) {
		return nil
	}
	if s.avoidsUntil(j) > now.UnixNano() {
		return failed
	}
	return slices.DeleteFunc(failed, func(addr string) bool {
		m := s.machines[addr]
		return m == nil || !m.suspect()
	})
}

// avoidsUntil is when a retry begins to take any machine that isn't suspect.
func (s *State) avoidsUntil(j *statepb.Job) int64 { return j.AvoidUntil }

// resumeCommand ends whatever keeps a machine from getting jobs.
func resumeCommand(
	addr string,
) string {
	return fmt.Sprintf("jobserver machine resume -m %s", addr)
}

// clockTime is a time as people read it on the same day.
func clockTime(at int64) string { return Time(at).Format(time.TimeOnly) }

// avoids has a class looked at again when a retry of a job begins to take any machine.
func (s *State) avoids(j *job) {
	if j.AvoidUntil > 0 {
		heap.Push(&s.avoiding, &avoidance{class: j.Class, until: j.AvoidUntil})
	}
}

// avoidance is the time until which a retry passes over machines.
type avoidance struct {
	class string
	until int64
	at    int // in State.avoiding
}

func (a *avoidance) before(o *avoidance) bool { return a.until < o.until }
func (a *avoidance) place() *int              { return &a.at }

// endAvoidances has the classes looked at again in which a retry may go anywhere now.
func (s *State) endAvoidances(now time.Time) {
	for len(s.avoiding) > 0 && s.avoiding[0].until <= now.UnixNano() {
		s.dirty[s.avoiding[0].class] = true
		heap.Pop(&s.avoiding)
	}
}
