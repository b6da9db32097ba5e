package server

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/version"
	"jobserver/view"
)

// Ping is `ping`.
type Ping struct{}

// Run asks whether the daemon answers.
func (c *Ping) Run(ctx context.Context, e *cli.Env) error {
	began := e.Now()
	if _, err := cli.Call[api.Status](ctx, e, "Ping", &api.Empty{}); err != nil {
		return err
	}
	took := e.Now().Sub(began)
	if e.Structured() {
		return cli.List(e, []pong{{OK: true, Seconds: took.Seconds()}}, pongColumns())
	}
	_, err := fmt.Fprintf(e.Stdout, "OK (%.1f ms)\n", 1000*took.Seconds())
	return err
}

// pong is an answered `ping`.
type pong struct {
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"` // from before the connection to the answer
}

// Status is `status`.
type Status struct{}

// Run prints what the daemon is and holds.
func (c *Status) Run(ctx context.Context, e *cli.Env) error {
	status, err := cli.Call[api.Status](ctx, e, "Status", &api.Empty{})
	if err != nil {
		return err
	}
	if e.ForScripts() {
		return cli.List(e, []api.Status{*status}, show.StatusColumns())
	}
	out := show.Fields{W: e.Stdout, Width: 16}
	out.Add("version", status.Version)
	out.Add("pid", fmt.Sprint(status.PID))
	out.Add("running since", e.TimeText(status.StartedAt))
	out.Add("state directory", status.StateDir)
	out.Add("job logs", status.LogDir)
	out.Add("socket", status.Socket)
	out.Add("driver", status.Driver)
	out.Add("server id", status.ServerID)
	fmt.Fprintf(e.Stdout, "%-16s %s\n", "jobs", e.CountsLine(status.Jobs, 17))
	out.Add("matrices", fmt.Sprint(status.Matrices))
	out.Add("machines", machinesText(status.Machines))
	if status.HostFreeBytes > 0 {
		out.Add("free disk", show.SizeText(status.HostFreeBytes))
	}
	if status.DiskFull {
		out.Add("disk full", "new work is refused until there is room again")
	}
	return nil
}

// machinesText is "3 connected, 1 away".
func machinesText(byState map[string]int) string {
	var states []string
	for state := range byState {
		states = append(states, state)
	}
	sort.Strings(states)
	var parts []string
	for _, state := range states {
		parts = append(parts, fmt.Sprintf("%d %s", byState[state], state))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// Version is `version`.
type Version struct{}

// Run prints the program's version.
func (c *Version) Run(_ context.Context, e *cli.Env) error {
	_, err := fmt.Fprintf(e.Stdout, "jobserver %s\n", version.String())
	return err
}

// Events is `events`.
type Events struct {
	Since  *uint64 `name:"since" placeholder:"CURSOR" help:"Print what came after this cursor; without it, what comes from now on. 0 is all that is kept."`
	Number int     `name:"number" short:"n" default:"0" placeholder:"N" help:"End after N events; 0 goes on."`
	NoWait bool    `name:"no-wait" help:"Print what there is, and end."`
}

// Run prints events as they become durable, until it is interrupted.
func (c *Events) Run(ctx context.Context, e *cli.Env) error {
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	cursor, err := c.start(ctx, d)
	if err != nil {
		return err
	}
	print, end, err := c.printer(e)
	if err != nil {
		return err
	}
	for printed := 0; ; {
		args := api.EventsArgs{Since: cursor, Max: 1000, Wait: cli.WaitPoll}
		if c.NoWait {
			args.Wait = 0
		}
		if c.Number > 0 {
			args.Max = min(args.Max, c.Number-printed)
		}
		reply, err := cli.Ask[api.EventsReply](ctx, d, "Events", &args)
		if err != nil {
			return err
		}
		switch {
		case reply.Gap && reply.Cursor < cursor:
			e.Note("there is no event %d yet: the newest is %d, after which it goes on", cursor, reply.Cursor)
		case reply.Gap:
			e.Note("older events than the next are no longer kept")
		}
		if err := print(reply.Events); err != nil {
			return err
		}
		printed += len(reply.Events)
		cursor = reply.Cursor
		if (c.Number > 0 && printed >= c.Number) || (c.NoWait && len(reply.Events) == 0) {
			return end()
		}
	}
}

// start is the cursor to begin at.
func (c *Events) start(ctx context.Context, d cli.Daemon) (uint64, error) {
	switch {
	case c.Since != nil:
		return *c.Since, nil
	case c.NoWait:
		return 0, nil
	}
	status, err := cli.Ask[api.Status](ctx, d, "Status", &api.Empty{})
	if err != nil {
		return 0, err
	}
	return status.Cursor, nil
}

// printer is what prints events as they come, and what ends the listing. One that ends
// by itself is an array in json; a stream that doesn't can only be an object a line.
func (c *Events) printer(e *cli.Env) (print func([]api.Event) error, end func() error, err error) {
	if !e.ForScripts() {
		return func(events []api.Event) error { return printEvents(e, events) }, func() error { return nil }, nil
	}
	format := e.Format()
	if format == view.JSON && !c.NoWait && c.Number == 0 {
		format = view.JSONL
	}
	out, err := view.NewPrinter(e.Stdout, view.Options{Format: format, Screen: e.Screen}, eventColumns(e))
	if err != nil {
		return nil, nil, err
	}
	print = func(events []api.Event) error {
		if err := out.Print(events...); err != nil {
			return err
		}
		return out.Flush()
	}
	return print, out.Close, nil
}

// printEvents writes events for people, one a line.
func printEvents(e *cli.Env, events []api.Event) error {
	for _, event := range events {
		_, err := fmt.Fprintf(e.Stdout, "%8d  %s  %-18s %s\n", event.Cursor, e.TimeText(event.At), event.Kind, view.Clean(event.Text))
		if err != nil {
			return err
		}
	}
	return nil
}

// eventColumns are the fields of an event in CSV. Its id is its cursor.
func eventColumns(e *cli.Env) []view.Column[api.Event] {
	cursor := show.OnlyCSV("cursor", func(v api.Event) string { return fmt.Sprint(v.Cursor) })
	cursor.IsID = true
	return []view.Column[api.Event]{
		cursor,
		show.OnlyCSV("at", func(v api.Event) string { return e.TimeText(v.At) }),
		show.OnlyCSV("kind", func(v api.Event) string { return v.Kind }),
		show.OnlyCSV("jid", func(v api.Event) string { return show.IDText(v.JID) }),
		show.OnlyCSV("machine", func(v api.Event) string { return v.Machine }),
		show.OnlyCSV("status", func(v api.Event) string { return v.Status }),
		show.OnlyCSV("text", func(v api.Event) string { return v.Text }),
	}
}

func pongColumns() []view.Column[pong] {
	return []view.Column[pong]{
		show.OnlyCSV("ok", func(p pong) string { return fmt.Sprint(p.OK) }),
		show.OnlyCSV("seconds", func(p pong) string { return fmt.Sprint(p.Seconds) }),
	}
}
