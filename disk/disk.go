// Package disk says what a file system is and what room it has: the one place that asks statfs(2).
package disk

// FileSystem describes a mounted file system.
type FileSystem struct {
	// Free is the space that an ordinary user may still write, in bytes.
	Free int64
	// Files is how many files may still be made; -1 where that has no limit.
	Files int64
	// Network names a file system that other hosts serve or share, whose locks and notices are
	// not to be relied on: "NFS"; "" for a local one.
	Network string
	// FUSE says that a program of somebody's serves it. That is mostly sshfs, but the root of a
	// container may be one as well.
	FUSE bool
	// NoExec says that no program on it can be run.
	NoExec bool
}

// Free gives the space that an ordinary user may still write on dir's file system, in bytes.
func Free(dir string) (int64, error) {
	fs, err := Of(dir)
	return fs.Free, err
}
