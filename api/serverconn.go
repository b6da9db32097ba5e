package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/rpc"
	"sync"
	"sync/atomic"
	"time"
)

// serverConn is one connection. Its goroutine reads; each call has one of its own.
type serverConn struct {
	server  *server
	number  uint64 // of the connection, in the order of their coming
	peer    Peer
	refusal *Error // answers the first call, and that's all
	frames  *frames
	logger  *slog.Logger
	end     context.CancelFunc // ends the context of the handlers

	// answering has room for the one call whose answer is made or written: who doesn't take an
	// answer has no other one made.
	answering chan struct{}

	gone atomic.Bool // nobody is there any more to take an answer

	hadTurn, hadMemory atomic.Int64 // see room.served

	// Protected by the door's mu.
	calls int       // under way
	idle  time.Time // when the last one began or ended
}

// drop ends the connection because of what others need. It may be called with locks held.
func (c *serverConn) drop(why string) {
	c.logger.Debug("a connection is ended", "why", why)
	c.gone.Store(true)
	c.end()
	_ = c.frames.conn.Close() // so that reader and writers end
}

// serve reads calls until the peer goes away, breaks the rules, or ctx ends; then it ends the
// context of the handlers and waits for them.
func (c *serverConn) serve(ctx, conn context.Context) {
	stopped := make(chan struct{})
	unhook := context.AfterFunc(conn, func() {
		defer close(stopped)
		c.frames.stop(stopGrace)
	})
	rpcServer, err := c.hello(conn)
	if err == nil {
		codec := &serverCodec{
			serverConn: c,
			ctx:        conn,
			places:     make(chan struct{}, c.server.opt.MaxCalls),
			underWay:   map[uint64]*serverCall{},
		}
		rpcServer.ServeCodec(
			codec,
		) // ends the context when there is nothing more to read, and waits for the handlers
		err = codec.ended
	}
	if ctx.Err() == nil && !errors.Is(err, io.EOF) {
		c.logger.Debug("a connection ended", "error", err)
	}
	c.end()
	if !unhook() {
		<-stopped
	}
	_ = c.frames.conn.Close() // every answer has been written, or can't be
}

// hello answers the first call, which nothing else may be, and makes the server of those that
// follow.
func (c *serverConn) hello(ctx context.Context) (*rpc.Server, error) {
	c.frames.deadline(helloTime)
	n, err := c.frames.length()
	if err != nil {
		return nil, err
	}
	if n > maxHello {
		return nil, Errorf(TooLarge, "a first message of %d bytes can't be a hello", n)
	}
	message, err := c.frames.body(n, func() {})
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
	if err == nil && !c.server.door.enter(c) {
		c.logger.Warn("refused a connection: too many", "limit", c.server.opt.MaxConns)
		err = Errorf(Unavailable, "the daemon has %d connections already", c.server.opt.MaxConns).
			WithHint("end some clients that wait or follow, then try again")
	}
	rpcServer := rpc.NewServer()
	if err == nil {
		c.peer.Of = args.Client + " " + args.Version
		err = register(rpcServer, c.server.opt.Register(ctx, c.peer), c)
	}
	response := header{seq: req.seq}
	if err != nil {
		response.err = packError(err)
	}
	frame, sendErr := encodeFrame(response, &reply, c.frames.max)
	if err != nil {
		frame, sendErr = encodeFrame(response, nil, c.frames.max)
	}
	if sendErr == nil {
		sendErr = c.frames.write(func() {}, frame)
	}
	return rpcServer, errors.Join(err, sendErr)
}

// answer writes a response: the body unless there is an error in the header. A peer that takes no
// answer is gone: its connection is closed, which ends the reader too.
func (c *serverConn) answer(call *serverCall, response header, body []byte) {
	if response.err != "" {
		body = nil
	}
	head, err := encodeFrameHead(response, len(body), c.frames.max)
	if err != nil {
		response.err = packError(Errorf(TooLarge, "an error too long to send"))
		body = nil
		head, err = encodeFrameHead(response, 0, c.frames.max)
	}
	if err == nil {
		err = c.frames.write(call.lease.moved, head, body)
	}
	if err != nil {
		c.logger.Debug("an answer was not sent", "call", response.seq, "error", err)
		_ = c.frames.conn.Close() // so that the reader ends; the reason is logged
	}
}

// serverCodec is net/rpc's view of a connection after its Hello. The server reads requests in one
// goroutine, and writes each response in that of its handler.
type serverCodec struct {
	*serverConn
	ctx    context.Context // of the handlers
	places chan struct{}   // one for each call under way

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
	unknown bool // the server has no such method
	extra   bool // it has one of the places that all connections share
	turn    lease
	answers bool   // it is the one of its connection that has its turn, until its answer is written
	refused *Error // it is too long: its arguments were not read
	ctx     context.Context
	lease   lease // of the memory for its arguments and its answer
}

// ReadRequestHeader waits for a call, and until another may be under way, and reads it. Its error
// ends the connection, so that the handlers, for which the server then waits, end too.
func (c *serverCodec) ReadRequestHeader(r *rpc.Request) error {
	call, err := c.next()
	if err != nil {
		c.ended = err
		c.gone.Store(c.gone.Load() || errors.Is(err, io.EOF))
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

// takeTurn waits for the turn of a call, unless it has come.
func (call *serverCall) takeTurn(c *serverConn) error {
	if call.answers {
		return nil
	}
	select {
	case c.answering <- struct{}{}:
		call.answers = true
	case <-call.ctx.Done():
		return call.ctx.Err()
	}
	return call.turn.take(call.ctx, 1)
}

// next reads a call into c.body. It waits for the call first and then for a place: a peer that goes
// away while all places are taken is missed, and its handlers end.
func (c *serverCodec) next() (*serverCall, error) {
	if err := c.frames.await(); err != nil {
		return nil, err
	}
	select {
	case c.places <- struct{}{}:
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
	c.server.door.busy(c.serverConn, 1)
	call := &serverCall{
		ctx:   c.ctx,
		lease: lease{room: c.server.room, conn: c.serverConn},
		turn:  lease{room: c.server.turns, conn: c.serverConn},
	}
	if len(c.places) > ownCalls {
		select {
		case c.server.extras <- struct{}{}:
			call.extra = true
		case <-c.ctx.Done():
			c.release(call)
			return nil, c.ctx.Err()
		}
	}
	err := c.read(call)
	if err != nil {
		c.release(call)
		return nil, err
	}
	return call, nil
}

// read reads the call's header and arguments. Of a call that is too long for its method only the
// header is kept.
func (c *serverCodec) read(call *serverCall) error {
	n, beginning, err := c.frames.begin()
	if err != nil {
		return err
	}
	var ok bool
	if call.seq, call.method, ok = callOf(beginning); !ok {
		return Errorf(Invalid, "a message doesn't begin as a call does")
	}
	if limit := maxRequestOf(call.method); n > limit {
		call.refused = Errorf(
			TooLarge,
			"%s: a request of %d bytes is above the limit of %d",
			call.method,
			n,
			limit,
		).
			WithHint("send less at a time")
		return c.frames.skip(n)
	}
	if err := call.lease.take(c.ctx, n); err != nil {
		return err
	}
	message, err := c.frames.body(n, call.lease.moved)
	if err != nil {
		return err
	}
	_, c.body, err = cutHeader(message)
	return err
}

// release gives back what a call held.
func (c *serverCodec) release(call *serverCall) {
	call.lease.end()
	if call.answers {
		<-c.answering
	}
	if call.extra {
		<-c.server.extras
	}
	c.server.door.busy(c.serverConn, -1)
	<-c.places
}

// ReadRequestBody hands over the arguments of the call whose header was read. The server asks for
// nil when it knows no such method; it answers that, as it does an error of ours, and goes on.
func (c *serverCodec) ReadRequestBody(args any) error {
	body := c.body
	c.body = nil
	switch {
	case args == nil:
		c.call.unknown = true
	case c.call.refused != nil:
		return packedError(packError(c.call.refused))
	default:
		*args.(*Incoming) = Incoming{call: c.call, body: body}
	}
	return nil
}

// WriteResponse answers a call, which then is no longer under way. r.Error is a packedError's text,
// unless the server didn't know the method.
func (c *serverCodec) WriteResponse(r *rpc.Response, reply any) error {
	c.mu.Lock()
	call := c.underWay[r.Seq]
	delete(c.underWay, r.Seq)
	c.mu.Unlock()
	defer c.release(call)
	response := header{seq: call.seq, err: r.Error}
	if call.unknown {
		response.err = packError(
			Errorf(Incompatible, "the daemon doesn't know the call %q", call.method).
				WithHint("upgrade the daemon to the client's version and restart it: running " +
					"jobs go on, and are found again"),
		)
	}
	var body []byte
	if out, ok := reply.(*Outgoing); ok {
		body = out.body
	}
	c.answer(call, response, body)
	return nil
}

// Close closes the connection.
func (c *serverCodec) Close() error { return c.frames.conn.Close() }
