package sched

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// What is remembered of a job's attempts, the newest: a job may be retried without limit.
const (
	keptAttempts = 100
	keptBytes    = 4 << 20 // of their records, beyond the newest one's
)

// What happens to attempts: dispatched, started, ended one way or another, results copied.

func (s *State) applyDispatched(d *statepb.Dispatched) error {
	return s.change(d.Job, func(j *job) error {
		next := cloneAttempt(d.Attempt)
		a := last(j.Job)
		if a != nil && a.Number == next.Number {
			return s.applyStep(j, next)
		}
		m := s.machines[next.Machine]
		if j.Status != Waiting && (j.Status != Held || next.Trial != statepb.Trial_TRIAL_HELD) ||
			slices.ContainsFunc(ranksOf(next), func(r *statepb.Attempt) bool {
				return s.machines[r.Machine] == nil
			}) {
			return fmt.Errorf("job %d can't go to %q", j.Id, next.Machine)
		}
		j.Status, j.NotBefore = Running, 0
		next.Seq, next.Hardware = s.changes, hardware(m.Machine)
		j.Attempts = append(j.Attempts, next)
		s.tried(j, next)
		trimAttempts(j.Job)
		if j.Setup != nil && s.isNeeded(j, m) {
			s.moveMachine(m, "") // a setup that fails leaves it in no class
		}
		s.occupy(j.Job)
		for _, r := range ranksOf(next) {
			m := s.machines[r.Machine]
			r.Hardware = hardware(m.Machine)
			s.used++
			m.used = s.used
			if m.isPilot() && j.Setup == nil {
				m.Taken++
				s.answered(m)
			}
			s.file(m)
		}
		s.askStart(j)
		return nil
	})
}

// trimAttempts keeps a command that attempts have in common once, with the newest of them, and
// drops the oldest attempts.
func trimAttempts(j *statepb.Job) {
	first, size := max(len(j.Attempts)-keptAttempts, 0), 0
	cmd := last(j).CmdRun
	for i := len(j.Attempts) - 2; i >= first; i-- {
		switch a := j.Attempts[i]; {
		case a.SameCmd:
		case bytes.Equal(a.CmdRun, cmd):
			a.CmdRun, a.SameCmd = nil, true
		default:
			cmd = a.CmdRun
		}
		if size += proto.Size(j.Attempts[i]); size > keptBytes {
			first = i + 1
		}
	}
	j.Attempts = slices.Delete(j.Attempts, 0, first)
}

// CommandRun is the command of a job as the attempt at index i of its record has run it.
func CommandRun(j *statepb.Job, i int) string {
	for ; i < len(j.Attempts)-1 && j.Attempts[i].SameCmd; i++ {
	}
	return string(j.Attempts[i].CmdRun)
}

func (s *State) applyStarted(c *statepb.Started, at int64) error {
	j, r := s.liveRank(c.Run)
	if j == nil {
		return nil
	}
	s.began(r)
	for _, a := range []*statepb.Attempt{r, last(j.Job)} {
		a.StepStarted = true
		if a.StartedAt == 0 {
			a.StartedAt, a.MachineStartedAt = at, c.MachineAt
		}
	}
	return nil
}

func (s *State) applyEnded(c *statepb.Ended, at int64) error {
	j, a := s.liveRank(c.Run)
	if j == nil {
		return fmt.Errorf("job %d has no such run", c.Run.GetJob())
	}
	took(a, c.Result, at)
	switch whole := last(j.Job); {
	case a != whole:
		if whole.StartedAt == 0 {
			whole.StartedAt, whole.MachineStartedAt = a.StartedAt, a.MachineStartedAt
		}
		return s.rankEnded(j, whole, a, at)
	case j.Setup != nil:
		return s.endedStep(j, a, at)
	case succeededRun(a):
		s.succeeded(j, a, at)
	case a.Cause == statepb.Cause_CANCELED_BY_USER && a.Expired && !j.Canceling:
		s.owe(&statepb.Obligation{Run: ref(j.Job)})
		s.expired(j, a, at)
	case a.Cause == statepb.Cause_CANCELED_BY_USER:
		s.owe(&statepb.Obligation{Run: ref(j.Job)})
		s.vacate(j.Job)
		j.Status, j.EndedAt, j.Canceling = Canceled, at, false
	default:
		s.owe(&statepb.Obligation{Run: ref(j.Job)})
		s.vacate(j.Job)
		s.failed(j, a, at)
	}
	return s.settle(j)
}

// took notes in an attempt what its supervisor recorded of its end.
func took(a, r *statepb.Attempt, at int64) {
	if a.StartedAt == 0 {
		a.StartedAt, a.MachineStartedAt = at-r.Duration, r.MachineStartedAt
	}
	if a.MachineStartedAt == 0 {
		a.MachineStartedAt = r.MachineStartedAt
	}
	a.EndedAt, a.MachineEndedAt = at, r.MachineEndedAt
	a.Cause, a.ExitCode, a.Signal, a.Error = r.Cause, r.ExitCode, r.Signal, r.Error
	a.LastWords = r.LastWords
	a.UserCpu += r.UserCpu
	a.SystemCpu += r.SystemCpu
	a.MaxRss = max(a.MaxRss, r.MaxRss)
	a.Duration += r.Duration
	a.PausedAt, a.PausedFor = 0, r.PausedFor
	a.OutLen, a.ErrLen, a.OutCrc, a.ErrCrc = r.OutLen, r.ErrLen, r.OutCrc, r.ErrCrc
	a.Dropped += r.Dropped
	a.Results = append(a.Results, r.Results...)
	a.ResultsRaw, a.Overlooked = r.ResultsRaw, r.Overlooked
	a.Measurements = append(a.Measurements, r.Measurements...)
}

// succeeded moves a job that exited 0 to done, or to the copy of its results.
func (s *State) succeeded(j *job, a *statepb.Attempt, at int64) {
	s.worked(j, a)
	j.EndedAt, j.Error, j.Avoid = at, "", ""
	// else nothing is removed before that was said
	none := len(a.Results) == 0 && a.Overlooked == ""
	if none || j.CpPath == "" || j.Canceling {
		s.clock(j.Job, at)
		s.oweRuns(j.Job)
		s.vacate(j.Job)
		j.Status, j.Canceling = Done, false
		return
	}
	if len(a.Ranks) > 0 { // they are dead, and hold nothing while their results are copied
		s.clock(j.Job, at)
		s.vacate(j.Job)
		toCopy(a)
	}
	j.Status, j.Results, j.CopyWaiting = Copying, statepb.Results_RESULTS_COPYING, len(a.Ranks) > 0
	s.askCopy(j)
}

// failed counts a failure, and lets the job wait for a retry if it has one left.
func (s *State) failed(j *job, a *statepb.Attempt, at int64) {
	s.blame(j, culprit(a), at)
	if a.Trial != statepb.Trial_TRIAL_ASIDE || !retries(j.Job) {
		// the machine was to show what it is worth
		j.Failures++
	}
	j.Error = Reason(a)
	if j.Canceling || j.MaxFailures >= 0 && j.Failures > j.MaxFailures || !triesAgain(j.Job, a) {
		j.Status, j.EndedAt, j.Canceling = Failed, at, false
		return
	}
	j.Status, j.Avoid = s.waiting(j), culprit(a).Machine
	j.NotBefore = at + int64(backoff(j.Failures))
	j.AvoidUntil = at + int64(avoidFor)
	s.avoids(j)
}

// again lets a job that ended through no fault of its own wait for another attempt.
func (s *State) again(j *job, at int64) {
	s.vacate(j.Job)
	s.retry(j, at)
}

// retry lets a job that holds nothing any more wait for another attempt.
func (s *State) retry(j *job, at int64) {
	if j.Canceling {
		j.Status, j.EndedAt, j.Canceling = Canceled, at, false
		return
	}
	j.Status = s.waiting(j)
	j.NotBefore = at + int64(backoff(last(j.Job).Number-j.Failures))
}

// waiting is the status of a job that is to run again: in a matrix that is held, it is held too.
func (s *State) waiting(j *job) Status {
	if m := s.matrices[j.Matrix]; m != nil {
		return m.status()
	}
	return Waiting
}

// Reason says in a few words how an attempt ended.
func Reason(a *statepb.Attempt) string {
	switch first := culprit(a); {
	case first == a, first.Cause == statepb.Cause_CANCELED_BY_USER:
	case first.Rank > 0 && first.Cause != statepb.Cause_MACHINE_REMOVED:
		colon := ""
		if first.Error != "" && first.Cause != statepb.Cause_TIMED_OUT {
			colon = ":" // it is a sentence of its own
		}
		return fmt.Sprintf("rank %d on %s%s %s", first.Rank-1, first.Machine, colon, Reason(first))
	case first.Cause == statepb.Cause_MACHINE_REMOVED:
		return fmt.Sprintf("was ended as its machine %s was removed", first.Machine)
	default:
		return Reason(first)
	}
	switch {
	case a.Cause == statepb.Cause_TIMED_OUT:
		return "timed out"
	case a.Cause == statepb.Cause_CANCELED_BY_USER:
		return "was canceled"
	case a.Cause == statepb.Cause_NOT_STARTED && a.Error != "":
		return "could not start: " + a.Error
	case a.Error != "":
		return a.Error
	case a.Signal != "":
		return "was ended by signal " + a.Signal
	case a.Cause == statepb.Cause_EXITED:
		return fmt.Sprintf("exited with code %d", a.ExitCode)
	case a.Cause == statepb.Cause_MACHINE_REMOVED:
		return "was ended as its machine was removed"
	}
	return ""
}

func (s *State) applyNotStarted(c *statepb.NotStarted, at int64) error {
	j, a := s.liveRank(c.Run)
	if j == nil {
		return fmt.Errorf("job %d has no such run", c.Run.GetJob())
	}
	if whole := last(j.Job); a != whole {
		return s.rankNotStarted(j, whole, a, c, at)
	}
	a.Cause, a.Error, a.EndedAt = statepb.Cause_NOT_STARTED, c.Error, at
	endPause(a, at)
	s.owe(&statepb.Obligation{Run: ref(j.Job)})
	if j.Setup != nil {
		if j.Canceling {
			s.endSetup(j, Canceled, at)
		} else {
			s.failSetup(j,
				fmt.Sprintf("step %d of %d could not start: %s", a.Step+1, len(j.Setup.Steps),
					c.Error), at)
		}
		return s.settle(j)
	}
	switch {
	case j.Canceling:
	case c.Hold: // it is nobody's failure, and goes on when the user says so
		s.vacate(j.Job)
		a.Hold = true
		holdBack(j.Job, c.Error)
		return s.settle(j)
	case c.JobsFault:
		s.vacate(j.Job)
		s.failed(j, a, at)
		return s.settle(j)
	case a.Driver: // it runs on the host: its machine has no part in it
		j.Error = c.Error
	default:
		s.ownFault(j, a, false, at)
	}
	s.again(j, at)
	return s.settle(j)
}

// applyInputsRead notes what a run is to be given, and has it started.
func (s *State) applyInputsRead(c *statepb.InputsRead) error {
	j, a := s.liveRank(c.Run)
	if j == nil {
		return fmt.Errorf("job %d has no such run", c.Run.GetJob())
	}
	if len(c.Inputs) != len(a.Inputs) {
		return fmt.Errorf("job %d has %d inputs, and %d were read", j.Id, len(a.Inputs),
			len(c.Inputs))
	}
	a.Inputs = proto.CloneOf(c).Inputs
	s.askStart(j)
	return nil
}

// ownFault ends an attempt for whose end nothing but the machine is to blame.
func (s *State) ownFault(j *job, a *statepb.Attempt, died bool, at int64) {
	a.MachinesFault = true
	s.ownDoing(j, a, died, at)
	j.Error, j.Avoid = a.Error, a.Machine
	j.AvoidUntil = at + int64(avoidFor)
	s.avoids(j)
}

func (s *State) applyAttemptLost(c *statepb.AttemptLost, at int64) error {
	j, r := s.liveRank(c.Run)
	if j == nil {
		return fmt.Errorf("job %d has no such run", c.Run.GetJob())
	}
	if a := last(j.Job); r != a {
		s.rankLost(j, a, r, statepb.Cause_MACHINE_LOST, c.Reason, at)
		if c.Died && !a.Driver {
			s.ownFault(j, r, true, at)
		}
		return s.gangEnds(j, a, false, at)
	} else if j.Setup != nil && rebooting(j.Job, a) && !j.Canceling {
		a.Cause, a.Error, a.EndedAt = statepb.Cause_MACHINE_LOST, c.Reason, at
		s.askDrop(j)
		s.oweEnd(j.Job)
		s.steps[j.Id] = true
		return s.settle(j)
	}
	return s.lose(j, c.Reason, j.MaxFailures != 0, c.Died, at)
}

func (s *State) applyJobLost(c *statepb.JobLost, at int64) error {
	j := s.live[c.Job]
	if j != nil && j.Status == Copying { // it has succeeded: what is lost are its results
		s.ask(func(f Fleet) { f.StopCopy(c.Job) })
		return s.stopCopying(j, copyingRanks(last(j.Job)), "the user said that its results are "+
			"lost", at)
	}
	if j == nil || j.Status != Running {
		return fmt.Errorf("job %d doesn't run", c.Job)
	}
	const why = "the user said that it is lost"
	if a := last(j.Job); len(a.Ranks) > 0 {
		return s.giveUp(j, a, why, c.Retry, at)
	}
	return s.lose(j, why, c.Retry || j.MaxFailures != 0, false, at)
}

// lose ends an attempt of which nothing more can be known. Should it still run, the machine has to
// end it.
func (s *State) lose(j *job, reason string, retry, died bool, at int64) error {
	a := last(j.Job)
	a.Cause, a.Error, a.EndedAt = statepb.Cause_MACHINE_LOST, reason, at
	endPause(a, at)
	if died && j.Setup == nil && !a.Driver {
		s.ownFault(j, a, true, at)
	}
	s.askDrop(j)
	s.oweEnd(j.Job)
	delete(s.steps, j.Id)
	j.Error = reason
	switch {
	case j.Canceling || losesAgain(j.Job, retry) && j.Setup == nil:
		s.again(j, at)
	default:
		s.vacate(j.Job)
		j.Status, j.EndedAt, j.Canceling = Lost, at, false
	}
	return s.settle(j)
}

func (s *State) applyCopyEnded(c *statepb.CopyEnded, at int64) error {
	j := s.live[c.Job]
	if j == nil || j.Status != Copying {
		return fmt.Errorf("job %d doesn't copy", c.Job)
	}
	a := last(j.Job)
	if len(a.Ranks) > 0 {
		r := copyingRank(a, c.Rank)
		if r == nil {
			return fmt.Errorf("rank %d of job %d doesn't copy", c.Rank, c.Job)
		}
		if c = noteCopyEnded(j, r, c); c == nil {
			return s.settle(j)
		}
	}
	if !j.CopyWaiting {
		s.clock(j.Job, at)
		s.vacate(j.Job)
	}
	j.Status, j.CopyWaiting, j.Canceling = Done, false, false
	j.ResultsDir, j.ResultsError = c.Dir, c.Error
	a.ResultsBytes, a.ResultsFiles = c.Bytes, c.Files
	if c.Error == "" {
		j.Results = statepb.Results_RESULTS_COPIED
		for _, r := range append([]*statepb.Attempt{a}, a.Ranks...) {
			s.hideSecrets(j.Job, r)
		}
	} else {
		j.Results = statepb.Results_RESULTS_FAILED
	}
	// What failed to copy stays on the machine, for a recopy.
	switch {
	case len(a.Ranks) > 0:
		s.oweCopied(j.Job, j.Forget)
	case c.Error == "" || j.Forget:
		s.owe(&statepb.Obligation{Run: ref(j.Job)})
	}
	return s.settle(j)
}

func (s *State) applyCopyWaits(c *statepb.CopyWaits, at int64) error {
	j := s.live[c.Job]
	if j == nil || j.Status != Copying {
		return fmt.Errorf("job %d doesn't copy", c.Job)
	}
	if r := copyingRank(last(j.Job), c.Rank); r != nil && r != last(j.Job) {
		r.Copy, r.CopyError = statepb.Results_RESULTS_WAITING, c.Reason
	}
	if !j.CopyWaiting {
		s.clock(j.Job, at)
		s.vacate(j.Job)
	}
	j.CopyWaiting, j.Results, j.ResultsError = true, statepb.Results_RESULTS_WAITING, c.Reason
	return s.settle(j)
}

func (s *State) applyRecopy(id uint64) error {
	return s.change(id, func(j *job) error {
		if j.Status != Done || j.Results != statepb.Results_RESULTS_FAILED {
			return fmt.Errorf("job %d has no results that failed to copy", id)
		}
		// It holds no slot: nothing was kept free for it.
		j.Status, j.Results, j.CopyWaiting, j.ResultsError = Copying,
			statepb.Results_RESULTS_WAITING, true, ""
		toCopy(last(j.Job))
		s.askCopy(j)
		return nil
	})
}
