package sched

import (
	"fmt"
	"slices"
	"time"

	"jobserver/sched/statepb"
	"jobserver/slurm"
)

// What becomes of the jobs of an allocation that has ended. That is neither their fault nor the
// machine's: they run again, maxVanished times at most. Where Slurm can't know whether what ran
// there has ended, as its node was lost, they run again only if the user has said so.

// vanishFrom ends what jobs have on a pilot that is gone.
func (s *State) vanishFrom(
	m *machine, a *allocation, c *statepb.AllocationEnded, at int64,
) error {
	ids := s.copiesFrom(m.Addr)
	for i, id := range m.slots {
		if id != 0 && slices.Index(m.slots, id) == i && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		if j := s.live[id]; j != nil {
			s.uprooted = append(s.uprooted, id)
			if err := s.vanish(j, a, c, at); err != nil {
				return err
			}
		}
	}
	for _, id := range s.setupsOf(m.Addr) {
		j := s.live[id]
		s.uprooted = append(s.uprooted, id)
		j.Status, j.EndedAt, j.Error = Canceled, at, "its machine's allocation ended"
		if err := s.settle(j); err != nil {
			return err
		}
	}
	return nil
}

// vanish ends the attempt of a job, or the copy of its results, that an allocation has taken along.
func (s *State) vanish(j *job, a *allocation, c *statepb.AllocationEnded, at int64) error {
	last := last(j.Job)
	reason := "the allocation ended: " + endText(c)
	if j.Status == Copying {
		s.ask(func(f Fleet) { f.StopCopy(j.Id) })
		if j.Canceling {
			return s.applyCopyEnded(&statepb.CopyEnded{Job: j.Id, Error: reason}, at)
		}
		j.Results, j.CopyWaiting, j.EndedAt = statepb.Results_RESULTS_NONE, false, 0
	} else {
		last.Cause, last.EndedAt = statepb.Cause_MACHINE_LOST, at
		endPause(last, at)
	}
	last.Error = reason
	s.askDrop(j)
	delete(s.steps, j.Id)
	delete(s.fates, last.Token)
	switch {
	case slurm.KindOf(c.State) == slurm.Unsure && !j.Canceling &&
		(j.Setup != nil || !losesAgain(j.Job, j.MaxFailures != 0)), j.Setup != nil && !j.Canceling:
		s.conclude(j, Lost, reason, at)
	case c.State == slurmTimeout || c.State == slurmDeadline || last.Expired:
		s.outOfTime(j, last, at)
	default:
		s.vanished(j, reason, at)
	}
	return s.settle(j)
}

// outOfTime lets a job run again that the end of its allocation has ended, unless all that it could
// be given is too short: then it would be ended there as well.
func (s *State) outOfTime(j *job, a *statepb.Attempt, at int64) {
	began := a.StartedAt
	if began == 0 {
		began = a.DispatchedAt
	}
	// nothing that it was given so far was enough; a little more would show no more
	j.Least = max(j.Least, (at-began)*5/4)
	if t, ok := s.longest(j.Job); !ok && !j.Canceling {
		s.conclude(j, Failed, fmt.Sprintf(needsMoreTime+" %s: it had %s when its "+
			"allocation ended", durationText(t), durationText(time.Duration(at-began))), at)
		return
	}
	s.vanished(j, a.Error, at)
}

// longest is the longest time that an allocation of a job's class has; ok says that it, or a
// machine that isn't an allocation, may be enough for the job.
func (s *State) longest(j *statepb.Job) (longest time.Duration, ok bool) {
	for _, p := range s.providersOf(j.Class) {
		longest = max(longest, time.Duration(p.Time))
	}
	if longest-pilotMargin >= time.Duration(j.Least) {
		return longest, true
	}
	return longest, slices.ContainsFunc(s.class(j.Class).machines, func(m *machine) bool {
		return !m.isPilot() && m.Until == 0 && s.neverHas(j.Needs, m) == ""
	})
}

// vanished lets a job run again, or gives it up when that has happened too often.
func (s *State) vanished(j *job, reason string, at int64) {
	j.Error = reason
	if j.Vanished >= maxVanished && !j.Canceling {
		s.conclude(j, Lost, fmt.Sprintf("%s; so did those before, and a job runs again %d times "+
			"for that", reason, maxVanished), at)
		return
	}
	j.Vanished++
	s.again(j, at)
}

// conclude ends a job that isn't to run again.
func (s *State) conclude(j *job, status Status, why string, at int64) {
	s.vacate(j.Job)
	j.Status, j.EndedAt, j.Canceling, j.Error = status, at, false, why
}

// endText says how an allocation ended.
func endText(c *statepb.AllocationEnded) string {
	text := slurm.GoneText(c.State)
	if c.Reason != "" {
		text += " (" + c.Reason + ")"
	}
	return text
}

// applyAttemptExpired has an attempt ended, as its allocation is about to end.
func (s *State) applyAttemptExpired(c *statepb.AttemptExpired) error {
	j := s.liveRun(c.Run)
	if j == nil {
		return fmt.Errorf("job %d has no such run", c.Run.GetJob())
	}
	last(j.Job).Expired = true
	token := c.Run.Token
	s.ask(func(f Fleet) {
		if j.Status == Running && last(j.Job).Token == token {
			f.Cancel(ref(j.Job))
		}
	})
	return nil
}

// expired lets a job go on elsewhere whose attempt was ended before its allocation was.
func (s *State) expired(j *job, a *statepb.Attempt, at int64) {
	a.Cause = statepb.Cause_MACHINE_LOST
	a.Error = "the allocation ended: its time was over"
	s.outOfTime(j, a, at)
}
