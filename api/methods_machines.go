package api

import "time"

// MachineSelector says which machines are meant: these addresses, or all of these classes.
type MachineSelector struct {
	Addrs   []string
	Classes []string
}

// ListMachinesArgs asks for machines; an empty selector means all.
type ListMachinesArgs struct{ MachineSelector }

// ListMachinesReply holds them, by class and address.
type ListMachinesReply struct{ Machines []Machine }

// AddMachinesArgs adds machines to a class without setting them up.
type AddMachinesArgs struct {
	Mutation
	Addrs []string
	Class string
	Slots int       // 0: as many as it has, or 1
	Until time.Time // zero: for good
	// Resources has those of each, by name: 256G, 0,1,2,3 or auto; "" takes one away.
	Resources map[string]string
}

// AddProviderArgs backs a class by a partition of Slurm, or gives one that is there other settings;
// what isn't set stays as it is, or is as usual. Args are arguments of sbatch; with ArgsSet they
// replace those that are there.
type AddProviderArgs struct {
	Mutation
	Addr    string // slurm:[LOGIN/]PARTITION
	Class   string
	Time    Maybe[time.Duration] // whole minutes
	Slots   Maybe[int]
	Max     Maybe[int]
	Backlog Maybe[int]
	Idle    Maybe[time.Duration]
	Jobs    Maybe[int]
	Args    []string
	ArgsSet bool
}

// PartitionsArgs asks which partitions Slurm has where Login logs in, "" : on the daemon's host.
type PartitionsArgs struct{ Login string }

// PartitionsReply lists them; none when that can't be found out within a moment.
type PartitionsReply struct{ Partitions []string }

// SetupArgs sets machines up: each runs Steps in order, then Verify, and joins Class when all
// succeeded.
type SetupArgs struct {
	Mutation
	MachineSelector
	Existing bool   // -e: the machines that the classes have now
	Class    string // "" : joins none (or, with Existing, its own again)
	Slots    int
	Steps    []string
	Verify   string
	Timeout  time.Duration // over all steps
	Stagger  time.Duration // between one machine's start and the next one's
	Notify   bool
	Until    time.Time
	Retries  int // of a step that failed
	Parallel int // how many machines at a time; 0: all
	// leave out machines on which the same steps have succeeded, or are to run, as their last setup
	Once bool
	// Needed says that jobs are to run on these machines only when the setup has succeeded: where
	// it fails, the machine is in no class.
	Needed bool
	Reboot bool // the machine reboots after the steps, and Verify waits for the new boot
	// Resources are as in AddMachinesArgs.
	Resources map[string]string
}

// SetupReply has one job for each machine, in the order given.
type SetupReply struct {
	JIDs  []uint64
	Addrs []string
	Notes []string // what else comes of it
}

// The operations of ChangeMachines.
const (
	MachineRemove = "rm"
	MachineMove   = "mv"
	MachineDrain  = "drain"
	MachineResume = "resume"
	MachineClean  = "clean"
)

// ChangeMachinesArgs does Op to the machines selected.
type ChangeMachinesArgs struct {
	Mutation
	MachineSelector
	Op     string
	Class  string // of mv
	Force  bool   // of rm: drop what the machine still owes
	DryRun bool
	Drop   bool // of clean: forget what the machine owes, which need not be in the pool any more
}

// ChangeMachinesReply lists the machines that were matched, as they are now; of a dry run and of
// rm, as they were before.
type ChangeMachinesReply struct {
	Machines []Machine
	Notes    []string // what became of the jobs that ran there
	Repeated bool     // as in ChangeJobsReply: those that are named and still there
}

// CheckMachinesArgs connects to the machines now and measures them.
type CheckMachinesArgs struct{ MachineSelector }

// CheckMachinesReply has one line for each.
type CheckMachinesReply struct{ Checks []MachineCheck }

// MachineCheck has what one connection now found.
type MachineCheck struct {
	Machine
	OK          bool   `json:"ok"`
	Error       string `json:"error,omitempty"`
	Hint        string `json:"hint,omitempty"`
	HostKey     string `json:"host_key,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Known       string `json:"known,omitempty"` // of trust: known, unknown, changed
	// why its memory limit is accounted only
	MemoryLimitWhy string `json:"memory_limit_why,omitempty"`
	// of a check that is OK: what isn't as it should be all the same
	Warnings []string `json:"warnings,omitempty"`
}

// TrustArgs shows the host keys that the machines present now; with Record they are written to
// known_hosts, but only those whose fingerprint is in Fingerprints (by address), or any with Any.
type TrustArgs struct {
	Mutation
	MachineSelector
	Record       bool
	Any          bool
	Fingerprints map[string]string
}

// TrustReply has one line for each machine.
type TrustReply struct{ Checks []MachineCheck }
