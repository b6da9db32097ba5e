package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"sync/atomic"
)

// link is one connection of a client: net/rpc's client over our frames. Its reading goroutine ends
// when the connection does.
type link struct {
	rpc    *rpc.Client
	codec  *clientCodec
	server HelloReply
}

func newLink(conn net.Conn, max int) *link {
	codec := &clientCodec{frames: newFrames(conn, max, false)}
	codec.maxRequest.Store(int64(max))
	return &link{rpc: rpc.NewClientWithCodec(codec), codec: codec}
}

func (l *link) close() { _ = l.rpc.Close() } // what it says is known: the connection is over

// call makes one call. The error is a *lostError when the connection ended before the answer came.
// When ctx ends first, the call goes on without anyone to take its answer.
func (l *link) call(ctx context.Context, method string, args, reply any) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
	out := &outgoing{ctx: ctx, args: args}
	in := &incoming{}
	call := l.rpc.Go(method, out, in, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
	var failed rpc.ServerError
	var own *Error
	switch {
	case call.Error == nil:
		if err := decode(in.body, reply, nil); err != nil {
			return Errorf(Incompatible, "%s: the daemon's answer: %w", method, err).
				WithHint("use a client of the daemon's version")
		}
		return nil
	case errors.As(call.Error, &failed):
		return unpackError(string(failed))
	case errors.As(call.Error, &own):
		return own // of this side: nothing was sent
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", method, ctx.Err())
	default:
		return &lostError{cause: call.Error, sent: out.sent}
	}
}

// lostError says that the connection ended before a call was answered.
type lostError struct {
	cause error
	sent  bool // the daemon may have got the whole request
}

func (e *lostError) Error() string {
	return fmt.Sprintf("the connection to the daemon is lost: %v", e.cause)
}

func (e *lostError) Unwrap() error { return e.cause }

// final is the error for the caller when there is no way to try again.
func (e *lostError) final(method string, mutates bool) error {
	if e.sent && mutates {
		return Errorf(OutcomeUnknown, "%s: the daemon went away before it answered, so this may "+
			"or may not have been done: %w", method, e.cause).
			WithHint("when the daemon is back, look whether it was done before you do it again")
	}
	var own *Error
	if errors.As(e.cause, &own) {
		return own
	}
	return Errorf(Unavailable, "%s: %w", method, e).
		WithHint("start the daemon with: jobserver serve")
}

// outgoing goes through net/rpc's client in place of the arguments, and tells whether they have
// left.
type outgoing struct {
	ctx  context.Context
	args any
	sent bool // the whole of them
}

// incoming goes through it in place of the reply. The caller decodes: by then it may have stopped
// waiting, and its reply isn't ours to write to.
type incoming struct{ body []byte }

// clientCodec is net/rpc's view of a connection.
type clientCodec struct {
	frames     *frames
	maxRequest atomic.Int64 // bytes: the smaller one of our limit and the daemon's
	// of the response whose header was read; used by the reading goroutine alone
	body []byte
}

// limitRequests obeys the limit that the daemon named.
func (c *clientCodec) limitRequests(max int) {
	if max > 0 && max < c.frames.max {
		c.maxRequest.Store(int64(max))
	}
}

// WriteRequest sends a call. An *Error means that nothing was sent, and the connection still holds.
func (c *clientCodec) WriteRequest(r *rpc.Request, body any) error {
	out := body.(*outgoing)
	frame, err := encodeFrame(header{seq: r.Seq, method: r.ServiceMethod}, out.args,
		int(c.maxRequest.Load()))
	switch {
	case KindOf(err) == TooLarge:
		return AsError(err).WithHint("send less at a time")
	case err != nil:
		return Errorf(Internal, "%s: %w", r.ServiceMethod, err)
	}
	// A daemon that doesn't read blocks the write, and only closing the connection ends that.
	unhook := context.AfterFunc(out.ctx, func() { _ = c.frames.conn.Close() })
	defer unhook()
	if err := c.frames.write(func() {}, frame); err != nil {
		// part of a frame may be out: nothing can follow it, and nobody carries it out
		_ = c.frames.conn.Close()
		return err
	}
	out.sent = true
	return nil
}

func (c *clientCodec) ReadResponseHeader(r *rpc.Response) error {
	message, err := c.frames.read()
	if err != nil {
		return err
	}
	h, body, err := cutHeader(message)
	if err != nil {
		return err
	}
	r.Seq, r.Error = h.seq, h.err
	c.body = body
	return nil
}

// ReadResponseBody hands the body over undecoded; nil means that nobody wants it.
func (c *clientCodec) ReadResponseBody(body any) error {
	if in, ok := body.(*incoming); ok {
		in.body = c.body
	}
	c.body = nil
	return nil
}

func (c *clientCodec) Close() error { return c.frames.conn.Close() }
