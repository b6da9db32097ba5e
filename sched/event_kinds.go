package sched

// The kinds of events. Those of a job's status are named as the status is. Clients know them by
// their text, which therefore never changes.
const (
	EventJobSubmitted  = "job.submitted"   // it is known
	EventJobRunning    = "job.running"     // an attempt, or a setup's step, goes to a machine
	EventJobStarted    = "job.started"     // it has begun there
	EventJobInputs     = "job.inputs"      // its inputs were read, and its machine gets them
	EventJobStep       = "job.step"        // a step of a setup has ended well, and another follows
	EventJobRank       = "job.rank"        // one of its ranks has ended, and others haven't
	EventJobCopying    = "job.copying"     // it exited 0, and its results are on their way
	EventJobCopied     = "job.copied"      // its results are on this host
	EventJobCopyFailed = "job.copy-failed" // they could not be copied
	// they are copied when the disk has room or the machine is back
	EventJobCopyWaits = "job.copy-waits"
	EventJobHeld      = "job.held"       // by the user, or as an input can't be had
	EventJobBlocked   = "job.blocked"    // it can't start unless another job is run again
	EventJobSet       = "job.set"        // its settings were changed
	EventJobFreed     = "job.freed"      // it waits for no other jobs any more
	EventJobDone      = "job.done"       // it exited 0
	EventJobFailed    = "job.failed"     // it ended otherwise, and no retry is left
	EventJobRetried   = "job.retried"    // an attempt has ended otherwise, and another follows
	EventJobCanceling = "job.canceling"  // it is being ended on its machine
	EventJobCanceled  = "job.canceled"   // the user ended it
	EventJobLost      = "job.lost"       // how it ended can't be known
	EventJobForgotten = "job.forgotten"  // nothing is known of it any more
	EventJobRetimed   = "job.retimed"    // it has another time limit
	EventJobTagged    = "job.tagged"     // it has another tag, or none
	EventJobPausing   = "job.pausing"    // it is to be stopped where it is
	EventJobPaused    = "job.paused"     // its machine has stopped it
	EventJobResuming  = "job.continuing" // it is to go on
	EventJobResumed   = "job.continued"  // it goes on
	EventJobUnpaused  = "job.not-paused" // it could not be stopped, or not all of it
	EventJobSignaled  = "job.signaled"   // a signal is sent to it

	EventMatrixSubmitted = "matrix.submitted"
	EventMatrixGrown     = "matrix.grown" // it has more cells, or other settings
	EventMatrixHeld      = "matrix.held"
	EventMatrixUnheld    = "matrix.unheld"
	EventMatrixForgotten = "matrix.forgotten"
	EventMatrixSet       = "matrix.set" // its settings were changed

	EventMachineAdded     = "machine.added"
	EventMachineSeen      = "machine.seen"    // it was reached, and says what it is
	EventMachineMoved     = "machine.moved"   // it is in another class
	EventMachineBroken    = "machine.broken"  // it was set aside
	EventMachineSuspect   = "machine.suspect" // its failures in a row want a trial
	EventMachineResting   = "machine.resting" // it can't start anything, or lost a supervisor
	EventMachineCleared   = "machine.cleared" // its failures are forgotten
	EventMachineDraining  = "machine.draining"
	EventMachineResumed   = "machine.resumed"
	EventMachineExpired   = "machine.expired" // its time is over
	EventMachineDropped   = "machine.dropped" // what was left to do there was given up
	EventMachineRemoved   = "machine.removed"
	EventMachineUnremoved = "machine.unremoved" // it was added again while it was being removed

	EventProviderAdded    = "provider.added"    // a class is backed by a Slurm partition
	EventProviderChanged  = "provider.changed"  // its settings were
	EventProviderDraining = "provider.draining" // it asks for no more allocations
	EventProviderResting  = "provider.resting"  // likewise, as what it asked for was of no use
	EventProviderResumed  = "provider.resumed"
	EventProviderRemoved  = "provider.removed"

	EventAllocationAsked    = "allocation.asked"    // of Slurm
	EventAllocationWaits    = "allocation.waits"    // Slurm has it in its queue
	EventAllocationRuns     = "allocation.runs"     // it has a node
	EventAllocationRefused  = "allocation.refused"  // it couldn't be submitted
	EventAllocationReleased = "allocation.released" // it is given back
	EventAllocationEnded    = "allocation.ended"

	EventVariableSet   = "variable.set"
	EventVariableUnset = "variable.unset"

	EventTagMade    = "tag.made"
	EventTagLimited = "tag.limited" // its limits are others, or so many of its jobs have failed

	EventClockSet = "clock.set" // the host's clock has jumped
)
