package machine

import (
	"context"
	"fmt"
	"slices"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// Setup is `machine setup … -- CMD…`: each argument is one command.
type Setup struct {
	Cmd []string `arg:"" optional:"" name:"CMD" sep:"none" beforedash:"machine" help:"The commands, one per argument, which run in order on each machine."`

	Machine  []string    `name:"machine" short:"m" sep:"none" placeholder:"ADDR" predictor:"machine" help:"A machine: [USER@]HOST[:PORT], an alias of the ssh config, or local[:NAME]. May be repeated."`
	File     []string    `name:"file" short:"f" sep:"none" placeholder:"FILE" predictor:"file" help:"The machines in a file, one a line; blank lines and #comments are skipped, - is stdin."`
	Existing bool        `name:"existing" short:"e" help:"Set up the machines that are in class -c now, again."`
	Class    string      `name:"class" short:"c" placeholder:"CLASS" predictor:"class" help:"The class that machines join when everything has succeeded."`
	Slots    cli.Count   `name:"slots" placeholder:"N" help:"How many jobs each machine runs at once; 1 by default, or what the machine already has."`
	Timeout  cli.Minutes `name:"timeout" placeholder:"DURATION" help:"Fail if all commands together take longer than this: minutes, or 30s, 2h30m."`
	Stagger  cli.Seconds `name:"stagger" placeholder:"SECONDS" help:"Wait this long between starting one machine and the next."`
	Parallel cli.Count   `name:"parallel" short:"j" placeholder:"N" help:"Set up at most N machines at a time; the others keep working until it is their turn."`
	Notify   bool        `name:"notify" help:"Notify when a machine's setup ends."`
	Verify   string      `name:"verify" placeholder:"CMD" help:"Run this command last; the machine joins its class only if it exits with 0."`
	Until    lifetime    `name:"until" placeholder:"DURATION" help:"Remove the machines after this long; they take no jobs that would run longer."`
	Retries  int         `name:"retries" default:"0" placeholder:"N" help:"Retry a command that failed, at most N times."`
	resourceFlag
	noWait
	Reboot bool `name:"reboot" help:"The machine reboots after the commands; --verify waits until it is back."`
}

// Run submits a setup for each machine.
func (c *Setup) Run(ctx context.Context, e *cli.Env) error {
	args, err := c.request(e)
	if err != nil {
		return err
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := cli.Ask[api.SetupReply](ctx, d, "SetupMachines", args)
	if err != nil {
		return err
	}
	if !c.Existing && c.Class == "" {
		c.warnNoClass(ctx, e, d, args)
	}
	if !e.ForScripts() {
		for i, addr := range reply.Addrs {
			e.Note("job %d sets up %s", reply.JIDs[i], view.Clean(addr))
		}
	}
	e.Warn(reply.Notes)
	defer c.tellAnswers(ctx, e, d, reply.Addrs)
	if e.Told() {
		return nil
	}
	return e.PrintIDs(reply.JIDs)
}

// warnNoClass tells someone who named no class what that means. The name of one among the machines
// or commands is most likely the class that was meant; it may be what it looks like, too, and so it
// is no error.
func (c *Setup) warnNoClass(ctx context.Context, e *cli.Env, d cli.Daemon, args *api.SetupArgs) {
	e.Warn([]string{fmt.Sprintf("no class is given with -c: once they are set up, these "+
		"machines are in none, and get no jobs until `%s machine mv` puts them into one", e.Name)})
	names, err := classNames(ctx, d)
	if err != nil {
		return // the setup is submitted, and that is what was asked for
	}
	for _, word := range append(slices.Clone(args.Addrs), args.Steps...) {
		if slices.Contains(names, word) {
			e.Warn([]string{fmt.Sprintf("%q is a class: did you mean -c %s?", word, word)})
		}
	}
}

// request makes the request that the flags ask for.
func (c *Setup) request(e *cli.Env) (*api.SetupArgs, error) {
	selector := chosen{Machine: c.Machine, File: c.File}
	addrs, err := selector.addrs(e, nil)
	if err != nil {
		return nil, err
	}
	args := &api.SetupArgs{
		MachineSelector: api.MachineSelector{Addrs: addrs},
		Existing:        c.Existing, Class: c.Class, Slots: int(c.Slots), Steps: c.Cmd,
		Verify:  c.Verify,
		Timeout: c.Timeout.Duration, Stagger: c.Stagger.Duration, Notify: c.Notify,
		Until: c.Until.from(e.Now()), Retries: c.Retries, Parallel: int(c.Parallel),
		Reboot: c.Reboot, Resources: c.Resource,
	}
	switch {
	case c.Existing && c.Class == "":
		return nil, api.Errorf(api.Usage, "machine setup -e: of which class?").
			WithHint("name it with -c CLASS")
	case c.Existing && len(addrs) > 0:
		return nil, api.Errorf(api.Usage,
			"machine setup: -e sets up the machines of a class; -m and -f name others")
	case c.Existing:
		args.Classes, args.Class = []string{c.Class}, ""
	case len(addrs) == 0:
		return nil, api.Errorf(api.Usage, "which machines?").
			WithHint("name them with -m ADDR or -f FILE, or all of a class with -e -c CLASS")
	}
	if len(c.Cmd) == 0 && c.Verify == "" {
		return nil, api.Errorf(api.Usage, "machine setup: no command was given").
			WithHint("each argument is one command: %s machine setup -m ADDR -c CLASS -- 'sudo "+
				"apt-get update' './build.sh'", e.Name)
	}
	if c.Slots < 0 {
		return nil, api.Errorf(api.Usage, "--slots %d: a machine has one slot or more", c.Slots)
	}
	return args, nil
}

// classNames are the classes that there are.
func classNames(ctx context.Context, d cli.Daemon) ([]string, error) {
	known, err := cli.Ask[api.CompleteReply](ctx, d, "Complete", &api.CompleteArgs{Kind: "class"})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(known.Candidates))
	for i, candidate := range known.Candidates {
		names[i] = candidate.Value
	}
	return names, nil
}
