package cli

// The exit codes; `wait` on one job exits with that job's code instead.
const (
	ExitDone         = 0
	ExitFailed       = 1   // the operation, or one of several jobs waited for
	ExitUsage        = 2   // wrong usage
	ExitNotFound     = 3   // no such job, machine, matrix, tag or variable, or nothing matched
	ExitUnavailable  = 4   // the daemon can't be reached
	ExitIncompatible = 5   // the daemon speaks another protocol
	ExitTimeout      = 124 // as timeout(1) has it
	ExitInterrupted  = 130 // as a shell has it for SIGINT
)

// ExitStatus is an error that only says how the process is to end: what there is to tell has been
// told.
type ExitStatus int

// Error is never shown.
func (s ExitStatus) Error() string { return "exit status" }
