// Package wire turns the scheduler's records into the types that cross the socket. It is pure.
package wire

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"jobserver/api"
	"jobserver/redact"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// Counts are counts of jobs as clients see them.
func Counts(c sched.Counts) api.Counts {
	return api.Counts{
		Waiting: c.By[sched.Waiting], Held: c.By[sched.Held], Running: c.By[sched.Running],
		Copying: c.By[sched.Copying],
		Done:    c.By[sched.Done], Failed: c.By[sched.Failed], Canceled: c.By[sched.Canceled],
		Lost:   c.By[sched.Lost],
		Copied: c.Copied, Uncopied: c.Uncopied,
	}
}

// Job is a job as clients see it, with its logs below logDir; full adds its attempts, variables and
// environment.
func Job(st *sched.State, logDir string, j *statepb.Job, full bool) api.Job {
	out := api.Job{
		JID: j.Id, Status: sched.StatusName(j.Status),
		Canceling: j.Canceling || sched.BreaksUp(j), Class: j.Class,
		Cmd:    string(j.Cmd),
		Matrix: j.Matrix, Tag: j.Tag, Priority: int(j.Priority), Error: j.Error, CpPath: j.CpPath,
		Flat:          j.Flat,
		ResultsStatus: resultsName(j.Results), ResultsDir: j.ResultsDir,
		ResultsError: j.ResultsError,
		SubmittedAt:  sched.Time(j.SubmittedAt), EndedAt: timeOf(j.EndedAt),
		TimeoutSeconds: time.Duration(j.Timeout).Seconds(),
		MaxFailures:    int(j.MaxFailures), Failures: int(j.Failures), Notify: j.Notify,
		Setup: j.Setup != nil, RestartOf: j.RestartOf,
	}
	out.Needs, out.HeldWhy = Needs(j.Needs), j.HeldWhy
	out.Cwd, out.Stdin, out.Label, out.Reason = j.Cwd, j.StdinName, j.Label, j.Reason
	out.StartAfter, out.RetryOn, out.NoRetryOn = timeOf(j.StartAfter), j.RetryOn, j.NoRetryOn
	out.After, out.Blocked, out.Unneeded = sched.AfterText(j.After), st.IsBlocked(j.Id), j.Unneeded
	if j.Tag != 0 {
		out.TagName, _, _ = st.Tag(j.Tag)
	}
	if j.Matrix != 0 {
		out.Cell = api.Some(int(j.Cell))
	}
	if j.Status == sched.Waiting {
		out.NotBefore = timeOf(j.NotBefore)
	}
	if j.Setup != nil {
		out.Machine = j.Setup.Machine
		for _, step := range j.Setup.Steps {
			out.Steps = append(out.Steps, string(step))
		}
	}
	if n := len(j.Attempts); n > 0 {
		newestAttempt(&out, st, logDir, j, j.Attempts[n-1])
	}
	if full {
		out.Vars, out.Env, out.Inputs = varsOf(j.Vars), varsOf(j.Env), inputs(j.Inputs)
		if len(j.Attempts) == 0 {
			out.CmdExpanded = expanded(&out)
		}
		for i, a := range j.Attempts {
			one := attempt(logDir, j, a)
			one.CmdRun = sched.CommandRun(j, i)
			out.Attempts = append(out.Attempts, one)
		}
	}
	hide(&out, Hidden(st, j))
	return out
}

// hide takes secrets out of what a job has printed, or what was made of that.
func hide(out *api.Job, secrets redact.Redactor) {
	if len(secrets) == 0 {
		return
	}
	out.Error, out.ResultsError = secrets.Redact(out.Error), secrets.Redact(out.ResultsError)
	out.Results = slices.Clone(out.Results) // they are the state's
	for i := range out.Results {
		out.Results[i] = secrets.Redact(out.Results[i])
	}
	for i := range out.Attempts {
		out.Attempts[i].Error = secrets.Redact(out.Attempts[i].Error)
		for k := range out.Attempts[i].Ranks {
			r := &out.Attempts[i].Ranks[k]
			r.Error, r.ResultsError = secrets.Redact(r.Error), secrets.Redact(r.ResultsError)
		}
	}
}

// expanded is a job's command with the values that clients see of its variables, "" when that
// changes nothing.
func expanded(job *api.Job) string {
	cmd, _ := sched.Expand(job.Cmd, sched.MaxCommand, func(name string) (string, bool) {
		value, ok := job.Vars[name]
		return value, ok
	})
	if cmd == job.Cmd {
		return ""
	}
	return cmd
}

// newestAttempt fills in what a job's listing shows of its newest attempt.
func newestAttempt(
	out *api.Job, st *sched.State, logDir string, j *statepb.Job, a *statepb.Attempt,
) {
	out.Attempt, out.Machine, out.Slot, out.CmdRun = int(a.Number), a.Machine,
		api.Some(int(a.Slot)), string(a.CmdRun)
	out.StartedAt, out.DurationSeconds = timeOf(a.StartedAt), time.Duration(a.Duration).Seconds()
	out.Pause, out.PausedAt = sched.PauseOf(j), timeOf(a.PausedAt)
	out.PausedSeconds = time.Duration(a.PausedFor).Seconds()
	out.Suspended = st.IsSuspended(j)
	out.CPUSeconds, out.MaxRSSBytes = time.Duration(a.UserCpu+a.SystemCpu).Seconds(), a.MaxRss
	out.Results, out.Signal = a.Results, a.Signal
	out.ExitCode = exitCodeOf(a)
	out.Machines = machines(a)
	r := logRef(j, a)
	out.Log, out.ErrLog = sched.LogPath(logDir, r, false), sched.LogPath(logDir, r, true)
	if j.Setup != nil {
		for r.Step = 0; r.Step <= a.Step; r.Step++ {
			out.LogFull = append(out.LogFull, sched.LogPath(logDir, r, false))
		}
	}
}

func attempt(logDir string, j *statepb.Job, a *statepb.Attempt) api.Attempt {
	r := logRef(j, a)
	return api.Attempt{
		Slots: slotsOf(a), Given: grants(a.Given), Ranks: ranks(logDir, j, a),
		Inputs:  inputs(sched.InputsOf(a)),
		Attempt: int(a.Number), Machine: a.Machine, Slot: int(a.Slot),
		Outcome: outcomeName(a.Cause), ExitCode: exitCodeOf(a),
		Signal: a.Signal, Error: a.Error, DispatchedAt: sched.Time(a.DispatchedAt),
		StartedAt: timeOf(a.StartedAt), EndedAt: timeOf(a.EndedAt),
		MachineStart: timeOf(a.MachineStartedAt), MachineEnd: timeOf(a.MachineEndedAt),
		DurationSeconds: time.Duration(a.Duration).Seconds(),
		PausedSeconds:   time.Duration(a.PausedFor).Seconds(),
		CPUSeconds:      time.Duration(a.UserCpu + a.SystemCpu).Seconds(), MaxRSSBytes: a.MaxRss,
		Log: sched.LogPath(logDir, r, false), ErrLog: sched.LogPath(logDir, r, true),
		LogDropped: a.Dropped, Step: int(a.Step),
	}
}

func inputs(all []*statepb.Input) (out []api.Input) {
	for _, in := range all {
		out = append(out, api.Input{Name: in.Name, Path: in.Path, Hash: in.Hash,
			Files: int(in.Files), Bytes: in.Bytes, Dir: in.Dir})
	}
	return out
}

// exitCodeOf is an attempt's exit code, if it has exited.
func exitCodeOf(a *statepb.Attempt) api.Maybe[int] {
	if a.Cause != statepb.Cause_EXITED || a.Signal != "" {
		return api.Maybe[int]{}
	}
	return api.Some(int(a.ExitCode))
}

// WaitCode is the exit code with which `wait` on a job ends: its own, 128 and the signal's number,
// or 1, also for one that has succeeded, and whose results were not all copied. A job that its time
// limit ended is no exception, though timeout(1) gives 124: that says that `wait` itself gave up.
func WaitCode(j *statepb.Job) int {
	switch {
	case j.Status == sched.Done && j.Results == statepb.Results_RESULTS_FAILED:
		return 1
	case !sched.Final(j.Status), j.Status == sched.Done, j.Unneeded:
		return 0
	}
	if n := len(j.Attempts); n > 0 && j.Status == sched.Failed {
		a := j.Attempts[n-1]
		switch {
		case a.Signal != "":
			return 128 + int(unix.SignalNum(a.Signal))
		case a.ExitCode != 0:
			return int(a.ExitCode)
		}
	}
	return 1
}

func resultsName(r statepb.Results) string {
	switch r {
	case statepb.Results_RESULTS_WAITING:
		return "waiting"
	case statepb.Results_RESULTS_COPYING:
		return "copying"
	case statepb.Results_RESULTS_COPIED:
		return "copied"
	case statepb.Results_RESULTS_FAILED:
		return "failed"
	}
	return "none"
}

func outcomeName(c statepb.Cause) string {
	switch c {
	case statepb.Cause_EXITED:
		return "exited"
	case statepb.Cause_CANCELED_BY_USER:
		return "canceled"
	case statepb.Cause_TIMED_OUT:
		return "timed out"
	case statepb.Cause_MACHINE_LOST:
		return "lost"
	case statepb.Cause_NOT_STARTED:
		return "not started"
	case statepb.Cause_MACHINE_REMOVED:
		return "machine removed"
	}
	return "running"
}

// Secrets are the values of the secret variables: they are taken out of what people are shown.
func Secrets(st *sched.State) []string {
	var secrets []string
	for _, v := range st.Vars() {
		if v.Secret {
			secrets = append(secrets, strings.TrimSpace(string(v.Value)))
		}
	}
	return secrets
}

// Hidden takes what a job was given, or may use, of secrets out of texts.
func Hidden(st *sched.State, j *statepb.Job) redact.Redactor {
	return redact.New(append(Secrets(st), sched.HiddenOf(j)...)...)
}

func varsOf(vars []*statepb.Var) map[string]string {
	if len(vars) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, v := range vars {
		out[v.Name] = sched.ShownValue(v)
	}
	return out
}

// Matrix is a matrix as clients see it.
func Matrix(st *sched.State, id uint64) api.Matrix {
	m, counts := st.Matrix(id)
	out := api.Matrix{
		ID: m.Id, Name: m.Name, Class: m.Template.Class, Cmd: string(m.Template.Cmd),
		CpPath:  m.Template.CpPath,
		Repeats: int(m.Repeats), Cells: int(m.Cells), FirstJID: m.FirstJob, Counts: Counts(counts),
		Held: m.Held, HeldWhy: m.HeldWhy,
		Tag: m.Template.Tag, SubmittedAt: sched.Time(m.SubmittedAt), Metrics: m.Measurements,
		Listed: m.IndexWidth > 0, After: st.AfterNames(m.Template.After), Seed: m.Seed,
	}
	if v, ok := st.MatrixVerdict(id); ok {
		out.TrialAt = &v.Again
	}
	out.AtMost, out.MaxFails = int(m.AtMost), int(m.MaxFails)
	for _, a := range m.Axes {
		out.Vars = append(out.Vars, api.Axis{Name: a.Name, Values: slices.Clone(a.Values)})
	}
	return out
}

// Variable is a variable as clients see it; a secret's value stays with the daemon.
func Variable(v *statepb.Var) api.Variable {
	out := api.Variable{Name: v.Name, Secret: v.Secret}
	if !v.Secret {
		out.Value = api.Some(string(v.Value))
	}
	return out
}

// Tag is a tag as clients see it.
func Tag(st *sched.State, id uint64) api.Tag {
	name, counts, _ := st.Tag(id)
	out := api.Tag{ID: id, Name: name, Counts: Counts(counts)}
	out.AtMost, out.MaxFails, out.FailedOut = st.TagLimits(id)
	return out
}

// Verdict shows what is held against a machine or a matrix, as clients see it.
func Verdict(v *sched.Verdict) api.Verdict {
	out := api.Verdict{Machine: v.Machine, Matrix: v.Matrix, Class: v.Class, Text: v.Text,
		Undo: v.Undo, Stops: v.Stops}
	if !v.Again.IsZero() {
		out.TrialAt = &v.Again
	}
	return out
}

// Machine is a machine as clients see it: no more than its address when it isn't known.
func Machine(st *sched.State, addr string) api.Machine {
	m, ok := st.Machine(addr)
	if !ok {
		return api.Machine{Addr: addr}
	}
	out := api.Machine{
		Addr: addr, Class: m.Class, State: string(m.Link), Draining: m.Draining || m.Removing,
		Until: timeOf(m.Until), Slots: int(m.Slots),
		Running: m.Running, Failures: len(m.Failures), Resting: m.Resting, LastError: m.LastError,
		Hint: m.Hint, HomeClass: m.HomeClass, Root: m.Root,
	}
	if out.LastError == "" {
		out.LastError = m.SetupError
	}
	if m.Reason != "" {
		out.LastError = m.Reason
	}
	if v := Verdict(&m.Verdict); v.Text != "" {
		out.Verdict, out.TrialAt = v.Text, v.TrialAt
	}
	if !m.Since.IsZero() {
		out.Since = &m.Since
	}
	for _, r := range m.Orphans {
		out.Orphans = append(out.Orphans, runName(r))
	}
	out.OrphanCount, out.Ending = m.OrphanCount, m.Ending
	for _, o := range m.Unremoved {
		out.Unremoved = append(out.Unremoved, o.Unremoved)
	}
	out.Pilot = pilot(st, &m)
	Facts(&out, m.Machine, m.Vitals)
	for _, r := range st.MachineResources(addr) {
		one := resource(r.Resource, r.Held)
		one.Found = r.Found
		out.Resources = append(out.Resources, one)
	}
	return out
}

// Owing lists what machines have still to end or to remove, by address.
func Owing(st *sched.State) []api.Owing {
	owing := st.Owing()
	var all []api.Owing
	for _, addr := range slices.Sorted(maps.Keys(owing)) {
		_, inPool := st.Machine(addr)
		all = append(all, api.Owing{
			Machine: addr, Gone: !inPool, Ending: owing[addr].Ending,
			Unremoved: owing[addr].Unremoved,
		})
	}
	return all
}

// Facts adds what a machine says of itself.
func Facts(out *api.Machine, f *statepb.Machine, v sched.Vitals) {
	out.OS, out.Arch, out.Kernel, out.CPUModel = f.Os, f.Arch, f.Kernel, f.CpuModel
	out.Cores, out.MemoryBytes, out.FreeBytes, out.Load1 = int(f.Cores), f.Memory, v.FreeBytes,
		v.Load1
	out.ClockOffsetSeconds, out.LatencySeconds = v.ClockOffset.Seconds(), v.Latency.Seconds()
	if f.BootId != "" { // it was seen
		if out.MemoryLimit = "accounted"; f.LimitsMemory {
			out.MemoryLimit = "enforced"
		}
	}
	if out.Root == "" {
		out.Root = f.Root
	}
}

// Event is an event as clients see it.
func Event(e *sched.Event) api.Event {
	out := api.Event{
		Cursor: e.Seq, At: e.At, Kind: e.Kind, JID: e.Job, Attempt: e.Attempt, Machine: e.Machine,
		Matrix: e.Matrix, Tag: e.Tag, Text: e.Text,
	}
	if e.Status != 0 {
		out.Status = sched.StatusName(e.Status)
	}
	return out
}

// runName names a run as its directory is named.
func runName(r *statepb.RunRef) string {
	return fmt.Sprintf("%d.%d.%d-%s", r.Job, r.Attempt, r.Step, r.Token)
}

func timeOf(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := sched.Time(ns)
	return &t
}
