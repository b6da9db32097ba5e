package sched

import (
	"fmt"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// Event tells people and programs of one change, when it is durable.
type Event struct {
	Seq     uint64 // of the change, from 1, without end over restarts
	At      time.Time
	Kind    string // job.submitted, job.running, job.done, machine.added, …
	Job     uint64
	Attempt int
	Step    int // of a setup, from 0
	Machine string
	Matrix  uint64
	Tag     uint64
	Class   string
	Status  Status
	Notify  bool   // the user asked to hear of this job
	Ended   bool   // an attempt has ended
	Cause   string // of its end, as others may have it: exited with code 1
	// Uprooted says that its machine was removed: nobody asked for this end, and it is no failure.
	Uprooted bool
	Text     string
	Warn     bool   // somebody should look
	Spans    []Span // the attempt that this has ended, on each of its machines
}

// describe tells of a change that was just applied: of itself, and of each job that it has ended
// beside. What concerns nobody gives none.
func (s *State) describe(c *Change) (events []Event) {
	if e, ok := s.about(c); ok {
		events = append(events, e)
	}
	for _, t := range s.tidings {
		e := Event{Seq: s.changes, At: Time(c.At), Kind: t.kind, Machine: t.machine, Text: t.text,
			Warn: t.warn}
		if m := s.machines[t.machine]; m != nil {
			e.Class = m.Class
		}
		events = append(events, e)
	}
	events = append(events, s.aboutBlocked(Event{Seq: s.changes, At: Time(c.At)})...)
	for _, id := range s.uprooted {
		events = append(events,
			s.aboutUprooted(Event{Seq: s.changes, At: Time(c.At), Uprooted: true}, id))
	}
	return events
}

// about tells of the change itself; ok is false for what concerns nobody.
func (s *State) about(c *Change) (e Event, ok bool) {
	e = Event{Seq: s.changes, At: Time(c.At)}
	switch {
	case c.JobSubmitted != nil:
		return s.aboutSubmitted(e, c.JobSubmitted.Job), true
	case c.JobResubmitted != nil:
		return s.aboutSubmitted(e, s.Job(c.JobResubmitted.Job)), true
	case c.MatrixSubmitted != nil:
		m := c.MatrixSubmitted.Matrix
		e.Kind, e.Matrix, e.Tag, e.Class = EventMatrixSubmitted, m.Id, m.Template.Tag,
			m.Template.Class
		e.Text = fmt.Sprintf("matrix %d was submitted to class %s with %d jobs, %d to %d: %s", m.Id,
			e.Class, m.Cells,
			m.FirstJob, m.FirstJob+uint64(m.Cells)-1, oneLine(string(m.Template.Cmd), 100))
	case c.MatrixGrown != nil:
		e.Kind, e.Matrix, e.Class = EventMatrixGrown, c.MatrixGrown.Matrix,
			c.MatrixGrown.Template.GetClass()
		e.Text = fmt.Sprintf("matrix %d has other settings", e.Matrix)
		if r := c.MatrixGrown.Added; r != nil {
			e.Text = fmt.Sprintf("matrix %d has %d jobs more, %d to %d", e.Matrix, r.Cells,
				r.FirstJob, r.FirstJob+uint64(r.Cells)-1)
		}
	case c.JobHeld != nil:
		e.Kind = kindOf(s.Status(c.JobHeld.Job))
		if why := c.JobHeld.Why; why != "" {
			e.Warn, e.Cause = true, why
			return s.aboutJob(e, c.JobHeld.Job, "job %d is held: %s", c.JobHeld.Job, why), true
		}
		return s.aboutJob(e, c.JobHeld.Job, "job %d is %s", c.JobHeld.Job,
			StatusName(s.Status(c.JobHeld.Job))), true
	case c.JobCanceled != nil:
		return s.aboutCancel(e, c.JobCanceled.Job), true
	case c.JobForgotten != nil:
		if s.Status(c.JobForgotten.Job) == 0 {
			e.Kind, e.Job, e.Text = EventJobForgotten, c.JobForgotten.Job,
				fmt.Sprintf("job %d was forgotten", c.JobForgotten.Job)
			e.Matrix = s.MatrixOf(e.Job)
			return e, true
		}
		return s.aboutCancel(e, c.JobForgotten.Job), true
	case c.JobRetimed != nil:
		e.Kind = EventJobRetimed
		return s.aboutJob(e, c.JobRetimed.Job, "job %d has a timeout of %s", c.JobRetimed.Job,
			time.Duration(c.JobRetimed.Timeout)), true
	case c.JobTagged != nil:
		e.Kind = EventJobTagged
		name, _, _ := s.Tag(c.JobTagged.Tag)
		if c.JobTagged.Tag == 0 {
			return s.aboutJob(e, c.JobTagged.Job, "job %d no longer has a tag",
				c.JobTagged.Job), true
		}
		return s.aboutJob(e, c.JobTagged.Job, "job %d has the tag %s", c.JobTagged.Job, name), true
	case c.JobLost != nil && s.Status(c.JobLost.Job) == Done:
		return s.aboutCopy(e,
			&statepb.CopyEnded{Job: c.JobLost.Job, Error: s.Job(c.JobLost.Job).ResultsError}), true
	case c.JobLost != nil:
		return s.aboutEnd(e, c.JobLost.Job), true
	case c.JobRefused != nil:
		e.Kind, e.Warn, e.Cause = EventJobFailed, true, c.JobRefused.Error
		return s.aboutJob(e, c.JobRefused.Job, "job %d %s", c.JobRefused.Job,
			c.JobRefused.Error), true
	case c.Recopy != nil:
		e.Kind = EventJobCopying
		return s.aboutJob(e, c.Recopy.Job, "job %d copies its results again", c.Recopy.Job), true
	case c.MatrixHeld != nil:
		e.Kind, e.Matrix, e.Text = EventMatrixUnheld, c.MatrixHeld.Matrix,
			fmt.Sprintf("matrix %d goes on", c.MatrixHeld.Matrix)
		if c.MatrixHeld.Held {
			e.Kind, e.Text = EventMatrixHeld, fmt.Sprintf("matrix %d is held", e.Matrix)
			if v, ok := s.MatrixVerdict(e.Matrix); ok {
				e.Warn, e.Text = true,
					fmt.Sprintf("matrix %d is %s (`%s` ends that)", e.Matrix, v.Text, v.Undo)
			}
		} else if c.MatrixHeld.Why != "" {
			e.Text += ": " + c.MatrixHeld.Why
		}
	case c.MatrixForgotten != nil:
		e.Kind, e.Matrix, e.Text = EventMatrixForgotten, c.MatrixForgotten.Matrix,
			fmt.Sprintf("matrix %d was forgotten", c.MatrixForgotten.Matrix)
	case c.Dispatched != nil:
		e.Kind = EventJobRunning
		a := c.Dispatched.Attempt
		what := fmt.Sprintf("attempt %d", a.Number)
		if a.Step > 0 {
			what = fmt.Sprintf("step %d of attempt %d", a.Step+1, a.Number)
		}
		also := ""
		if j := s.Job(c.Dispatched.Job); j.GetSetup() == nil && a.Step == 0 {
			if l := s.livesStill(j); l != nil {
				e.Warn, also = true,
					fmt.Sprintf(", though %s may live still, as that can't be reached", l)
			}
		}
		where := fmt.Sprintf("%s, slot %d", a.Machine, a.Slot)
		if len(a.Ranks) > 0 {
			where = joined(a.Ranks, func(r *statepb.Attempt) string { return r.Machine })
		}
		return s.aboutJob(e, c.Dispatched.Job, "job %d: %s goes to %s%s", c.Dispatched.Job,
			what, where, also), true
	case c.Started != nil:
		e.Kind = EventJobStarted
		return s.aboutJob(e, c.Started.Run.Job, "job %d has started on %s", c.Started.Run.Job,
			c.Started.Run.Machine), true
	case c.InputsRead != nil:
		var bytes int64
		for _, in := range c.InputsRead.Inputs {
			bytes += in.Bytes
		}
		e.Kind = EventJobInputs
		return s.aboutJob(e, c.InputsRead.Run.Job,
			"the inputs of job %d were read: %d, of %d bytes",
			c.InputsRead.Run.Job, len(c.InputsRead.Inputs), bytes), true
	case c.Ended != nil:
		return s.aboutRun(e, c.Ended.Run), true
	case c.NotStarted != nil:
		e = s.aboutRun(e, c.NotStarted.Run)
		e.Warn = true
		if c.NotStarted.Hold && e.Status == Held {
			e.Kind, e.Cause = kindOf(Held), c.NotStarted.Error
			e.Text = fmt.Sprintf("job %d is held: %s", e.Job, e.Cause)
		}
		return e, true
	case c.SetupFailed != nil:
		e.Kind, e.Warn = EventJobFailed, true
		e.Spans = s.spansOfSetup(c.SetupFailed.Job)
		return s.aboutJob(e, c.SetupFailed.Job, "setup %d failed: %s", c.SetupFailed.Job,
			c.SetupFailed.Error), true
	case c.AttemptLost != nil:
		return s.aboutRun(e, c.AttemptLost.Run), true
	case c.CopyWaits != nil:
		e.Kind = EventJobCopyWaits
		return s.aboutJob(e, c.CopyWaits.Job, "job %d waits to copy its results: %s",
			c.CopyWaits.Job, c.CopyWaits.Reason), true
	case c.CopyEnded != nil:
		return s.aboutCopy(e, c.CopyEnded), true
	case c.ClockSet != nil:
		by := time.Duration(c.ClockSet.By).Round(time.Second)
		e.Kind, e.Text = EventClockSet, fmt.Sprintf("the host's clock was set by %s, or nobody "+
			"looked at it for so long: what waits for a time waits on", by)
	case c.VarSet != nil:
		e.Kind, e.Text = EventVariableSet, fmt.Sprintf("variable %s was set", c.VarSet.Name)
		if c.VarSet.Unset {
			e.Kind, e.Text = EventVariableUnset, fmt.Sprintf("variable %s was unset", c.VarSet.Name)
		}
	case c.JobSkipped != nil:
		e.Kind, e.Cause, e.Warn = EventJobCanceled, c.JobSkipped.Why, !c.JobSkipped.Unneeded
		e = s.aboutJob(e, c.JobSkipped.Job, "job %d was canceled: %s", c.JobSkipped.Job,
			c.JobSkipped.Why)
		e.Notify = e.Notify && !c.JobSkipped.Unneeded
		return e, true
	case c.JobSet != nil:
		e.Kind = EventJobSet
		return s.aboutJob(e, c.JobSet.Job, "the settings of job %d were changed",
			c.JobSet.Job), true
	case c.MatrixSet != nil:
		e.Kind, e.Matrix = EventMatrixSet, c.MatrixSet.Matrix
		e.Text = fmt.Sprintf("the settings of matrix %d were changed", e.Matrix)
	case c.TagLimited != nil:
		name, _, _ := s.Tag(c.TagLimited.Tag)
		e.Kind, e.Tag = EventTagLimited, c.TagLimited.Tag
		e.Text = s.limitText(c.TagLimited, name)
		e.Warn = c.TagLimited.FailedOut
	case c.JobPaused != nil, c.RunPaused != nil:
		return s.aboutPause(e, c), true
	case c.JobSignaled != nil:
		e.Kind = EventJobSignaled
		return s.aboutJob(e, c.JobSignaled.Job, "job %d is sent %s", c.JobSignaled.Job,
			signalName(int(c.JobSignaled.Signal))), true
	case c.JobFreed != nil:
		e.Kind = EventJobFreed
		return s.aboutJob(e, c.JobFreed.Job, "job %d waits for no other jobs any more",
			c.JobFreed.Job), true
	case c.ResourceSet != nil:
		r := c.ResourceSet.Resource
		e.Kind, e.Text = "resource.set", fmt.Sprintf("the pool has %s=%s", r.Name, ResourceText(r))
		if c.ResourceSet.Unset {
			e.Kind, e.Text = "resource.unset", fmt.Sprintf("the pool no longer has %s", r.Name)
		}
	case c.TagMade != nil:
		e.Kind, e.Tag, e.Text = EventTagMade, c.TagMade.Tag.Id,
			fmt.Sprintf("tag %s was made", c.TagMade.Tag.Name)
	case c.Noticed != nil:
		return s.aboutNotice(e, c.Noticed), true
	default:
		return s.describeMachine(e, c)
	}
	return e, true
}

// describeMachine tells of a change that concerns a machine.
func (s *State) describeMachine(e Event, c *Change) (Event, bool) {
	about := func(kind, addr, format string, args ...any) {
		e.Kind, e.Machine, e.Text = kind, addr, fmt.Sprintf(format, args...)
		if m := s.machines[addr]; m != nil {
			e.Class = m.Class
		}
	}
	switch {
	case c.MachineAdded != nil:
		m := c.MachineAdded.Machine
		if m.Class == "" {
			about(EventMachineAdded, m.Addr,
				"machine %s is in the pool, in no class, with %d slots", m.Addr, m.Slots)
		} else {
			about(EventMachineAdded, m.Addr, "machine %s is in class %s with %d slots", m.Addr,
				m.Class, m.Slots)
		}
	case c.MachineRemoved != nil && c.MachineRemoved.WhenIdle:
		about(EventMachineExpired, c.MachineRemoved.Addr,
			"machine %s has expired, and goes as soon as it is idle", c.MachineRemoved.Addr)
	case c.MachineRemoved != nil:
		about(EventMachineRemoved, c.MachineRemoved.Addr, "machine %s was removed",
			c.MachineRemoved.Addr)
	case c.MachineMoved != nil && c.MachineMoved.Reason != "":
		about(EventMachineBroken, c.MachineMoved.Addr, "machine %s is set aside in class %s: %s",
			c.MachineMoved.Addr, c.MachineMoved.Class, c.MachineMoved.Reason)
		if m := s.machines[c.MachineMoved.Addr]; m != nil && m.aside() {
			e.Text += fmt.Sprintf("; %s (`%s` brings it back)",
				triedAt(Time(m.TrialAt), e.At, "a job that has retries left"),
				resumeCommand(m.Addr))
		}
		e.Warn = true
	case c.MachineMoved != nil:
		about(EventMachineMoved, c.MachineMoved.Addr, "machine %s is in class %s now",
			c.MachineMoved.Addr, c.MachineMoved.Class)
	case c.MachineDrained != nil && c.MachineDrained.Draining:
		about(EventMachineDraining, c.MachineDrained.Addr, "machine %s gets no more jobs",
			c.MachineDrained.Addr)
	case c.MachineDrained != nil:
		about(EventMachineResumed, c.MachineDrained.Addr, "machine %s gets jobs again",
			c.MachineDrained.Addr)
	case c.MachineSeen != nil:
		f := c.MachineSeen.Facts
		about(EventMachineSeen, f.Addr, "machine %s runs %s/%s with %d cores, boot %s", f.Addr,
			f.Os, f.Arch, f.Cores, f.BootId)
	case c.MachineCleared != nil:
		about(EventMachineCleared, c.MachineCleared.Addr,
			"the failures of machine %s no longer count",
			strings.Join(append([]string{c.MachineCleared.Addr}, c.MachineCleared.Others...), ", "))
		if c.MachineCleared.Class != "" {
			e.Text = fmt.Sprintf("machine %s is back in class %s", c.MachineCleared.Addr,
				c.MachineCleared.Class)
		}
		if c.MachineCleared.Why != "" {
			e.Text += ": " + c.MachineCleared.Why
		}
	case c.Stopped != nil && c.Stopped.Unremoved != "":
		r := c.Stopped.Run
		about(EventMachineUnremoved, r.Machine,
			"what is left of job %d on %s can't be removed; it is tried again: %s",
			r.Job, r.Machine, c.Stopped.Unremoved)
		e.Job, e.Warn = r.Job, true
	case c.Settled != nil && c.Settled.Dropped != "":
		r := c.Settled.Run
		about(EventMachineDropped, r.Machine, "what is left of job %d on %s is left alone: %s",
			r.Job, r.Machine, c.Settled.Dropped)
		e.Job = r.Job
	default:
		return s.aboutSlurm(e, c)
	}
	return e, true
}

func (s *State) aboutSubmitted(e Event, j *statepb.Job) Event {
	e.Kind = EventJobSubmitted
	if j.Setup != nil {
		return s.aboutJob(e, j.Id, "setup %d of %s was submitted: %s", j.Id, j.Setup.Machine,
			oneLine(string(j.Cmd), 100))
	}
	return s.aboutJob(e, j.Id, "job %d was submitted to class %s: %s", j.Id, j.Class,
		oneLine(string(j.Cmd), 100))
}

// aboutJob fills in what every event about a job carries.
func (s *State) aboutJob(e Event, id uint64, format string, args ...any) Event {
	e.Job, e.Status, e.Text = id, s.Status(id), fmt.Sprintf(format, args...)
	if j := s.Job(id); j != nil {
		e.Matrix, e.Tag, e.Class, e.Notify = j.Matrix, j.Tag, j.Class, j.Notify
		if a := last(j); a != nil {
			e.Attempt, e.Step, e.Machine = int(a.Number), int(a.Step), a.Machine
		}
	}
	return e
}

func (s *State) aboutCancel(e Event, id uint64) Event {
	if s.Status(id) == Canceled || s.Status(id) == 0 {
		e.Kind, e.Spans = EventJobCanceled, s.spansOfSetup(id)
		return s.aboutJob(e, id, "%s", canceledFor(fmt.Sprintf("job %d was canceled", id),
			s.Job(id).GetReason()))
	}
	e.Kind = EventJobCanceling
	return s.aboutJob(e, id, "%s", canceledFor(fmt.Sprintf("job %d is being canceled", id),
		s.Job(id).GetReason()))
}

// spansOfSetup is the attempt of a setup that has just ended between two of its steps, else nil. Of
// a job whose attempt has ended that was told then; a setup, once begun, never waits again.
func (s *State) spansOfSetup(id uint64) []Span {
	j := s.Job(id)
	if j.GetSetup() == nil || last(j) == nil {
		return nil
	}
	return []Span{spanOf(id, last(j))}
}

// aboutRun tells how a run ended: of a rank, when others go on, or else of the attempt.
func (s *State) aboutRun(e Event, run *statepb.RunRef) Event {
	j := s.live[run.Job]
	if j == nil || j.Status != Running || len(last(j.Job).Ranks) == 0 {
		return s.aboutEnd(e, run.Job)
	}
	a := last(j.Job)
	r := rankOn(a, run.Machine)
	if r == nil || a.Number != run.Attempt {
		return s.aboutEnd(e, run.Job)
	}
	how := Reason(r)
	switch {
	case succeededRun(r):
		how = "has succeeded"
	case r.Cause == statepb.Cause_MACHINE_LOST:
		how = "is lost: " + how
	}
	e.Kind = EventJobRank
	text := fmt.Sprintf("rank %d of job %d %s on %s after %s", max(r.Rank, 1)-1, j.Id, how,
		r.Machine, time.Duration(r.Duration).Round(time.Millisecond))
	if culprit(a) == r {
		e.Warn = true
		text += "; the others are ended"
	}
	e = s.aboutJob(e, j.Id, "%s", text)
	e.Machine = r.Machine
	return e
}

// aboutEnd tells how an attempt ended and what becomes of the job.
func (s *State) aboutEnd(e Event, id uint64) Event {
	j := s.Job(id)
	if j == nil { // it was to be forgotten
		e.Kind, e.Job, e.Text = EventJobForgotten, id,
			fmt.Sprintf("job %d has ended and was forgotten", id)
		e.Matrix = s.MatrixOf(id)
		return e
	}
	a := last(j)
	how := Reason(a)
	if a.Cause == statepb.Cause_EXITED && a.ExitCode == 0 && a.Signal == "" {
		how = "has succeeded"
	}
	what := fmt.Sprintf("job %d", id)
	if j.Setup != nil && len(j.Setup.Steps) > 1 {
		what = fmt.Sprintf("step %d of job %d", a.Step+1, id)
	}
	switch {
	case j.Setup != nil && j.Status == Running && rebooting(j, a):
		how = "reboots the machine"
	case a.Cause == statepb.Cause_MACHINE_LOST:
		how = "is lost: " + how
	}
	text := fmt.Sprintf("%s %s on %s after %s", what, how, a.Machine, time.Duration(a.Duration).
		Round(time.Millisecond))
	switch first := culprit(a); {
	case a.Cause == statepb.Cause_MACHINE_REMOVED:
		text = fmt.Sprintf("%s was ended, as its machine %s was removed", what, first.Machine)
	case len(a.Ranks) > 0 && first.Rank > 0:
		text = fmt.Sprintf("%s has ended, by its %s, after %s", what, how,
			time.Duration(a.Duration).Round(time.Millisecond))
	case len(a.Ranks) > 0:
		text = fmt.Sprintf("%s %s on %d machines after %s", what, how, len(a.Ranks),
			time.Duration(a.Duration).Round(time.Millisecond))
	}
	e.Kind = kindOf(j.Status)
	switch {
	case j.Status == Waiting || j.Status == Held:
		e.Kind = EventJobRetried
		text += fmt.Sprintf(", and waits for attempt %d", a.Number+1)
		if j.NotBefore != 0 {
			text += fmt.Sprintf(" in %s", Time(j.NotBefore).Sub(e.At).Round(time.Second))
		}
	case j.Status == Running:
		e.Kind = EventJobStep
	case j.Setup != nil && j.Status == Failed && a.LastWords != "":
		text += ": " + a.LastWords
	case j.Status == Copying:
		text += fmt.Sprintf("; copying %d results", len(a.Results))
	}
	e.Warn = j.Status == Failed || j.Status == Lost || e.Kind == EventJobRetried
	e.Ended, e.Cause = true, how
	if e.Kind != EventJobStep {
		e.Spans = spansIn(id, a)
	}
	return s.aboutJob(e, id, "%s", text)
}

// aboutUprooted tells what became of a job whose machine was removed.
func (s *State) aboutUprooted(e Event, id uint64) Event {
	j := s.Job(id)
	switch {
	case j == nil:
		return s.aboutEnd(e, id)
	case j.Status == Done:
		return s.aboutCopy(e, &statepb.CopyEnded{Job: id, Error: j.ResultsError})
	case j.Status == Copying: // others of its results go on
		e.Kind, e.Warn = EventJobCopyWaits, true
		return s.aboutJob(e, id, "job %d loses a part of its results, as a machine was removed", id)
	case j.Status == Running && len(last(j).Ranks) > 0:
		e.Kind, e.Warn = EventJobRank, true
		return s.aboutJob(e, id, "job %d loses a machine, which was removed; the others are ended",
			id)
	}
	if last(j) == nil { // a setup that had not begun
		e.Kind, e.Warn = EventJobCanceled, true
		return s.aboutJob(e, id, "setup %d was canceled, as its machine %s was removed", id,
			j.Setup.GetMachine())
	}
	e = s.aboutEnd(e, id)
	e.Warn = true
	return e
}

func (s *State) aboutCopy(e Event, c *statepb.CopyEnded) Event {
	if s.Status(c.Job) == Copying { // one rank's
		e.Kind = EventJobCopying
		how := "are in " + c.Dir
		if c.Error != "" {
			e.Kind, e.Warn, how = EventJobCopyFailed, true, "were not copied: "+c.Error
		}
		return s.aboutJob(e, c.Job, "the results of rank %d of job %d %s", c.Rank-1, c.Job, how)
	}
	if j := s.Job(c.Job); c.Rank > 0 && j != nil { // the last one: it tells of all
		c = &statepb.CopyEnded{Job: c.Job, Dir: j.ResultsDir, Error: j.ResultsError, Took: c.Took,
			Files: last(j).ResultsFiles, Bytes: last(j).ResultsBytes}
	}
	if c.Error != "" {
		e.Kind, e.Warn = EventJobCopyFailed, true
		what := "the results of job %d were not copied: %s"
		if c.Files > 0 && c.Dir != "" {
			what = "not all results of job %d were copied: %s"
		}
		return s.aboutJob(e, c.Job, what, c.Job, c.Error)
	}
	e.Kind = EventJobCopied
	took := time.Duration(c.Took)
	rate := ""
	if took > 0 {
		rate = fmt.Sprintf(" in %s, %.1f MB/s", took.Round(time.Millisecond),
			float64(c.Bytes)/1e6/took.Seconds())
	}
	return s.aboutJob(e, c.Job, "the results of job %d are in %s: %d files, %d bytes%s", c.Job,
		c.Dir, c.Files, c.Bytes, rate)
}
