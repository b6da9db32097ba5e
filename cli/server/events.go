package server

import (
	"context"
	"fmt"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// Events is `events`.
type Events struct {
	Since  *uint64 `name:"since" placeholder:"CURSOR" help:"Print events after this cursor; without it, only new ones. 0 prints all that are kept."`
	Number int     `name:"number" short:"n" default:"0" placeholder:"N" help:"Exit after N events; 0 means never."`
	NoWait bool    `name:"no-wait" help:"Print the events there are and exit."`
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
			e.Note("there is no event %d yet: the newest is %d, after which it goes on", cursor,
				reply.Cursor)
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
		return func(events []api.Event) error {
			return printEvents(e, events)
		}, func() error { return nil }, nil
	}
	format := e.Format()
	if format == view.JSON && !c.NoWait && c.Number == 0 {
		format = view.JSONL
	}
	out, err := view.NewPrinter(e.Stdout,
		view.Options{Format: format, Screen: e.Screen, SafeCSV: e.Globals.SafeCSV}, eventColumns(e))
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

// mostEvent is how many columns a line for an event has at the most. Other formats have all of its
// text.
const mostEvent = 240

// printEvents writes events for people, one a line: the middle of a long text is left out.
func printEvents(e *cli.Env, events []api.Event) error {
	for _, event := range events {
		head := fmt.Sprintf("%8d  %s  %-23s ", event.Cursor, e.TimeText(event.At),
			view.Clean(event.Kind))
		text := view.Clean(view.FirstLine(event.Text))
		text = view.ShortenMiddle(text, mostEvent-view.Width(head))
		if _, err := fmt.Fprintln(e.Stdout, head+text); err != nil {
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
