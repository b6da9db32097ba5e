package agent

import (
	"errors"
	"fmt"
	"strconv"
)

// Kind is the class of an error; it survives the way from the agent to the host.
type Kind uint8

const (
	KindOther      Kind = iota
	KindOtherBoot       // the machine has booted since
	KindAmbiguous       // nobody can tell whether the command ran
	KindNotStarted      // the command did not run
	KindNoRun           // no such run on this machine
	KindRunning         // the run has not ended
	KindBadRequest      // the agent does not understand the request
	KindLimit           // more than a limit of the request allows
	KindBusy            // too many requests at once
	KindProtocol        // the other side does not speak the protocol
	KindVersion         // it speaks no version of it that we know
	KindClosed          // the connection has ended
	KindNoAgent         // no agent answered; Msg has what came instead
	KindBeyondEnd       // an offset lies beyond the end of what it is in
	KindStalled         // the answer doesn't come, though the connection lives
	KindOlder           // what is to do it is of a version that can't
	KindNoRoot          // the directory of all runs is not the one that was used before
)

func (k Kind) String() string {
	names := [...]string{"agent", "other boot", "ambiguous start", "not started", "no such run",
		"still running",
		"bad request", "over the limit", "busy", "protocol error", "version mismatch",
		"connection closed", "no agent", "beyond the end", "stalled", "older version",
		"no such directory"}
	if int(k) < len(names) {
		return names[k]
	}
	return "error kind " + strconv.Itoa(int(k))
}

// Error is every error that this package makes. errors.Is compares kinds, so that
// errors.Is(err, ErrNoRun) holds for any error of that kind.
type Error struct {
	Kind Kind
	Msg  string // what was being done and what went wrong; empty: the kind says all
	Err  error  // what caused it on this side; not carried over the wire
}

func (e *Error) Error() string {
	s := e.Msg
	if s == "" {
		s = e.Kind.String()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Final tells whether the error goes on until somebody changes something: of another version, both
// sides stay what they are.
func (e *Error) Final() bool { return e.Kind == KindVersion }

// Is compares kinds.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Msg == "" && t.Err == nil
}

// The kinds as values for errors.Is.
var (
	ErrOtherBoot  = &Error{Kind: KindOtherBoot}
	ErrAmbiguous  = &Error{Kind: KindAmbiguous}
	ErrNotStarted = &Error{Kind: KindNotStarted}
	ErrNoRun      = &Error{Kind: KindNoRun}
	ErrRunning    = &Error{Kind: KindRunning}
	ErrBadRequest = &Error{Kind: KindBadRequest}
	ErrBusy       = &Error{Kind: KindBusy}
	ErrLimit      = &Error{Kind: KindLimit}
	ErrProtocol   = &Error{Kind: KindProtocol}
	ErrVersion    = &Error{Kind: KindVersion}
	ErrClosed     = &Error{Kind: KindClosed}
	ErrNoAgent    = &Error{Kind: KindNoAgent}
	ErrBeyondEnd  = &Error{Kind: KindBeyondEnd}
	ErrStalled    = &Error{Kind: KindStalled}
	ErrOlder      = &Error{Kind: KindOlder}
	ErrNoRoot     = &Error{Kind: KindNoRoot}
)

func errorf(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Msg: err.Error()}
}

// asError gives err the shape that crosses the wire.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Kind: e.Kind, Msg: err.Error()}
	}
	return &Error{Kind: KindOther, Msg: err.Error()}
}
