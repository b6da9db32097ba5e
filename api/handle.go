package api

import (
	"bytes"
	"context"
	"fmt"
	"net/rpc"
	"runtime/debug"
	"strings"
)

// Method is one call that a connection answers. Handle, HandleBrief and HandleTurn make it.
type Method struct {
	Name     string // as the client calls it, without the service
	receiver func(*serverConn) any
}

// Handle makes handler the method of that name. The reply is empty when handler is called, and
// isn't sent when it returns an error. Calls that only read have their turn one after another, some
// at a time, so that answers which nobody takes can't fill the memory: such a handler must not wait
// for anything to happen.
func Handle[Args, Reply any](name string, handler func(args *Args, reply *Reply) error) Method {
	_, mutates := any(new(Args)).(Mutating)
	return method(name, func(args *Args, reply *Reply, turn Turn) error {
		if !mutates {
			if err := turn(); err != nil {
				return err
			}
		}
		return handler(args, reply)
	})
}

// HandleBrief is Handle for what answers in a few words, at once or after it has waited until
// something happened: it needs no turn.
func HandleBrief[Args, Reply any](
	name string, handler func(args *Args, reply *Reply) error,
) Method {
	return method(name,
		func(args *Args, reply *Reply, _ Turn) error { return handler(args, reply) })
}

// HandleTurn is Handle for what waits until something happens, and then has much to say: the
// handler takes its turn when it has waited.
func HandleTurn[Args, Reply any](name string, handler func(*Args, *Reply, Turn) error) Method {
	return method(name, handler)
}

// Turn waits until the call may make its answer. It may be called again.
type Turn func() error

func method[Args, Reply any](name string, handler func(*Args, *Reply, Turn) error) Method {
	return Method{Name: name, receiver: func(c *serverConn) any {
		return &guarded[Args, Reply]{handler: handler, method: Service + "." + name, conn: c}
	}}
}

// guardedCall is what net/rpc calls a method: each is a
// receiver of its own, named Service.Name, that has only Call.
const guardedCall = ".Call"

// register makes a server's calls of the methods.
func register(server *rpc.Server, methods []Method, c *serverConn) error {
	for _, m := range methods {
		if err := server.RegisterName(Service+"."+m.Name, m.receiver(c)); err != nil {
			return fmt.Errorf("register the call %s: %w", m.Name, err)
		}
	}
	return nil
}

// Incoming and Outgoing go through net/rpc's server in place of arguments and reply, and are of no
// use elsewhere: that server wants exported types. A handler's goroutine decodes the one and
// encodes the other, as it knows the call and what it may take.
type (
	Incoming struct {
		call *serverCall
		body []byte
	}
	Outgoing struct{ body []byte }
)

// guarded is a handler as net/rpc's server may call it. That server runs a method in a goroutine
// where a panic would end the process, and takes from an error its text alone, none if that is
// empty.
type guarded[Args, Reply any] struct {
	handler func(*Args, *Reply, Turn) error
	method  string // for the log and the caller
	conn    *serverConn
}

// Call decodes the arguments, calls the handler and encodes the reply. A panic becomes an error,
// and its stack goes to the log; an error becomes one whose text is the whole of it.
func (g *guarded[Args, Reply]) Call(in *Incoming, out *Outgoing) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.conn.logger.Error(
				"a handler panicked",
				"method",
				g.method,
				"panic",
				fmt.Sprint(p),
				"stack",
				string(debug.Stack()),
			)
			err = Bugf("%s: %v", g.method, p)
		}
		if err != nil {
			err = packedError(packError(shortError(err)))
		}
	}()
	defer in.call.turn.end()
	ctx, args, reply := in.call.ctx, new(Args), new(Reply)
	admit := func(n int) error {
		return in.call.lease.take(ctx, n-len(in.body)) // that much it has
	}
	if err := decode(in.body, args, admit); err != nil {
		if KindOf(err) == Internal {
			err = Errorf(Invalid, "%s: %w", g.method, err)
		}
		return err
	}
	in.body = nil
	if err := g.handler(args, reply, func() error { return in.call.takeTurn(g.conn) }); err != nil {
		return err
	}
	if g.conn.gone.Load() {
		return Errorf(Canceled, "%s: the client is gone", g.method)
	}
	w := &answerWriter{ctx: ctx, lease: &in.call.lease, max: min(g.conn.frames.max, maxReply)}
	if err := encode(w, reply); err != nil {
		if KindOf(err) == TooLarge {
			err = AsError(err).WithHint("ask for less at a time")
		}
		return err
	}
	out.body = w.Bytes()
	return nil
}

// maxErrorText is how much of an error's text is told, in bytes: it may name what it was asked for.
const maxErrorText = 16 << 10

// shortError cuts an error's text when it is too long to be read anyway.
func shortError(err error) error {
	e := AsError(err)
	if len(e.Message) > maxErrorText {
		e.Message = strings.ToValidUTF8(e.Message[:maxErrorText], "") + "…"
	}
	if len(e.Hint) > maxErrorText {
		e.Hint = strings.ToValidUTF8(e.Hint[:maxErrorText], "") + "…"
	}
	return e
}

// answerWriter holds an answer. It takes the memory for it first.
type answerWriter struct {
	bytes.Buffer
	ctx   context.Context
	lease *lease
	max   int // bytes
}

func (w *answerWriter) Write(p []byte) (int, error) {
	if n := w.Len() + len(p); n > w.max {
		return 0, Errorf(TooLarge, "a message of %d bytes is above the limit of %d", n, w.max)
	}
	if err := w.lease.take(w.ctx, len(p)); err != nil {
		return 0, err
	}
	return w.Buffer.Write(p)
}

// packedError is an error whose text is what packError made of another one.
type packedError string

// Error is the packed form.
func (e packedError) Error() string { return string(e) }
