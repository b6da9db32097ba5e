package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Kind says what sort of thing went wrong, for exit codes and for programs. Kinds are only added; a
// client that meets one it doesn't know treats it as Internal.
type Kind string

// The kinds.
const (
	// the request makes no sense, whatever the daemon's state
	Invalid  Kind = "invalid"
	Usage    Kind = "usage"     // the command line makes no sense; client side only
	NotFound Kind = "not_found" // no such job, machine, matrix, tag, class or variable
	NoMatch  Kind = "no_match"  // a selector is right but matches nothing
	Conflict Kind = "conflict"  // the state that things are in doesn't allow it
	// it would change more than the request allows without a confirmation
	Confirm Kind = "confirm"
	Denied  Kind = "denied"    // this user may not
	Full    Kind = "disk_full" // the daemon's disk has no room for it
	// a message above the limit; ask for, or send, less at a time
	TooLarge    Kind = "too_large"
	Unavailable Kind = "unavailable" // the daemon can't be reached, and nothing was changed
	// it may or may not have been done; ask again with the same request id
	OutcomeUnknown Kind = "outcome_unknown"
	Incompatible   Kind = "incompatible" // daemon and client have no protocol in common
	Timeout        Kind = "timeout"      // the time given for it was over
	Canceled       Kind = "canceled"     // the caller gave it up
	Internal       Kind = "internal"     // a bug
)

// Error is an error with its kind and, where there is one, the next thing to do. Its JSON form is
// the one that `-o json` prints on stderr.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
}

// Errorf makes an Error; %w puts in the text of the error that it is given, no more.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Errorf(format, args...).Error()}
}

// Bugf makes the error of a fault of ours: nobody can do anything about it but tell those who can.
func Bugf(format string, args ...any) *Error {
	return Errorf(Internal, "jobserver has met a bug: %w", fmt.Errorf(format, args...)).
		WithHint("please report it: this message, what you did, what `jobserver version` prints, " +
			"and the daemon's log of this minute")
}

// Error is the message without the hint.
func (e *Error) Error() string { return e.Message }

// WithHint gives a copy whose hint is the next command or deed, formatted as by Sprintf when there
// are arguments.
func (e *Error) WithHint(format string, args ...any) *Error {
	hinted := *e
	hinted.Hint = format
	if len(args) > 0 {
		hinted.Hint = fmt.Sprintf(format, args...)
	}
	return &hinted
}

// KindOf is the kind of the first *Error that err wraps; Timeout
// and Canceled for a context's errors; "" for nil, else Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.Is(err, context.Canceled):
		return Canceled
	default:
		return Internal
	}
}

// HintOf is the hint of the first error that err wraps and that knows the next step: an *Error, or
// one of a room below, which has a method Hint.
func HintOf(err error) string {
	var e *Error
	var below interface{ Hint() string }
	switch {
	case errors.As(err, &e) && e.Hint != "":
		return e.Hint
	case errors.As(err, &below):
		return below.Hint()
	}
	return ""
}

// Wrap gives an error of a room below, one with a method Hint, its kind; text and hint are its own.
// What has a kind already keeps it, and other errors stay as they are.
func Wrap(kind Kind, err error) error {
	var e *Error
	var below interface{ Hint() string }
	if errors.As(err, &e) || !errors.As(err, &below) {
		return err
	}
	return &Error{Kind: kind, Message: err.Error(), Hint: below.Hint()}
}

// AsError is err as one Error: its kind and hint, and the whole text with what wraps it.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Message: err.Error(), Hint: HintOf(err)}
}

// net/rpc has room for one string. Three quoted ones, one after another, hold any bytes.
func packError(err error) string {
	e := AsError(err)
	return strconv.Quote(string(e.Kind)) + strconv.Quote(e.Message) + strconv.Quote(e.Hint)
}

// unpackError is packError's inverse. What isn't of that form is the text of an Internal error.
func unpackError(packed string) *Error {
	var fields [3]string
	rest := packed
	for i := range fields {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return &Error{Kind: Internal, Message: packed}
		}
		if fields[i], err = strconv.Unquote(quoted); err != nil {
			return &Error{Kind: Internal, Message: packed}
		}
		rest = rest[len(quoted):]
	}
	if rest != "" {
		return &Error{Kind: Internal, Message: packed}
	}
	return &Error{Kind: Kind(fields[0]), Message: fields[1], Hint: fields[2]}
}
