package server

import (
	"context"
	"fmt"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// Ping is `ping`.
type Ping struct{}

// Run asks whether the daemon answers.
func (c *Ping) Run(ctx context.Context, e *cli.Env) error {
	began := e.Now()
	if _, err := cli.Call[api.Status](ctx, e, "Ping", &api.Empty{}); err != nil {
		return err
	}
	took := e.Now().Sub(began)
	if e.Structured() {
		return cli.List(e, []pong{{OK: true, Seconds: took.Seconds()}}, pongColumns())
	}
	_, err := fmt.Fprintf(e.Stdout, "OK (%.1f ms)\n", 1000*took.Seconds())
	return err
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
