package machine

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// `machine add slurm:[LOGIN/]PARTITION CLASS` backs a class by a partition of Slurm: allocations
// are asked for while jobs wait, and join the class as machines.

// slurmFlags say how to ask for allocations.
type slurmFlags struct {
	Time    *slurmTime `name:"time" group:"Partitions of Slurm:" placeholder:"DURATION" help:"How long an allocation is: 4h, or as Slurm writes it, 4:00:00. Jobs with a longer timeout don't run there."`
	Max     *int       `name:"max" group:"Partitions of Slurm:" placeholder:"N" help:"How many allocations there may be at a time; 10 by default."`
	Backlog *int       `name:"backlog" group:"Partitions of Slurm:" placeholder:"N" help:"How many of them may wait in Slurm's queue; 2 by default."`
	Idle    *slurmIdle `name:"idle" group:"Partitions of Slurm:" placeholder:"DURATION" help:"Give an allocation back that has had nothing to do for so long; 5m by default."`
	Jobs    *int       `name:"jobs" group:"Partitions of Slurm:" placeholder:"N" help:"Give an allocation back after so many jobs: 1 is a fresh one for each. 0, the default, is any number."`
	Sbatch  []string   `name:"sbatch" group:"Partitions of Slurm:" sep:"none" placeholder:"ARG" help:"An argument of sbatch, in one word: --sbatch=--gres=gpu:1. May be repeated; --sbatch= takes all away."`
}

// slurmIdle is a duration, in minutes unless it has a unit.
type slurmIdle struct{ cli.Minutes }

// slurmTime is the length of an allocation, in minutes unless it has a unit; also in Slurm's ways
// to write it: minutes:seconds, hours:minutes:seconds, days-hours:minutes:seconds.
type slurmTime struct{ time.Duration }

// UnmarshalText reads it.
func (t *slurmTime) UnmarshalText(text []byte) error {
	days, rest, dashed := strings.Cut(string(text), "-")
	if !dashed {
		days, rest = "0", string(text)
	}
	if !dashed && !strings.Contains(rest, ":") {
		var m cli.Minutes
		err := m.UnmarshalText(text)
		t.Duration = m.Duration
		return err
	}
	units := []time.Duration{time.Hour, time.Minute, time.Second}
	parts := strings.Split(rest, ":")
	if !dashed && len(parts) == 2 {
		units = units[1:]
	}
	bad := fmt.Errorf("%q is no time: write 4h, 90m, or as Slurm does, 4:00:00", text)
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil || len(parts) > len(units) {
		return bad
	}
	t.Duration = time.Duration(n) * 24 * time.Hour
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return bad
		}
		t.Duration += time.Duration(n) * units[i]
	}
	return nil
}

// isSlurm says that the addresses are of partitions.
func isSlurm(addrs []string) bool { return strings.HasPrefix(addrs[0], "slurm:") }

// given names the flags for partitions that were given.
func (f *slurmFlags) given() []string {
	var names []string
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"--time", f.Time != nil}, {"--max", f.Max != nil}, {"--backlog", f.Backlog != nil},
		{"--idle", f.Idle != nil}, {"--jobs", f.Jobs != nil}, {"--sbatch", f.Sbatch != nil},
	} {
		if flag.set {
			names = append(names, flag.name)
		}
	}
	return names
}

// refuseOn refuses the flags for partitions on another machine.
func (f *slurmFlags) refuseOn(addr string) error {
	if names := f.given(); len(names) > 0 {
		return api.Errorf(api.Usage, "%s: %s is no partition of Slurm", names[0], addr).
			WithHint("slurm:[LOGIN/]PARTITION is one; leave %s out for a machine",
				strings.Join(names, ", "))
	}
	return nil
}

// addProvider backs a class by a partition.
func (c *Add) addProvider(ctx context.Context, e *cli.Env, args api.AddMachinesArgs) error {
	switch {
	case len(args.Addrs) > 1:
		return api.Errorf(api.Usage, "several addresses: a partition of Slurm is added by itself").
			WithHint("add %s first, and then the others", args.Addrs[0])
	case !args.Until.IsZero():
		return api.Errorf(api.Usage, "--until: a partition of Slurm has no end").
			WithHint("--time says how long each of its allocations is")
	case len(args.Resources) > 0:
		return api.Errorf(api.Usage, "--resource: what an allocation has, it gets from Slurm").
			WithHint("ask for it with --sbatch, as in --sbatch=--gres=gpu:1; or let jobs ask: " +
				"--needs gpu=1")
	}
	ask := api.AddProviderArgs{Addr: args.Addrs[0], Class: args.Class,
		Slots: api.Of((*int)(c.Slots)),
		Max:   api.Of(c.Max), Backlog: api.Of(c.Backlog), Jobs: api.Of(c.Jobs),
		Args: c.Sbatch, ArgsSet: c.Sbatch != nil}
	if c.Time != nil {
		ask.Time = api.Some(c.Time.Duration)
	}
	if c.Idle != nil {
		ask.Idle = api.Some(c.Idle.Duration)
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := cli.Ask[api.ChangeMachinesReply](ctx, d, "AddProvider", &ask)
	if err != nil {
		return err
	}
	e.Warn(reply.Notes)
	if e.Structured() {
		return printMachines(e, reply.Machines, "")
	}
	for _, m := range reply.Machines {
		if _, err := fmt.Fprintln(e.Stdout, view.Clean(m.Addr)); err != nil {
			return err
		}
	}
	e.Note("class %s is backed by a partition of Slurm; allocations are asked for when jobs wait",
		args.Class)
	return nil
}
