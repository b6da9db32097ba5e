package server

import (
	"context"
	"os"
	"sync"

	"golang.org/x/term"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/live"
	"jobserver/top"
)

// Top is `top`.
type Top struct {
	ReadOnly bool `name:"read-only" help:"Change nothing, whatever is typed."`
}

// Run shows the screen until the user leaves it.
func (c *Top) Run(ctx context.Context, e *cli.Env) error {
	in, ok := e.Stdin.(*os.File)
	// what is shown was cleaned; the screen moves the cursor itself
	out, ok2 := e.Raw.Stdout.(*os.File)
	if !ok || !ok2 || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return api.Errorf(api.Usage, "this is no terminal").
			WithHint("`jobserver ls` lists jobs, and `jobserver events` tells what happens")
	}
	daemon, err := keepConnection(ctx, e)
	if err != nil {
		return err
	}
	defer daemon.Close()
	ctx, cancel := context.WithCancel(ctx)
	follower := live.New(daemon, live.Options{Now: e.Now})
	var running sync.WaitGroup
	running.Go(func() { follower.Run(ctx) })
	defer func() {
		cancel()
		running.Wait()
	}()
	return top.Run(ctx, top.Options{
		Follower: follower, Name: hostName(e), Now: e.Now, In: in, Out: out,
		Color: e.Screen.Color, ReadOnly: c.ReadOnly,
	})
}
