package sched

import "time"

// Allocator carries out what was decided about a class that is backed by a Slurm partition. Package
// fleet implements it, and all that is said of Fleet's methods holds of these.
type Allocator interface {
	// Provide looks after the login of a provider from now on: its allocations are watched, and
	// those that bear a name of ours and were not asked for are canceled.
	Provide(p Provider)
	// Withdraw ends that. Allocations that were asked for stay watched until they are gone.
	Withdraw(addr string)
	// Allocate submits an allocation under its name, unless that is there, and watches it until it
	// is gone. One whose job is known was seen before: it is looked at now, and watched. At a start
	// of the daemon all that was asked for comes before the first Provide.
	Allocate(a Allocation)
	// Release ends an allocation; AllocationGone follows, also for one that never was submitted.
	Release(id uint64)
	// Abandon ends an allocation if that can be done within a minute, and forgets it. No outcome
	// follows.
	Abandon(id uint64)
}

// Provider is a partition of Slurm as fleet needs it.
type Provider struct {
	Addr      string
	Login     string // where Slurm's commands are run; "" : on this host
	Partition string
}

// Allocation says what to ask of Slurm.
type Allocation struct {
	ID        uint64
	Provider  string // its address
	Login     string // where Slurm's commands are run; "" : on this host
	Partition string
	Time      time.Duration // after which it ends: whole minutes
	Args      []string      // arguments of sbatch, each one word
	Exclude   []string      // nodes that it is not to be on
	Nodes     int           // at least 1
	Job       string        // Slurm's id of it, once it was seen: it is never submitted again
	// Asked is when it was asked for, if that was before the daemon was started: then it may have
	// been submitted already. Zero: it was asked for just now.
	Asked time.Time
}

// Step is how the machine is reached that an allocation is: through a step of its job.
type Step struct {
	ID    uint64 // of the allocation
	Login string // where Slurm's commands are run; "" : on this host
	Job   string // Slurm's id
	Node  string
}

// States of an allocation that mean something here, in Slurm's words.
const (
	slurmRunning   = "RUNNING"
	slurmTimeout   = "TIMEOUT"
	slurmDeadline  = "DEADLINE"
	slurmPreempted = "PREEMPTED"
	slurmSuspended = "SUSPENDED"
	slurmStopped   = "STOPPED" // as suspended, but that its processors aren't given to others
)

// The outcomes that concern allocations.
type (
	// Allocated: what Slurm says of an allocation that is there, when something of it has changed.
	Allocated struct {
		ID     uint64
		Job    string // Slurm's id of it
		State  string
		Reason string   // Slurm's word for why it waits; "" : none
		Node   string   // on which its script runs
		Nodes  []string // that it has, its first one too
		// Start is when it began, or is expected to; zero: not known.
		Start time.Time
		// End is when Slurm will end it, by the host's clock: now and the time that is left to it.
		// Zero: not known.
		End time.Time
	}
	// AllocationGone: it has ended, or Slurm, which knew it, doesn't any more. Said once.
	AllocationGone struct {
		ID     uint64
		State  string
		Reason string // what Slurm says beside, "" : nothing
	}
	// AllocationRefused: it could not be submitted, and isn't there. It is tried again.
	AllocationRefused struct {
		ID    uint64
		Words string // Slurm's
	}
	// ProviderSeen: a look at what a login has of ours has succeeded, or has failed for the time
	// being. Said when that changes.
	ProviderSeen struct {
		Addr    string
		Problem string // "" : none
		Hint    string
	}
	// LoginFull: one more connection to a pilot, or for its results, was refused, as all go over
	// one that the login's ssh configuration shares, and that has as many sessions as sshd allows.
	LoginFull struct {
		Login string
	}
)

func (Allocated) outcome()         {}
func (AllocationGone) outcome()    {}
func (AllocationRefused) outcome() {}
func (ProviderSeen) outcome()      {}
func (LoginFull) outcome()         {}
