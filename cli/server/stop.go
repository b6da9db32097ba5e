package server

import (
	"context"
	"errors"
	"syscall"

	"jobserver/api"
	"jobserver/cli"
)

// Stop is `stop`.
type Stop struct {
	Wait bool `name:"wait" help:"Return when it has ended, so that another one may be started."`
}

// Run has the daemon stop. Jobs run on.
func (c *Stop) Run(ctx context.Context, e *cli.Env) error {
	reply, err := cli.Call[api.StopReply](ctx, e, "Stop", &api.Empty{})
	if err != nil {
		return err
	}
	if !c.Wait {
		e.Note("the daemon stops; running jobs run on")
		return nil
	}
	for {
		_, err := cli.Call[api.Status](ctx, e, "Ping", &api.Empty{})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// The socket goes first, the process when all is saved.
		if api.KindOf(err) == api.Unavailable && (e.Remote() || gone(reply.PID)) {
			e.Note("the daemon has stopped; running jobs run on")
			return nil
		}
		if err := pauseFor(ctx, pingPause); err != nil {
			return err
		}
	}
}

// gone tells whether there is no process of that number any more.
func gone(pid int) bool {
	return pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
