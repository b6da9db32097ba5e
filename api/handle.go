package api

import (
	"fmt"
	"log/slog"
	"net/rpc"
	"runtime/debug"
)

// Method is one call that a connection answers. Handle makes it.
type Method struct {
	Name     string // as the client calls it, without the service
	receiver func(*slog.Logger) any
}

// Handle makes handler the method of that name. The arguments' and the reply's types have to be exported, as
// net/rpc asks. The reply is empty when handler is called, and isn't sent when it returns an error.
func Handle[Args, Reply any](name string, handler func(args *Args, reply *Reply) error) Method {
	return Method{Name: name, receiver: func(logger *slog.Logger) any {
		return &guarded[Args, Reply]{handler: handler, method: Service + "." + name, logger: logger}
	}}
}

// guardedCall is what net/rpc calls a method: each is a
// receiver of its own, named Service.Name, that has only Call.
const guardedCall = ".Call"

// register makes a server's calls of the methods.
func register(server *rpc.Server, methods []Method, logger *slog.Logger) error {
	for _, m := range methods {
		if err := server.RegisterName(Service+"."+m.Name, m.receiver(logger)); err != nil {
			return fmt.Errorf("register the call %s: %w", m.Name, err)
		}
	}
	return nil
}

// guarded is a handler as net/rpc's server may call it. That server runs a method in a goroutine where a
// panic would end the process, and takes from an error its text alone, none if that is empty.
type guarded[Args, Reply any] struct {
	handler func(*Args, *Reply) error
	method  string // for the log and the caller
	logger  *slog.Logger
}

// Call calls the handler. A panic becomes an error, and its stack goes
// to the log; an error becomes one whose text is the whole of it.
func (g *guarded[Args, Reply]) Call(args *Args, reply *Reply) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.logger.Error("a handler panicked", "method", g.method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = Bugf("%s: %v", g.method, p)
		}
		if err != nil {
			err = packedError(packError(err))
		}
	}()
	return g.handler(args, reply)
}

// packedError is an error whose text is what packError made of another one.
type packedError string

// Error is the packed form.
func (e packedError) Error() string { return string(e) }
