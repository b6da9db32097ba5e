package service

import (
	"jobserver/api"
	"jobserver/sched"
)

// setSpec says what to change of jobs, as the scheduler takes it.
func setSpec(s *api.Set) sched.SetSpec {
	out := sched.SetSpec{
		Class:       s.Class.Pointer(),
		Cmd:         s.Cmd.Pointer(),
		CpPath:      s.CpPath.Pointer(),
		Priority:    s.Priority.Pointer(),
		Timeout:     s.Timeout.Pointer(),
		MaxFailures: s.MaxFailures.Pointer(),
		StartAfter:  s.StartAfter.Pointer(),
		Slots:       s.Slots.Pointer(),
		Exclusive:   s.Exclusive.Pointer(),
		Needs:       s.Needs.Pointer(),
		Env:         s.Env,
		AtMost:      s.AtMost.Pointer(),
		Next:        s.Next,
	}
	if s.After.Set {
		after := afterSpec(&s.After.Value)
		out.After = &after
	}
	return out
}

// afterSpec says what a job waits for, as the scheduler takes it.
func afterSpec(a *api.After) sched.AfterSpec {
	return sched.AfterSpec{
		Done: a.Done, Ended: a.Ended, Failed: a.Failed, Cells: a.Cells, Unmet: a.IfUnmet,
	}
}
