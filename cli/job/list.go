package job

import (
	"context"
	"fmt"
	"io"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
)

// Ls is `job ls [JID…]`, and what a command line without words does.
type Ls struct {
	JID []string `arg:"" optional:"" name:"JID" sep:"none" predictor:"job" help:"Only these; see 'help job rm' for the forms."`
	narrow
	Last    *int   `name:"last" short:"n" placeholder:"N" help:"List only the newest N jobs and all that are running; 40 by default in a table, 0 for all."`
	After   bool   `name:"after" short:"a" help:"List all jobs from the highest given JID on, or all jobs if none is given."`
	Running bool   `name:"running" short:"r" help:"Only running jobs."`
	Watch   bool   `name:"watch" short:"w" help:"Keep showing the list as it changes."`
	Expand  bool   `name:"expand" help:"Show the jobs of matrices and tags one by one."`
	Line    string `name:"line" placeholder:"JID" predictor:"job" help:"Draw a line below this job in listings from now on; 'none' removes it."`
}

// defaultLast is how many jobs a table shows.
const defaultLast = 40

// Run lists the jobs.
func (c *Ls) Run(ctx context.Context, e *cli.Env) error {
	if c.Watch {
		hint := fmt.Sprintf("without --watch the jobs are printed once; `%s events -o jsonl` "+
			"prints what happens as it does", e.Name)
		if err := e.ForPeople("job ls --watch", hint); err != nil {
			return err
		}
	}
	words, err := c.narrow.words(e, c.JID)
	if err != nil {
		return err
	}
	if c.Line != "" {
		if err := rememberLine(ctx, e, c.Line); err != nil {
			return err
		}
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	args, err := c.request(ctx, e, d, words)
	if err != nil {
		return err
	}
	switch {
	case c.Watch:
		return watchJobs(ctx, e, d, args)
	case e.ForScripts():
		return streamJobs(ctx, e, d, args)
	}
	found, err := fetchListing(ctx, d, args)
	if err != nil {
		return err
	}
	return show.WriteListing(e.Stdout, e, found)
}

// request says what to ask the daemon for.
func (c *Ls) request(
	ctx context.Context, e *cli.Env, d cli.Daemon, words []string,
) (api.ListJobsArgs, error) {
	args := api.ListJobsArgs{
		Selectors: words,
		Running:   c.Running,
		Collapse:  !c.Expand && !c.Running && !e.ForScripts(),
		// the commands of a matrix's cells differ by their variables only
		Full: e.ForScripts() || c.Expand || len(words) > 0,
	}
	if c.After && len(words) > 0 {
		// From the highest job that the selectors name.
		jobs, err := jobsFull(ctx, d, words)
		if err != nil {
			return args, err
		}
		args.Selectors, args.After = nil, jobs[len(jobs)-1].JID-1
	}
	switch {
	case c.Last != nil && *c.Last < 0:
		return args, api.Errorf(api.Usage, "-n %d: how many jobs to list can't be negative",
			*c.Last)
	case c.Last != nil:
		args.Last = *c.Last
	case len(words) == 0 && !c.After && !c.Running && !e.ForScripts():
		args.Last = defaultLast
	}
	return args, nil
}

// rememberLine notes below which job `job ls` draws a line.
func rememberLine(ctx context.Context, e *cli.Env, selector string) error {
	if selector == "none" {
		return e.SaveLine(0)
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	jobs, err := jobsFull(ctx, d, []string{selector})
	if err != nil {
		return err
	}
	return e.SaveLine(jobs[len(jobs)-1].JID)
}

// fetchListing asks for all pages.
func fetchListing(ctx context.Context, d cli.Daemon, args api.ListJobsArgs) (*show.Listing, error) {
	found := new(show.Listing)
	first := true
	err := eachPage(ctx, d, args, func(page *api.ListJobsReply) error {
		if first {
			found.Counts, found.Cursor, first = page.Counts, page.Cursor, false
		}
		found.Jobs = append(found.Jobs, page.Jobs...)
		found.Matrices = append(found.Matrices, page.Matrices...)
		found.Tags = append(found.Tags, page.Tags...)
		return nil
	})
	if len(args.Selectors) > 0 {
		found.Counts = api.CountJobs(found.Jobs)
	}
	return found, err
}

// streamJobs prints the jobs page by page: a million of them needn't fit into memory.
func streamJobs(ctx context.Context, e *cli.Env, d cli.Daemon, args api.ListJobsArgs) error {
	out, err := show.NewJobWriter(e)
	if err != nil {
		return err
	}
	err = eachPage(ctx, d, args, func(page *api.ListJobsReply) error {
		return out.Print(page.Jobs...)
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// watchPause is the least time between two looks: where hundreds of things happen in a second,
// nobody reads each.
const watchPause = 200 * time.Millisecond

// watchJobs shows the listing, and shows it anew when something has changed; it waits at the
// daemon, which collects what happens within watchPause.
func watchJobs(ctx context.Context, e *cli.Env, d cli.Daemon, args api.ListJobsArgs) error {
	pulse := uint64(0) // the daemon's, which differs at first: a look too many
	for {
		found, err := fetchListing(ctx, d, args)
		if err != nil {
			return err
		}
		draw := func(w io.Writer) error { return show.WriteListing(w, e, found) }
		if err := e.Redraw(draw); err != nil {
			return err
		}
		// It also returns without a change, after a while: durations grow.
		wait := api.ChangesArgs{
			Since: found.Cursor, Pulse: pulse, Wait: cli.WaitPoll, Pause: watchPause,
		}
		changed, err := cli.Ask[api.ChangesReply](ctx, d, "Changes", &wait)
		if err != nil {
			return err
		}
		pulse = changed.Pulse
	}
}
