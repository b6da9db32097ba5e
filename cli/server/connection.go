package server

import (
	"context"
	"sync"

	"jobserver/api"
	"jobserver/cli"
)

// connection is one to the daemon for as long as a command shows it: when it is lost, the next call
// makes another one, also through SSH.
type connection struct {
	e *cli.Env

	mu     sync.Mutex
	daemon cli.Daemon // nil: lost
}

// keepConnection connects, so that what is wrong with the address is told at once.
func keepConnection(ctx context.Context, e *cli.Env) (*connection, error) {
	d, err := e.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{e: e, daemon: d}, nil
}

// Call calls the daemon.
func (c *connection) Call(ctx context.Context, method string, args, reply any) error {
	d, err := c.connected(ctx)
	if err != nil {
		return err
	}
	err = d.Call(ctx, method, args, reply)
	if kind := api.KindOf(
		err,
	); err != nil &&
		(kind == api.Unavailable || kind == api.OutcomeUnknown) {
		c.lose(d)
	}
	return err
}

func (c *connection) connected(ctx context.Context) (cli.Daemon, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.daemon == nil {
		d, err := c.e.Connect(ctx)
		if err != nil {
			return nil, err
		}
		c.daemon = d
	}
	return c.daemon, nil
}

// lose forgets a connection, unless there is another one already.
func (c *connection) lose(d cli.Daemon) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.daemon == d {
		_ = d.Close() // it was lost
		c.daemon = nil
	}
}

// Close ends it.
func (c *connection) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.daemon != nil {
		_ = c.daemon.Close() // nothing is under way that anybody waits for
		c.daemon = nil
	}
}
