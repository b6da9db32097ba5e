package show

import (
	"fmt"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// number makes a cell of a number; 0 is left out.
func number[T any](f func(T) int64) func(T) string {
	return func(row T) string {
		if n := f(row); n != 0 {
			return fmt.Sprint(n)
		}
		return ""
	}
}

// Plain is a column whose cell and CSV value are the same text.
func Plain[T any](title, key string, f func(T) string) view.Column[T] {
	return view.Column[T]{Title: title, Key: key, Cell: view.Text(f)}
}

// sized is a column of a number of bytes; 0, which is unknown, is left out.
func sized[T any](title, key string, f func(T) int64) view.Column[T] {
	return view.Column[T]{Title: title, Key: key, Value: number(f), Cell: view.Text(func(row T) string { return SizeText(f(row)) })}
}

// OnlyCSV is a column that tables don't have.
func OnlyCSV[T any](key string, f func(T) string) view.Column[T] {
	return view.Column[T]{Key: key, Value: f}
}

// MachineColumns are those of `machine ls`.
func MachineColumns(e *cli.Env) []view.Column[api.Machine] {
	type m = api.Machine
	text := func(title, key string, f func(m) string) view.Column[m] { return Plain(title, key, f) }
	addr := text("Machine", "addr", func(m m) string { return m.Addr })
	addr.IsID, addr.Middle, addr.Min = true, true, 12
	state := view.Column[m]{Title: "State", Key: "state", Value: func(m m) string { return m.State },
		Cell: func(m m) []view.Span { return []view.Span{{Text: machineState(e, m), Style: machineStyle(m)}} }}
	slots := view.Column[m]{Title: "Slots", Key: "slots", Right: true, Value: func(m m) string { return fmt.Sprint(m.Slots) },
		Cell: view.Text(func(m m) string { return fmt.Sprintf("%d/%d", len(m.Running), m.Slots) })}
	running := text("Running", "running", func(m m) string { return IdList(m.Running) })
	running.Max, running.Give, running.Min = 24, 2, 7
	failures := text("Failures", "failures", number(func(m m) int64 { return int64(m.Failures) }))
	failures.Give, failures.Right = 4, true
	lastError := text("Last error", "last_error", func(m m) string { return m.LastError })
	lastError.Give, lastError.Min = 3, 16
	columns := []view.Column[m]{addr, text("Class", "class", func(m m) string { return m.Class }), state, slots, running, failures, lastError}
	for _, c := range []view.Column[m]{
		text("OS", "os", func(m m) string { return m.OS }),
		text("Arch", "arch", func(m m) string { return m.Arch }),
		text("Cores", "cores", number(func(m m) int64 { return int64(m.Cores) })),
		sized("Memory", "memory_bytes", func(m m) int64 { return m.MemoryBytes }),
		sized("Free disk", "free_bytes", func(m m) int64 { return m.FreeBytes }),
		{Title: "Load", Key: "load1", Right: true, Value: floatText(func(m m) float64 { return m.Load1 }),
			Cell: view.Text(func(m m) string { return measured(m, "%.2f", m.Load1) })},
		{Title: "Clock", Key: "clock_offset_seconds", Right: true, Value: floatText(func(m m) float64 { return m.ClockOffsetSeconds }),
			Cell: view.Text(func(m m) string { return measured(m, "%+.0f ms", 1000*m.ClockOffsetSeconds) })},
		{Title: "Until", Key: "until", Cell: view.Text(func(m m) string { return e.TimePointerText(m.Until) })},
	} {
		c.OnlyWide = true
		columns = append(columns, c)
	}
	return columns
}

// measured is a number that a machine has only when it was reached.
func measured(m api.Machine, format string, value float64) string {
	if m.LatencySeconds == 0 {
		return ""
	}
	return fmt.Sprintf(format, value)
}

// machineState is a machine's state with what else keeps it from work.
func machineState(e *cli.Env, m api.Machine) string {
	state := m.State
	if m.Since != nil && m.State != "connected" {
		state += " " + view.FormatDuration(e.Now().Sub(*m.Since))
	}
	var also []string
	if m.Draining {
		also = append(also, "draining")
	}
	if m.Resting {
		also = append(also, "resting")
	}
	if n := len(m.Orphans); n > 0 {
		also = append(also, view.Counted(n, "orphan"))
	}
	if len(also) > 0 {
		state += " (" + strings.Join(also, ", ") + ")"
	}
	return state
}

func machineStyle(m api.Machine) view.Style {
	switch {
	case m.State == "refused":
		return view.RedUnder
	case m.State == "away":
		return view.Red
	case m.State == "connecting" || m.Draining || m.Resting:
		return view.Grey
	case len(m.Running) > 0:
		return view.Yellow
	}
	return view.Green
}

func IdList(ids []uint64) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = fmt.Sprint(id)
	}
	return strings.Join(words, " ")
}

func SizeText(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return view.FormatSize(bytes)
}

// CheckColumns are those of `machine check`.
func CheckColumns(e *cli.Env) []view.Column[api.MachineCheck] {
	type c = api.MachineCheck
	addr := Plain("Machine", "addr", func(c c) string { return c.Addr })
	addr.IsID, addr.Middle, addr.Min = true, true, 12
	ok := view.Column[c]{Title: "Check", Key: "ok", Value: func(c c) string { return fmt.Sprint(c.OK) },
		Cell: view.Styled(okText, func(c c) view.Style {
			if c.OK {
				return view.Green
			}
			return view.RedUnder
		})}
	latency := view.Column[c]{Title: "Latency", Key: "latency_seconds", Right: true, Give: 2,
		Value: floatText(func(c c) float64 { return c.LatencySeconds }),
		Cell:  view.Text(func(c c) string { return millisText(c.LatencySeconds) })}
	system := Plain("System", "os", func(c c) string { return strings.Trim(c.OS+"/"+c.Arch, "/") })
	system.Value = func(c c) string { return c.OS }
	system.Give = 3
	clock := view.Column[c]{Title: "Clock", Key: "clock_offset_seconds", Right: true, Give: 4,
		Value: floatText(func(c c) float64 { return c.ClockOffsetSeconds }),
		Cell: view.Text(func(c c) string {
			if !c.OK {
				return ""
			}
			return fmt.Sprintf("%+d ms", int64(1000*c.ClockOffsetSeconds))
		})}
	key := Plain("Host key", "fingerprint", func(c c) string { return strings.TrimSpace(c.HostKey + " " + c.Fingerprint) })
	key.Value, key.Give, key.Middle, key.Min = func(c c) string { return c.Fingerprint }, 5, true, 20
	cores := Plain("Cores", "cores", number(func(c c) int64 { return int64(c.Cores) }))
	memory := sized("Memory", "memory_bytes", func(c c) int64 { return c.MemoryBytes })
	disk := sized("Free disk", "free_bytes", func(c c) int64 { return c.FreeBytes })
	for _, column := range []*view.Column[c]{&cores, &memory, &disk} {
		column.Right, column.Give = true, 2
	}
	return []view.Column[c]{addr, ok, latency, system, cores, memory, disk, clock, key,
		OnlyCSV("arch", func(c c) string { return c.Arch }),
		OnlyCSV("error", func(c c) string { return c.Error }),
	}
}

func okText(c api.MachineCheck) string {
	if c.OK {
		return "ok"
	}
	return "failed"
}

func floatText[T any](f func(T) float64) func(T) string {
	return func(row T) string {
		if v := f(row); v != 0 {
			return fmt.Sprint(v)
		}
		return ""
	}
}

func millisText(seconds float64) string {
	if seconds == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f ms", 1000*seconds)
}

// TrustColumns are those of `machine trust`.
func TrustColumns() []view.Column[api.MachineCheck] {
	type c = api.MachineCheck
	addr := Plain("Machine", "addr", func(c c) string { return c.Addr })
	addr.IsID, addr.Middle, addr.Min = true, true, 12
	known := view.Column[c]{Title: "Key is", Key: "known", Value: func(c c) string { return c.Known },
		Cell: view.Styled(func(c c) string { return c.Known }, func(c c) view.Style {
			switch c.Known {
			case "known":
				return view.Green
			case "changed":
				return view.RedUnder
			}
			return view.Yellow
		})}
	return []view.Column[c]{addr, known,
		Plain("Type", "host_key", func(c c) string { return c.HostKey }),
		Plain("Fingerprint", "fingerprint", func(c c) string { return c.Fingerprint }),
		OnlyCSV("error", func(c c) string { return c.Error }),
	}
}

// MatrixColumns are those of `matrix ls`.
func MatrixColumns(e *cli.Env) []view.Column[api.Matrix] {
	type m = api.Matrix
	id := Plain("Matrix", "id", func(m m) string { return fmt.Sprint(m.ID) })
	id.IsID = true
	name := Plain("Name", "name", func(m m) string { return m.Name })
	name.Give, name.Min = 3, 6
	jobs := view.Column[m]{Title: "Jobs", Key: "cells", Cell: func(m m) []view.Span { return matrixCounts(m) },
		Value: func(m m) string { return fmt.Sprint(m.Cells) }}
	cmd := Plain("Command", "cmd", func(m m) string { return m.Cmd })
	cmd.Middle, cmd.Min, cmd.Give = true, 16, 1
	vars := Plain("Values", "vars", axesText)
	vars.Give, vars.Min = 2, 12
	left := Plain("Left", "left_seconds", func(m m) string { return LeftText(m.Left) })
	left.Give, left.Value = 4, func(m m) string {
		if m.Left == nil {
			return ""
		}
		return fmt.Sprint(m.Left.Seconds)
	}
	return []view.Column[m]{id, name, jobs, left, Plain("Class", "class", func(m m) string { return m.Class }), cmd, vars,
		{Title: "Submitted", Key: "submitted_at", OnlyWide: true, Cell: view.Text(func(m m) string { return e.TimeText(m.SubmittedAt) })},
		{Title: "Results in", Key: "cp_path", OnlyWide: true, Cell: view.Text(func(m m) string { return m.CpPath })},
	}
}

// matrixCounts are a matrix's counts, and why it is held if it is.
func matrixCounts(m api.Matrix) []view.Span {
	spans := cli.ViewCounts(m.Counts).Short()
	if m.Held {
		spans = append(spans, view.Span{Text: " held", Style: view.Blue})
	}
	return spans
}

// LeftText is how long the rest of a matrix takes: "12m ± 3m".
func LeftText(left *api.TimeLeft) string {
	switch {
	case left == nil:
		return ""
	case left.Error > 0:
		return view.FormatDuration(left.Duration()) + " ± " + view.FormatDuration(left.Margin())
	}
	return view.FormatDuration(left.Duration())
}

func axesText(m api.Matrix) string {
	words := make([]string, len(m.Vars))
	for i, axis := range m.Vars {
		words[i] = axis.Name + "=" + strings.Join(axis.Values, ",")
	}
	return strings.Join(words, " ")
}

// TagColumns are those of `tag ls`.
func TagColumns(e *cli.Env) []view.Column[api.Tag] {
	id := Plain("Tag", "id", func(t api.Tag) string { return fmt.Sprint(t.ID) })
	id.IsID = true
	return []view.Column[api.Tag]{id,
		Plain("Name", "name", func(t api.Tag) string { return t.Name }),
		{Title: "Jobs", Key: "jobs", Value: func(t api.Tag) string { return fmt.Sprint(t.Counts.Total()) },
			Cell: func(t api.Tag) []view.Span { return cli.ViewCounts(t.Counts).Short() }},
	}
}

// VarColumns are those of `var ls`.
func VarColumns() []view.Column[api.Variable] {
	type v = api.Variable
	name := Plain("Name", "name", func(v v) string { return v.Name })
	name.IsID = true
	value := view.Column[v]{Title: "Value", Key: "value",
		Value: func(v v) string { return v.Value.Value },
		Cell: func(v v) []view.Span {
			if !v.Value.Set {
				return []view.Span{{Text: "(secret)", Style: view.Grey}}
			}
			return []view.Span{{Text: v.Value.Value}}
		}}
	return []view.Column[v]{name, value, OnlyCSV("secret", func(v v) string { return fmt.Sprint(v.Secret) })}
}

// ChangeColumns are those of what a change of many jobs matched.
func ChangeColumns(result func(api.BulkJob) string) []view.Column[api.BulkJob] {
	type b = api.BulkJob
	jid := Plain("Job", "jid", func(b b) string { return fmt.Sprint(b.JID) })
	jid.IsID = true
	cmd := Plain("Command", "cmd", func(b b) string { return b.Cmd })
	cmd.Middle, cmd.Min, cmd.Give = true, 12, 2
	note := Plain("Change", "note", result)
	return []view.Column[b]{jid,
		{Title: "Was", Key: "status", Cell: view.Styled(func(b b) string { return b.Status }, func(b b) view.Style { return view.StatusStyle(b.Status, false) })},
		note, cmd,
		OnlyCSV("changed", func(b b) string { return fmt.Sprint(b.Changed) }),
		OnlyCSV("new_jid", number(func(b b) int64 { return int64(b.NewJID) })),
		OnlyCSV("new_jids", func(b b) string { return IdList(b.NewJIDs) }),
	}
}

func WhyColumns() []view.Column[api.WhyReply] {
	type y = api.WhyReply
	jid := OnlyCSV("jid", func(y y) string { return fmt.Sprint(y.JID) })
	jid.IsID = true
	return []view.Column[y]{jid,
		OnlyCSV("status", func(y y) string { return y.Status }),
		OnlyCSV("summary", func(y y) string { return y.Summary }),
		OnlyCSV("details", func(y y) string { return strings.Join(y.Details, "\n") }),
		OnlyCSV("hint", func(y y) string { return y.Hint }),
	}
}

func StatusColumns() []view.Column[api.Status] {
	type s = api.Status
	id := OnlyCSV("server_id", func(s s) string { return s.ServerID })
	id.IsID = true
	return []view.Column[s]{id,
		OnlyCSV("version", func(s s) string { return s.Version }),
		OnlyCSV("pid", func(s s) string { return fmt.Sprint(s.PID) }),
		OnlyCSV("state_dir", func(s s) string { return s.StateDir }),
		OnlyCSV("started_at", func(s s) string { return s.StartedAt.Format(time.RFC3339) }),
		OnlyCSV("jobs", func(s s) string { return fmt.Sprint(s.Jobs.Total()) }),
	}
}
