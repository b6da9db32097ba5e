package sched

import (
	"context"
	"errors"
	"sort"
	"sync"
)

// Events keeps the newest events for those who follow them.
type Events struct {
	mu     sync.Mutex
	ring   []Event       // ascending; the newest keptEvents, and up to as many older ones
	seq    uint64        // of the last change that was published
	oldest uint64        // events up to this one are not kept
	pulse  uint64        // as the state's when it was last published
	more   chan struct{} // closed when there are new ones, or a new pulse
	closed bool
}

// keptEvents is how many events a follower may be behind, at the least. A turn with more than twice
// as many (jobs that are canceled all at once, say) leaves a gap even for one who isn't behind:
// whoever needs to know more than what happened last has to look at the state then. To keep whole
// turns would take as much memory again as the largest has jobs.
const keptEvents = 10_000

func newEvents(seq uint64) *Events {
	return &Events{seq: seq, oldest: seq, more: make(chan struct{})}
}

func (e *Events) publish(events []Event, seq, pulse uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq == e.seq && pulse == e.pulse {
		return
	}
	e.seq, e.pulse = seq, pulse
	e.ring = append(e.ring, events...)
	if n := len(e.ring) - keptEvents; n > keptEvents {
		// seldom, so that a turn doesn't pay for all that are kept
		e.oldest = e.ring[n-1].Seq
		e.ring = append(make([]Event, 0, 2*keptEvents), e.ring[n:]...)
	}
	close(e.more)
	e.more = make(chan struct{})
}

func (e *Events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.closed = true
		close(e.more)
	}
}

// ErrClosed says that the loop has stopped.
var ErrClosed = errors.New("the daemon is stopping")

// After gives the events after a cursor, at most max of them and the others of the last one's
// change, the cursor to go on from, and whether older ones were missed. Without any it waits for
// the next until ctx ends, and then gives none.
func (e *Events) After(
	ctx context.Context, since uint64, max int,
) (events []Event, cursor uint64, gap bool, err error) {
	for {
		e.mu.Lock()
		more, closed := e.more, e.closed
		events, cursor, gap = e.after(since, max)
		e.mu.Unlock()
		switch {
		case len(events) > 0 || gap || cursor != since:
			return events, cursor, gap, nil
		case closed:
			return nil, cursor, false, ErrClosed
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, cursor, false, nil
		}
	}
}

// since gives all events after a cursor that are kept, as after does. They are never changed
// afterwards, and may be read when the lock is free again.
func (e *Events) since(since uint64) (events []Event, cursor uint64, gap bool) {
	if since > e.seq {
		return nil, e.seq, true
	}
	i := sort.Search(len(e.ring), func(i int) bool { return e.ring[i].Seq > since })
	return e.ring[i:], e.seq, since < e.oldest
}

// followPage is how many events a follower gets at a time.
const followPage = 1000

// Follow hands on what happens after a cursor, some events at a time, with whether older ones were
// missed before them, until ctx ends, the loop has stopped or f returns false.
func (e *Events) Follow(
	ctx context.Context, since uint64, f func(events []Event, gap bool) bool,
) {
	for {
		events, next, gap, err := e.After(ctx, since, followPage)
		if err != nil || ctx.Err() != nil || !f(events, gap) {
			return
		}
		since = next
	}
}

// after looks without waiting. A cursor beyond the newest belongs to another history, and counts as
// a gap.
func (e *Events) after(since uint64, max int) (events []Event, cursor uint64, gap bool) {
	if max < 1 {
		max = 1
	}
	if since > e.seq {
		return nil, e.seq, true
	}
	gap = since < e.oldest
	cursor = e.seq
	i := sort.Search(len(e.ring), func(i int) bool { return e.ring[i].Seq > since })
	end := min(i+max, len(e.ring))
	for end < len(e.ring) && e.ring[end].Seq == e.ring[end-1].Seq {
		end++
	}
	if end < len(e.ring) {
		cursor = e.ring[end-1].Seq
	}
	return append([]Event(nil), e.ring[i:end]...), cursor, gap
}
