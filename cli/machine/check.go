package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// Check is `machine check`.
type Check struct {
	Addr []string `arg:"" optional:"" name:"ADDR" sep:"none" predictor:"machine" help:"Machines, as with -m; they don't have to be in the pool."`
	chosen
}

// Run connects to the machines and prints what it found. It fails when one can't be used.
func (c *Check) Run(ctx context.Context, e *cli.Env) error {
	selector, err := c.selector(e, c.Addr)
	if err != nil {
		return err
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := cli.Ask[api.CheckMachinesReply](ctx, d, "CheckMachines",
		&api.CheckMachinesArgs{MachineSelector: selector})
	if err != nil {
		return err
	}
	if err := cli.List(e, reply.Checks, show.CheckColumns(e)); err != nil {
		return err
	}
	for _, check := range reply.Checks {
		for _, warning := range check.Warnings {
			e.Warn([]string{check.Addr + ": " + warning})
		}
	}
	tellUnlimited(e, reply.Checks)
	return checksFailed(e, reply.Checks)
}

// tellUnlimited says, once for each reason, where what jobs may use of memory is counted only.
func tellUnlimited(e *cli.Env, checks []api.MachineCheck) {
	if e.ForScripts() {
		return
	}
	where := map[string][]string{}
	for _, check := range checks {
		if why := check.MemoryLimitWhy; why != "" {
			where[why] = append(where[why], check.Addr)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(where)) {
		addrs := where[why]
		on := view.Clean(addrs[0])
		switch others := len(addrs) - 1; others {
		case 0:
		case 1:
			on += " and 1 other"
		default:
			on = fmt.Sprintf("%s and %d others", on, others)
		}
		e.Note("memory that jobs ask for is accounted on %s, and not enforced: %s", on,
			view.Clean(why))
	}
}

// checksFailed says what was wrong with each machine, below the table, where there is room.
func checksFailed(e *cli.Env, checks []api.MachineCheck) error {
	failed := 0
	for _, check := range checks {
		if check.OK {
			continue
		}
		failed++
		if e.ForScripts() {
			continue
		}
		problem := view.Clean(check.Error)
		if !strings.HasPrefix(problem, check.Addr) {
			problem = view.Clean(check.Addr) + ": " + problem
		}
		e.Note("%s", problem)
		if check.Hint != "" {
			e.Note("%s: hint: %s", view.Clean(check.Addr), view.Clean(check.Hint))
		}
	}
	if failed > 0 {
		return cli.ExitStatus(cli.ExitFailed)
	}
	return nil
}
