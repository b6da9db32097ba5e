package machine

import (
	"context"
	"fmt"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// Trust is `machine trust`.
type Trust struct {
	Addr []string `arg:"" optional:"" name:"ADDR" sep:"none" predictor:"machine" help:"Machines, as with -m."`
	chosen
	Yes bool `name:"yes" short:"y" help:"Record any key without asking, for pools that are reimaged every night."`
}

// Run shows the keys, and records those that the user confirms: exactly the ones that were shown.
func (c *Trust) Run(ctx context.Context, e *cli.Env) error {
	selector, err := c.selector(e, c.Addr)
	if err != nil {
		return err
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if c.Yes {
		recorded, err := cli.Ask[api.TrustReply](ctx, d, "Trust",
			&api.TrustArgs{MachineSelector: selector, Record: true, Any: true})
		if err != nil {
			return err
		}
		if err := cli.List(e, recorded.Checks, show.TrustColumns()); err != nil {
			return err
		}
		return checksFailed(e, recorded.Checks)
	}
	shown, err := cli.Ask[api.TrustReply](ctx, d, "Trust",
		&api.TrustArgs{MachineSelector: selector})
	if err != nil {
		return err
	}
	if err := cli.List(e, shown.Checks, show.TrustColumns()); err != nil {
		return err
	}
	return c.record(ctx, e, d, selector, shown.Checks)
}

// record asks about the keys that known_hosts lacks, and has those recorded.
func (c *Trust) record(
	ctx context.Context, e *cli.Env, d cli.Daemon, selector api.MachineSelector,
	checks []api.MachineCheck,
) error {
	prints := map[string]string{}
	changed := 0
	for _, check := range checks {
		if check.Fingerprint == "" || check.Known == "known" {
			continue
		}
		prints[check.Addr] = check.Fingerprint
		if check.Known == "changed" {
			changed++
		}
	}
	if len(prints) == 0 {
		return checksFailed(e, checks)
	}
	if !e.Interactive() {
		return api.Errorf(api.Confirm, "%s not recorded: there is no terminal to compare the "+
			"fingerprints on", view.Counted(len(prints), "host key")).
			WithHint("--yes records them without a comparison")
	}
	question := fmt.Sprintf("record %s", view.Counted(len(prints), "host key"))
	if changed > 0 {
		question = fmt.Sprintf("%s, of which %d differ from what is known", question, changed)
	}
	if err := e.Confirm(ctx, question+"?", "nothing was recorded"); err != nil {
		return err
	}
	reply, err := cli.Ask[api.TrustReply](ctx, d, "Trust",
		&api.TrustArgs{MachineSelector: selector, Record: true, Fingerprints: prints})
	if err != nil {
		return err
	}
	recorded := 0
	for _, check := range reply.Checks {
		if prints[check.Addr] == check.Fingerprint && check.Known == "known" {
			recorded++
		}
	}
	e.Note("recorded %s", view.Counted(recorded, "host key"))
	return checksFailed(e, reply.Checks)
}
