package slurm

import "strings"

// Kind is what a state of Slurm's means for an allocation.
type Kind int

// The kinds.
const (
	// Holds: it exists, and nothing can be done with it at present. It may go on.
	Holds Kind = iota
	// Waits: it hasn't begun.
	Waits
	// Runs: its script does.
	Runs
	// Gone: nothing of it lives any more.
	Gone
	// Unsure: Slurm has given it up with its node, where its processes may run on.
	Unsure
)

// States that aren't Slurm's own.
const (
	// Unknown: a controller that answers doesn't know an allocation that was seen before: it has
	// ended, and has been forgotten.
	Unknown = "UNKNOWN"
	// NotSubmitted: it never was submitted, as far as a controller that answers knows.
	NotSubmitted = "NOT_SUBMITTED"
)

// states lists those with a meaning of their own. All others are Holds, unknown ones too.
var states = []struct {
	name string
	kind Kind
	gone string // how it ended
}{
	{"PENDING", Waits, ""},
	{"CONFIGURING", Waits, ""},
	{"RUNNING", Runs, ""},
	{"COMPLETED", Gone, "it had nothing to do"},
	{"CANCELLED", Gone, "canceled"},
	{"TIMEOUT", Gone, "its time limit was reached"},
	{"DEADLINE", Gone, "its deadline was reached"},
	{"PREEMPTED", Gone, "preempted"},
	{"FAILED", Gone, "what runs it failed"},
	{"OUT_OF_MEMORY", Gone, "out of memory"},
	{"BOOT_FAIL", Gone, "its node didn't boot"},
	{"NODE_FAIL", Unsure, "its node failed"},
	{Unknown, Gone, "Slurm has forgotten it"},
	{NotSubmitted, Gone, "never submitted"},
}

// KindOf gives the meaning of a state.
func KindOf(state string) (kind Kind) {
	for i := range states {
		if states[i].name == state {
			kind = states[i].kind
		}
	}
	return kind
}

// Final tells whether an allocation in this state has ended.
func Final(state string) bool {
	kind := KindOf(state)
	return kind == Gone || kind == Unsure
}

// GoneText says how an allocation ended whose state is final, as part of a sentence.
func GoneText(state string) string {
	for i := range states {
		if states[i].name == state && states[i].gone != "" {
			return states[i].gone
		}
	}
	return strings.ToLower(state)
}
