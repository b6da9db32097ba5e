// Package agent is what runs on a machine, and the client by which the host speaks with it.
//
// There are two processes. The agent (Main) is the machine's end of one connection: it speaks
// frames on its standard input and output, starts runs, reads their files, and ends with its input.
// It keeps nothing: killing it at any moment loses nothing and touches no run. The supervisor
// (SuperviseMain), one per run and in a session of its own, starts the command, collects its
// output, ends it when it is canceled or takes too long, and records how it ended. It may take
// another run when nothing is left of the one before and its agent still lives. From the moment
// that a run has its supervisor, the two only meet in the run's directory, whose files are
// described in rundir.go.
//
// A run ends when its command does. What the command leaves behind may write on for a second, then
// it is killed. The time that a slow disk takes for what the command itself has written doesn't
// count, and none of that is lost. A supervisor that is itself told to end, as init tells
// everything before a machine goes down, ends its command and records ShutDown: nobody knows how
// the command would have ended. One that had ended before is left at that.
//
// # What is promised
//
// A run's command starts at most once for its token, whatever is repeated, raced or killed, and not
// at all over a connection whose machine a later one has taken over: what that one didn't find, or
// has forgotten, doesn't come back. Output files only grow, so a reader that remembers its offset
// goes on to the byte. The exit record is written last, once, into blocks that were allocated
// before the command began, and carries lengths and checksums of what it sums up. When it is there,
// nothing of the run is left alive. When a supervisor dies without it, the command dies too
// (PDEATHSIG), its children are killed by the first agent that looks, and the run's state is
// Vanished. What can't be known is Ambiguous.
//
// Nothing here survives the reboot of a machine except files; a run of another boot without exit
// record has vanished. Therefore nothing is synced.
//
// # Who may call
//
// Main and SuperviseMain belong to the program's main function, each in a process of its own:
// they reap whatever child ends, and change the process's signal handling and memory limits. A
// Client may be used by many goroutines.
package agent
