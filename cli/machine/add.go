package machine

import (
	"context"
	"fmt"
	"time"

	"jobserver/api"
	"jobserver/cli"
)

// Add is `machine add ADDR CLASS`; several addresses may stand before the class. An address may be
// a partition of Slurm: see slurm.go.
type Add struct {
	Words []string   `arg:"" name:"ADDR… CLASS" sep:"none" predictor:"address" then:"class,address" help:"One or more machines, followed by the class they join; or slurm:[LOGIN/]PARTITION."`
	Slots *cli.Count `name:"slots" placeholder:"N" help:"How many jobs the machine runs at once; 1 by default, or what it already has."`
	Until lifetime   `name:"until" placeholder:"DURATION" help:"Remove the machine after this long; it takes no jobs that would run longer."`
	resourceFlag
	noWait
	slurmFlags
}

// resourceFlag says what machines have.
type resourceFlag struct {
	Resource cli.Variables `name:"resource" placeholder:"NAME=VALUE" predictor:"equipment" help:"What the machine has for jobs with --needs: an amount (mem=256G), items (gpu=0,1,2,3), or gpu=auto, which asks it; NAME= takes it away. Memory and cores are known. May be repeated."`
}

// Run adds the machines.
func (c *Add) Run(ctx context.Context, e *cli.Env) error {
	last := len(c.Words) - 1
	if last < 1 {
		return api.Errorf(api.Usage, "machine add %s: a class is missing", c.Words[0]).
			WithHint("%s machine add %s CLASS", e.Name, c.Words[0])
	}
	args := api.AddMachinesArgs{Addrs: c.Words[:last], Class: c.Words[last],
		Until: c.Until.from(e.Now()), Resources: c.Resource}
	if c.Slots != nil {
		args.Slots = int(*c.Slots)
	}
	if isSlurm(args.Addrs) {
		return c.addProvider(ctx, e, args)
	}
	if err := c.refuseOn(args.Addrs[0]); err != nil {
		return err
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := cli.Ask[api.ChangeMachinesReply](ctx, d, "AddMachines", &args)
	if err != nil {
		return err
	}
	e.Warn(reply.Notes)
	defer c.tellAnswers(ctx, e, d, args.Addrs)
	return printMachines(e, reply.Machines,
		fmt.Sprintf("in class %s; work comes as soon as it is connected", args.Class))
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
