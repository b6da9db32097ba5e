package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/redact"
)

// Kind says what sort of thing happened. The names are those that `--on` and the `--notify-…` flags
// take.
type Kind string

// The kinds.
const (
	Running  Kind = "running"  // an attempt of a job was sent to a machine
	Complete Kind = "complete" // a job has exited with 0
	Copied   Kind = "copied"   // a job's results are on the host
	// a job has failed for good, is lost, was ended as its machine was removed, or its results
	// couldn't be copied
	Fail          Kind = "fail"
	MachineBroken Kind = "machine-broken" // a machine was set aside
	MachineAway   Kind = "machine-away"   // a machine stays away; also when it is back
	MatrixDone    Kind = "matrix-done"    // all jobs of a matrix have ended
	// the first failure in a matrix; also when it is held as it can't succeed
	MatrixFail Kind = "matrix-fail"
	Silent     Kind = "silent"      // a running job has printed nothing for a while
	DiskLow    Kind = "disk-low"    // little space is left, here or on a machine
	QueueEmpty Kind = "queue-empty" // no job waits any more
)

// kinds are all of them, what matters most first: the order of a message.
var kinds = [...]Kind{MachineBroken, DiskLow, MatrixFail, Fail, MachineAway, Silent, MatrixDone,
	QueueEmpty, Copied, Complete, Running}

func (k Kind) known() bool { return slices.Contains(kinds[:], k) }

// alarming says that somebody should look.
func (k Kind) alarming() bool {
	return slices.Contains([]Kind{MachineBroken, DiskLow, MatrixFail, Fail, MachineAway, Silent}, k)
}

func kindList() string {
	words := make([]string, 0, len(kinds))
	for _, k := range kinds {
		words = append(words, string(k))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// headline tells of n events of the kind, n more than one.
func (k Kind) headline(n int) string {
	switch k {
	case Running:
		return fmt.Sprintf("%d attempts have started", n)
	case Complete:
		return fmt.Sprintf("%d jobs have succeeded", n)
	case Copied:
		return fmt.Sprintf("the results of %d jobs were copied", n)
	case Fail:
		return fmt.Sprintf("%d jobs have failed", n)
	case MachineBroken:
		return fmt.Sprintf("%d times a machine was set aside", n)
	case MachineAway:
		return fmt.Sprintf("%d times a machine went away or came back", n)
	case MatrixDone:
		return fmt.Sprintf("%d matrices have ended", n)
	case MatrixFail:
		return fmt.Sprintf("there are failures in %d matrices", n)
	case Silent:
		return fmt.Sprintf("%d jobs print nothing", n)
	case DiskLow:
		return fmt.Sprintf("%d times a disk was nearly full, or the state could not be saved in "+
			"short", n)
	case QueueEmpty:
		return fmt.Sprintf("the queue was empty %d times", n)
	}
	return fmt.Sprintf("%d times %s", n, k)
}

// Mode says when the events of a kind are told.
type Mode int

// The modes.
const (
	Off       Mode = iota
	Immediate      // at once, but for a moment in which others may join
	Summary        // with all others, at intervals
)

// Event is something that happened.
type Event struct {
	Kind    Kind      `json:"event"`
	At      time.Time `json:"at"`
	Job     uint64    `json:"jid,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Machine string    `json:"machine,omitempty"`
	Matrix  uint64    `json:"matrix,omitempty"`
	Class   string    `json:"class,omitempty"`
	Status  string    `json:"status,omitempty"` // of the job, after it
	Text    string    `json:"text"`             // one plain sentence
	Cause   string    `json:"cause,omitempty"`  // what it has in common with others: exited with code 1
	Asked   bool      `json:"-"`                // for just this job: told at once, whatever its kind's mode
}

// maxText is how long the sentence of an event may be, in bytes.
const maxText = 500

// plain makes a short line of a text, as it may have come from a job or a machine.
func plain(text string) string {
	text = redact.OneLine(text)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
