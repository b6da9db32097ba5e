package top

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/live"
	"jobserver/view"
)

// fetched asks the daemon, and lets take put the answer on the screen.
func fetched[Reply any](
	s *screen,
	method string,
	args any,
	take func(s *screen, r *Reply) []effect,
) effect {
	f := s.Follower
	return func(ctx context.Context) news {
		reply, err := live.Ask[Reply](ctx, f, method, args)
		return func(s *screen) []effect {
			if err != nil {
				if ctx.Err() == nil {
					s.failed(err)
				}
				return nil
			}
			return take(s, reply)
		}
	}
}

// clampRow keeps a row within a list.
func clampRow(at, n int) int { return max(min(at, n-1), 0) }

// jobs is the pane of jobs: a window of them from the newest down.
type jobs struct {
	words  []string
	before uint64
	list   []api.Job
	next   uint64
	at     int
	id     uint64 // of the current one: it stays so when others come
	marks
}

const jobsWindow = 200

func (p *jobs) title() string { return "Jobs" }

// concerns: how a machine is, is said of its jobs too.
func (p *jobs) concerns(d *live.Digest) bool { return d.Events > 0 || d.AllMachines }

func (p *jobs) fetch(s *screen) effect {
	args := &api.ListJobsArgs{
		Newest:    true,
		Light:     true,
		Limit:     jobsWindow,
		Before:    p.before,
		Selectors: p.words,
	}
	return fetched(s, "ListJobs", args, func(_ *screen, r *api.ListJobsReply) []effect {
		if p.before != args.Before ||
			strings.Join(p.words, " ") != strings.Join(args.Selectors, " ") {
			return nil // it is of what was asked for before
		}
		p.list, p.next = r.Jobs, r.Next
		for i := range p.list {
			if p.list[i].JID == p.id && p.at > 0 {
				p.at = i
			}
		}
		p.set(p.at)
		return nil
	})
}

func (p *jobs) set(at int) {
	p.at = clampRow(at, len(p.list))
	if p.id = 0; len(p.list) > 0 {
		p.id = p.list[p.at].JID
	}
}

func (p *jobs) move(s *screen, by int) []effect {
	switch {
	case by < -1<<20 && p.before != 0:
		p.before = 0
	case by > 0 && p.at == len(p.list)-1 && p.next != 0:
		p.before, p.at, p.id = p.next, 0, 0
	case by < 0 && p.at == 0 && p.before != 0:
		if p.before += jobsWindow; p.before >= s.live.Status.NextID {
			p.before = 0
		}
	default:
		p.set(p.at + by)
		return nil
	}
	p.at = 0
	return one(p.fetch(s))
}

func (p *jobs) selected() uint64 {
	if len(p.list) == 0 {
		return 0
	}
	return p.list[p.at].JID
}

func (p *jobs) open(s *screen) []effect { return s.showBeside("l") }

func (p *jobs) change(_ *screen, key string) (*change, error) {
	ops := map[string]string{
		"c": api.OpCancel,
		"h": api.OpHold,
		"u": api.OpUnhold,
		"r": api.OpRestart,
		"p": api.OpPause,
		"P": api.OpGoOn,
	}
	selectors, what := p.chosen()
	if len(selectors) == 0 || ops[key] == "" {
		return nil, nil
	}
	return &change{kind: "job", op: ops[key], what: what, names: selectors}, nil
}

func (p *jobs) lines(s *screen, width, height int) []string {
	empty := "no jobs yet"
	if len(p.words) > 0 {
		empty = "no job matches " + strings.Join(p.words, " ")
	}
	t := table[api.Job]{columns: jobColumns(s.Now()), rows: p.list, at: p.at, empty: empty,
		marked: func(j api.Job) bool { return p.has(j.JID) }}
	return t.lines(s, width, height)
}

// seconds is how long a job ran, or runs.
func seconds(j api.Job, now time.Time) string {
	d := time.Duration(j.DurationSeconds * float64(time.Second))
	if j.Status == "running" {
		d = j.Ran(now)
	}
	if d == 0 {
		return ""
	}
	return view.FormatDuration(d)
}

func jobColumns(now time.Time) []view.Column[api.Job] {
	type j = api.Job
	return []view.Column[j]{
		{Title: "Job", Right: true, Cell: view.Text(func(j j) string { return fmt.Sprint(j.JID) })},
		{
			Title: "Status",
			Cell: view.Styled(
				statusText,
				func(j j) view.Style { return view.StatusStyle(j.Status, true) },
			),
		},
		{
			Title:  "Machine",
			Give:   3,
			Max:    20,
			Middle: true,
			Cell:   view.Text(func(j j) string { return j.MachineText() }),
		},
		{Title: "Class", Give: 5, Max: 12, Cell: view.Text(func(j j) string { return j.Class })},
		{
			Title: "Time",
			Give:  2,
			Right: true,
			Cell:  view.Text(func(j j) string { return seconds(j, now) }),
		},
		{Title: "Of", Give: 4, Cell: view.Text(of)},
		{
			Title: "Command",
			Min:   20,
			Give:  1,
			Max:   400,
			Cell: view.Text(
				func(j j) string {
					words := strings.Join(append(j.Steps, j.Cmd), " ; ")
					return strings.TrimSpace(matrixValues(&j) + "  " + words)
				},
			),
		},
	}
}

// matrixValues gives the values by which a job of a matrix differs from its neighbours.
func matrixValues(j *api.Job) string {
	if j.Matrix == 0 {
		return ""
	}
	return strings.Join(j.Values(), " ")
}

func statusText(j api.Job) string {
	remarks := j.Remarks()
	switch {
	case j.Canceling:
		return "canceling"
	case j.ExitCode.Set && j.ExitCode.Value != 0:
		return fmt.Sprintf("%s %d", j.Status, j.ExitCode.Value)
	case j.Signal != "":
		return j.Status + " " + j.Signal
	case len(remarks) > 0:
		return j.Status + ", " + strings.Join(remarks, ", ")
	}
	return j.Status
}

func of(j api.Job) string {
	switch {
	case j.Matrix != 0:
		return fmt.Sprintf("%%%d", j.Matrix)
	case j.TagName != "":
		return "@" + j.TagName
	}
	return ""
}

// machines is the pane of machines.
type machines struct {
	list []api.Machine
	at   int
}

func (p *machines) title() string                { return "Machines" }
func (p *machines) concerns(d *live.Digest) bool { return d.AllMachines || len(d.Machines) > 0 }
func (p *machines) selected() uint64             { return 0 }

func (p *machines) fetch(s *screen) effect {
	return fetched(
		s,
		"ListMachines",
		&api.ListMachinesArgs{},
		func(_ *screen, r *api.ListMachinesReply) []effect {
			p.list = r.Machines
			p.at = clampRow(p.at, len(p.list))
			return nil
		},
	)
}

func (p *machines) move(_ *screen, by int) []effect {
	p.at = clampRow(p.at+by, len(p.list))
	return nil
}

func (p *machines) open(s *screen) []effect {
	if len(p.list) == 0 {
		return nil
	}
	return s.showJobs([]string{"machine=" + p.list[p.at].Addr}, 0)
}

func (p *machines) change(_ *screen, key string) (*change, error) {
	ops := map[string]string{"d": api.MachineDrain, "D": api.MachineResume}
	if len(p.list) == 0 || ops[key] == "" {
		return nil, nil
	}
	addr := p.list[p.at].Addr
	return &change{kind: "machine", op: ops[key], what: addr, names: []string{addr}}, nil
}

func (p *machines) lines(s *screen, width, height int) []string {
	type m = api.Machine
	columns := []view.Column[m]{
		{
			Title:  "Machine",
			Middle: true,
			Max:    30,
			Cell:   view.Text(func(m m) string { return m.Addr }),
		},
		{Title: "Class", Give: 1, Max: 16, Cell: view.Text(func(m m) string { return m.Class })},
		{Title: "State", Cell: view.Styled(machineState, func(m m) view.Style {
			if m.State == string("connected") {
				return view.Green
			}
			return view.Red
		})},
		{
			Title: "Jobs",
			Right: true,
			Cell: view.Text(
				func(m m) string { return fmt.Sprintf("%d/%d", len(m.Running), m.Slots) },
			),
		},
		{Title: "Load", Right: true, Give: 2, Cell: view.Text(func(m m) string {
			if m.State != "connected" || m.Provider != nil { // which has none
				return ""
			}
			return fmt.Sprintf("%.1f", m.Load1)
		})},
		{Title: "Remarks", Give: 3, Min: 10, Max: 400, Cell: view.Text(func(m m) string {
			return machineRemark(m)
		})},
	}
	t := table[m]{columns: columns, rows: p.list, at: p.at,
		empty: "no machines yet: `jobserver machine add ADDR CLASS` adds one"}
	return t.lines(s, width, height)
}

// machineRemark says what a machine has, and what is the matter with it.
func machineRemark(m api.Machine) string {
	var parts []string
	for _, r := range m.Resources {
		if !r.Found {
			all := r.Text
			if len(r.Items) > 0 { // it says which
				all = fmt.Sprint(len(r.Items))
			}
			parts = append(parts, fmt.Sprintf("%s %d of %s", r.Name, r.Held, all))
		}
	}
	parts = append(parts, m.Verdict)
	if m.LastError != "" && !strings.Contains(m.Verdict, m.LastError) {
		parts = append(parts, m.LastError)
	}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "; ")
}

func machineState(m api.Machine) string {
	return strings.Join(append([]string{m.State}, m.Remarks()...), ", ")
}

// events is the pane of what has happened, the newest first.
type events struct {
	list []api.Event
	at   int
}

const keptEvents = 500

func (p *events) title() string                           { return "Events" }
func (p *events) concerns(d *live.Digest) bool            { return d.Events > 0 }
func (p *events) change(*screen, string) (*change, error) { return nil, nil }

func (p *events) move(
	_ *screen,
	by int,
) []effect {
	p.at = clampRow(p.at+by, len(p.list))
	return nil
}
func (p *events) open(s *screen) []effect { return s.showBeside("l") }

func (p *events) selected() uint64 {
	if len(p.list) == 0 {
		return 0
	}
	return p.list[p.at].JID
}

func (p *events) fetch(s *screen) effect {
	newest := s.live.Status.Cursor
	args := &api.EventsArgs{Since: newest - min(newest, 2*keptEvents), Max: 2 * keptEvents}
	return fetched(s, "Events", args, func(_ *screen, r *api.EventsReply) []effect {
		list := r.Events[max(len(r.Events)-keptEvents, 0):]
		p.list = make([]api.Event, 0, len(list))
		for i := range list {
			p.list = append(p.list, list[len(list)-1-i])
		}
		p.at = clampRow(p.at, len(p.list))
		return nil
	})
}

func (p *events) lines(s *screen, width, height int) []string {
	now := s.Now()
	columns := []view.Column[api.Event]{
		fixed("When", func(e api.Event) string { return view.FormatTime(e.At, now, true) }),
		{Title: "What", Give: 2, Cell: view.Text(func(e api.Event) string { return e.Kind })},
		{
			Title: "Told",
			Give:  1,
			Max:   500,
			Min:   28,
			Cell:  view.Text(func(e api.Event) string { return e.Text }),
		},
	}
	t := table[api.Event]{columns: columns, rows: p.list, at: p.at,
		empty: "nothing has happened that is still remembered"}
	return t.lines(s, width, height)
}
