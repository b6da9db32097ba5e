// Package doctor says what is wrong with a daemon, its host and its pool, and what to do about it:
// what a person would look at when nothing works. Facts are gathered elsewhere, or by Look; what
// follows from them is pure.
package doctor

import (
	"time"

	"jobserver/api"
	"jobserver/ssh"
)

// State is how something is.
type State string

// The states.
const (
	OK      State = "ok"
	Warning State = "warning" // it works, and will not always
	Problem State = "problem" // something doesn't work
)

// Finding is one thing that was looked at.
type Finding struct {
	Check string `json:"check"`
	State State  `json:"state"`        // ok, warning or problem
	What  string `json:"what"`         // how it is
	Do    string `json:"do,omitempty"` // what to do about it, unless it is ok
}

// Facts are all that is known. What could not be looked at has its zero value, unless it says
// otherwise.
type Facts struct {
	Now time.Time

	ConfigErr error // of the command line's configuration file

	Remote    string // the host of the daemon, if it isn't this one: then only the daemon is asked
	Socket    string
	DaemonErr error       // why it doesn't answer
	Daemon    *api.Status // what it says of itself; nil when it doesn't answer
	Program   string      // this program's version
	Machines  []api.Machine

	StateDir   string
	Saved      SavedState
	Logs       Dir
	Disks      []Disk
	Clock      ClockFacts
	SSH        map[string]ssh.Examination // by address, of those that need it
	Process    Process                    // the daemon's
	Inotify    int                        // instances that this user may have; 0: not known
	Service    ServiceFacts
	Quarantine []string // what was set aside of histories that couldn't be loaded
}

// SavedState is how the saved state is.
type SavedState struct {
	None bool // there is none yet
	Err  error
	Hint string // what to do about Err
	Text string // when it is sound: what it holds
}

// Dir is a directory of the daemon's.
type Dir struct {
	Path string
	Err  error // why it can't be used, with a Hint
}

// Disk is a file system on which the daemon keeps something.
type Disk struct {
	Path  string
	Free  int64 // bytes; below 0: not known
	Files int64 // that may still be made; below 0: not known, or without a limit
	// Network names one that other hosts serve; "" for a local one.
	Network string
}

// ClockFacts say how the host's clock is.
type ClockFacts struct {
	Known    bool
	Synced   bool
	MaxError time.Duration // as the kernel estimates it
}

// Process is the daemon's process, as far as this user may see it.
type Process struct {
	Files     int64 // descriptors that it may have open; 0: not known
	AgentEnv  bool  // its environment is known, and
	AgentSock string
	AgentErr  error // why the agent that it was started with doesn't answer
}

// ServiceFacts say how the daemon is started.
type ServiceFacts struct {
	Unit              bool // it is a service of the user's systemd
	Lingers           bool // which runs without a login
	KillUserProcesses bool // systemd ends what a user runs when he logs out
}

// Examine gives the findings, in the order in which a person would look. Those that are of no
// concern, as of a daemon that isn't there, are left out.
func Examine(f *Facts) []Finding {
	var found list
	found.daemon(f)
	if f.Remote == "" {
		found.host(f)
	}
	found.pool(f)
	return found
}
