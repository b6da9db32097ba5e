package service

import (
	"jobserver/api"
	"jobserver/sched"
)

// setSpec is what is to change of jobs as the scheduler takes it.
func setSpec(s *api.Set) sched.SetSpec {
	out := sched.SetSpec{
		Class:       s.Class,
		Cmd:         s.Cmd,
		CpPath:      s.CpPath,
		Priority:    s.Priority,
		Timeout:     s.Timeout,
		MaxFailures: s.MaxFailures,
		StartAfter:  s.StartAfter,
		Slots:       s.Slots,
		Exclusive:   s.Exclusive,
		Needs:       s.Needs,
		Env:         s.Env,
		AtMost:      s.AtMost,
		Next:        s.Next,
	}
	if s.After != nil {
		after := afterSpec(s.After)
		out.After = &after
	}
	return out
}

// afterSpec is what a job waits for as the scheduler takes it.
func afterSpec(a *api.After) sched.AfterSpec {
	return sched.AfterSpec{
		Done: a.Done, Ended: a.Ended, Failed: a.Failed, Cells: a.Cells, Unmet: a.IfUnmet,
	}
}
