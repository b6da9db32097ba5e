package sched

import (
	"context"
	"slices"
	"time"
)

// Changes say what has changed since a cursor, as sets: for those who show the state, and look
// again at what they show. They have a size that doesn't depend on how much happened.
type Changes struct {
	Cursor uint64
	Pulse  uint64 // counts what changed without an event: how machines are connected
	Events int    // how many there were
	// Gap says that more has changed than is said here: the cursor is of another history, or so
	// much happened that older events are not kept.
	Gap bool
	// Jobs are those that changed, ascending; when they are too many, only First and Last are set,
	// the lowest and the highest of them.
	Jobs        []uint64
	First, Last uint64
	// Of these, All says that they are too many to be named.
	Matrices    []uint64
	AllMatrices bool
	Machines    []string
	AllMachines bool
}

// Most of each kind that Changes name.
const (
	maxChangedJobs = 200
	maxChanged     = 30 // matrices, and machines
)

// Changes waits until something has changed since the cursor or the pulse, and, so that more of it
// comes at once, for pause; then it says what. When ctx ends before, nothing has.
func (e *Events) Changes(
	ctx context.Context,
	since, pulse uint64,
	pause time.Duration,
) (Changes, error) {
	for {
		e.mu.Lock()
		more, closed, seq, now := e.more, e.closed, e.seq, e.pulse
		e.mu.Unlock()
		if closed {
			return Changes{}, ErrClosed
		}
		if seq != since || now != pulse {
			break
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Changes{Cursor: since, Pulse: pulse}, nil
		}
	}
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	e.mu.Lock()
	events, cursor, gap := e.since(since)
	now := e.pulse
	e.mu.Unlock()
	c := digest(events)
	c.Cursor, c.Pulse, c.Gap = cursor, now, gap
	c.AllMachines = c.AllMachines || now != pulse
	return c, nil
}

// digest puts events together. Without gap and pulse, what they name is all that has changed.
func digest(events []Event) Changes {
	c := Changes{Events: len(events)}
	for i := range events {
		e := &events[i]
		if e.Job != 0 {
			if c.First == 0 || e.Job < c.First {
				c.First = e.Job
			}
			c.Last = max(c.Last, e.Job)
			if len(c.Jobs) <= maxChangedJobs {
				c.Jobs = insert(c.Jobs, e.Job)
			}
		}
		if e.Matrix != 0 && len(c.Matrices) <= maxChanged {
			c.Matrices = insert(c.Matrices, e.Matrix)
		}
		if e.Machine != "" && len(c.Machines) <= maxChanged &&
			!slices.Contains(c.Machines, e.Machine) {
			c.Machines = append(c.Machines, e.Machine)
		}
	}
	slices.Sort(c.Machines)
	if len(c.Jobs) > maxChangedJobs {
		c.Jobs = nil
	}
	if len(c.Matrices) > maxChanged {
		c.Matrices, c.AllMatrices = nil, true
	}
	if len(c.Machines) > maxChanged {
		c.Machines, c.AllMachines = nil, true
	}
	return c
}
