// Package snapshot keeps the daemon's durable state: snapshots, and a journal of
// what changed since. It knows bytes and their order, not what they mean.
//
// # Contract
//
// Durability: what Commit was given is on disk, as one batch, when it returns
// nil, and every later Open gives it back, whatever happened to the process or
// the power. A batch is there as a whole or not at all. One for which Commit
// did not return may be there or not; nothing else ever is.
//
// Order: Recovery.Replay gives the records of the newest sound snapshot, then
// those of the journal after it, in the order of their commits.
//
// Errors: what is longer than MaxRecord or MaxBatch is refused (ErrTooLarge), and
// changes nothing. A write or sync that failed is never tried again. Commit returns a
// *PoisonedError from then on, and the daemon stops; its next start finds out
// what is on disk.
//
// Damage: a state that differs from what was written is refused, untouched, with
// the file and the offset (*CorruptError). Two things are mended, and announced
// in Recovery.Notices: the very last batch of a journal that was not sealed, if
// it is incomplete, is what a crash leaves of a Commit that did not return; and
// if a snapshot is damaged, the one before it and the journal since make the
// same state.
//
// Callers: one goroutine calls Commit, Seal, Full, NeedsCompaction, Rotate and
// Close. WriteSnapshot may run in another, one at a time, and not during Close.
//
// # Files
//
//	lock        held with flock by the daemon; never removed
//	server-id   32 hexadecimal digits, for ever
//	format      version of the format, number of the newest segment
//	wal-<n>     a segment of the journal
//	snap-<n>    the state at the beginning of wal-<n>
//	reserve     space that is given up when the disk is full
//	quarantine/ what was set aside, by time
//
// A state that was set aside has given out ids: until the caller has reserved
// them, a file ids-not-reserved is beside it, and every Open says so.
//
// Each start, and each Rotate, makes a new segment, so that no segment is ever
// truncated, or appended to by two daemons. Its header says where the batches of
// the segment before it end, and with which checksum: behind that offset a torn
// tail may stand. The three newest snapshots are kept, and all segments since
// the oldest of them; until there are three, all segments.
//
// A segment's file is made larger ahead of its batches, with zeros, so that a
// commit is one write of data and one fdatasync that changes no metadata. The
// layouts are described at header, batch and snapshotWriter; numbers are
// little-endian, and checksums are CRC-32C.
package snapshot
