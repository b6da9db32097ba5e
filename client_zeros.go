package main

import "jobserver/api"

// gob doesn't send zeros, not even those behind a pointer: an exit code of 0 arrives as none. What
// stands beside such a field says when its absence can only be a zero.

// restoreZeros puts back the zeros of a page of jobs.
func restoreZeros(page *api.ListJobsReply) {
	for i := range page.Jobs {
		restoreJob(&page.Jobs[i])
	}
	for i := range page.Matrices {
		restoreMatrix(&page.Matrices[i])
	}
}

func restoreMatrix(m *api.Matrix) {
	for i := range m.Jobs {
		restoreJob(&m.Jobs[i])
	}
}

func restoreJob(job *api.Job) {
	zero := func(field **int, known bool) {
		if *field == nil && known {
			*field = new(int)
		}
	}
	zero(&job.Slot, job.Machine != "")
	zero(&job.Cell, job.Matrix != 0)
	zero(&job.ExitCode, job.Status == statusDone || job.Status == statusCopying)
	for i := range job.Attempts {
		a := &job.Attempts[i]
		zero(&a.ExitCode, a.Outcome == "exited" && a.Signal == "" && a.Error == "")
	}
}

// restoreVariable does so for a variable's value: only a secret has none.
func restoreVariable(v *api.Variable) {
	if v.Value == nil && !v.Secret {
		v.Value = new(string)
	}
}
