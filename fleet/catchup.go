package fleet

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"jobserver/agent"
)

// A log of which much is still on a machine that is far away comes as results do: in pieces, over
// several channels of the bulk connection, and is written in their order. What is known of the run
// beside, polls bring in between. Where that isn't possible, polls bring the log as well.
const (
	// farBehind is how much of its logs has to be on a machine for that.
	farBehind = 4 << 20
	// pollFar is how much a poll of a machine that is far away brings at the most before it says
	// how much there is, and pollBetween when most of it comes over the channels.
	pollFar     = 8 << 20
	pollBetween = 1 << 20
	// catchUpTime is how long pieces are asked for without a poll.
	catchUpTime = 2 * time.Second
	// logsAtOnce is how many logs come so at a time, of all machines: each has memory of its own.
	// The others come by polls.
	logsAtOnce = 4
)

// most is how much the next poll is to bring.
func (r *run) most(l *link) int64 {
	switch {
	case !l.source.far() || r.narrow:
		return 0
	case r.wide:
		return pollBetween
	}
	return pollFar
}

// backlog is how much of a run's output is on its machine only.
func (r *run) backlog(reply agent.PollReply) (n int64) {
	for s, size := range reply.Sizes {
		n += max(size-r.log(agent.Stream(s)).offset(), 0)
	}
	return n
}

// catchUp brings what a poll has left, if that is much and its machine far away. It is no error
// when it can't: the next poll goes on where it ended.
func (m *machine) catchUp(ctx context.Context, l *link, r *run, reply agent.PollReply) error {
	r.wide = false
	if r.narrow || r.backlog(reply) < farBehind || !l.source.far() || !m.f.behind.try(m) {
		return nil
	}
	defer m.f.behind.leave(m)
	ended := make(chan error, 1)
	if !m.onBulk(func(bulk *link) { ended <- m.catchUpOver(ctx, bulk, r, reply) }) {
		return nil
	}
	return <-ended
}

// catchUpOver is the task of one catchUp on the bulk connection.
func (m *machine) catchUpOver(
	ctx context.Context, bulk *link, r *run, reply agent.PollReply,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(bulk.ctx, func() { cancel(context.Cause(bulk.ctx)) })()
	c := &catching{r: r, until: time.Now().Add(catchUpTime), sizes: reply.Sizes[:]}
	for s := range c.sizes {
		c.asked = append(c.asked, r.log(agent.Stream(s)).offset())
	}
	c.keep = func(s agent.Stream, p []byte) error {
		c.keepErr = m.keepLog(ctx, r, r.log(s), p)
		return c.keepErr
	}
	err := bulk.source.inOrder(ctx, c.next)
	switch {
	case ctx.Err() != nil: // of the run, or of the connection
		return nil
	case c.keepErr != nil:
		return c.keepErr
	case err != nil && !linkBroke(bulk):
		r.narrow = true // whatever it is, polls know it, or say it better
	}
	r.wide = err == nil
	return nil
}

// catching is one catchUp.
type catching struct {
	r       *run
	until   time.Time
	sizes   []int64 // of the streams, as far as is known
	asked   []int64 // up to where pieces were asked for
	turn    int     // the stream that is asked for next
	keep    func(s agent.Stream, p []byte) error
	keepErr error
}

// next is the next piece of the streams, in turn. The last one of each is left to a poll.
func (c *catching) next() *chunk {
	if time.Now().After(c.until) {
		return nil
	}
	for range c.sizes {
		s := c.turn
		c.turn = (c.turn + 1) % len(c.sizes)
		if c.sizes[s]-c.asked[s] < pieceSize {
			continue
		}
		from := c.asked[s]
		// Up to a multiple of it, as that is written faster.
		c.asked[s] = from + pieceSize - from%pieceSize
		return c.part(agent.OutputRequest{
			Run: c.r.id, Stream: agent.Stream(s), Off: from, Until: c.asked[s],
		})
	}
	return nil
}

// errShort is when a machine has less of a log than it said.
var errShort = errors.New("less of a log came than the machine has said that it has")

// part asks for a piece.
func (c *catching) part(r agent.OutputRequest) *chunk {
	var data []byte
	var size int64
	return &chunk{
		get: func(ctx context.Context, from *agent.Client, memory []byte) (err error) {
			data = memory
			size, err = from.Output(ctx, r, func(p []byte) error {
				data = append(data, p...)
				return nil
			})
			return err
		},
		hand: func() (int, error) {
			if err := c.keep(r.Stream, data); err != nil {
				return 0, err
			}
			if int64(len(data)) < r.Until-r.Off {
				return 0, errShort
			}
			c.sizes[r.Stream] = max(c.sizes[r.Stream], size)
			return len(data), nil
		},
	}
}

// onBulk has a task run on the bulk connection. Where there is none it is made, for the next who
// asks, and the result is false.
func (m *machine) onBulk(task func(bulk *link)) bool {
	runs := make(chan bool, 1)
	var taken atomic.Bool // by the actor, or by us, who wait no longer
	if !m.do(func() {
		if taken.Swap(true) {
			return
		}
		l := m.bulk.link
		switch {
		case l != nil:
			m.bulk.users++
			l.spawn(func() {
				task(l)
				m.do(m.bulkLeft)
			})
		case m.link != nil && !m.bulk.opening && !m.bulk.retry:
			m.openBulk()
		}
		runs <- l != nil
	}) {
		return false
	}
	select {
	case ok := <-runs:
		return ok
	case <-m.ctx.Done():
		return taken.Swap(true) && <-runs
	}
}
