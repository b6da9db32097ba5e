package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"jobserver/agent"
)

// A chunk is what a channel brings into memory at once, and what is handed on when its turn comes.
type chunk struct {
	// get brings it, into memory that it is given; it is called again where a channel broke.
	get func(ctx context.Context, from *agent.Client, memory []byte) error
	// hand hands it on, and says how many bytes it has had.
	hand func() (n int, err error)

	memory []byte
	done   chan struct{} // closed when it has come, or err says why not
	err    error
}

// inOrder brings chunks over all channels that there are, and hands them on in their order,
// whichever comes first. next gives the next chunk, or nil when there is none to be asked for at
// present; when there is none and all others were handed on, that was it. Both are called by this
// goroutine.
func (c *channels) inOrder(ctx context.Context, next func() *chunk) error {
	ctx, cancel := context.WithCancel(ctx)
	p := &parallel{
		c:       c,
		ctx:     ctx,
		todo:    make(chan *chunk, maxChannels*aheadOfChannel),
		serving: map[*agent.Client]bool{},
		since:   time.Now(),
	}
	c.memory.join()
	defer c.memory.leave()
	defer p.workers.Wait()
	defer close(p.todo)
	defer cancel()
	return p.run(next)
}

// parallel is one task over several channels.
type parallel struct {
	c       *channels
	ctx     context.Context
	todo    chan *chunk
	workers sync.WaitGroup
	serving map[*agent.Client]bool // channels that have workers

	since time.Time // when the number of channels was looked at
	came  int       // bytes since then
}

// run asks for the chunks, and hands them on as they come.
func (p *parallel) run(next func() *chunk) error {
	var pending []*chunk
	for {
		clients, more := p.c.all()
		for _, client := range clients {
			if !p.serving[client] {
				p.serving[client] = true
				p.serve(client)
			}
		}
		for len(pending) < min(len(clients)*aheadOfChannel, p.c.memory.share()) {
			chunk := next()
			if chunk == nil {
				break
			}
			chunk.memory, chunk.done = p.c.memory.get(), make(chan struct{})
			p.todo <- chunk
			pending = append(pending, chunk)
		}
		if len(pending) == 0 {
			return nil
		}
		select {
		case <-pending[0].done:
		case <-more:
			continue
		case <-p.c.first.Done():
			return p.c.first.Err()
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
		if err := p.take(pending[0], len(clients)); err != nil {
			return err
		}
		pending = pending[1:]
	}
}

// serve lets a channel work.
func (p *parallel) serve(client *agent.Client) {
	for range aheadOfChannel {
		p.workers.Go(func() {
			for chunk := range p.todo {
				chunk.err = context.Cause(p.ctx)
				if chunk.err == nil {
					chunk.err = chunk.get(p.ctx, client, chunk.memory[:0])
				}
				close(chunk.done)
				if client.Err() != nil {
					return // it would only spoil others
				}
			}
		})
	}
}

// take hands on a chunk that has come over one of so many channels. What a channel that broke
// didn't bring, the first one does.
func (p *parallel) take(c *chunk, channels int) error {
	if errors.Is(c.err, agent.ErrClosed) && p.c.first.Err() == nil {
		c.err = c.get(p.ctx, p.c.first, c.memory[:0])
	}
	if c.err != nil {
		return c.err
	}
	n, err := c.hand()
	if err != nil {
		return err
	}
	p.c.memory.put(c.memory)
	p.adapt(n, channels)
	return nil
}

// adapt looks now and then whether the channels bring what their windows let through: then the
// network may bring more.
func (p *parallel) adapt(n, channels int) {
	p.came += n
	trip := p.c.known()
	took := time.Since(p.since)
	if took < 4*trip {
		return
	}
	if nearWindow(p.came, channels, took, trip) {
		p.c.grow()
	}
	p.since, p.came = time.Now(), 0
}

// nearWindow tells whether so many bytes are at least half of what so many channels let through.
func nearWindow(came, channels int, took, trip time.Duration) bool {
	possible := float64(channels) * channelWindow * float64(took) / float64(trip)
	return float64(came) > possible/2
}

// pieces is the memory for chunks, of all machines together: what one of them gives back is used
// again, and those that are at work share it evenly.
type pieces struct {
	mu    sync.Mutex
	users int      // tasks that are under way
	free  [][]byte // none without users
}

// maxPieces is how many chunks all tasks together ask for ahead, 24 MiB of them. Those that have to
// share with many others have aheadOfFew each all the same.
const (
	maxPieces  = 48
	aheadOfFew = 3
)

func (p *pieces) join() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
}

func (p *pieces) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.users == 0 {
		p.free = nil
	}
}

// share is how many chunks a task may ask for ahead.
func (p *pieces) share() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(maxPieces/max(p.users, 1), aheadOfFew)
}

// get gives memory for a chunk: of capacity pieceSize.
func (p *pieces) get() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		memory := p.free[n-1]
		p.free = p.free[:n-1]
		return memory
	}
	return make([]byte, 0, pieceSize)
}

func (p *pieces) put(memory []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users > 0 {
		p.free = append(p.free, memory)
	}
}
