// Package failpoint lets tests end the program at a named place, break one of its promises on
// purpose, or give it another boot id or less patience than is usual. All this exists only in
// programs that were built with the tag failpoints; in all others the calls are empty and cost
// nothing.
//
//	JOBSERVER_FAILPOINT=fleet.start-answered:3   the third pass of this place is the process's
//	                                             last: SIGKILL
//	JOBSERVER_MUTANT=reply-before-commit         this promise is not kept
//	JOBSERVER_INSTEAD=boot-id=/tmp/other         this takes the place of the usual
//
// The environment is that of the process which reaches the place: the daemon's own for sched and
// fleet, a machine's for the agent there. A process passes one place, breaks one promise, and has
// one thing instead of another, at the most.
//
// A place is named after its room and what has just become true there. A mutant proves a test: if
// the test doesn't fail with it, it would not notice the fault either.
package failpoint
