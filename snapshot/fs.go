package snapshot

import "io"

// FS is what the store needs of a file system, rooted in the state directory:
// every name is relative to it and uses slashes. OS gives the real one; the
// tests give one that records every operation and one that fails, so that the
// code which they examine is the code which runs.
//
// Nothing here is durable by itself: a file's bytes are after File.Sync or
// Pending.Commit, a name (made, replaced, renamed or removed) is after SyncDir
// of its directory.
type FS interface {
	// List returns the names in a directory, sorted. A missing directory is an
	// error that is fs.ErrNotExist.
	List(dir string) ([]string, error)
	// Open opens an existing file, for writing too if write is set.
	Open(name string, write bool) (File, error)
	// Replace begins a file that takes the place of name, if there is one, at
	// Commit. A crash before leaves a temporary file "." + base name + digits.
	Replace(name string) (Pending, error)
	Rename(from, to string) error
	Remove(name string) error
	// Mkdir makes a directory (0700); one that exists is not an error.
	Mkdir(name string) error
	SyncDir(name string) error
	// Lock takes the exclusive lock on a file, which it creates and never
	// removes, and which tells the holder's pid. It does not wait: the error is
	// a *LockedError when another process has it.
	Lock(name string) (io.Closer, error)
	// Holder tells whether a process holds the lock, and its pid (0 if unknown).
	Holder(name string) (pid int, held bool, err error)
	// Free is the number of bytes that this user may still write.
	Free() (int64, error)
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	// Extend makes the file larger, from its present size from to the size to,
	// with zeros for which disk space is really taken, so that overwriting them
	// cannot fail for want of space and changes nothing but data.
	Extend(from, to int64) error
	// Sync is fdatasync: the bytes, and the size needed to read them.
	Sync() error
	// DropCache makes later reads come from the disk rather than from memory,
	// as far as the system can. It never loses unsynced bytes.
	DropCache()
}

// Pending is a file that is written beside its name. Commit makes its bytes
// durable and then gives it the name; SyncDir makes the name durable. Cleanup
// removes what was not committed, and does nothing after Commit.
type Pending interface {
	io.Writer
	Commit() error
	Cleanup()
}
