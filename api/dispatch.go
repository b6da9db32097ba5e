package api

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"strings"
)

// methods are the handlers of one connection's receiver by name.
type methods map[string]handler

// handler is one method of the form
//
//	func (T) Name(args *A, reply *R) error
//	func (T) Name(ctx context.Context, args *A, reply *R) error
//
// where args may also be a value. The context ends with the connection.
type handler struct {
	fn      reflect.Value
	takeCtx bool
	args    reflect.Type
	reply   reflect.Type // what the pointer points to
}

var (
	typeOfError   = reflect.TypeFor[error]()
	typeOfContext = reflect.TypeFor[context.Context]()
)

// methodsOf finds the handlers among the receiver's exported methods; others are no calls.
func methodsOf(receiver any) methods {
	found := methods{}
	value := reflect.ValueOf(receiver)
	for i := range value.NumMethod() {
		if h, ok := handlerOf(value.Method(i)); ok {
			found[value.Type().Method(i).Name] = h
		}
	}
	return found
}

func handlerOf(fn reflect.Value) (handler, bool) {
	t := fn.Type()
	takeCtx := t.NumIn() == 3 && t.In(0) == typeOfContext
	if t.NumIn() != 2 && !takeCtx || t.NumOut() != 1 || t.Out(0) != typeOfError || t.IsVariadic() {
		return handler{}, false
	}
	args, reply := t.In(t.NumIn()-2), t.In(t.NumIn()-1)
	if reply.Kind() != reflect.Pointer {
		return handler{}, false
	}
	return handler{fn: fn, takeCtx: takeCtx, args: args, reply: reply.Elem()}, true
}

// find gives the handler of a method as it is named on the wire.
func (m methods) find(method string) (handler, error) {
	name, ok := strings.CutPrefix(method, Service+".")
	if h, known := m[name]; ok && known {
		return h, nil
	}
	return handler{}, Errorf(Incompatible, "the daemon doesn't know the call %q", method).
		WithHint("upgrade the daemon to the client's version and restart it: running jobs go on, and are found again")
}

// call decodes the arguments, runs the handler and gives its reply. A panic becomes an error, and its stack
// goes to the log.
func (h handler) call(ctx context.Context, method string, body []byte, logger *slog.Logger) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("a handler panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			reply = nil
			err = Errorf(Internal, "%s: the daemon met a bug: %v", method, p).
				WithHint("the daemon goes on; its log has the details")
		}
	}()
	pointer := h.args.Kind() == reflect.Pointer
	argsType := h.args
	if pointer {
		argsType = argsType.Elem()
	}
	args := reflect.New(argsType)
	if err := decode(body, args.Interface()); err != nil {
		return nil, Errorf(Invalid, "%s: %w", method, err)
	}
	if !pointer {
		args = args.Elem()
	}
	out := reflect.New(h.reply)
	in := []reflect.Value{args, out}
	if h.takeCtx {
		in = []reflect.Value{reflect.ValueOf(ctx), args, out}
	}
	if err, failed := h.fn.Call(in)[0].Interface().(error); failed {
		return nil, err
	}
	return out.Interface(), nil
}
