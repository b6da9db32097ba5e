// Package fleet is the link to each machine: it connects, starts runs, follows them, cancels them
// and copies their results back. It implements sched.Fleet and reports what it finds as
// sched.Outcomes.
//
// # Who may call
//
// All methods may be called from any goroutine. Those of sched.Fleet return at once and also work
// before Run, which owns every goroutine of the package and returns when all of them have ended.
// When Run's context ends, following ends and the machines' runs go on; a later Fleet with the same
// directories takes them up to the byte.
//
// # Order
//
// One goroutine per machine, its actor, owns the machine's link and what is wanted there; what is
// asked for is carried out in the order of the calls for one run, and in no particular order
// between runs. Started comes before Ended of a run; Settled after both. Nothing is reported twice
// for the same request, except Connected, Connecting, Away, Refused and CopyWaits, which come as
// often as they happen.
//
// # Durability
//
// A log on the host only grows, and its length is the offset from which following goes on. Ended is
// reported when the whole log is in the host's files and its length and checksum are those of the
// exit record; the files are made durable in batches, by one syncfs a second, and only then a run's
// directory is removed from its machine (Settle). Results are durable and in place when CopyEnded
// is reported without an error.
//
// # Links
//
// A link is an agent of ours that speaks over a byte stream: a channel of an SSH connection, or a
// child process for this host itself (local machines, and drivers). A link that breaks is made
// again, with a growing and jittered delay; meanwhile nothing is guessed about the runs behind it.
// One whose agent doesn't answer is cut. Results and code have a connection of their own, which is
// closed when it is idle; results of a machine that is far away come over several channels of it.
package fleet
