package sched

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// What happens to the ranks of an attempt on several machines. Each has its own run, and its share
// of a machine until that is dead; the attempt ends when the last of them does. The first that
// ends badly, as the daemon hears of it, ends the others and says how the attempt ended: what
// becomes of those is our doing, and doesn't count.

// applyPrepared takes it that a machine is ready; when all of a gang are, the command starts.
func (s *State) applyPrepared(c *statepb.Prepared) error {
	j, r := s.liveRank(c.Run)
	if j == nil || r == last(j.Job) {
		return nil
	}
	if r.Prepared = true; prepared(last(j.Job)) {
		s.askStart(j)
	}
	return nil
}

// breakUp ends the other ranks of an attempt of which one has ended badly.
func (s *State) breakUp(j *job, a, r *statepb.Attempt) {
	if a.First != 0 {
		return
	}
	a.First = int32(slices.Index(a.Ranks, r) + 1)
	s.askCancel(j)
}

// rankEnded ends one rank, of which nothing lives any more.
func (s *State) rankEnded(j *job, a, r *statepb.Attempt, at int64) error {
	s.vacateRank(j.Job, r)
	gatherPause(a, at)
	if !succeededRun(r) {
		s.breakUp(j, a, r)
	}
	return s.gangEnds(j, a, false, at)
}

// rankNotStarted ends a rank whose machine could not start it. As long as not all were ready, none
// has begun, and all of them end with it.
func (s *State) rankNotStarted(
	j *job, a, r *statepb.Attempt, c *statepb.NotStarted, at int64,
) error {
	if c.NobodysFault { // it was not the fleet that said so: it still wants to make all ready
		s.askDropRun(runRef(j.Job, a, r))
	}
	s.notBegun(j, a, r, c.Error, at)
	r.JobsFault, r.Hold = c.JobsFault, c.Hold
	if !j.Canceling && !c.JobsFault && !c.NobodysFault && !c.Hold && !a.Driver && a.First == 0 {
		s.ownFault(j, r, false, at)
	}
	s.breakUp(j, a, r)
	s.callOff(j, a, at)
	return s.gangEnds(j, a, false, at)
}

// notBegun ends a rank that certainly hasn't begun.
func (s *State) notBegun(j *job, a, r *statepb.Attempt, why string, at int64) {
	r.Cause, r.Error, r.EndedAt = statepb.Cause_NOT_STARTED, why, at
	endPause(r, at)
	s.owe(&statepb.Obligation{Run: runRef(j.Job, a, r)})
	s.vacateRank(j.Job, r)
}

// callOff ends what is left of a gang that breaks up before all of its machines were ready: none of
// it can have begun.
func (s *State) callOff(j *job, a *statepb.Attempt, at int64) {
	if prepared(a) {
		return
	}
	for _, r := range alive(a) {
		s.askDropRun(runRef(j.Job, a, r))
		s.notBegun(j, a, r, "another machine was not ready", at)
	}
}

// rankLost ends a rank of which nothing more can be known. Should it still run, its machine has to
// end it, and its share is taken until then.
func (s *State) rankLost(
	j *job, a, r *statepb.Attempt, cause statepb.Cause, why string, at int64,
) {
	r.Cause, r.Error, r.EndedAt = cause, why, at
	endPause(r, at)
	if !r.Idle {
		run := runRef(j.Job, a, r)
		s.askDropRun(run)
		s.owe(&statepb.Obligation{Run: run, Cancel: true, Given: r.Given})
	}
	s.vacateRank(j.Job, r)
	s.breakUp(j, a, r)
	s.callOff(j, a, at)
}

// giveUp ends all that is left of a gang, as the user says that it is lost.
func (s *State) giveUp(j *job, a *statepb.Attempt, why string, retry bool, at int64) error {
	for _, r := range alive(a) { // those that haven't begun end with the first
		if r.Cause != statepb.Cause_CAUSE_NONE {
			continue
		}
		s.rankLost(j, a, r, statepb.Cause_MACHINE_LOST, why, at)
	}
	return s.gangEnds(j, a, retry, at)
}

// gangEnds ends an attempt on several machines when nothing of it is alive.
func (s *State) gangEnds(j *job, a *statepb.Attempt, retry bool, at int64) error {
	if len(alive(a)) > 0 {
		return s.settle(j)
	}
	sumUp(a, at)
	if a.First == 0 {
		a.Cause = statepb.Cause_EXITED
		s.succeeded(j, a, at)
		return s.settle(j)
	}
	first := a.Ranks[a.First-1]
	a.Cause, a.ExitCode, a.Signal, a.Error = first.Cause, first.ExitCode, first.Signal, first.Error
	a.MachinesFault, a.LastWords = first.MachinesFault, first.LastWords
	s.oweRuns(j.Job)
	s.vacate(j.Job)
	j.Error = Reason(a)
	switch began := slices.ContainsFunc(a.Ranks, hasBegun); {
	case a.Cause == statepb.Cause_CANCELED_BY_USER:
		j.Status, j.EndedAt, j.Canceling, j.Error = Canceled, at, false, ""
	case a.Cause == statepb.Cause_NOT_STARTED && first.Hold && !j.Canceling:
		holdBack(j.Job, first.Error)
	case a.Cause == statepb.Cause_NOT_STARTED && !first.JobsFault && (!began || j.Canceling):
		if j.Canceling {
			j.Error = ""
		}
		s.retry(j, at)
	case a.Cause == statepb.Cause_MACHINE_LOST:
		if j.Canceling || losesAgain(j.Job, retry || j.MaxFailures != 0) {
			s.retry(j, at)
		} else {
			j.Status, j.EndedAt, j.Canceling = Lost, at, false
		}
	case a.Cause == statepb.Cause_MACHINE_REMOVED:
		s.uprootedEnds(j, at)
	default:
		s.failed(j, a, at)
	}
	return s.settle(j)
}

// hasBegun says that the command has run.
func hasBegun(r *statepb.Attempt) bool { return r.StepStarted || r.Cause == statepb.Cause_EXITED }

// uprootedEnds says what becomes of a job that holds nothing any more as its machine was removed.
func (s *State) uprootedEnds(j *job, at int64) {
	if j.MaxFailures != 0 && j.Setup == nil {
		s.retry(j, at)
		j.NotBefore = 0
		return
	}
	j.Status, j.EndedAt, j.Canceling = Canceled, at, false
	j.Error = "its machine was removed"
}

// sumUp makes of what an attempt's ranks have used and printed what the attempt has. A
// measurement counts as the lowest rank has it that printed it.
func sumUp(a *statepb.Attempt, at int64) {
	a.EndedAt = at
	endPause(a, at)
	printed := map[string]bool{}
	for _, r := range runsOf(a) {
		a.UserCpu += r.UserCpu
		a.SystemCpu += r.SystemCpu
		a.MaxRss = max(a.MaxRss, r.MaxRss)
		a.Duration = max(a.Duration, r.Duration)
		a.Dropped += r.Dropped
		a.MachineEndedAt = max(a.MachineEndedAt, r.MachineEndedAt)
		a.Results = append(a.Results, r.Results...)
		if a.Overlooked == "" {
			a.Overlooked = r.Overlooked
		}
		before := len(a.Measurements)
		for _, line := range r.Measurements {
			if !printed[measured(line)] {
				a.Measurements = append(a.Measurements, line)
			}
		}
		for _, line := range a.Measurements[before:] {
			printed[measured(line)] = true
		}
	}
	if runs := runsOf(a); len(runs) == 1 {
		r := runs[0]
		a.OutLen, a.ErrLen, a.OutCrc, a.ErrCrc = r.OutLen, r.ErrLen, r.OutCrc, r.ErrCrc
		a.ResultsRaw = r.ResultsRaw
	}
}

// measured is the name in what follows METRIC: on a line.
func measured(line string) string {
	name, _, _ := strings.Cut(line, "=")
	return strings.TrimSpace(name)
}

// succeededRun says that a run has exited with 0.
func succeededRun(r *statepb.Attempt) bool {
	return r.Cause == statepb.Cause_EXITED && r.ExitCode == 0 && r.Signal == ""
}

// culprit is that part of an attempt which says how it ended: the rank whose end ended the others.
func culprit(a *statepb.Attempt) *statepb.Attempt {
	if a.First > 0 && int(a.First) <= len(a.Ranks) {
		return a.Ranks[a.First-1]
	}
	return a
}

// oweRuns has what the runs of a job's newest attempt have left removed. That of runs that were
// given up is owed already.
func (s *State) oweRuns(j *statepb.Job) {
	a := last(j)
	if a == nil {
		return
	}
	for _, r := range runsOf(a) {
		gaveUp := r.Cause == statepb.Cause_MACHINE_LOST || r.Cause == statepb.Cause_MACHINE_REMOVED
		if r == a || !gaveUp {
			s.owe(&statepb.Obligation{Run: runRef(j, a, r)})
		}
	}
}

// vacateRank frees what a rank had of its machine.
func (s *State) vacateRank(j *statepb.Job, r *statepb.Attempt) {
	m := s.machines[r.Machine]
	if m == nil || !m.free(j.Id) {
		return
	}
	s.book(m.Addr, r.Given, -1)
	if len(m.slots) > int(m.Slots) {
		m.resize()
	}
	s.file(m)
}

// free takes a job out of a machine's slots, and says whether it was there.
func (m *machine) free(job uint64) (had bool) {
	for i, id := range m.slots {
		if id == job {
			m.slots[i], had = 0, true
		}
	}
	return had
}

// passPool hands what a gang had of the pool on to one of its runs that may live still: all of it
// is held until nothing of the gang lives. It gives what nobody holds any more.
func (s *State) passPool(job uint64, attempt int32, pool *statepb.Given) {
	if len(pool.GetGrants()) == 0 {
		return
	}
	owed := s.debts.living[job]
	for _, token := range sorted(owed) {
		if o := owed[token]; o.Run.Attempt == attempt && holdsSlot(o) {
			next := proto.CloneOf(o)
			next.Given = withPool(o.Given, pool)
			s.takeDebt(o)
			s.owed[token] = next
			s.addDebt(next)
			return
		}
	}
}

// passesOn takes it that a run is dead which may have held what a gang had of the pool.
func (s *State) passesOn(o *statepb.Obligation) {
	if pool, _ := poolShare(o.Given); pool != nil && holdsSlot(o) {
		s.passPool(o.Run.Job, o.Run.Attempt, pool)
	}
}

// retimed gives a job that runs another timeout.
func (s *State) retimed(j *job) {
	a := last(j.Job)
	if a == nil || j.Status != Running {
		return
	}
	a.Timeout, a.Retimed = j.Timeout, true
	for _, r := range runsOf(a) {
		run := runRef(j.Job, a, r)
		s.ask(func(f Fleet) { f.Retime(run, time.Duration(a.Timeout)) })
	}
}
