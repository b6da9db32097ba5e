package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/view"
)

// machineSelector says which machines are meant: by address, class or file, or several of these.
type machineSelector struct {
	Machine []string `name:"machine" short:"m" sep:"none" placeholder:"ADDR" predictor:"machine" help:"A machine: [USER@]HOST[:PORT], an alias of the ssh config, or local[:NAME]. May be repeated."`
	Class   []string `name:"class" short:"c" sep:"none" placeholder:"CLASS" predictor:"class" help:"All machines of a class. May be repeated."`
	File    []string `name:"file" short:"f" sep:"none" placeholder:"FILE" predictor:"file" help:"The machines in a file, one a line; blank lines and #comments are skipped, - is stdin."`
}

// addrs are the addresses that are named, from the flags, the file and the words given without a flag.
func (s machineSelector) addrs(e *Env, words []string) ([]string, error) {
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
func (s machineSelector) selector(e *Env, words []string) (api.MachineSelector, error) {
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
func readAddrs(e *Env, path string) ([]string, error) {
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

// machineLs is `machine ls`.
type machineLs struct {
	Addr  []string `arg:"" optional:"" name:"ADDR" sep:"none" predictor:"machine" help:"Only these."`
	Class []string `name:"class" short:"c" sep:"none" placeholder:"CLASS" predictor:"class" help:"Only those of a class. May be repeated."`
}

// Run lists the machines.
func (c *machineLs) Run(ctx context.Context, e *Env) error {
	selector := api.MachineSelector{Addrs: c.Addr, Classes: c.Class}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := Ask[api.ListMachinesReply](ctx, d, "ListMachines", &api.ListMachinesArgs{MachineSelector: selector})
	if err != nil {
		return err
	}
	if err := List(e, reply.Machines, MachineColumns(e)); err != nil || e.ForScripts() {
		return err
	}
	for _, m := range reply.Machines {
		if m.Hint != "" {
			e.Note("%s: hint: %s", view.Clean(m.Addr), view.Clean(e.Called(m.Hint)))
		}
	}
	return nil
}

// machineAdd is `machine add ADDR CLASS`; several addresses may stand before the class.
type machineAdd struct {
	Words []string `arg:"" name:"ADDR… CLASS" sep:"none" predictor:"address" then:"class,address" help:"The machine, or several, and the class that they join."`
	Slots *int     `name:"slots" placeholder:"N" help:"How many jobs it may run at once; 1 by default, and for a machine of the pool what it has."`
	Until lifetime `name:"until" placeholder:"DURATION" help:"It expires after this long: drained before, gone after."`
}

// Run adds the machines.
func (c *machineAdd) Run(ctx context.Context, e *Env) error {
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
	reply, err := Call[api.ChangeMachinesReply](ctx, e, "AddMachines", &args)
	if err != nil {
		return err
	}
	e.Warn(reply.Notes)
	return printMachines(e, reply.Machines, fmt.Sprintf("in class %s; work comes as soon as it is connected", args.Class))
}

// lifetime is how long a machine is there.
type lifetime struct{ Minutes }

// from is the time at which it ends; the zero time without one.
func (l lifetime) from(now time.Time) time.Time {
	if l.Duration == 0 {
		return time.Time{}
	}
	return now.Add(l.Duration)
}

// machinesToChange are the machines that a command changes.
type machinesToChange struct {
	Addr []string `arg:"" optional:"" name:"ADDR" sep:"none" predictor:"machine" help:"Machines, as with -m."`
	machineSelector
	machineChangeFlags
}

// machineChangeFlags are ChangeFlags in the words for machines.
type machineChangeFlags struct {
	Yes    bool `name:"yes" short:"y" help:"Don't ask, however many machines there are, or jobs that run there."`
	DryRun bool `name:"dry-run" help:"Show what would be changed, and change nothing."`
}

// change does one thing to all of them.
func (c *machinesToChange) change(ctx context.Context, e *Env, args api.ChangeMachinesArgs) error {
	return changeMachines(ctx, e, c.machineSelector, c.Addr, c.machineChangeFlags, args)
}

// machineRm is `machine rm`.
type machineRm struct {
	machinesToChange
	Force bool `name:"force" help:"Also forget what the machine still owes: runs to be ended there stay as they are."`
}

// Run removes the machines.
func (c *machineRm) Run(ctx context.Context, e *Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineRemove, Force: c.Force})
}

// machineMv is `machine mv … NEW-CLASS`.
type machineMv struct {
	Words []string `arg:"" name:"NEW-CLASS" sep:"none" predictor:"class,machine" help:"The class to move them to. Words before it are machines."`
	machineSelector
	machineChangeFlags
}

// Run moves the machines.
func (c *machineMv) Run(ctx context.Context, e *Env) error {
	last := len(c.Words) - 1
	return changeMachines(ctx, e, c.machineSelector, c.Words[:last], c.machineChangeFlags, api.ChangeMachinesArgs{Op: api.MachineMove, Class: c.Words[last]})
}

// machineDrain is `machine drain`.
type machineDrain struct{ machinesToChange }

// Run drains the machines.
func (c *machineDrain) Run(ctx context.Context, e *Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineDrain})
}

// machineResume is `machine resume`.
type machineResume struct{ machinesToChange }

// Run gives the machines work again.
func (c *machineResume) Run(ctx context.Context, e *Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineResume})
}

// machineClean is `machine clean`.
type machineClean struct{ machinesToChange }

// Run ends the machines' orphans.
func (c *machineClean) Run(ctx context.Context, e *Env) error {
	return c.change(ctx, e, api.ChangeMachinesArgs{Op: api.MachineClean})
}

// changeMachines does one thing to all machines that are selected.
func changeMachines(ctx context.Context, e *Env, s machineSelector, words []string, flags machineChangeFlags, args api.ChangeMachinesArgs) error {
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
	reply, err := Ask[api.ChangeMachinesReply](ctx, d, "ChangeMachines", &args)
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
func confirmMachines(ctx context.Context, e *Env, d Daemon, args api.ChangeMachinesArgs, canAsk bool) error {
	cancels := args.Op == api.MachineRemove // however few machines there are, many jobs may run there
	if !cancels && len(args.Classes) == 0 && len(args.Addrs) <= ChangeLimit {
		return nil
	}
	args.DryRun = true
	would, err := Ask[api.ChangeMachinesReply](ctx, d, "ChangeMachines", &args)
	if err != nil {
		return err
	}
	jobs := 0
	if cancels {
		for _, m := range would.Machines {
			jobs += len(m.Running)
		}
	}
	if len(would.Machines) <= ChangeLimit && jobs <= ChangeLimit {
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
func printMachines(e *Env, machines []api.Machine, done string) error {
	if e.Structured() {
		return List(e, machines, MachineColumns(e))
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
