package server

import (
	"context"
	"fmt"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// Ping is `ping`.
type Ping struct {
	Wait cli.Minutes `name:"wait" placeholder:"DURATION" help:"Wait so long for the daemon to answer: minutes, or 10s."`
}

// Run asks whether the daemon answers.
func (c *Ping) Run(ctx context.Context, e *cli.Env) error {
	deadline := e.Now().Add(c.Wait.Duration)
	began := e.Now()
	for {
		_, err := cli.Call[api.Status](ctx, e, "Ping", &api.Empty{})
		if err == nil {
			break
		}
		if api.KindOf(err) != api.Unavailable || !e.Now().Add(pingPause).Before(deadline) {
			return err
		}
		if err := pauseFor(ctx, pingPause); err != nil {
			return err
		}
		began = e.Now()
	}
	took := e.Now().Sub(began)
	if e.Structured() {
		return cli.List(e, []pong{{OK: true, Seconds: took.Seconds()}}, pongColumns())
	}
	_, err := fmt.Fprintf(e.Stdout, "OK (%.1f ms)\n", 1000*took.Seconds())
	return err
}

// pingPause is between two tries to reach a daemon that isn't there yet, or isn't gone yet.
const pingPause = 50 * time.Millisecond

// pauseFor waits, unless ctx ends first.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pong is an answered `ping`.
type pong struct {
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"` // from before the connection to the answer
}

func pongColumns() []view.Column[pong] {
	return []view.Column[pong]{
		show.OnlyCSV("ok", func(p pong) string { return fmt.Sprint(p.OK) }),
		show.OnlyCSV("seconds", func(p pong) string { return fmt.Sprint(p.Seconds) }),
	}
}
