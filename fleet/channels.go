package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"jobserver/agent"
)

// A channel of SSH has a window: what may be on its way, 2 MiB with x/crypto. Where a machine is
// far away, one channel brings no more than that in each round trip, whatever the network could. So
// files are then fetched in pieces, a few of them asked for ahead, over several channels of the
// connection, each with an agent of its own. It begins with one; another is added as long as those
// that there are bring about what their windows let through.
const (
	// farAway is the round trip from which on this is done: from nearer machines one channel brings
	// what there is, and more of them cost processor time.
	farAway = 5 * time.Millisecond
	// maxChannels keeps below sshd's usual limit of 10 sessions a connection (MaxSessions).
	maxChannels = 6
	// channelWindow is x/crypto/ssh's own, in bytes.
	channelWindow = 2 << 20
	// pieceSize is how much is asked for at once, in bytes; pieceFiles how many files that may be,
	// and aheadOfChannel how many pieces a channel has to do.
	pieceSize      = 1 << 20
	pieceFiles     = 500
	aheadOfChannel = 3
)

// channels are a machine as source of results, behind one connection.
type channels struct {
	first *agent.Client
	// another opens one more channel, and gives it to added; nil: there can be none.
	another func(added func(*agent.Client, error))

	mu      sync.Mutex
	trip    time.Duration   // guarded by mu, as all that follows: the round trip; 0: not measured
	others  []*agent.Client // further channels
	opening bool
	full    bool          // another one was refused
	news    chan struct{} // closed and replaced when there is another
}

func newChannels(first *agent.Client, another func(func(*agent.Client, error))) *channels {
	return &channels{first: first, another: another, news: make(chan struct{})}
}

// close waits for the other channels' ends, when the connection has ended.
func (c *channels) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full = true
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
	ctx, cancel := context.WithCancel(ctx)
	p := &parallel{
		c:       c,
		ctx:     ctx,
		request: r,
		to:      to,
		todo:    make(chan *piece, maxChannels*aheadOfChannel),
	}
	defer p.workers.Wait()
	defer close(p.todo)
	defer cancel()
	return p.run(&cutter{files: r.Files})
}

// roundTrip is the shortest of a few, measured once; 0 when it can't be. One that is short is
// enough: a machine that has much to do answers late, wherever it is.
func (c *channels) roundTrip(ctx context.Context) time.Duration {
	c.mu.Lock()
	trip := c.trip
	c.mu.Unlock()
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

// grow opens another channel, unless that is under way, or useless.
func (c *channels) grow() {
	c.mu.Lock()
	busy := c.opening || c.full || len(c.others)+1 >= maxChannels
	c.opening = c.opening || !busy
	c.mu.Unlock()
	if busy {
		return
	}
	c.another(func(client *agent.Client, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.opening = false
		switch {
		case err != nil:
			c.full = true // the ones that there are have to do
		case c.full: // closed meanwhile
			client.Close()
		default:
			c.others = append(c.others, client)
			close(c.news)
			c.news = make(chan struct{})
		}
	})
}

// all are the channels that there are, and what tells of the next.
func (c *channels) all() ([]*agent.Client, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*agent.Client{c.first}, c.others...), c.news
}

// piece is asked for at once: some small files, or a part of a large one.
type piece struct {
	files []agent.FetchFile
	index int  // of its first file, in the request
	ends  bool // it has the ends of its files

	done   chan struct{} // closed when it has come, or err says why not
	err    error
	room   int64 // bytes that it may still have
	data   []byte
	events []event
}

// event is one call of the sink's.
type event struct {
	file  int
	bytes int   // of data
	hole  int64 // or these zeros
	over  bool  // or the file's end
	how   agent.Fetched
}

// cutter divides files into pieces, in their order, one after the other: how many there are in all
// is what a machine says, who may say that a file has 8 EiB, or have one that is all hole.
type cutter struct {
	files []agent.FetchFile
	index int   // of the next piece's first file
	taken int64 // bytes of that file which earlier pieces have
}

// next is the next piece; nil: there are no more.
func (c *cutter) next() *piece {
	if c.index >= len(c.files) {
		return nil
	}
	p := &piece{index: c.index, ends: true, done: make(chan struct{})}
	n := c.index
	for c.taken == 0 && n < len(c.files) && n-c.index < pieceFiles {
		size := c.files[n].Size - c.files[n].Offset
		if size > pieceSize-p.room {
			break
		}
		p.room += size
		n++
	}
	if n > c.index {
		p.files = c.files[c.index:n]
		c.index = n
		return p
	}
	part := c.files[c.index]
	part.Offset += c.taken
	p.room = min(pieceSize, part.Size-part.Offset)
	part.Until = part.Offset + p.room
	p.files, p.ends = []agent.FetchFile{part}, part.Until == part.Size
	c.taken += p.room
	if p.ends {
		c.index, c.taken = c.index+1, 0
	}
	return p
}

// isLittle tells whether one channel has them all to do in any case.
func isLittle(files []agent.FetchFile) bool {
	c := cutter{files: files}
	for range aheadOfChannel {
		if c.next() == nil {
			return true
		}
	}
	return c.next() == nil
}

// fetch brings a piece over one of the channels, into memory.
func (p *piece) fetch(ctx context.Context, from *agent.Client, r agent.FetchRequest) {
	r.Files = p.files
	p.err = from.Fetch(ctx, r, p)
}

// Data implements agent.Sink.
func (p *piece) Data(file int, b []byte) error {
	if p.room -= int64(len(b)); p.room < 0 {
		return fmt.Errorf("more bytes of %s came than were asked for", p.files[file].Source)
	}
	p.data = append(p.data, b...)
	p.events = append(p.events, event{file: file, bytes: len(b)})
	return nil
}

// Hole implements agent.Sink.
func (p *piece) Hole(file int, n int64) error {
	if p.room -= n; p.room < 0 {
		return fmt.Errorf("more bytes of %s came than were asked for", p.files[file].Source)
	}
	p.events = append(p.events, event{file: file, hole: n})
	return nil
}

// Done implements agent.Sink.
func (p *piece) Done(file int, f agent.Fetched) error {
	p.events = append(p.events, event{file: file, over: true, how: f})
	return nil
}

// parallel is one fetch over several channels.
type parallel struct {
	c       *channels
	ctx     context.Context
	request agent.FetchRequest
	to      agent.Sink
	todo    chan *piece
	workers sync.WaitGroup
	serving int // channels that have workers

	file  int   // of which the beginning was handed on, as long as it is one of several pieces
	whole int64 // bytes of it so far
	over  int   // the file after the last one whose end was handed on

	since time.Time // when the number of channels was looked at
	came  int64     // bytes since then
}

// run asks for the pieces, and hands them on as they come.
func (p *parallel) run(pieces *cutter) error {
	var pending []*piece
	p.since = time.Now()
	for {
		clients, more := p.c.all()
		for ; p.serving < len(clients); p.serving++ {
			p.serve(clients[p.serving])
		}
		for len(pending) < p.serving*aheadOfChannel {
			piece := pieces.next()
			if piece == nil {
				break
			}
			p.todo <- piece
			pending = append(pending, piece)
		}
		if len(pending) == 0 {
			return nil
		}
		next := pending[0]
		select {
		case <-next.done:
		case <-more:
			continue
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
		pending = pending[1:]
		if err := p.take(next); err != nil {
			return err
		}
	}
}

// serve lets a channel work.
func (p *parallel) serve(client *agent.Client) {
	for range aheadOfChannel {
		p.workers.Go(func() {
			for piece := range p.todo {
				if p.ctx.Err() == nil {
					piece.fetch(p.ctx, client, p.request)
				}
				close(piece.done)
				if client.Err() != nil {
					return // it would only spoil others
				}
			}
		})
	}
}

// take hands on a piece that has come. What a channel that broke didn't bring, the first one does.
func (p *parallel) take(next *piece) error {
	if errors.Is(next.err, agent.ErrClosed) && p.c.first.Err() == nil {
		again := *next
		again.data, again.events, again.room = nil, nil, 0
		for _, f := range again.files {
			again.room += max(f.Until, 0) - f.Offset
			if f.Until == 0 {
				again.room += f.Size
			}
		}
		again.fetch(p.ctx, p.c.first, p.request)
		*next = again
	}
	if next.err != nil {
		return next.err
	}
	if err := p.hand(next); err != nil {
		return err
	}
	p.adapt(len(next.data))
	next.data, next.events = nil, nil
	return nil
}

// hand calls the sink for a piece.
func (p *parallel) hand(next *piece) error {
	at := 0
	for _, e := range next.events {
		file := next.index + e.file
		data := next.data[at : at+e.bytes]
		at += e.bytes
		if file < p.over {
			continue // of one that has failed before
		}
		if file != p.file {
			p.file, p.whole = file, 0
		}
		var err error
		switch {
		case e.over && e.how.Status == agent.FetchOK && !next.ends:
			p.whole += e.how.Bytes
		case e.over:
			e.how.Bytes += p.whole
			p.over = file + 1
			err = p.to.Done(file, e.how)
		case e.hole > 0:
			err = p.to.Hole(file, e.hole)
		default:
			err = p.to.Data(file, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// adapt looks now and then whether the channels bring what their windows let through: then the
// network may bring more.
func (p *parallel) adapt(n int) {
	p.came += int64(n)
	trip := p.c.roundTrip(p.ctx)
	took := time.Since(p.since)
	if took < 4*trip {
		return
	}
	if possible := float64(
		p.serving,
	) * channelWindow * float64(
		took,
	) / float64(
		trip,
	); float64(
		p.came,
	) > possible/2 {
		p.c.grow()
	}
	p.since, p.came = time.Now(), 0
}
