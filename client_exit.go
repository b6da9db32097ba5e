package main

// The exit codes; `wait` on one job exits with that job's code instead.
const (
	exitDone         = 0
	exitFailed       = 1   // the operation, or one of several jobs waited for
	exitUsage        = 2   // wrong usage
	exitNotFound     = 3   // no such job, machine, matrix, tag or variable, or nothing matched
	exitUnavailable  = 4   // the daemon can't be reached
	exitIncompatible = 5   // the daemon speaks another protocol
	exitTimeout      = 124 // as timeout(1) has it
	exitInterrupted  = 130 // as a shell has it for SIGINT
)

// exitStatus is an error that only says how the process is to end: what there is to tell has been told.
type exitStatus int

// Error is never shown.
func (s exitStatus) Error() string { return "exit status" }
