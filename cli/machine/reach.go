package machine

import (
	"cmp"
	"context"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// How long a command that adds machines waits for the first answer of each, and how often it looks.
const (
	firstAnswer = 3 * time.Second
	answerLook  = 50 * time.Millisecond
)

// noWait is the flag of commands that add machines.
type noWait struct {
	NoWait bool `name:"no-wait" help:"Don't wait a moment to see whether the machines can be reached."`
}

// tellAnswers waits a moment for the first answer of machines that were added, and says which can't
// be reached, and why. They stay added: it is no error, since they are tried again by themselves.
func (n noWait) tellAnswers(ctx context.Context, e *cli.Env, d cli.Daemon, addrs []string) {
	if n.NoWait || len(addrs) == 0 {
		return
	}
	for _, m := range awaitAnswers(ctx, d, addrs) {
		switch m.State {
		case "refused", "away":
			e.Warn([]string{view.Clean(m.Addr) + " can't be reached: " +
				view.Clean(cmp.Or(m.LastError, m.State))})
			if m.Hint != "" {
				e.Note("%s: hint: %s", view.Clean(m.Addr), view.Clean(m.Hint))
			}
		case "connecting":
			e.Note("%s is being connected to; `%s machine ls` tells how it is", view.Clean(m.Addr),
				e.Name)
		}
	}
}

// awaitAnswers gives the machines as soon as none of them is being connected to for the first time,
// or after a moment. Of what can't be asked, there is nothing to tell.
func awaitAnswers(ctx context.Context, d cli.Daemon, addrs []string) []api.Machine {
	ctx, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	tick := time.NewTicker(answerLook)
	defer tick.Stop()
	var machines []api.Machine
	for {
		args := api.ListMachinesArgs{MachineSelector: api.MachineSelector{Addrs: addrs}}
		reply, err := cli.Ask[api.ListMachinesReply](ctx, d, "ListMachines", &args)
		if err != nil {
			return machines
		}
		machines = reply.Machines
		waits := false
		for _, m := range machines {
			waits = waits || m.State == "connecting"
		}
		if !waits {
			return machines
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return machines
		}
	}
}
