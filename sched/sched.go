// Package sched holds the nouns and the rules: which attempt of which job goes to which machine,
// and when.
//
// The dictionary:
//
//   - A job is a command that is wanted to run once on some machine of a class. It keeps its id for
//     ever.
//   - An attempt is one execution of a job on one machine; a job has more than one when it is
//     retried.
//   - A run is an attempt's directory on its machine. A setup job has one run for each of its
//     steps.
//   - A machine is something that runs jobs in its slots, one job in each. The host is where the
//     daemon runs.
//   - A class is a set of machines that are alike; a job names the class that it wants.
//   - A matrix is a set of jobs made from one command and a table of values; each of them is a
//     cell.
//   - A tag is a name for a set of jobs. A variable is a value that commands name as {NAME}.
//   - A change is one durable fact. An outcome is what the fleet reports. An obligation is what is
//     still to be done on a machine.
//
// State is what the changes, applied in order, make of it: Apply is the only way in which the
// durable part changes, and it uses no clock, no randomness and no map order. Decide says which
// changes should come next. Loop owns the one State of a daemon: it takes requests and outcomes,
// applies what follows from them, commits all changes of a turn as one batch, and only then
// answers, publishes events and asks the fleet for effects.
//
// The package does no I/O: it declares the Journal and the Fleet that it needs, and others
// implement them.
package sched

import (
	"fmt"
	"time"

	"jobserver/sched/statepb"
)

// Change is one durable fact.
type Change = statepb.Change

// Status is where a job is on its way. The zero value is no job.
type Status = statepb.Status

// Each status says who moves a job in and out of it.
const (
	// Waiting: for a slot, or for the time of its retry. Submission, unhold, a retry and the
	// removal of its machine move a job in; Decide moves it out by dispatching it, the user by hold
	// or cancel.
	Waiting = statepb.Status_WAITING
	// Held: the user, or the rule for broken matrices, moved it in; only the user moves it out.
	Held = statepb.Status_HELD
	// Running: dispatched to a machine; whether it has begun there is known by its attempt. Decide
	// moves it in; the outcome of its run moves it out. With canceling set, the user has asked to
	// end it.
	Running = statepb.Status_RUNNING
	// Copying: it exited 0 and its results are on their way. The
	// end of its run moves it in, the end of the copy out.
	Copying = statepb.Status_COPYING
	// Done: it exited 0. Final, but results may be copied again.
	Done = statepb.Status_DONE
	// Failed: it ended otherwise, and no retry is left. Final.
	Failed = statepb.Status_FAILED
	// Canceled: the user ended it before it exited. Final.
	Canceled = statepb.Status_CANCELED
	// Lost: how it ended can't be known. Final.
	Lost = statepb.Status_LOST
)

// Limits of what one request may ask for.
const (
	MaxCells  = 1_000_000 // of a matrix
	MaxSubmit = 1_000_000 // jobs in one request
	// MaxCommand is how many bytes a command may have when its variables are put in, and an
	// environment variable with its name. Linux passes no longer text to a program: MAX_ARG_STRLEN,
	// less the zero byte at its end.
	MaxCommand = 128<<10 - 1
	// MaxStart is how many bytes a command and its environment may have together. Linux
	// takes a quarter of the stack's limit, which is 2 MiB unless somebody changed it.
	MaxStart = 3 << 19
	// bytes of CP_PATH with its variables put in: Linux's PATH_MAX, less a zero byte
	MaxPath  = 4095
	MaxSlots = 10_000 // of a machine
	MaxPage  = 1_000  // records that one read may take in a turn
	// A record and a batch may be no longer in the journal. These leave room for what a turn does
	// besides.
	maxRecordBytes  = 60 << 20  // of one change that a request makes
	maxRequestBytes = 256 << 20 // of all of them
	maxRequest      = 100_000   // request ids that are remembered
)

// Final says that nothing but the user moves a job out of this status.
func Final(s Status) bool { return s == Done || s == Failed || s == Canceled || s == Lost }

// StatusName is the word that users see.
func StatusName(s Status) string {
	switch s {
	case Waiting:
		return "waiting"
	case Held:
		return "held"
	case Running:
		return "running"
	case Copying:
		return "copying"
	case Done:
		return "done"
	case Failed:
		return "failed"
	case Canceled:
		return "canceled"
	case Lost:
		return "lost"
	}
	return "unknown"
}

// Kind says what sort of error a request met.
type Kind string

// The kinds.
const (
	Invalid  Kind = "invalid"         // the request makes no sense as it is
	NotFound Kind = "not_found"       // it names something that isn't there
	NoMatch  Kind = "no_match"        // its selectors match nothing
	Conflict Kind = "conflict"        // it can't be done in the present state
	Full     Kind = "disk_full"       // the host's disk is too full for new work
	Confirm  Kind = "confirm"         // it would change more than the caller allows
	Unknown  Kind = "outcome_unknown" // the journal failed: it may or may not have been done
	// the daemon is stopping, or the caller gave up; nothing was done
	Stopping Kind = "unavailable"
	Internal Kind = "internal" // a fault of ours; nothing was done
)

// Error is a request's error, with the next step for the user.
type Error struct {
	Kind Kind
	Msg  string
	Next string // the next step
}

func (e *Error) Error() string { return e.Msg }

// Hint is the next step; "" when none is known.
func (e *Error) Hint() string { return e.Next }

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

func (e *Error) hint(format string, args ...any) *Error {
	e.Next = fmt.Sprintf(format, args...)
	return e
}

// Counts has the number of jobs in each status, and how many of those done have copied results or
// failed to.
type Counts struct {
	By       [9]int // by Status
	Copied   int
	Uncopied int // results failed to copy
}

// Total is how many jobs the counts hold.
func (c *Counts) Total() int {
	n := 0
	for _, k := range c.By {
		n += k
	}
	return n
}

// Unfinished is how many of them are still to end.
func (c *Counts) Unfinished() int {
	return c.By[Waiting] + c.By[Held] + c.By[Running] + c.By[Copying]
}

func (c *Counts) add(mark uint8, n int) {
	c.By[mark&0x0f] += n
	switch statepb.Results(mark >> 4) {
	case statepb.Results_RESULTS_COPIED:
		c.Copied += n
	case statepb.Results_RESULTS_FAILED:
		c.Uncopied += n
	}
}

// maxBackoff is the longest that a retry waits.
const maxBackoff = 32 * time.Second

// backoff is how long the n-th retry of a job waits, n from 1.
func backoff(n int32) time.Duration {
	return min(time.Second<<min(max(n-1, 0), 10), maxBackoff) // 1 s, 2 s, 4 s, …
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Time turns a record's nanoseconds into a time; 0 is the zero time.
func Time(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// Encode gives a change's record for the journal.
func Encode(c *Change) ([]byte, error) { return encode(c) }
