package api

import (
	"sync"
	"time"
)

// door knows the connections that are open. Those that haven't said yet who they are have places of
// their own, and the one that has kept silent the longest makes way for a new one: they take nobody
// else's place. Likewise one on which nothing has been asked for a while makes way for one more
// client when there are as many as may be: a client that still is there dials again.
type door struct {
	maxSilent, maxOpen int

	mu     sync.Mutex    // protects all below, and idle of each connection
	silent []*serverConn // in the order of their coming
	open   map[*serverConn]struct{}
}

// shortestIdle is how long nothing was asked on a connection that makes way for another.
const shortestIdle = time.Second

// arrive takes in a connection that hasn't said anything yet.
func (d *door) arrive(c *serverConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.silent) >= d.maxSilent {
		d.silent[0].drop("it has said nothing, and others want its place")
		d.silent = d.silent[1:]
	}
	d.silent = append(d.silent, c)
}

// enter lets a connection in that has said who it is; false: there are as many as may be, and none
// of them is idle.
func (d *door) enter(c *serverConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(c)
	if len(d.open) >= d.maxOpen {
		idle := d.longestIdle()
		if idle == nil {
			return false
		}
		idle.drop("nothing was asked on it, and others want its place")
		delete(d.open, idle)
	}
	c.idle = time.Now()
	d.open[c] = struct{}{}
	return true
}

// leave forgets a connection.
func (d *door) leave(c *serverConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(c)
	delete(d.open, c)
}

// forget takes a connection out of those that are silent; mu is held.
func (d *door) forget(c *serverConn) {
	for i, other := range d.silent {
		if other == c {
			d.silent = append(d.silent[:i], d.silent[i+1:]...)
			return
		}
	}
}

// longestIdle is the connection on which nothing has been asked for the longest; mu is held.
func (d *door) longestIdle() *serverConn {
	var found *serverConn
	for c := range d.open {
		if c.calls == 0 && time.Since(c.idle) >= shortestIdle &&
			(found == nil || c.idle.Before(found.idle)) {
			found = c
		}
	}
	return found
}

// busy counts a call that begins, or ends, on a connection.
func (d *door) busy(c *serverConn, calls int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.calls += calls
	c.idle = time.Now()
}
