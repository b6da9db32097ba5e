package sched

import (
	"time"

	"jobserver/sched/statepb"
)

// Journal makes changes durable. Package snapshot implements it.
//
// The loop is its only caller, except that WriteSnapshot may
// run in a goroutine of the loop's while Commit goes on.
type Journal interface {
	// Commit makes the records durable as one batch. After an error
	// nothing is known about them, and every later call fails too.
	Commit(records [][]byte) error
	// Full says that the disk is so full that new work should be refused. Commit still works.
	Full() bool
	// NeedsSnapshot says that the journal has grown long enough to be worth a snapshot.
	NeedsSnapshot() bool
	// SnapshotPays says that a start would replay the journal for longer than it takes to write a
	// snapshot now.
	SnapshotPays() bool
	// StartSnapshot marks the point that a snapshot will stand for: everything committed so far.
	// The function that it returns writes it, and may be called from another goroutine.
	StartSnapshot() (write func(each func(yield func(record []byte) error) error) error, err error)
	// Seal makes the last batch provably complete, after a while of quiet.
	Seal() error
}

// Fleet carries out what was decided. Package fleet implements it.
//
// Every method returns at once. What becomes of it is reported to the loop as Outcomes, from any
// goroutine and at any time, also during the call. All that is asked for concerns things that are
// durable already. Asking twice for the same is harmless.
type Fleet interface {
	Allocator
	// Connect keeps a connection to the machine from now on, or learns that its record changed.
	Connect(m Pool)
	// Disconnect ends it: the machine is no longer in the pool and owes nothing.
	Disconnect(addr string)
	// Start starts the run and follows it to its end. With Known, it has started before: only
	// follow it. Repeated over connections until an outcome is known.
	Start(r Run)
	// Cancel ends the run's whole tree; it ends with an Ended whose cause is what the supervisor
	// recorded first.
	Cancel(r *statepb.RunRef)
	// Retime gives a run another timeout, counted from its start; 0 takes it away.
	Retime(r *statepb.RunRef, timeout time.Duration)
	// Pause stops a run where it is, or lets it go on, and reports Paused.
	Pause(r *statepb.RunRef, stop bool)
	// Signal sends a signal to a run, once. What can't be done now isn't done: that is reported as
	// Unsteered.
	Signal(r *statepb.RunRef, signal int)
	// Copy brings the results of an attempt to the host, and reports CopyEnded.
	Copy(c Copy)
	// StopCopy stops a copy; it reports CopyEnded with an error, unless it was done already.
	StopCopy(job uint64)
	// Settle carries out an obligation: cancels the run when asked to, reports Stopped when nothing
	// of that lives any more, and removes its directory when its log and exit record are safe on
	// the host; then it reports Settled.
	Settle(o *statepb.Obligation)
	// Drop forgets all that is under way for a run: it is known to be lost or was given up.
	Drop(r *statepb.RunRef)
	// ForgetLogs removes the log files of a job.
	ForgetLogs(job uint64)
}

// Pool is a machine as fleet needs it.
type Pool struct {
	Addr string
	Root string // chosen before, to be kept; "" : choose one
	Step *Step  // of a pilot: how it is reached; nil: by its address
	Runs bool   // jobs run or copy there, which are asked for next
}

// Run is an attempt, or a step of a setup, to be started on a machine.
type Run struct {
	Ref   *statepb.RunRef
	Known bool // it has started: only follow it
	// the boot that it was dispatched on; another one means that it is lost
	BootID  string
	Command []byte            // for sh -c; or
	Argv    []string          // the driver and the job's words
	Env     []string          // NAME=value
	Secrets map[string][]byte // by name; the job sees them as JOBSERVER_<name>
	Hidden  []string          // values in Env that no text may have, beside those of Secrets
	Timeout time.Duration     // 0: none
	MaxLog  int64             // 0: the daemon's own
	Cancel  bool              // a cancel is already asked for
	Pause   *bool             // it was asked to stop where it is, or to go on again; nil: neither
	Setup   bool              // a step of a setup: when it fails, LastWords are wanted
	Code    string            // hash of the code that has to be on the machine; "" : none
	// Make all ready for it, and report Prepared: it starts when it is asked for again without
	// this.
	Prepare bool
	// Inputs are to be on the machine, and where their links are is to be in the environment. While
	// one of them has no hash they are to be read, and nothing is to be started.
	Inputs []*statepb.Input
	After  bool   // among them is the list of what the job has waited for
	Cwd    string // where it begins; relative to the login directory, which "" is
	Stdin  string // hash of its standard input; "" : none
	CPUs   []int  // that it is pinned to; none: to none
	Memory int64  // bytes that it may use; 0: its machine doesn't limit that
}

// Copy is an attempt whose results are wanted.
type Copy struct {
	Job     *statepb.Job     // as it is now
	Attempt *statepb.Attempt // the one that succeeded, as the rank has it whose results these are
	Machine *statepb.Machine // where the files are
	Dest    string           // absolute directory on the host, variables put in
	Shared  bool             // jobs share the directory: the record is <jid>.job.json
	Secrets []string         // what no text that is kept or shown may have
}

// LostCode begins the reason of a run that was not started as the host has its code no more: no
// machine could start it.
const LostCode = "the host has lost the code"

// LostStdin begins the reason of a run that was not started as the host has its standard input no
// more: likewise.
const LostStdin = "the host has lost the standard input"

// Outcome comes from fleet. At is the host's clock.
type Outcome interface{ outcome() }

// The outcomes.
type (
	// Connected: the machine can be given work. Orphans are runs of ours on it that were not asked
	// for.
	Connected struct {
		Addr   string
		Facts  *statepb.Machine // boot id, root, os, arch, cores, memory, cpu model, kernel
		Vitals Vitals
		Runs   []*statepb.RunRef // every run directory under our server id and this machine
		Over   map[string]bool   // by token: those of Runs of which nothing lives any more
	}
	// Connecting: a dial is under way.
	Connecting struct{ Addr string }
	// Away: the machine can't be reached at present; fleet goes on trying.
	Away struct{ Addr, Reason string }
	// Refused: it can't be reached until something changes: its host key is unknown or changed
	// (HostKey), it refuses our keys, or it can't run the agent.
	Refused struct {
		Addr, Reason, Hint string
		HostKey            bool
	}
	// Prepared: the machine is ready for a run that isn't to start yet.
	Prepared struct{ Ref *statepb.RunRef }
	// Started: the run has begun.
	Started struct {
		Ref *statepb.RunRef
		At  time.Time // machine's clock
	}
	// Ended: the run has ended, and its logs are in the host's files.
	Ended struct {
		Ref    *statepb.RunRef
		Result *statepb.Attempt // cause, code, signal, times, usage, lengths, results, measurements
	}
	// NotStarted: the machine could not start it, and it never will run.
	NotStarted struct {
		Ref    *statepb.RunRef
		Reason string
		// no machine could start it: words that can't be executed, a directory that isn't there
		JobsFault bool
		// an input can't be had: it is nobody's failure, and waits until the user has seen to it
		Hold bool
	}
	// InputsRead: the inputs of the run were read, and have their hashes. It is started when that
	// is durable.
	InputsRead struct {
		Ref    *statepb.RunRef
		Inputs []*statepb.Input
	}
	// RunLost: it is known that the run is gone and how it ended can't be known.
	RunLost struct {
		Ref    *statepb.RunRef
		Reason string
		Died   bool // its supervisor did, for which its machine is to blame
	}
	// CopyWaits: the copy can't go on at present, and holds no slot meanwhile.
	CopyWaits struct {
		Job    uint64
		Rank   int32 // as Attempt.rank
		Reason string
	}
	// CopyEnded: the results are on the host in Dir, or Error says why not.
	CopyEnded struct {
		Job   uint64
		Rank  int32 // as Attempt.rank
		Dir   string
		Files int
		Bytes int64
		Took  time.Duration // of the last try, without waiting for its turn
		Error string
	}
	// Paused: a run was stopped where it is, or goes on.
	Paused struct {
		Ref   *statepb.RunRef
		On    bool
		Total time.Duration // how long it had been stopped before
		Left  int           // processes of other users, which go on
	}
	// Unsteered: a pause, or with Signal a signal, came to nothing.
	Unsteered struct {
		Ref    *statepb.RunRef
		Signal int
		Reason string
	}
	// Settled: an obligation was met.
	Settled struct{ Ref *statepb.RunRef }
	// Stopped: nothing of a run lives any more of which an obligation is. Unremoved says why its
	// directory could not be removed so far; it is tried again.
	Stopped struct {
		Ref       *statepb.RunRef
		Unremoved string
	}
	// Measured: vital signs of a machine, taken now and then.
	Measured struct {
		Addr   string
		Vitals Vitals
	}
)

// Vitals are measured at connection and on demand; they are not durable.
type Vitals struct {
	FreeBytes   int64
	Load1       float64
	ClockOffset time.Duration // machine minus host
	Latency     time.Duration
}

func (Connected) outcome()  {}
func (Connecting) outcome() {}
func (Away) outcome()       {}
func (Refused) outcome()    {}
func (Prepared) outcome()   {}
func (Started) outcome()    {}
func (Ended) outcome()      {}
func (NotStarted) outcome() {}
func (InputsRead) outcome() {}
func (RunLost) outcome()    {}
func (CopyWaits) outcome()  {}
func (CopyEnded) outcome()  {}
func (Settled) outcome()    {}
func (Paused) outcome()     {}
func (Unsteered) outcome()  {}
func (Stopped) outcome()    {}
func (Measured) outcome()   {}
