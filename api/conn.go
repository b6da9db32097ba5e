package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"sync"
	"time"
)

const (
	// DefaultMaxMessage is the most bytes that a message may have unless an option says otherwise.
	// A request may have less, see maxRequestOf.
	DefaultMaxMessage = 32 << 20

	// A message that has begun must be through after slackTime and its length at slowestRate, or
	// the connection ends; so it does when nothing of an answer is taken for stallTime.
	slackTime   = 30 * time.Second
	slowestRate = 64 << 10 // bytes/s
	stallTime   = 10 * time.Second

	writePiece  = 64 << 10 // bytes of an answer of which something must be taken within stallTime
	frameHeader = 4        // bytes of the length
)

// frames reads and writes length-prefixed messages on a connection. One goroutine may read while
// others write.
type frames struct {
	conn  net.Conn
	r     *bufio.Reader
	max   int  // bytes a message may have, in both directions
	timed bool // hold the other side to slowestRate: the server's way

	wmu sync.Mutex // held while a frame is written

	dmu     sync.Mutex // protects stopped, and the order of deadlines
	stopped time.Time  // set once: reading is over, writing until then
}

func newFrames(conn net.Conn, max int, timed bool) *frames {
	return &frames{conn: conn, r: bufio.NewReader(conn), max: max, timed: timed}
}

// allowance is the time that a message of n bytes may take.
func allowance(n int) time.Duration {
	return slackTime + time.Duration(n)*time.Second/slowestRate
}

// await waits until a message begins, or the other side ends: then with io.EOF.
func (f *frames) await() error {
	_, err := f.r.Peek(1)
	return err
}

// length waits for a message and reads how long it is. io.EOF means that the other side ended
// between messages.
func (f *frames) length() (int, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if uint64(size) > uint64(f.max) {
		return 0, Errorf(TooLarge, "a message of %d bytes is above the limit of %d", size, f.max)
	}
	return int(size), nil
}

// begin reads the length of the next message, and shows its beginning, as much as a header may
// have. The message has to be through soon from here on: body or skip follows.
func (f *frames) begin() (n int, beginning []byte, err error) {
	if n, err = f.length(); err != nil {
		return 0, nil, err
	}
	f.deadline(allowance(n))
	if beginning, err = f.r.Peek(min(n, maxHeader)); err != nil {
		return 0, nil, fmt.Errorf(
			"read the beginning of a message of %d bytes: %w",
			n,
			cutShort(err),
		)
	}
	return n, beginning, nil
}

// body reads the n bytes of a message, and says when some have come. Memory grows with what
// arrives, not with what was announced.
func (f *frames) body(n int, moved func()) ([]byte, error) {
	defer f.deadline(0)
	body := make([]byte, 0, min(n, firstPiece))
	for len(body) < n {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(n, 4*cap(body))), body...)
		}
		got, err := f.r.Read(body[len(body):cap(body)])
		body = body[:len(body)+got]
		if err != nil {
			return nil, fmt.Errorf("read a message of %d bytes, after %d: %w", n, len(body),
				cutShort(err))
		}
		moved()
	}
	return body, nil
}

// firstPiece is taken for a message before anything of it has come, in bytes.
const firstPiece = 64 << 10

// skip reads the n bytes of a message that nobody wants.
func (f *frames) skip(n int) error {
	defer f.deadline(0)
	if _, err := io.CopyN(io.Discard, f.r, int64(n)); err != nil {
		return fmt.Errorf("skip a message of %d bytes: %w", n, cutShort(err))
	}
	return nil
}

// read waits for a message and gives its bytes.
func (f *frames) read() ([]byte, error) {
	n, err := f.length()
	if err != nil {
		return nil, err
	}
	f.deadline(allowance(n))
	return f.body(n, func() {})
}

// cutShort says that a message has ended too soon.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// write sends a frame, which may be in several parts, and says when some of it was taken.
func (f *frames) write(moved func(), parts ...[]byte) error {
	f.wmu.Lock()
	defer f.wmu.Unlock()
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	end := time.Now().Add(allowance(n))
	for _, part := range parts {
		for len(part) > 0 {
			piece := part[:min(len(part), writePiece)]
			part = part[len(piece):]
			if err := f.writing(end); err != nil {
				return err
			}
			if _, err := f.conn.Write(piece); err != nil {
				return err
			}
			moved()
		}
	}
	return nil
}

// writing gives the next piece of a frame, which must be through by end, its time.
func (f *frames) writing(end time.Time) error {
	if !f.timed {
		return nil
	}
	f.dmu.Lock()
	defer f.dmu.Unlock()
	until := time.Now().Add(stallTime)
	if end.Before(until) {
		until = end
	}
	if !f.stopped.IsZero() && f.stopped.Before(until) {
		until = f.stopped
	}
	return f.conn.SetWriteDeadline(until)
}

// deadline gives the reader that long, for ever when it is 0, unless reading is over altogether.
func (f *frames) deadline(d time.Duration) {
	if !f.timed {
		return
	}
	f.dmu.Lock()
	defer f.dmu.Unlock()
	if !f.stopped.IsZero() {
		return
	}
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	// An error here means that the connection is closed, which the next read says.
	_ = f.conn.SetReadDeadline(until)
}

// stop ends reading now and writing after grace.
func (f *frames) stop(grace time.Duration) {
	f.dmu.Lock()
	defer f.dmu.Unlock()
	if f.stopped.IsZero() {
		now := time.Now()
		f.stopped = now.Add(grace)
		_ = f.conn.SetReadDeadline(now)
		_ = f.conn.SetWriteDeadline(f.stopped)
	}
}

// header begins every message. It is written by hand rather than in gob, whose description of such
// a struct is longer than the struct and takes longer to compile than to use.
type header struct {
	seq    uint64 // of the call
	method string // of a request
	err    string // of a response, as packError wrote it; then there is no body
}

func (h header) append(b []byte) []byte {
	b = binary.AppendUvarint(b, h.seq)
	b = binary.AppendUvarint(b, uint64(len(h.method)))
	b = append(b, h.method...)
	b = binary.AppendUvarint(b, uint64(len(h.err)))
	return append(b, h.err...)
}

// cutHeader splits a message into its header and its body.
func cutHeader(message []byte) (h header, body []byte, err error) {
	r := bytes.NewBuffer(message)
	if h.seq, err = binary.ReadUvarint(r); err != nil {
		return header{}, nil, fmt.Errorf("read a message's number: %w", err)
	}
	for _, field := range []*string{&h.method, &h.err} {
		n, err := binary.ReadUvarint(r)
		if err == nil && n > uint64(r.Len()) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return header{}, nil, fmt.Errorf("read the header of message %d: %w", h.seq, err)
		}
		*field = string(r.Next(int(n)))
	}
	return h, r.Bytes(), nil
}

// encodeFrame makes a frame of a header and, unless it is nil,
// a body. Above max bytes the error's kind is TooLarge.
func encodeFrame(h header, body any, max int) ([]byte, error) {
	buf := bytes.NewBuffer(h.append(make([]byte, frameHeader, 512)))
	if body != nil {
		if err := encode(buf, body); err != nil {
			return nil, err
		}
	}
	return sealFrame(buf.Bytes(), 0, max)
}

// encodeFrameHead makes the beginning of a frame, behind which a body of so many bytes follows.
func encodeFrameHead(h header, body, max int) ([]byte, error) {
	return sealFrame(h.append(make([]byte, frameHeader, 512)), body, max)
}

// sealFrame writes the length of a frame, behind which so many bytes follow, into its beginning.
func sealFrame(frame []byte, more, max int) ([]byte, error) {
	n := len(frame) - frameHeader + more
	if n > max {
		return nil, Errorf(TooLarge, "a message of %d bytes is above the limit of %d", n, max)
	}
	binary.BigEndian.PutUint32(frame, uint32(n))
	return frame, nil
}

// encode writes one value. gob panics on what it never takes, such as a nil pointer; here that is
// an error.
func encode(w io.Writer, value any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("encode %T: %v", value, p)
		}
	}()
	if err := gob.NewEncoder(w).Encode(value); err != nil {
		return fmt.Errorf("encode %T: %w", value, err)
	}
	return nil
}

// decode reads one value, and says about how many bytes of memory that took. A body that was left
// out leaves it as it is. What would take too much, or isn't a message's, is refused before it is
// decoded; admit, unless it is nil, hears of the bytes before they are taken.
func decode(body []byte, value any, admit func(n int) error) (err error) {
	if len(body) == 0 {
		return nil
	}
	cost, err := scanGob(body, reflect.TypeOf(value))
	if err == nil && admit != nil {
		err = admit(cost)
	}
	if err != nil {
		return fmt.Errorf("decode %T: %w", value, err)
	}
	// gob isn't hardened against hostile bytes, so its panics are errors here.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decode %T: %v", value, p)
		}
	}()
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(value); err != nil {
		return fmt.Errorf("decode %T: %w", value, err)
	}
	return nil
}
