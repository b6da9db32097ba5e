package show

import (
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// MachineColumns are the columns of `machine ls`.
func MachineColumns(e *cli.Env) []view.Column[api.Machine] {
	type m = api.Machine
	text := func(title, key string, f func(m) string) view.Column[m] { return Plain(title, key, f) }
	addr := text("Machine", "addr", func(m m) string { return m.Addr })
	addr.IsID, addr.Middle, addr.Min = true, true, 12
	state := view.Column[m]{Title: "State", Key: "state", Value: func(m m) string {
		return m.State
	},
		Cell: func(m m) []view.Span {
			return []view.Span{{Text: machineState(e, m), Style: machineStyle(m)}}
		}}
	slots := view.Column[m]{Title: "Slots", Key: "slots", Right: true, Value: func(m m) string {
		return fmt.Sprint(m.Slots)
	},
		Cell: view.Text(func(m m) string { return fmt.Sprintf("%d/%d", len(m.Running), m.Slots) })}
	running := text("Running", "running", func(m m) string { return IDList(m.Running) })
	running.Max, running.Give, running.Min = 24, 2, 7
	failures := text("Failures", "failures", number(func(m m) int64 { return int64(m.Failures) }))
	failures.Give, failures.Right = 4, true
	lastError := text("Last error", "last_error", func(m m) string { return m.LastError })
	lastError.Give, lastError.Min = 3, 16
	columns := []view.Column[m]{addr, text("Class", "class", func(m m) string {
		return m.Class
	}), state, slots, running, failures, lastError}
	for _, c := range []view.Column[m]{
		text("Resources", "resources", func(m m) string { return ResourcesText(m.Resources) }),
		text("OS", "os", func(m m) string { return m.OS }),
		text("Arch", "arch", func(m m) string { return m.Arch }),
		text("Cores", "cores", number(func(m m) int64 { return int64(m.Cores) })),
		sized("Memory", "memory_bytes", func(m m) int64 { return m.MemoryBytes }),
		sized("Free disk", "free_bytes", func(m m) int64 { return m.FreeBytes }),
		{Title: "Load", Key: "load1", Right: true, Value: floatText(func(m m) float64 {
			return m.Load1
		}),
			Cell: view.Text(func(m m) string { return measured(m, "%.2f", m.Load1) })},
		{Title: "Clock", Key: "clock_offset_seconds", Right: true,
			Value: floatText(func(m m) float64 {
				return m.ClockOffsetSeconds
			}),
			Cell: view.Text(func(m m) string {
				return measured(m, "%+.0f ms", 1000*m.ClockOffsetSeconds)
			})},
		text("Node", "node", func(m m) string { return pilotOf(m).Node }),
		text("Slurm job", "slurm_job", func(m m) string { return pilotOf(m).Job }),
		{Title: "Until", Key: "until", Cell: view.Text(func(m m) string {
			return e.TimePointerText(m.Until)
		})},
	} {
		c.OnlyWide = true
		columns = append(columns, c)
	}
	return columns
}

// pilotOf tells what Slurm says of a machine, nothing of one that isn't an allocation.
func pilotOf(m api.Machine) api.Pilot {
	if m.Pilot == nil {
		return api.Pilot{}
	}
	return *m.Pilot
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
	if m.Provider != nil {
		return providerState(m)
	}
	state := m.State
	if m.Since != nil && m.State != "connected" {
		state += " " + view.FormatDuration(e.Now().Sub(*m.Since))
	}
	also := m.Remarks()
	if len(also) > 0 {
		state += " (" + strings.Join(also, ", ") + ")"
	}
	return state
}

// providerState is how a partition of Slurm stands: its allocations, and what keeps it from asking
// for more.
func providerState(m api.Machine) string {
	said := m.Remarks()
	if m.Slots > 0 {
		said = append(said, view.Counted(m.Slots, "slot"))
	}
	switch {
	case m.State != "connected":
		said = append([]string{m.State}, said...)
	case len(said) == 0:
		said = append(said, "idle")
	}
	return strings.Join(said, "; ")
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

// CheckColumns are the columns of `machine check`.
func CheckColumns(e *cli.Env) []view.Column[api.MachineCheck] {
	type c = api.MachineCheck
	addr := Plain("Machine", "addr", func(c c) string { return c.Addr })
	addr.IsID, addr.Middle, addr.Min = true, true, 12
	ok := view.Column[c]{Title: "Check", Key: "ok", Value: func(c c) string {
		return fmt.Sprint(c.OK)
	},
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
	key := Plain("Host key", "fingerprint", func(c c) string {
		return strings.TrimSpace(c.HostKey + " " + c.Fingerprint)
	})
	key.Value, key.Give, key.Middle, key.Min = func(c c) string {
		return c.Fingerprint
	}, 5, true, 20
	cores := Plain("Cores", "cores", number(func(c c) int64 { return int64(c.Cores) }))
	memory := sized("Memory", "memory_bytes", func(c c) int64 { return c.MemoryBytes })
	disk := sized("Free disk", "free_bytes", func(c c) int64 { return c.FreeBytes })
	for _, column := range []*view.Column[c]{&cores, &memory, &disk} {
		column.Right, column.Give = true, 2
	}
	limit := Plain("Limit", "memory_limit", func(c c) string { return c.MemoryLimit })
	limit.Give, limit.Min = 5, 9
	return []view.Column[c]{addr, ok, latency, system, cores, memory, limit, disk, clock, key,
		OnlyCSV("memory_limit_why", func(c c) string { return c.MemoryLimitWhy }),
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

func millisText(seconds float64) string {
	if seconds == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f ms", 1000*seconds)
}

// TrustColumns are the columns of `machine trust`.
func TrustColumns() []view.Column[api.MachineCheck] {
	type c = api.MachineCheck
	addr := Plain("Machine", "addr", func(c c) string { return c.Addr })
	addr.IsID, addr.Middle, addr.Min = true, true, 12
	known := view.Column[c]{Title: "Key is", Key: "known", Value: func(c c) string {
		return c.Known
	},
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
