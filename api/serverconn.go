package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/rpc"
	"sync"
)

// serverConn is one connection. Its goroutine reads; each call has one of its own.
type serverConn struct {
	server  *server
	peer    Peer
	refusal *Error // answers the first call, and that's all
	frames  *frames
	logger  *slog.Logger
}

// serve reads calls until the peer goes away, breaks the rules, or ctx ends; then it ends the context
// of the handlers and waits for them.
func (c *serverConn) serve(ctx context.Context) {
	conn, end := context.WithCancel(ctx)
	stopped := make(chan struct{})
	unhook := context.AfterFunc(conn, func() {
		defer close(stopped)
		c.frames.stop(stopGrace)
	})
	rpcServer, err := c.hello(conn)
	if err == nil {
		codec := &serverCodec{
			serverConn: c, ctx: conn, end: end,
			places: make(chan struct{}, c.server.opt.MaxCalls), underWay: map[uint64]*serverCall{},
		}
		rpcServer.ServeCodec(codec) // ends the context when there is nothing more to read, and waits for the handlers
		err = codec.ended
	}
	if ctx.Err() == nil && !errors.Is(err, io.EOF) {
		c.logger.Debug("a connection ended", "error", err)
	}
	end()
	if !unhook() {
		<-stopped
	}
	_ = c.frames.conn.Close() // every answer has been written, or can't be
}

// hello answers the first call, which nothing else may be, and makes the server of those that follow.
func (c *serverConn) hello(ctx context.Context) (*rpc.Server, error) {
	c.frames.deadline(helloTime)
	message, err := c.frames.read(func(n int) error {
		if n > smallMessage {
			return Errorf(TooLarge, "a first message of %d bytes can't be a hello", n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	req, body, err := cutHeader(message)
	if err != nil {
		return nil, err
	}
	var args HelloArgs
	reply := c.server.opt.Hello
	reply.MaxMessage = c.server.opt.MaxMessage
	switch {
	case c.refusal != nil:
		err = c.refusal
	case req.method != helloMethod:
		err = Errorf(Incompatible, "the first call must be %s, and was %q", helloMethod, req.method)
	default:
		if err = decode(body, &args, nil); err == nil {
			reply.Protocol, err = chooseProtocol(args, reply.Version)
		}
	}
	rpcServer := rpc.NewServer()
	if err == nil {
		c.peer.Of = args.Client + " " + args.Version
		err = register(rpcServer, c.server.opt.Register(ctx, c.peer), c.logger)
	}
	response := header{seq: req.seq}
	if err != nil {
		response.err = packError(err)
	}
	c.answer(response, &reply)
	return rpcServer, err
}

// answer writes a response: the reply unless there is an error in the header. A reply that
// can't be sent is replaced by the error that says why. A peer that takes no answer is gone:
// its connection is closed, which ends the reader too.
func (c *serverConn) answer(response header, reply any) {
	if response.err != "" {
		reply = nil
	}
	frame, err := encodeFrame(response, reply, c.frames.max)
	if err != nil && reply != nil {
		if KindOf(err) == TooLarge {
			err = AsError(err).WithHint("ask for less at a time")
		}
		response.err = packError(err)
		frame, err = encodeFrame(response, nil, c.frames.max)
	}
	if err != nil {
		response.err = packError(Errorf(TooLarge, "an error too long to send"))
		frame, err = encodeFrame(response, nil, c.frames.max)
	}
	if err == nil {
		err = c.frames.write(frame)
	}
	if err != nil {
		c.logger.Debug("an answer was not sent", "call", response.seq, "error", err)
		_ = c.frames.conn.Close() // so that the reader ends; the reason is logged
	}
}

// serverCodec is net/rpc's view of a connection after its Hello. The server reads requests in one goroutine,
// and writes each response in that of its handler.
type serverCodec struct {
	*serverConn
	ctx    context.Context    // of the handlers
	end    context.CancelFunc // ends ctx
	places chan struct{}      // one for each call under way

	// Of the reading goroutine alone.
	last  uint64      // number given to a call
	call  *serverCall // whose header was read
	body  []byte      // its arguments
	ended error       // why nothing more can be read

	mu       sync.Mutex             // protects underWay
	underWay map[uint64]*serverCall // by our numbers: the client's need not be unique
}

// serverCall is a call from the arrival of its header until its answer is written.
type serverCall struct {
	seq     uint64 // the client's number
	method  string
	unknown bool  // the server has no such method
	budget  int64 // bytes of the budget for big messages that it holds
}

// ReadRequestHeader waits for a call, and until another may be under way, and reads it. Its error ends the connection, so
// that the handlers, for which the server then waits, end too.
func (c *serverCodec) ReadRequestHeader(r *rpc.Request) error {
	call, err := c.next()
	if err != nil {
		c.ended = err
		c.end()
		return err
	}
	c.last++
	c.call = call
	c.mu.Lock()
	c.underWay[c.last] = call
	c.mu.Unlock()
	r.Seq, r.ServiceMethod = c.last, call.method+guardedCall
	return nil
}

// next reads a call into c.body. It waits for the call first and then for a place: a peer that goes away while all
// places are taken is missed, and its handlers end.
func (c *serverCodec) next() (*serverCall, error) {
	if err := c.frames.await(); err != nil {
		return nil, err
	}
	select {
	case c.places <- struct{}{}:
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
	call := &serverCall{}
	message, err := c.frames.read(func(n int) error {
		if n <= smallMessage {
			return nil
		}
		if err := c.server.budget.Acquire(c.ctx, int64(n)); err != nil {
			return err
		}
		call.budget = int64(n)
		return nil
	})
	if err == nil {
		var h header
		h, c.body, err = cutHeader(message)
		call.seq, call.method = h.seq, h.method
	}
	if err != nil {
		c.release(call)
		return nil, err
	}
	return call, nil
}

// release gives back what a call held.
func (c *serverCodec) release(call *serverCall) {
	if call.budget > 0 {
		c.server.budget.Release(call.budget)
	}
	<-c.places
}

// ReadRequestBody decodes the arguments of the call whose header was read. The server asks for nil when it
// knows no such method; it answers that, as it does an error of ours, and goes on.
func (c *serverCodec) ReadRequestBody(args any) error {
	body := c.body
	c.body = nil
	if args == nil {
		c.call.unknown = true
		return nil
	}
	if err := decode(body, args, nil); err != nil {
		return packedError(packError(Errorf(Invalid, "%s: %w", c.call.method, err)))
	}
	return nil
}

// WriteResponse answers a call, which then is no longer under way. r.Error is a packedError's text, unless the
// server didn't know the method.
func (c *serverCodec) WriteResponse(r *rpc.Response, reply any) error {
	c.mu.Lock()
	call := c.underWay[r.Seq]
	delete(c.underWay, r.Seq)
	c.mu.Unlock()
	defer c.release(call)
	response := header{seq: call.seq, err: r.Error}
	if call.unknown {
		response.err = packError(Errorf(Incompatible, "the daemon doesn't know the call %q", call.method).
			WithHint("upgrade the daemon to the client's version and restart it: running jobs go on, and are found again"))
	}
	c.answer(response, reply)
	return nil
}

// Close closes the connection.
func (c *serverCodec) Close() error { return c.frames.conn.Close() }
