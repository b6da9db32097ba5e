package machine

import (
	"context"
	"fmt"
	"slices"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// toChange are the machines that a command changes.
type toChange struct {
	Addr []string `arg:"" optional:"" name:"ADDR" sep:"none" predictor:"machine" help:"Machines, as with -m."`
	chosen
	changeFlags
}

// changeFlags are ChangeFlags in the words for machines.
type changeFlags struct {
	Yes    bool `name:"yes" short:"y" help:"Don't ask for confirmation. It is asked for on a terminal before running jobs are ended, and anywhere for more than 20 machines or jobs."`
	DryRun bool `name:"dry-run" help:"Show what would change, without changing it."`
}

// do does what needs no more than its name to all of them.
func (c *toChange) do(ctx context.Context, e *cli.Env, op string) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: op})
}

// change does one thing to all of them.
func (c *toChange) change(ctx context.Context, e *cli.Env, args api.ChangeMachinesArgs) error {
	return changeMachines(ctx, e, c.chosen, c.Addr, c.changeFlags, args)
}

// Rm is `machine rm`.
type Rm struct {
	toChange
	Force bool `name:"force" help:"Also forget what the machine still owes: runs to be ended there stay as they are. Of a partition of Slurm: give its allocations back now."`
}

// Run removes the machines.
func (c *Rm) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineRemove, Force: c.Force})
}

// Mv is `machine mv … NEW-CLASS`.
type Mv struct {
	Words []string `arg:"" name:"NEW-CLASS" sep:"none" predictor:"class,machine" help:"The class to move them to. Words before it are machines."`
	chosen
	changeFlags
}

// Run moves the machines.
func (c *Mv) Run(ctx context.Context, e *cli.Env) error {
	last := len(c.Words) - 1
	return changeMachines(ctx, e, c.chosen, c.Words[:last], c.changeFlags,
		api.ChangeMachinesArgs{Op: api.MachineMove, Class: c.Words[last]})
}

// Commands that say no more than what is to be done.
type (
	Drain  struct{ toChange } // `machine drain`
	Resume struct{ toChange } // `machine resume`
)

// Run drains the machines.
func (c *Drain) Run(ctx context.Context, e *cli.Env) error {
	return c.do(ctx, e, api.MachineDrain)
}

// Run gives the machines work again.
func (c *Resume) Run(ctx context.Context, e *cli.Env) error {
	return c.do(ctx, e, api.MachineResume)
}

// Clean is `machine clean`.
type Clean struct {
	toChange
	Drop bool `name:"drop" help:"Instead, forget what machines have still to end or to remove, saying what stays there. They need not be in the pool any more."`
}

// Run ends the machines' orphans and removes what is left of ended runs, or forgets it.
func (c *Clean) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineClean, Drop: c.Drop})
}

// changeMachines does one thing to all machines that are selected.
func changeMachines(
	ctx context.Context, e *cli.Env, s chosen, words []string, flags changeFlags,
	args api.ChangeMachinesArgs,
) error {
	selector, err := s.selector(e, words)
	if err != nil {
		return err
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	args.MachineSelector, args.DryRun = selector, flags.DryRun
	if !flags.Yes && !flags.DryRun {
		if err := confirmMachines(ctx, e, d, args, e.Interactive() &&
			!slices.Contains(s.File, "-")); err != nil {
			return err
		}
	}
	reply, err := cli.Ask[api.ChangeMachinesReply](ctx, d, "ChangeMachines", &args)
	if err != nil {
		return err
	}
	for _, note := range reply.Notes {
		e.Note("%s", note)
	}
	done := machineDone(args)
	if args.DryRun {
		done = "would be " + done
	}
	if reply.Repeated {
		e.NoteRepeated(fmt.Sprintf("the machines were %s", done))
		return printMachines(e, reply.Machines, "of them are in the pool")
	}
	return printMachines(e, reply.Machines, done)
}

// confirmMachines asks before more machines are changed, or with
// them more jobs canceled, than may be without asking.
func confirmMachines(
	ctx context.Context, e *cli.Env, d cli.Daemon, args api.ChangeMachinesArgs, canAsk bool,
) error {
	// however few machines there are, many jobs may run there
	cancels := args.Op == api.MachineRemove
	if !cancels && len(args.Classes) == 0 && len(args.Addrs) <= cli.ChangeLimit {
		return nil
	}
	args.DryRun = true
	would, err := cli.Ask[api.ChangeMachinesReply](ctx, d, "ChangeMachines", &args)
	if err != nil {
		return err
	}
	jobs := 0
	if cancels {
		for _, m := range would.Machines {
			if m.Provider == nil || args.Force { // else its pilots end what they do
				jobs += len(m.Running)
			}
		}
	}
	// At a terminal, ending even one job is asked about; a script that removes a machine means it.
	if len(would.Machines) <= cli.ChangeLimit && jobs <= cli.ChangeLimit && (jobs == 0 || !canAsk) {
		return nil
	}
	question := fmt.Sprintf("%s %s", machineVerb(args.Op),
		view.Counted(len(would.Machines), "machine"))
	if jobs > 0 {
		question += fmt.Sprintf(", with %s running there", view.Counted(jobs, "job"))
	}
	return e.Sure(ctx, question, canAsk)
}

func machineVerb(op string) string {
	switch op {
	case api.MachineRemove:
		return "remove"
	case api.MachineMove:
		return "move"
	}
	return op
}

// machineDone tells what was done to a machine.
func machineDone(args api.ChangeMachinesArgs) string {
	switch args.Op {
	case api.MachineRemove:
		return "removed"
	case api.MachineMove:
		return "moved to class " + args.Class
	case api.MachineDrain:
		return "drained: it is given no more work"
	case api.MachineResume:
		return "given work again"
	case api.MachineClean:
		if args.Drop {
			return "cleaned: what is left there is forgotten"
		}
		return "cleaned"
	}
	return "changed"
}
