package fleet

import (
	"context"
	"fmt"

	"jobserver/agent"
)

// fetching is a Fetch whose files come in chunks.
type fetching struct {
	request agent.FetchRequest
	to      agent.Sink
	parts   cutter

	file  int   // of which the beginning was handed on, as long as it is one of several pieces
	whole int64 // bytes of it so far
	over  int   // the file after the last one whose end was handed on
}

// next gives the pieces, in their order.
func (f *fetching) next() *chunk {
	p := f.parts.next()
	if p == nil {
		return nil
	}
	return &chunk{
		get: func(ctx context.Context, from *agent.Client, memory []byte) error {
			return p.fetch(ctx, from, f.request, memory)
		},
		hand: func() (int, error) {
			n := len(p.data)
			err := f.hand(p)
			p.data, p.events = nil, nil
			return n, err
		},
	}
}

// piece is what is asked for at once: some small files, or a part of a large one.
type piece struct {
	files []agent.FetchFile
	index int   // of its first file, in the request
	ends  bool  // it has the ends of its files
	size  int64 // bytes that it has

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
	p := &piece{index: c.index, ends: true}
	n := c.index
	for c.taken == 0 && n < len(c.files) && n-c.index < pieceFiles {
		size := c.files[n].Size - c.files[n].Offset
		if size > pieceSize-p.size {
			break
		}
		p.size += size
		n++
	}
	if n > c.index {
		p.files = c.files[c.index:n]
		c.index = n
		return p
	}
	part := c.files[c.index]
	part.Offset += c.taken
	p.size = min(pieceSize, part.Size-part.Offset)
	part.Until = part.Offset + p.size
	p.files, p.ends = []agent.FetchFile{part}, part.Until == part.Size
	c.taken += p.size
	if p.ends {
		c.index, c.taken = c.index+1, 0
	}
	return p
}

// isLittle tells whether one channel has them all to do in any case.
func isLittle(files []agent.FetchFile) bool {
	c := cutter{files: files}
	for range channelWindow / pieceSize {
		if c.next() == nil {
			return true
		}
	}
	return c.next() == nil
}

// fetch brings a piece over one of the channels, into memory.
func (p *piece) fetch(
	ctx context.Context, from *agent.Client, r agent.FetchRequest, memory []byte,
) error {
	p.room, p.data, p.events = p.size, memory, nil
	r.Files = p.files
	return from.Fetch(ctx, r, p)
}

// Data implements agent.Sink.
func (p *piece) Data(file int, b []byte) error {
	if p.room -= int64(len(b)); p.room < 0 {
		return fmt.Errorf("more bytes of %s came than were asked for", p.files[file].Source)
	}
	p.data = append(p.data, b...)
	if last := len(p.events) - 1; last >= 0 && p.events[last].file == file &&
		p.events[last].bytes > 0 {
		p.events[last].bytes += len(b)
		return nil
	}
	return p.add(event{file: file, bytes: len(b)})
}

// Hole implements agent.Sink.
func (p *piece) Hole(file int, n int64) error {
	if p.room -= n; p.room < 0 {
		return fmt.Errorf("more bytes of %s came than were asked for", p.files[file].Source)
	}
	return p.add(event{file: file, hole: n})
}

// Done implements agent.Sink.
func (p *piece) Done(file int, f agent.Fetched) error {
	return p.add(event{file: file, over: true, how: f})
}

// leastHole is about how long holes, and what lies between them, are at least, in bytes: file
// systems have larger blocks.
const leastHole = 512

// add notes what is to be handed on. A machine that makes holes without an end fills no memory.
func (p *piece) add(e event) error {
	if len(p.events) > 2*len(p.files)+pieceSize/leastHole {
		return fmt.Errorf("%s comes in too many pieces", p.files[e.file].Source)
	}
	p.events = append(p.events, e)
	return nil
}

// hand calls the sink for a piece.
func (f *fetching) hand(next *piece) error {
	at := 0
	for _, e := range next.events {
		file := next.index + e.file
		data := next.data[at : at+e.bytes]
		at += e.bytes
		if file < f.over {
			continue // of one that has failed before
		}
		if file != f.file {
			f.file, f.whole = file, 0
		}
		var err error
		switch {
		case e.over && e.how.Status == agent.FetchOK && !next.ends:
			f.whole += e.how.Bytes
		case e.over:
			e.how.Bytes += f.whole
			f.over = file + 1
			err = f.to.Done(file, e.how)
		case e.hole > 0:
			err = f.to.Hole(file, e.hole)
		default:
			err = f.to.Data(file, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
