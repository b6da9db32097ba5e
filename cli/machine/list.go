package machine

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// chosen says which machines are meant: by address, class or file, or several of these.
type chosen struct {
	Machine []string `name:"machine" short:"m" sep:"none" placeholder:"ADDR" predictor:"machine" help:"A machine: [USER@]HOST[:PORT], an alias of the ssh config, or local[:NAME]. May be repeated."`
	Class   []string `name:"class" short:"c" sep:"none" placeholder:"CLASS" predictor:"class" help:"All machines of a class. May be repeated."`
	File    []string `name:"file" short:"f" sep:"none" placeholder:"FILE" predictor:"file" help:"The machines in a file, one a line; blank lines and #comments are skipped, - is stdin."`
}

// addrs are the addresses that are named, from the flags, the file and the words given without a flag.
func (s chosen) addrs(e *cli.Env, words []string) ([]string, error) {
	addrs := append(append([]string(nil), s.Machine...), words...)
	for _, path := range s.File {
		read, err := readAddrs(e, path)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, read...)
	}
	return addrs, nil
}

// selector is what the daemon is asked for. Naming no machine at all is wrong usage.
func (s chosen) selector(e *cli.Env, words []string) (api.MachineSelector, error) {
	addrs, err := s.addrs(e, words)
	if err != nil {
		return api.MachineSelector{}, err
	}
	if len(addrs) == 0 && len(s.Class) == 0 {
		if len(s.File) > 0 {
			return api.MachineSelector{}, api.Errorf(api.NoMatch, "%s names no machine", strings.Join(s.File, ", "))
		}
		return api.MachineSelector{}, api.Errorf(api.Usage, "which machines?").
			WithHint("name them with -m ADDR, -c CLASS or -f FILE")
	}
	return api.MachineSelector{Addrs: addrs, Classes: s.Class}, nil
}

// readAddrs reads an address file.
func readAddrs(e *cli.Env, path string) ([]string, error) {
	file := e.Stdin
	if path != "-" {
		opened, err := os.Open(path)
		if err != nil {
			return nil, api.Errorf(api.Usage, "read the machines: %w", err)
		}
		defer opened.Close()
		file = opened
	}
	return parseAddrs(file, path)
}

// Ls is `machine ls`.
type Ls struct {
	Addr  []string `arg:"" optional:"" name:"ADDR" sep:"none" predictor:"machine" help:"Only these."`
	Class []string `name:"class" short:"c" sep:"none" placeholder:"CLASS" predictor:"class" help:"Only those of a class. May be repeated."`
}

// Run lists the machines.
func (c *Ls) Run(ctx context.Context, e *cli.Env) error {
	selector := api.MachineSelector{Addrs: c.Addr, Classes: c.Class}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := cli.Ask[api.ListMachinesReply](ctx, d, "ListMachines", &api.ListMachinesArgs{MachineSelector: selector})
	if err != nil {
		return err
	}
	if err := cli.List(e, reply.Machines, show.MachineColumns(e)); err != nil || e.ForScripts() {
		return err
	}
	for _, m := range reply.Machines {
		if m.Hint != "" {
			e.Note("%s: hint: %s", view.Clean(m.Addr), view.Clean(e.Called(m.Hint)))
		}
	}
	return nil
}

// Add is `machine add ADDR CLASS`; several addresses may stand before the class.
type Add struct {
	Words []string `arg:"" name:"ADDR… CLASS" sep:"none" predictor:"address" then:"class,address" help:"The machine, or several, and the class that they join."`
	Slots *int     `name:"slots" placeholder:"N" help:"How many jobs it may run at once; 1 by default, and for a machine of the pool what it has."`
	Until lifetime `name:"until" placeholder:"DURATION" help:"It expires after this long: drained before, gone after."`
}

// Run adds the machines.
func (c *Add) Run(ctx context.Context, e *cli.Env) error {
	last := len(c.Words) - 1
	if last < 1 {
		return api.Errorf(api.Usage, "machine add %s: a class is missing", c.Words[0]).
			WithHint("%s machine add %s CLASS", e.Name, c.Words[0])
	}
	args := api.AddMachinesArgs{Addrs: c.Words[:last], Class: c.Words[last], Until: c.Until.from(e.Now())}
	if c.Slots != nil {
		if args.Slots = *c.Slots; args.Slots < 1 {
			return api.Errorf(api.Usage, "--slots %d: a machine has one slot or more", args.Slots)
		}
	}
	reply, err := cli.Call[api.ChangeMachinesReply](ctx, e, "AddMachines", &args)
	if err != nil {
		return err
	}
	e.Warn(reply.Notes)
	return printMachines(e, reply.Machines, fmt.Sprintf("in class %s; work comes as soon as it is connected", args.Class))
}

// lifetime is how long a machine is there.
type lifetime struct{ cli.Minutes }

// from is the time at which it ends; the zero time without one.
func (l lifetime) from(now time.Time) time.Time {
	if l.Duration == 0 {
		return time.Time{}
	}
	return now.Add(l.Duration)
}

// toChange are the machines that a command changes.
type toChange struct {
	Addr []string `arg:"" optional:"" name:"ADDR" sep:"none" predictor:"machine" help:"Machines, as with -m."`
	chosen
	changeFlags
}

// changeFlags are ChangeFlags in the words for machines.
type changeFlags struct {
	Yes    bool `name:"yes" short:"y" help:"Don't ask, however many machines there are, or jobs that run there."`
	DryRun bool `name:"dry-run" help:"Show what would be changed, and change nothing."`
}

// change does one thing to all of them.
func (c *toChange) change(ctx context.Context, e *cli.Env, args api.ChangeMachinesArgs) error {
	return changeMachines(ctx, e, c.chosen, c.Addr, c.changeFlags, args)
}

// Rm is `machine rm`.
type Rm struct {
	toChange
	Force bool `name:"force" help:"Also forget what the machine still owes: runs to be ended there stay as they are."`
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
	return changeMachines(ctx, e, c.chosen, c.Words[:last], c.changeFlags, api.ChangeMachinesArgs{Op: api.MachineMove, Class: c.Words[last]})
}

// Drain is `machine drain`.
type Drain struct{ toChange }

// Run drains the machines.
func (c *Drain) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineDrain})
}

// Resume is `machine resume`.
type Resume struct{ toChange }

// Run gives the machines work again.
func (c *Resume) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineResume})
}

// Clean is `machine clean`.
type Clean struct{ toChange }

// Run ends the machines' orphans.
func (c *Clean) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineClean})
}

// changeMachines does one thing to all machines that are selected.
func changeMachines(ctx context.Context, e *cli.Env, s chosen, words []string, flags changeFlags, args api.ChangeMachinesArgs) error {
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
		if err := confirmMachines(ctx, e, d, args, e.Interactive() && !slices.Contains(s.File, "-")); err != nil {
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
func confirmMachines(ctx context.Context, e *cli.Env, d cli.Daemon, args api.ChangeMachinesArgs, canAsk bool) error {
	cancels := args.Op == api.MachineRemove // however few machines there are, many jobs may run there
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
			jobs += len(m.Running)
		}
	}
	if len(would.Machines) <= cli.ChangeLimit && jobs <= cli.ChangeLimit {
		return nil
	}
	question := fmt.Sprintf("%s %s", machineVerb(args.Op), view.Counted(len(would.Machines), "machine"))
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

// machineDone is what became of a machine.
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
		return "cleaned"
	}
	return "changed"
}

// printMachines prints the machines that were changed, and on stderr what became of them.
func printMachines(e *cli.Env, machines []api.Machine, done string) error {
	if e.Structured() {
		return cli.List(e, machines, show.MachineColumns(e))
	}
	for _, m := range machines {
		if _, err := fmt.Fprintln(e.Stdout, view.Clean(m.Addr)); err != nil {
			return err
		}
	}
	if len(machines) > 0 {
		e.Note("%s %s", view.Counted(len(machines), "machine"), done)
	}
	return nil
}
