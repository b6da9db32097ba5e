package job

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// toChange are the jobs that a command changes.
type toChange struct {
	selectors
	cli.ChangeFlags
}

// do does what needs no more than its name to all of them.
func (c *toChange) do(ctx context.Context, e *cli.Env, op string) error {
	return c.change(ctx, e, api.ChangeJobsArgs{Op: op})
}

// change does one thing to all of them.
func (c *toChange) change(ctx context.Context, e *cli.Env, args api.ChangeJobsArgs) error {
	return changeSelected(ctx, e, c.selectors, c.ChangeFlags, args)
}

// Rm is `job rm JID…`.
type Rm struct {
	toChange
	Forget     bool   `name:"forget" short:"f" help:"Also forget the jobs and remove their logs. Results are never removed."`
	Dependents bool   `name:"dependents" help:"Include the jobs that wait for these."`
	Reason     string `name:"reason" placeholder:"TEXT" help:"Say why; listings, records and events show it."`
}

// Run cancels or forgets the jobs.
func (c *Rm) Run(ctx context.Context, e *cli.Env) error {
	op := api.OpCancel
	if c.Forget {
		op = api.OpForget
	}
	return c.change(ctx, e, api.ChangeJobsArgs{Op: op, Dependents: c.Dependents, Reason: c.Reason})
}

// Commands that say no more than what is to be done.
type (
	Hold    struct{ toChange } // `job hold JID…`
	Unhold  struct{ toChange } // `job unhold JID…`
	Restart struct{ toChange } // `job restart JID…`
	Recopy  struct{ toChange } // `job recopy JID…`
)

// Run holds the jobs.
func (c *Hold) Run(ctx context.Context, e *cli.Env) error { return c.do(ctx, e, api.OpHold) }

// Run lets the jobs start.
func (c *Unhold) Run(ctx context.Context, e *cli.Env) error { return c.do(ctx, e, api.OpUnhold) }

// Run cancels the jobs and submits them again.
func (c *Restart) Run(ctx context.Context, e *cli.Env) error { return c.do(ctx, e, api.OpRestart) }

// Run copies the jobs' results again.
func (c *Recopy) Run(ctx context.Context, e *cli.Env) error { return c.do(ctx, e, api.OpRecopy) }

// Clone is `job clone JID…`.
type Clone struct {
	toChange
	Times int `name:"times" short:"x" default:"1" placeholder:"N" help:"Submit each N times."`
}

// Run submits the jobs again.
func (c *Clone) Run(ctx context.Context, e *cli.Env) error {
	if c.Times < 1 {
		return api.Errorf(api.Usage, "-x %d: a job is cloned once or more", c.Times)
	}
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpClone, Repeat: c.Times})
}

// SetTimeout is `job settimeout DURATION JID…`.
type SetTimeout struct {
	Timeout cli.Minutes `arg:"" name:"DURATION" help:"The new limit: minutes, or 30s, 2h30m, 1d; 0 for none."`
	toChange
}

// Run changes the jobs' time limit.
func (c *SetTimeout) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpSetTimeout, Timeout: c.Timeout.Duration})
}

// Lost is `job lost JID…`.
type Lost struct {
	toChange
	Retry bool `name:"retry" help:"Also run the jobs again on another machine."`
}

// Run gives up the jobs' attempts on machines that are away.
func (c *Lost) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpLost, Retry: c.Retry})
}

// Pause is `job pause JID…`.
type Pause struct{ toChange }

// Run stops jobs where they are.
func (c *Pause) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpPause})
}

// Continue is `job continue JID…`.
type Continue struct{ toChange }

// Run lets jobs that are paused go on.
func (c *Continue) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpGoOn})
}

// Signal is `job signal SIG JID…`.
type Signal struct {
	Signal string `arg:"" name:"SIG" suggest:"USR1,USR2,HUP,INT,TERM,KILL,QUIT,ALRM" help:"The signal, by name or number: USR1, SIGUSR1 or 10."`
	toChange
}

// Run sends a signal to jobs.
func (c *Signal) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpSignal, Signal: c.Signal})
}

// changeSelected changes all jobs that the words select, after asking when they are many, and
// prints what they matched.
func changeSelected(
	ctx context.Context, e *cli.Env, jobs selectors, flags cli.ChangeFlags, args api.ChangeJobsArgs,
) error {
	selected, err := jobs.narrow.words(e, jobs.JID)
	if err != nil {
		return err
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	args.Selectors, args.DryRun = selected, flags.DryRun
	if !flags.Yes && !flags.DryRun {
		args.Max = cli.ChangeLimit
	}
	reply, err := changeJobs(ctx, e, d, args)
	if api.KindOf(err) == api.Confirm {
		reply, err = confirmChange(ctx, e, d, args, slices.Contains(jobs.JID, "-"))
	}
	if err != nil {
		return err
	}
	e.Warn(reply.Warnings)
	return PrintChange(e, reply, args)
}

// changeJobs has the daemon change the jobs. Who interrupts that is told that it may have been too
// late.
func changeJobs(
	ctx context.Context, e *cli.Env, d cli.Daemon, args api.ChangeJobsArgs,
) (*api.ChangeJobsReply, error) {
	reply, err := cli.Ask[api.ChangeJobsReply](ctx, d, api.ChangeJobs, &args)
	if err != nil && ctx.Err() != nil {
		e.Note("interrupted: all of it was done or none; `%s job ls %s` shows which", e.Name,
			shorten(args.Selectors))
	}
	return reply, err
}

// confirmChange asks on a terminal whether so many jobs are meant, and then changes no more than
// were confirmed.
func confirmChange(
	ctx context.Context, e *cli.Env, d cli.Daemon, args api.ChangeJobsArgs, stdinTaken bool,
) (*api.ChangeJobsReply, error) {
	dry := args
	dry.Mutation, dry.DryRun, dry.Max = api.Mutation{}, true, 0
	would, err := cli.Ask[api.ChangeJobsReply](ctx, d, api.ChangeJobs, &dry)
	if err != nil {
		return nil, err
	}
	question := fmt.Sprintf("%s %d jobs", opVerb(args.Op), would.Total)
	if err := e.Sure(ctx, question, e.Interactive() && !stdinTaken); err != nil {
		return nil, err
	}
	args.Mutation, args.Max = api.Mutation{}, would.Total
	return changeJobs(ctx, e, d, args)
}

// opVerb is an operation as a question begins.
func opVerb(op string) string {
	switch op {
	case api.OpForget:
		return "cancel and forget"
	case api.OpSetTimeout:
		return "change the time limit of"
	case api.OpRecopy:
		return "copy again the results of"
	case api.OpLost:
		return "give up as lost"
	case api.OpUntag:
		return "take the tag from"
	case api.OpPrune:
		return "forget, with their logs,"
	case api.OpSignal:
		return "send a signal to"
	}
	return op
}

// opDone tells what was done to a job.
func opDone(op string) string {
	switch op {
	case api.OpCancel:
		return "canceled"
	case api.OpForget, api.OpPrune:
		return "forgotten"
	case api.OpHold:
		return "held"
	case api.OpUnhold:
		return "waiting"
	case api.OpClone:
		return "cloned"
	case api.OpRestart:
		return "restarted"
	case api.OpSetTimeout:
		return "given the new limit"
	case api.OpTag:
		return "tagged"
	case api.OpUntag:
		return "untagged"
	case api.OpRecopy:
		return "queued to copy again"
	case api.OpLost:
		return "given up"
	case api.OpPause:
		return "to be paused"
	case api.OpGoOn:
		return "to go on"
	case api.OpSignal:
		return "sent the signal"
	}
	return "changed"
}

// PrintChange prints the jobs that were matched and what became of each. With -q, the new ids if
// there are any.
func PrintChange(e *cli.Env, reply *api.ChangeJobsReply, args api.ChangeJobsArgs) error {
	if reply.Repeated {
		e.NoteRepeated(fmt.Sprintf("all that could be was %s; `%s job ls %s` shows the jobs",
			opDone(args.Op), e.Name, shorten(args.Selectors)))
		return e.PrintIDs(reply.JIDs)
	}
	if e.Globals.Quiet && len(reply.JIDs) > 0 {
		return e.PrintIDs(reply.JIDs)
	}
	result := func(job api.ChangedJob) string {
		switch {
		case job.Note != "":
			return job.Note
		case !job.Changed:
			return "unchanged"
		case job.NewJID != 0:
			return fmt.Sprintf("%s as %d", opDone(args.Op), job.NewJID)
		}
		return opDone(args.Op)
	}
	if err := cli.List(e, reply.Matched, show.ChangeColumns(result)); err != nil {
		return err
	}
	if e.ForScripts() {
		return nil
	}
	if more := reply.Total - len(reply.Matched); more > 0 {
		fmt.Fprintf(e.Stdout, "… and %d more\n", more)
	}
	e.Note("%s", changeDone(reply, args))
	return nil
}

// changeDone says in a sentence what a change came to, or would.
func changeDone(reply *api.ChangeJobsReply, args api.ChangeJobsArgs) string {
	if args.Op == api.OpPrune && reply.Total == 0 {
		return "none of these ended longer ago than " + view.FormatDuration(args.Older)
	}
	would := ""
	if args.DryRun {
		would = "would be "
	}
	if reply.Changed == 0 {
		return "nothing " + cmp.Or(would, "was ") + "changed"
	}
	who := fmt.Sprintf("%d of %d jobs", reply.Changed, reply.Total)
	if reply.Changed == reply.Total {
		who = view.Counted(reply.Total, "job")
	}
	return fmt.Sprintf("%s %s%s", who, would, opDone(args.Op))
}
