package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"
)

// places are where the daemon may be told to die.
var places = []string{
	"loop.decided", "loop.committed", "loop.replied", "fleet.start-due", "fleet.start-answered",
	"fleet.log-appended",
	"fleet.run-ended", "fleet.run-forgotten", "fleet.results-gathered", "fleet.results-renamed",
	"fleet.results-placed", "serve.opened", "serve.recovered",
}

// chaos breaks things. It belongs to one goroutine; one for the daemon and one for all else may
// work at the same time.
type chaos struct {
	w      *world
	rng    *rand.Rand
	choice []func(*chaos, context.Context) // of what to do
	longer bool                            // failures last longer than the keepalive
	env    []string                        // of the daemon, always
	aim    []string                        // places to choose from

	kills, deaths, cuts, partitions, sessions, pauses, agents int
	faults                                                    []string
}

// Deeds on the daemon, and on everything else.
var (
	onDaemon = []func(*chaos, context.Context){(*chaos).kill, (*chaos).kill, (*chaos).kill,
		(*chaos).pause}
	onMachines = []func(*chaos, context.Context){(*chaos).breakNetwork, (*chaos).breakMachine}
)

// A deed is something that was done, and how often.
type deed struct {
	n    int
	what string
}

func (c *chaos) deeds() []deed {
	return []deed{{c.kills, "kills"}, {c.deaths, "deaths at fail points"}, {c.cuts, "cuts"},
		{c.partitions, "partitions"},
		{c.sessions, "sshds or sessions killed"}, {c.pauses, "pauses"}, {c.agents, "agents killed"}}
}

func (c *chaos) String() string {
	var did []string
	for _, d := range c.deeds() {
		if d.n > 0 {
			did = append(did, fmt.Sprintf("%d %s", d.n, d.what))
		}
	}
	return strings.Join(did, ", ")
}

// run breaks something, heals it, and so on until ctx ends.
func (c *chaos) run(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, c.upTo(400*time.Millisecond))
		c.choice[c.rng.IntN(len(c.choice))](c, ctx)
		if len(c.faults) > 0 {
			return
		}
	}
}

func (c *chaos) upTo(d time.Duration) time.Duration { return time.Duration(c.rng.Int64N(int64(d))) }

// while is how long a failure lasts.
func (c *chaos) while() time.Duration {
	if c.longer && c.rng.IntN(16) == 0 {
		return 20*time.Second + c.upTo(25*time.Second)
	}
	return c.upTo(1200 * time.Millisecond)
}

func (c *chaos) try(what string, err error) {
	if err != nil {
		c.faults = append(c.faults, fmt.Sprintf("%s: %v", what, err))
	}
}

// kill ends the daemon, at any moment or at a place, sometimes again while it recovers, and starts
// it again.
func (c *chaos) kill(ctx context.Context) {
	if c.rng.IntN(2) == 0 {
		c.die(ctx)
	} else {
		c.try("kill the daemon", c.w.Kill())
		c.kills++
	}
	for c.rng.IntN(3) == 0 {
		// One that is killed while it starts doesn't get to say that it is there.
		dying, cancel := context.WithTimeout(ctx, c.upTo(60*time.Millisecond))
		c.w.Env = c.env
		err := c.w.Start(dying)
		cancel()
		if err != nil && !strings.Contains(err.Error(), "doesn't answer") {
			c.try("start the daemon to kill it", err)
		}
		c.try("kill the daemon while it starts", c.w.Kill())
		c.kills++
	}
	c.start(ctx)
}

func (c *chaos) start(ctx context.Context) {
	c.w.Env = c.env
	c.try("start the daemon", c.w.Start(context.WithoutCancel(ctx)))
}

// die starts the daemon anew so that it ends itself at a place, and waits a moment for that.
func (c *chaos) die(ctx context.Context) {
	c.try("kill the daemon", c.w.Kill())
	place := c.aim[c.rng.IntN(len(c.aim))]
	pass := 1 + c.rng.IntN(40)
	if strings.HasPrefix(place, "serve.") {
		pass = 1
	}
	c.w.Env = append([]string{fmt.Sprintf("JOBSERVER_FAILPOINT=%s:%d", place, pass)}, c.env...)
	if err := c.w.Start(context.WithoutCancel(ctx)); err != nil &&
		!strings.Contains(err.Error(), "signal: killed") {
		c.try("start the daemon to die at "+place, err)
	}
	select {
	case <-c.w.Ended():
		c.deaths++
	case <-time.After(2 * time.Second):
		c.try("kill the daemon", c.w.Kill())
		c.kills++
	}
}

// pause stops the daemon where it is, for a while.
func (c *chaos) pause(ctx context.Context) {
	c.try("stop the daemon", syscall.Kill(c.w.PID(), syscall.SIGSTOP))
	sleep(ctx, c.while())
	c.try("continue the daemon", syscall.Kill(c.w.PID(), syscall.SIGCONT))
	c.pauses++
}

func (c *chaos) machine() *machine { return c.w.machines[c.rng.IntN(len(c.w.machines))] }

func (c *chaos) breakNetwork(ctx context.Context) {
	m := c.machine()
	switch c.rng.IntN(4) {
	case 0:
		if p, ok := m.network.(*proxy); ok { // in the middle of a message
			p.ResetAfter(c.rng.Int64N(256 << 10))
			sleep(ctx, c.while())
		} else {
			m.network.Reset()
		}
		c.cuts++
	case 1:
		m.network.Slow(true)
		sleep(ctx, c.while())
	case 2: // all of them at once
		for _, m := range c.w.machines {
			m.network.Cut()
		}
		sleep(ctx, c.while())
		for _, m := range c.w.machines {
			m.network.Heal()
		}
		c.partitions++
	default:
		m.network.Cut()
		sleep(ctx, c.while())
		c.partitions++
	}
	m.network.Heal()
}

func (c *chaos) breakMachine(ctx context.Context) {
	m := c.machine()
	switch c.rng.IntN(3) {
	case 0:
		_, err := m.KillSessions()
		c.try("kill sessions", err)
		c.sessions++
	case 1:
		c.try("stop sshd", m.Pause())
		sleep(ctx, c.while())
		c.try("continue sshd", m.Resume())
		c.pauses++
	default:
		c.try("end sshd", m.Stop())
		sleep(ctx, c.while())
		c.try("start sshd", m.up())
		c.sessions++
	}
}
