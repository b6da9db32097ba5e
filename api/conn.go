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
	DefaultMaxMessage = 64 << 20

	// smallMessage needs no part of the server's budget for big messages.
	smallMessage = 64 << 10

	// A message that has begun must be through after slackTime and
	// its length at slowestRate, or the connection ends.
	slackTime   = 30 * time.Second
	slowestRate = 64 << 10 // bytes/s

	frameHeader = 4 // bytes of the length
)

// frames reads and writes length-prefixed messages on a connection. One goroutine may read while others write.
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

// read waits for a message and returns its bytes. Before it takes the memory for it, it asks
// admit, which may wait. Memory grows with what arrives, not with what was announced. io.EOF
// means that the other side ended between messages.
func (f *frames) read(admit func(n int) error) ([]byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if uint64(size) > uint64(f.max) {
		return nil, Errorf(TooLarge, "a message of %d bytes is above the limit of %d", size, f.max)
	}
	n := int(size)
	if err := admit(n); err != nil {
		return nil, err
	}
	f.deadline(allowance(n))
	defer f.deadline(0)
	var body bytes.Buffer
	if _, err := io.CopyN(&body, f.r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read a message of %d bytes, after %d: %w", n, body.Len(), err)
	}
	return body.Bytes(), nil
}

// write sends a frame as encodeFrame made it.
func (f *frames) write(frame []byte) error {
	f.wmu.Lock()
	defer f.wmu.Unlock()
	if f.timed {
		f.dmu.Lock()
		until := time.Now().Add(allowance(len(frame)))
		if !f.stopped.IsZero() && f.stopped.Before(until) {
			until = f.stopped
		}
		err := f.conn.SetWriteDeadline(until)
		f.dmu.Unlock()
		if err != nil {
			return err
		}
	}
	_, err := f.conn.Write(frame)
	return err
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

// header begins every message. It is written by hand rather than in gob, whose description of such a struct is
// longer than the struct and takes longer to compile than to use.
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
	frame := buf.Bytes()
	n := len(frame) - frameHeader
	if n > max {
		return nil, Errorf(TooLarge, "a message of %d bytes is above the limit of %d", n, max)
	}
	binary.BigEndian.PutUint32(frame, uint32(n))
	return frame, nil
}

// encode writes one value. gob panics on what it never takes, such as a nil pointer; here that is an error.
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

// decode reads one value, and says about how many bytes of memory that took. A body that was left out leaves it as it is. What
// would take too much, or isn't a message's, is refused before it is decoded; admit, unless it is nil, hears of the bytes before
// they are taken.
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
