package snapshot

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked: another daemon has the state directory. See LockedError.
	ErrLocked = errors.New("state directory is in use by another daemon")
	// ErrNetworkFS: the state directory is on a network file system.
	ErrNetworkFS = errors.New("a network file system can't hold the state (locks and syncs are " +
		"not reliable there): choose a local directory")
	// ErrPoisoned: an earlier write or sync failed. See PoisonedError.
	ErrPoisoned = errors.New("journal is unusable after an error")
	// ErrTooLarge: a record or a batch is longer than a journal can hold. Nothing of it was
	// written.
	ErrTooLarge = errors.New("too much for the journal")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("state is closed")
)

// LockedError is an ErrLocked that knows the holder.
type LockedError struct {
	Dir string
	PID int // of the daemon that holds the lock; 0 if it can't be told
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s: %v", e.Dir, ErrLocked)
	}
	return fmt.Sprintf("%s: %v (pid %d)", e.Dir, ErrLocked, e.PID)
}

func (e *LockedError) Unwrap() error { return ErrLocked }

// CorruptError says that the saved state is not what was written, and where.
// Nothing has been changed on disk when it is returned.
type CorruptError struct {
	File   string // name in the state directory
	Offset int64  // in bytes; -1 if it is about the file as a whole
	Reason string
}

func (e *CorruptError) Error() string {
	where := e.File
	if e.Offset >= 0 {
		where = fmt.Sprintf("%s, offset %d", e.File, e.Offset)
	}
	return fmt.Sprintf("saved state is damaged: %s: %s (nothing was changed; `jobserver state "+
		"check` lists what is wrong; "+
		"put back a copy of the directory, or start with --allow-snap-fail to set it aside and "+
		"begin empty)", where, e.Reason)
}

// FormatError says that the state was written by a newer version. It is left
// untouched, whatever the options.
type FormatError struct {
	File     string
	Major    int
	Minor    int
	Incompat uint32 // features that a reader must know
	By       string // version of the program that wrote it; "" if that isn't known
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s has format %d.%d (features %#x), and this version reads %d.x "+
		"(features %#x): use %s; nothing was changed",
		e.File, e.Major, e.Minor, e.Incompat, formatMajor, knownIncompat, e.reader())
}

// Hint is the user's next step.
func (e *FormatError) Hint() string {
	return "with this version there is only a copy from before: `jobserver restore DIR`"
}

// reader is what can read the state.
func (e *FormatError) reader() string {
	if e.By == "" {
		return "the newer jobserver"
	}
	return "jobserver " + e.By + ", which wrote it, or a newer one"
}

// PoisonedError is the error of the operation that failed and of every one
// after it. What was being committed may or may not be on disk: the outcome is
// unknown until the next start has read it.
type PoisonedError struct {
	Op  string
	Err error
}

func (e *PoisonedError) Error() string {
	return fmt.Sprintf("%s: %v (outcome unknown: the daemon must stop)", e.Op, e.Err)
}

func (e *PoisonedError) Unwrap() []error { return []error{ErrPoisoned, e.Err} }
