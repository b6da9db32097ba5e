package wire

import (
	"unicode/utf8"

	"jobserver/api"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// lightText is how many bytes of a text a light job keeps: more than a row of a table shows.
const lightText = 300

// LightJob is a job as a row of a table shows it.
func LightJob(st *sched.State, j *statepb.Job) api.Job {
	full := Job(st, "", j, false)
	light := api.Job{
		JID: full.JID, Status: full.Status, Canceling: full.Canceling, Class: full.Class,
		Pause: full.Pause, PausedAt: full.PausedAt, PausedSeconds: full.PausedSeconds,
		Suspended: full.Suspended,
		Cmd:       beginning(full.Cmd), Machine: full.Machine, Slot: full.Slot, Matrix: full.Matrix,
		Cell: full.Cell, Tag: full.Tag, TagName: full.TagName, Priority: full.Priority,
		Attempt: full.Attempt, ExitCode: full.ExitCode, Signal: full.Signal,
		Error: beginning(full.Error), ResultsStatus: full.ResultsStatus,
		ResultsError: beginning(full.ResultsError), SubmittedAt: full.SubmittedAt,
		StartedAt: full.StartedAt, EndedAt: full.EndedAt, DurationSeconds: full.DurationSeconds,
		Failures: full.Failures, MaxFailures: full.MaxFailures, Setup: full.Setup,
		RestartOf: full.RestartOf, NotBefore: full.NotBefore, Blocked: full.Blocked,
		Unneeded: full.Unneeded, StartAfter: full.StartAfter, Label: full.Label,
		Reason: full.Reason,
	}
	if full.Matrix != 0 { // whose jobs differ by these only
		light.Vars = varsOf(j.Vars)
		for name, value := range light.Vars {
			light.Vars[name] = beginning(value)
		}
	}
	for _, step := range full.Steps {
		light.Steps = append(light.Steps, beginning(step))
	}
	if len(light.Steps) > 3 {
		light.Steps = light.Steps[:3]
	}
	return light
}

// beginning gives the beginning of a text, cut between characters.
func beginning(text string) string {
	if len(text) <= lightText {
		return text
	}
	cut := lightText
	for cut > lightText-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// lightValues is how many values of an axis a light matrix has, when it is asked for alone.
const lightValues = 2000

// LightMatrix is a matrix without the values of its axes; with values, those of axes that don't
// have very many are there.
func LightMatrix(st *sched.State, id uint64, values bool) api.Matrix {
	m := Matrix(st, id)
	if !values {
		m.Cmd = beginning(m.Cmd)
	}
	for i := range m.Vars {
		v := &m.Vars[i]
		if v.Count = len(v.Values); !values || v.Count > lightValues {
			v.Values = nil
		}
	}
	return m
}

// Changes shows what has changed, as clients see it.
func Changes(c *sched.Changes) api.ChangesReply {
	return api.ChangesReply{
		Cursor: c.Cursor, Pulse: c.Pulse, Events: c.Events, Gap: c.Gap,
		Jobs: c.Jobs, First: c.First, Last: c.Last,
		Matrices: c.Matrices, AllMatrices: c.AllMatrices,
		Machines: c.Machines, AllMachines: c.AllMachines,
	}
}
