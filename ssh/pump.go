package ssh

import (
	"io"
	"sync"
)

// A pump reads ahead of whoever reads from it, in pieces: as long as one is
// taken apart, the next is filled. Unlike the source's, its Read ends when it
// is stopped, while the source may still block.
type pump struct {
	full  chan []byte   // closed at the source's end, when err is final
	free  chan []byte   // buffers to fill
	ended chan struct{} // closed when run has returned
	err   error

	stopOnce sync.Once
	stopped  chan struct{} // closed when stopErr is final
	stopErr  error

	piece, rest []byte // what Read has, and what is left of it
}

// Buffers begin small, as most connections say little, and grow with what comes
// at once: a switch between goroutines for every packet is what costs.
const (
	minPiece = 16 << 10
	maxPiece = 256 << 10
)

func newPump() *pump {
	p := &pump{full: make(chan []byte, 1), free: make(chan []byte, 2), ended: make(chan struct{}),
		stopped: make(chan struct{})}
	p.free <- nil
	p.free <- nil
	return p
}

// run reads src to its end, or until stop; a Read of src that is under way
// then is waited for.
func (p *pump) run(src io.Reader) {
	defer close(p.ended)
	size := minPiece
	for {
		var buf []byte
		select {
		case buf = <-p.free:
		case <-p.stopped:
			return
		}
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		n, err := src.Read(buf[:cap(buf)])
		if n == cap(buf) {
			size = min(2*size, maxPiece)
		}
		if n > 0 {
			select {
			case p.full <- buf[:n]:
			case <-p.stopped:
				return
			}
		} else {
			p.free <- buf
		}
		if err != nil {
			p.err = err
			close(p.full)
			return
		}
	}
}

// stop makes Read return err from now on, unless it was stopped already.
func (p *pump) stop(err error) {
	p.stopOnce.Do(func() {
		p.stopErr = err
		close(p.stopped)
	})
}

// Read is for one goroutine at a time.
func (p *pump) Read(to []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.piece != nil {
			p.free <- p.piece[:cap(p.piece)]
			p.piece = nil
		}
		select {
		case <-p.stopped:
			return 0, p.stopErr
		default:
		}
		select {
		case piece, ok := <-p.full:
			if !ok {
				return 0, p.err
			}
			p.piece, p.rest = piece, piece
		case <-p.stopped:
			return 0, p.stopErr
		}
	}
	n := copy(to, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
