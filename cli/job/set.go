package job

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
)

// Set is `job set JID…`.
type Set struct {
	toChange
	SetFlags
	Class      *string       `name:"class" short:"c" placeholder:"CLASS" predictor:"class" help:"Move to this class."`
	Cmd        *string       `name:"cmd" placeholder:"CMD" help:"The command line; not for cells of a matrix."`
	CpPath     *string       `name:"cp-path" placeholder:"DIR" predictor:"dir" onhost:"" help:"Where results go; not for cells of a matrix."`
	Env        cli.Variables `name:"env" placeholder:"NAME=VALUE" help:"Set an environment variable (repeatable)."`
	StartAfter *string       `name:"start-after" placeholder:"TIME" help:"Don't start before this time: 22:00, 2h, an RFC 3339 time, or now."`
	After      []string      `name:"after" sep:"none" placeholder:"JID" predictor:"job" help:"Wait for these jobs instead; none for no jobs."`
}

// SetFlags can be changed of jobs and of matrices.
type SetFlags struct {
	Priority    *int         `name:"priority" placeholder:"N" help:"Jobs with a higher priority start first within a class."`
	Timeout     *cli.Minutes `name:"timeout" placeholder:"DURATION" help:"The time limit: minutes, or 30s, 2h30m, 1d; 0 for none."`
	MaxFailures *int         `name:"max-failures" placeholder:"N" help:"Retry at most N times; -1 for no limit."`
	Slots       *cli.Count   `name:"slots" placeholder:"N" help:"How many slots of its machine it takes."`
	Needs       *string      `name:"needs" placeholder:"NAME=N,…" predictor:"need" help:"The resources it needs, such as gpu=2,mem=32G; '' for none."`
}

// Put puts them into a request.
func (f *SetFlags) Put(s *api.Set) {
	s.Priority, s.MaxFailures = api.Of(f.Priority), api.Of(f.MaxFailures)
	s.Needs, s.Slots = api.Of(f.Needs), api.Of((*int)(f.Slots))
	if f.Timeout != nil {
		s.Timeout = api.Some(f.Timeout.Duration)
	}
}

// Empty says that nothing is to change.
func (f *SetFlags) Empty() bool { return *f == SetFlags{} }

// Run changes the jobs.
func (c *Set) Run(ctx context.Context, e *cli.Env) error {
	s := api.Set{Class: api.Of(c.Class), Cmd: api.Of(c.Cmd), CpPath: api.Of(c.CpPath), Env: c.Env}
	c.SetFlags.Put(&s)
	if c.CpPath != nil && *c.CpPath != "" && !filepath.IsAbs(*c.CpPath) {
		dir, err := e.WorkDir()
		if err != nil {
			return err
		}
		s.CpPath = api.Some(filepath.Join(dir, *c.CpPath))
	}
	if c.StartAfter != nil {
		at, err := parseStart(*c.StartAfter, e.Now())
		if err != nil {
			return err
		}
		s.StartAfter = api.Some(at)
	}
	if len(c.After) > 0 {
		s.After = api.Some(api.After{Done: c.After})
		if len(c.After) == 1 && (c.After[0] == "none" || c.After[0] == "") {
			s.After = api.Some(api.After{})
		}
	}
	if c.SetFlags.Empty() && c.Class == nil && c.Cmd == nil && c.CpPath == nil && len(c.Env) == 0 &&
		c.StartAfter == nil && len(c.After) == 0 {
		return api.Errorf(api.Usage, "job set: nothing to change").
			WithHint("%s job set %s --priority 5", e.Name, c.JID[0])
	}
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpSet, Set: s})
}

// Mv is `job mv JID… CLASS`.
type Mv struct {
	Words []string `arg:"" name:"JID… CLASS" sep:"none" predictor:"job" help:"The jobs, and the class they move to."`
	cli.ChangeFlags
}

// Run moves the jobs to another class.
func (c *Mv) Run(ctx context.Context, e *cli.Env) error {
	last := len(c.Words) - 1
	if last < 1 {
		return api.Errorf(api.Usage, "job mv %s: a class is missing", c.Words[0]).
			WithHint("%s job mv %s CLASS", e.Name, c.Words[0])
	}
	class := c.Words[last]
	return changeSelected(ctx, e, selectors{JID: c.Words[:last]}, c.ChangeFlags,
		api.ChangeJobsArgs{Op: api.OpSet, Set: api.Set{Class: api.Some(class)}})
}

// Next is `job next JID…`.
type Next struct{ toChange }

// Run puts the jobs before all others that wait in their class.
func (c *Next) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpSet, Set: api.Set{Next: true}})
}

// parseStart reads the time from which a job may start: now, a time of day, a duration, or a time.
func parseStart(text string, now time.Time) (time.Time, error) {
	if text == "now" || text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		clock, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		at := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(),
			clock.Second(), 0, now.Location())
		if !at.After(now) { // tomorrow's, by the calendar: a day may have 23 hours
			at = time.Date(now.Year(), now.Month(), now.Day()+1, clock.Hour(), clock.Minute(),
				clock.Second(), 0, now.Location())
		}
		return at, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if at, err := time.ParseInLocation("2006-01-02 15:04", strings.Replace(text, "T", " ", 1),
		now.Location()); err == nil {
		return at, nil
	}
	var d cli.Minutes
	if err := d.UnmarshalText([]byte(text)); err == nil {
		return now.Add(d.Duration), nil
	}
	return time.Time{}, api.Errorf(api.Usage, "%q is no time to start after", text).
		WithHint("write 22:00, 2h, 2026-05-01 08:00 or an RFC 3339 time")
}
