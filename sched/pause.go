package sched

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// A job that runs can be stopped where it is. What the user wants is durable, and is carried out
// when its machine is reached; since when it is stopped is known from what the machine says. Slots
// and needs stay its own meanwhile. It is the attempt that is paused: the next one isn't.

// pauses says that an attempt is stopped, or is to be.
func pauses(a *statepb.Attempt) bool {
	return a.PausedAt != 0 || a.Pause == statepb.Pause_PAUSE_STOP
}

// PauseOf is how far a running job is with being stopped: pausing, paused, continuing, or "".
func PauseOf(j *statepb.Job) string {
	a := last(j)
	switch {
	case a == nil || j.Status != Running:
		return ""
	case a.Pause == statepb.Pause_PAUSE_STOP && a.PausedAt == 0:
		return "pausing"
	case a.Pause == statepb.Pause_PAUSE_STOP:
		return "paused"
	case a.PausedAt != 0:
		return "continuing"
	}
	return ""
}

// pausedBy is how long an attempt had been stopped by a time.
func pausedBy(a *statepb.Attempt, at int64) int64 {
	if a.PausedAt == 0 {
		return a.PausedFor
	}
	return a.PausedFor + max(at-a.PausedAt, 0)
}

// endPause ends the pause of an attempt that has ended.
func endPause(a *statepb.Attempt, at int64) {
	a.PausedFor, a.PausedAt = pausedBy(a, at), 0
}

// pause plans to stop a job where it is, or to let it go on.
func (p *planner) pause(id uint64, stop bool, fate *Fate) error {
	verb := "continue"
	if stop {
		verb = "pause"
	}
	if stop && (fate.Status == Waiting || fate.Status == Held) {
		return fmt.Errorf("it is %s, and doesn't run; `jobserver job hold` keeps it from starting",
			StatusName(fate.Status))
	}
	if err := only(fate.Status, verb, Running); err != nil {
		return err
	}
	j := p.s.live[id]
	a := last(j.Job)
	paused := a.Pause == statepb.Pause_PAUSE_STOP
	switch {
	case j.Setup != nil:
		return fmt.Errorf("it sets a machine up, and can't be paused")
	case j.Canceling:
		return fmt.Errorf("it is being canceled")
	case paused == stop && stop:
		return fmt.Errorf("it is paused already")
	case paused == stop:
		return fmt.Errorf("it isn't paused")
	}
	p.add(&Change{JobPaused: &statepb.JobPaused{Job: id, Paused: stop}})
	if m, reached := p.s.outOfReach(j); !a.Driver && !reached {
		fate.Note = fmt.Sprintf("it is to %s as soon as %s is reached", verb, m.addr(a.Machine))
	}
	return nil
}

// parseSignal reads which signal is to be sent.
func parseSignal(text string) (int, error) {
	n := signalOf(text)
	switch name := signalName(n); name {
	case "":
		return 0, errorf(Invalid, "%q is no signal", text).
			hint("write a name or a number: USR1, SIGUSR1 or 10")
	case "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU":
		return 0, errorf(Invalid, "%s would stop a job, and its time limit would go on", name).
			hint("`jobserver job pause JID` stops all of a job, and its time limit too")
	case "SIGCONT":
		return 0, errorf(Invalid, "%s would let only a part of a job go on", name).
			hint("`jobserver job continue JID` lets a job that is paused go on")
	}
	return n, nil
}

// signal plans to send a signal to a job. It isn't kept for later: what it is meant for may be over
// by then.
func (p *planner) signal(id uint64, text string) error {
	n, err := parseSignal(text)
	if err != nil {
		return err
	}
	if err := only(p.s.Status(id), "send a signal to", Running); err != nil {
		return err
	}
	a := last(p.s.live[id].Job)
	m, reached := p.s.outOfReach(p.s.live[id])
	switch {
	case slices.ContainsFunc(alive(a), func(r *statepb.Attempt) bool { return !r.StepStarted }):
		return fmt.Errorf("it has not begun yet")
	case !a.Driver && !reached:
		return fmt.Errorf("its machine %s can't be reached, and a signal doesn't wait",
			m.addr(a.Machine))
	}
	p.add(&Change{JobSignaled: &statepb.JobSignaled{Job: id, Signal: int32(n)}})
	return nil
}

func (s *State) applyJobPaused(c *statepb.JobPaused) error {
	return s.change(c.Job, func(j *job) error {
		a := last(j.Job)
		if j.Status != Running || a == nil || j.Setup != nil {
			return fmt.Errorf("job %d doesn't run", c.Job)
		}
		for _, r := range append(alive(a), a) {
			r.Pause, r.Unpaused = statepb.Pause_PAUSE_GO_ON, ""
			if c.Paused {
				r.Pause = statepb.Pause_PAUSE_STOP
			}
		}
		s.filePaused(a)
		token := a.Token
		s.ask(func(f Fleet) {
			a := last(j.Job)
			if j.Status != Running || a.Token != token {
				return
			}
			for _, r := range alive(a) {
				f.Pause(runRef(j.Job, a, r), a.Pause == statepb.Pause_PAUSE_STOP)
			}
		})
		return nil
	})
}

// filePaused has those looked at again who wait for the end of an attempt, which is another one
// now.
func (s *State) filePaused(a *statepb.Attempt) {
	for _, r := range ranksOf(a) {
		if m := s.machines[r.Machine]; m != nil {
			s.file(m)
		}
	}
}

// gatherPause makes of what is known of an attempt's ranks what is known of the attempt: it is
// stopped when all are that live, and goes on when none is stopped.
func gatherPause(a *statepb.Attempt, at int64) {
	stopped, refused := 0, 0
	var why []string
	ranks := alive(a)
	for _, r := range ranks {
		if r.PausedAt != 0 {
			stopped++
		}
		if r.Pause == statepb.Pause_PAUSE_NONE {
			refused++
		}
		if r.Unpaused != "" {
			why = append(why, rankPrefix(r)+r.Unpaused)
		}
	}
	a.Unpaused = strings.Join(why, "; ")
	switch {
	case len(ranks) == 0:
	case stopped == len(ranks) && a.PausedAt == 0:
		a.PausedAt = at
	case stopped == 0 && a.PausedAt != 0:
		endPause(a, at)
		a.ContinuedAt = at
	}
	if refused == len(ranks) {
		a.Pause = statepb.Pause_PAUSE_NONE
	}
}

func (s *State) applySignaled(c *statepb.JobSignaled) error {
	j := s.live[c.Job]
	if j == nil || j.Status != Running {
		return fmt.Errorf("job %d doesn't run", c.Job)
	}
	a := last(j.Job)
	for _, one := range alive(a) {
		r := runRef(j.Job, a, one)
		s.ask(func(f Fleet) {
			if s.liveRun(r) != nil {
				f.Signal(r, int(c.Signal))
			}
		})
	}
	return nil
}

// sawPause takes what a machine says of a run that was to be stopped, or to go on. It says that
// once for each time that it is asked, whatever else comes.
func (s *State) sawPause(o Paused) *Change {
	j, a := s.liveRank(o.Ref)
	if j == nil {
		return nil
	}
	if wanted := a.Pause == statepb.Pause_PAUSE_STOP; wanted != o.On || o.On == (a.PausedAt != 0) {
		return nil
	}
	return &Change{RunPaused: &statepb.RunPaused{Run: o.Ref, Paused: o.On, Total: int64(o.Total),
		Left: int32(min(o.Left, 1_000_000))}}
}

// unsteered takes it that a pause or a signal came to nothing.
func (s *State) unsteered(o Unsteered) *Change {
	j, r := s.liveRank(o.Ref)
	switch {
	case j == nil:
		return nil
	case o.Signal != 0:
		return &Change{Noticed: &statepb.Noticed{Kind: EventJobSignaled, Job: j.Id,
			Machine: o.Ref.Machine, Warn: true,
			Text: fmt.Sprintf("job %d was not sent %s: %s", j.Id, signalName(o.Signal), o.Reason)}}
	case r.Pause == statepb.Pause_PAUSE_NONE:
		return nil
	}
	return &Change{RunPaused: &statepb.RunPaused{Run: o.Ref, Refused: o.Reason}}
}

func (s *State) applyRunPaused(c *statepb.RunPaused, at int64) error {
	j, a := s.liveRank(c.Run)
	if j == nil {
		return fmt.Errorf("job %d has no such run", c.Run.GetJob())
	}
	switch {
	case c.Refused != "":
		a.Unpaused = c.Refused
		a.Pause = statepb.Pause_PAUSE_NONE
		endPause(a, at)
	case c.Paused:
		a.PausedAt, a.PausedFor = at, c.Total
		if c.Left > 0 {
			a.Unpaused = fmt.Sprintf("%s of it go on, as they run as another user",
				plural(int(c.Left), "process", "processes"))
		}
	default:
		a.PausedAt, a.PausedFor, a.ContinuedAt, a.Unpaused = 0, c.Total, at, ""
	}
	if whole := last(j.Job); whole != a {
		gatherPause(whole, at)
	}
	s.filePaused(last(j.Job))
	return s.settle(j)
}

// aboutPause tells of a job that is stopped, or goes on.
func (s *State) aboutPause(e Event, c *Change) Event {
	if p := c.JobPaused; p != nil {
		if e.Kind = EventJobResuming; p.Paused {
			e.Kind = EventJobPausing
			return s.aboutJob(e, p.Job, "job %d is to be paused", p.Job)
		}
		return s.aboutJob(e, p.Job, "job %d is to go on", p.Job)
	}
	p := c.RunPaused
	id, where := p.Run.Job, p.Run.Machine
	a := last(s.Job(id))
	if r := rankOn(a, where); r != nil && r.Rank > 0 {
		a, where = r, fmt.Sprintf("%s, rank %d", where, r.Rank-1)
	}
	switch {
	case p.Refused != "":
		e.Kind, e.Warn = EventJobUnpaused, true
		return s.aboutJob(e, id, "job %d can't be paused on %s: %s", id, where, p.Refused)
	case p.Paused && p.Left > 0:
		e.Kind, e.Warn = EventJobPaused, true
		return s.aboutJob(e, id, "job %d is paused on %s, but %s", id, where, a.Unpaused)
	case p.Paused:
		e.Kind = EventJobPaused
		return s.aboutJob(e, id, "job %d is paused on %s", id, where)
	}
	e.Kind = EventJobResumed
	return s.aboutJob(e, id, "job %d goes on, after it was paused for %s in all", id,
		time.Duration(p.Total).Round(time.Millisecond))
}

// whyPaused explains a job that is stopped where it is, or was to be.
func whyPaused(j *statepb.Job, now time.Time, r *Reasoning) {
	a := last(j)
	switch PauseOf(j) {
	case "pausing":
		r.Summary = fmt.Sprintf("it is to be paused on %s, which hasn't said so yet", a.Machine)
	case "paused":
		r.Summary = fmt.Sprintf("it is paused on %s since %s, and keeps its slots", a.Machine,
			now.Sub(Time(a.PausedAt)).Round(time.Second))
		r.Hint = fmt.Sprintf("`jobserver job continue %d` lets it go on", j.Id)
	case "continuing":
		r.Summary = fmt.Sprintf("it was paused on %s, and is to go on, which that hasn't said yet",
			a.Machine)
	}
	if a.Unpaused != "" {
		r.Details = append(r.Details, strings.TrimSpace("it was to be paused: "+a.Unpaused))
	}
}
