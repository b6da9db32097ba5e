package agent

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
)

// Client speaks with the agent of one machine over one stream. Its methods may be called from any
// goroutine; many calls share the stream, and none waits for another's answer. When the stream
// ends, all calls fail with ErrClosed; what they had asked for may or may not have been done.
type Client struct {
	rw      io.ReadWriteCloser
	machine Facts

	writing chan struct{} // holds one token: who has it may write

	mu     sync.Mutex
	calls  map[uint32]*call // under way, by id
	lastID uint32
	err    error // why the connection ended
	stray  int   // bytes that may still come for calls that nobody waits for

	polls, others chan struct{} // one token for each call under way; see place

	ended   chan struct{} // closed when the reader has ended
	cancels sync.WaitGroup
	buffers sync.Pool // *[]byte of dataSize, for the parts of Fetch and Poll
}

// dataSize is the payload of a full frame of file contents: long enough that its head and the
// switch between goroutines cost nothing, short enough that other calls don't wait behind it.
const dataSize = 256 << 10

// call is one call's replies as they come in.
type call struct {
	limit  limit
	window int           // bytes that may wait in frames
	ready  chan struct{} // has room for one: set when frames or err change

	mu     sync.Mutex
	frames []frame
	bytes  int
	over   bool // the last frame is there
}

// Connect waits for an agent to answer on rw, skipping what a login shell prints before, and takes
// the stream over. When ctx ends before that, rw is closed. The errors are ErrNoAgent (with what
// came instead), ErrVersion, ErrProtocol, or what the agent found wrong with the machine.
func Connect(ctx context.Context, rw io.ReadWriteCloser) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { rw.Close() })
	c := &Client{
		rw:      rw,
		writing: make(chan struct{}, 1),
		calls:   map[uint32]*call{},
		ended:   make(chan struct{}),
		stray:   strayBytes,
		polls:   make(chan struct{}, pollPlaces),
		others:  make(chan struct{}, otherPlaces),
	}
	c.buffers.New = func() any { b := make([]byte, dataSize+256); return &b }
	r := bufio.NewReaderSize(rw, 64<<10)
	err := c.greet(r)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		rw.Close()
		return nil, err
	}
	go c.read(r)
	return c, nil
}

// greet reads the agent's hello and answers with the version to speak.
func (c *Client) greet(r *bufio.Reader) error {
	if err := skipJunk(r); err != nil {
		return err
	}
	f, err := readFrame(r, maxJunk, freshBuffer)
	if err != nil {
		return err
	}
	if f.kind == typeFail {
		return failure(f.payload)
	}
	var h hello
	if f.kind != typeHello {
		return errorf(KindProtocol, "the agent began with a frame of type %d", f.kind)
	}
	if err := decode(f.payload, h.fields); err != nil {
		return err
	}
	if h.MinVersion > maxVersion || h.MaxVersion < minVersion {
		return errorf(KindVersion,
			"the agent speaks the versions %d to %d of the protocol, we %d to %d",
			h.MinVersion, h.MaxVersion, minVersion, maxVersion)
	}
	c.machine = h.Facts
	_, err = c.rw.Write(makeFrame(typeHello, 0, []byte{byte(min(h.MaxVersion, maxVersion))}))
	return err
}

// Machine has what the agent said about its machine when the connection began.
func (c *Client) Machine() Facts { return c.machine }

// Close ends the connection and with it the agent, but no run. It waits for the goroutines.
func (c *Client) Close() error {
	c.end(&Error{Kind: KindClosed, Msg: "the connection was closed"})
	<-c.ended
	c.cancels.Wait()
	return nil
}

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Err is nil while the connection lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// end closes the stream for the given reason, once, and wakes all calls.
func (c *Client) end(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
	}
	calls := slices.Collect(maps.Values(c.calls))
	c.mu.Unlock()
	if !first {
		return
	}
	c.rw.Close() // not under the lock: it may wait for the agent, and the agent for us to read
	for _, k := range calls {
		k.wake()
	}
}

// read hands frames to their calls until the stream ends.
func (c *Client) read(r *bufio.Reader) {
	defer close(c.ended)
	for {
		f, err := readFrame(r, maxFrame, c.alloc)
		if err == nil {
			err = c.deliver(f)
		}
		if err == io.EOF {
			err = &Error{Kind: KindClosed, Msg: "the agent closed the connection"}
		}
		if err != nil {
			if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrProtocol) {
				err = &Error{Kind: KindClosed, Msg: "the connection broke", Err: err}
			}
			c.end(err)
			return
		}
	}
}

// alloc makes the memory of a payload. What waits for its call counts with its length, so that what
// is short doesn't get a buffer for what is long.
func (c *Client) alloc(kind byte, n int) []byte {
	if kind != typePart || n < dataSize/2 || n > dataSize+256 {
		return make([]byte, n)
	}
	return (*c.buffers.Get().(*[]byte))[:n]
}

// release gives a part's memory back.
func (c *Client) release(f frame) {
	if cap(f.payload) == dataSize+256 {
		b := f.payload[:cap(f.payload)]
		c.buffers.Put(&b)
	}
}

func (c *Client) deliver(f frame) error {
	if f.kind == typeFail && f.id == 0 {
		return failure(f.payload)
	}
	if f.kind != typePart && f.kind != typeDone && f.kind != typeFail {
		return errorf(KindProtocol, "the agent sent a frame of type %d", f.kind)
	}
	c.mu.Lock()
	k := c.calls[f.id]
	fits := true
	switch {
	case k == nil:
		c.stray -= frameHead + len(f.payload)
	default:
		// A call whose answer doesn't fit stays known: it has to hear of the connection's end.
		if fits = k.add(f); fits && f.kind != typePart {
			delete(c.calls, f.id)
		}
	}
	tooMuch := c.stray < 0
	c.mu.Unlock()
	switch {
	case tooMuch:
		return errorf(KindProtocol, "the agent goes on answering what it was not asked")
	case !fits:
		return errorf(KindProtocol, "the agent sent more than it may")
	case k == nil:
		c.release(f) // of a call that nobody waits for any more
	}
	return nil
}

// maxWaiting is how many frames of a call may wait for it: the window is in bytes, and parts of no
// bytes take memory, too. An agent of ours sends parts of many KiB.
const maxWaiting = 16 << 10

// add queues a frame, unless it is more than the call has room for.
func (k *call) add(f frame) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bytes += frameHead + len(f.payload)
	switch {
	case f.kind == typePart && (k.bytes > k.window || len(k.frames) >= maxWaiting),
		f.kind == typeDone && len(f.payload) > k.limit.reply,
		f.kind == typeFail && len(f.payload) > failSize:
		return false
	}
	k.frames = append(k.frames, f)
	k.over = k.over || f.kind != typePart
	k.wake()
	return true
}

func (k *call) wake() {
	select {
	case k.ready <- struct{}{}:
	default:
	}
}

// write sends one frame. A ctx that ends while another frame blocks the stream gives up; within a
// frame, only closing the connection helps.
func (c *Client) write(ctx context.Context, buf []byte) error {
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ended:
		return c.Err()
	}
	_, err := c.rw.Write(buf)
	<-c.writing
	if err != nil {
		c.end(&Error{Kind: KindClosed, Msg: "the connection broke", Err: err})
		return c.Err()
	}
	return nil
}

// call sends a request and returns the reply. onPart, if given, is called for each part before it;
// parts without onPart are against the protocol.
func (c *Client) call(
	ctx context.Context, method byte, request func(*coder), onPart func([]byte) error,
) ([]byte, error) {
	if method != methodPoll { // which takes its place before it says how long it waits
		leave, _, err := c.place(ctx, method)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	k := &call{ready: make(chan struct{}, 1), limit: limitOf(ctx, method)}
	if onPart != nil {
		k.window = window(method) + dataSize
	}
	body := encode(func(w *coder) {
		w.buf = append(newFrame(64), method)
		request(w)
	})
	if len(body) > maxFrame {
		return nil, errorf(KindLimit, "the request has %d bytes, more than %d", len(body), maxFrame)
	}
	id, err := c.register(k)
	if err != nil {
		return nil, err
	}
	if err := c.write(ctx, seal(body, typeCall, id)); err != nil {
		c.forget(id)
		return nil, err
	}
	reply, err := c.await(ctx, id, k, onPart)
	if err != nil {
		c.abandon(id, k)
	}
	return reply, err
}

func (c *Client) register(k *call) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	for {
		c.lastID++
		if c.lastID != 0 && c.calls[c.lastID] == nil {
			c.calls[c.lastID] = k
			return c.lastID, nil
		}
	}
}

func (c *Client) forget(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, open := c.calls[id]
	delete(c.calls, id)
	return open
}

// abandon tells the agent, if it may still be at work on the call. Its caller is in a hurry and the
// stream may be stuck, so the frame is sent on the side; Close waits for that.
func (c *Client) abandon(id uint32, k *call) {
	if !c.forget(id) {
		return
	}
	c.mu.Lock()
	// what it may have sent before it hears of this
	c.stray += k.window + max(k.limit.reply, failSize) + 2*frameHead
	c.mu.Unlock()
	c.cancels.Go(func() {
		// When it can't be written the connection is gone, and the call with it.
		_ = c.write(context.Background(), makeFrame(typeCancel, id))
	})
}

// await takes a call's frames as they come, until the last one.
func (c *Client) await(
	ctx context.Context, id uint32, k *call, onPart func([]byte) error,
) ([]byte, error) {
	credit := 0
	watch := newStallWatch(k.limit)
	defer watch.stop()
	for {
		k.mu.Lock()
		frames, over := k.frames, k.over
		k.frames, k.bytes = nil, 0
		k.mu.Unlock()
		for _, f := range frames {
			switch f.kind {
			case typeDone:
				return f.payload, nil
			case typeFail:
				return nil, failure(f.payload)
			}
			watch.pause()
			err := onPart(f.payload)
			watch.went(len(f.payload))
			credit += frameHead + len(f.payload)
			c.release(f)
			if err != nil {
				return nil, err
			}
			if credit >= k.window/8 && !over {
				grant := binary.BigEndian.AppendUint32(nil, uint32(credit))
				if err := c.write(ctx, makeFrame(typeCredit, id, grant)); err != nil {
					return nil, err
				}
				credit = 0
			}
		}
		if len(frames) > 0 {
			continue
		}
		select {
		case <-k.ready:
			if err := c.Err(); err != nil && !k.pending() {
				return nil, err
			}
		case <-watch.late():
			return nil, errorf(KindStalled, "nothing came from the machine for %v", k.limit.silence)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (k *call) pending() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.frames) > 0
}

// failure decodes the payload of typeFail.
func failure(p []byte) error {
	e := &Error{}
	if err := decode(p, e.fields); err != nil {
		return err
	}
	return e
}
