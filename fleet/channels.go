package fleet

import (
	"context"
	"slices"
	"sync"
	"time"

	"jobserver/agent"
)

// A channel of SSH has a window: what may be on its way, 2 MiB with x/crypto. Where a machine is
// far away, one channel brings no more than that in each round trip, whatever the network could. So
// files and long logs then come in pieces, a few of them asked for ahead, over several channels of
// the connection, each with an agent of its own. It begins with one; their number is doubled as
// long as those that there are bring about what their windows let through.
const (
	// farAway is the round trip from which on this is done: from nearer machines one channel brings
	// what there is, and more of them cost processor time.
	farAway = 5 * time.Millisecond
	// maxChannels keeps below sshd's usual limit of 10 sessions a connection (MaxSessions).
	maxChannels = 6
	// channelWindow is x/crypto/ssh's own, in bytes.
	channelWindow = 2 << 20
	// pieceSize is how much is asked for at once, in bytes; pieceFiles how many files that may be,
	// and aheadOfChannel how many pieces a channel has to do: more than its window.
	pieceSize      = 512 << 10
	pieceFiles     = 500
	aheadOfChannel = 5
)

// channels are a machine as source of results and logs, behind one connection.
type channels struct {
	first *agent.Client
	// another opens one more channel, and gives it to added; nil: there can be none.
	another func(added func(*agent.Client, error))
	memory  *pieces

	mu      sync.Mutex
	trip    time.Duration   // guarded by mu, as all that follows: the round trip; 0: not measured
	others  []*agent.Client // further channels
	opening int
	full    bool          // another one was refused
	closed  bool          // close was called
	news    chan struct{} // closed and replaced when there is another, or can't be
}

func newChannels(first *agent.Client, memory *pieces) *channels {
	return &channels{first: first, memory: memory, news: make(chan struct{})}
}

// close waits for the other channels' ends, when the connection has ended.
func (c *channels) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, client := range c.others {
		client.Close() // says nothing that the connection's end didn't say
	}
}

// Manifest implements source.
func (c *channels) Manifest(ctx context.Context, r agent.ManifestRequest) (agent.Manifest, error) {
	return c.first.Manifest(ctx, r)
}

// Fetch implements source. The sink gets everything in the order of the request, whichever comes
// first.
func (c *channels) Fetch(ctx context.Context, r agent.FetchRequest, to agent.Sink) error {
	if c.another == nil || isLittle(r.Files) || c.roundTrip(ctx) < farAway {
		return c.first.Fetch(ctx, r, to)
	}
	f := &fetching{request: r, to: to, parts: cutter{files: r.Files}}
	return c.inOrder(ctx, f.next)
}

// far tells whether the machine is far away, as far as that is known.
func (c *channels) far() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.another != nil && c.trip >= farAway
}

// measured takes a round trip from somebody who has measured one to the same machine.
func (c *channels) measured(trip time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trip == 0 {
		c.trip = trip
	}
}

// known is the round trip; 0: not measured.
func (c *channels) known() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trip
}

// roundTrip is the shortest of a few, measured once; 0 when it can't be. One that is short is
// enough: a machine that has much to do answers late, wherever it is.
func (c *channels) roundTrip(ctx context.Context) time.Duration {
	trip := c.known()
	if trip > 0 {
		return trip
	}
	for n := 0; n < 4 && (n == 0 || trip >= farAway); n++ {
		began := time.Now()
		if c.first.Ping(ctx) != nil {
			return 0 // the fetch will find out what is wrong
		}
		if took := time.Since(began); trip == 0 || took < trip {
			trip = took
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trip = trip
	return trip
}

// grow opens as many channels as there are, as far as there may be more, unless that is under way,
// or useless.
func (c *channels) grow() {
	c.mu.Lock()
	c.weed()
	n := 0
	if there := len(c.others) + 1; c.opening == 0 && !c.full && !c.closed {
		n = min(there, maxChannels-there)
	}
	c.opening += n
	c.mu.Unlock()
	for range n {
		c.another(c.added)
	}
}

// added takes another channel, or the reason why there is none.
func (c *channels) added(client *agent.Client, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening--
	close(c.news)
	c.news = make(chan struct{})
	switch {
	case err != nil:
		c.full = true // the ones that there are have to do
	case c.closed: // meanwhile
		client.Close()
	default:
		c.others = append(c.others, client)
	}
}

// weed drops channels that have ended. c.mu is held.
func (c *channels) weed() {
	c.others = slices.DeleteFunc(c.others, func(client *agent.Client) bool {
		return client.Err() != nil
	})
}

// all are the channels that there are, and what tells of the next.
func (c *channels) all() ([]*agent.Client, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weed()
	return append([]*agent.Client{c.first}, c.others...), c.news
}
