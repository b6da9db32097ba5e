package machine

import (
	"context"
	"fmt"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// Ls is `machine ls`.
type Ls struct {
	Addr  []string `arg:"" optional:"" name:"ADDR" sep:"none" predictor:"machine" help:"Only these."`
	Class []string `name:"class" short:"c" sep:"none" placeholder:"CLASS" predictor:"class" help:"Only the machines of a class (repeatable)."`
}

// Run lists the machines.
func (c *Ls) Run(ctx context.Context, e *cli.Env) error {
	selector := api.MachineSelector{Addrs: c.Addr, Classes: c.Class}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := cli.Ask[api.ListMachinesReply](ctx, d, "ListMachines",
		&api.ListMachinesArgs{MachineSelector: selector})
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
