package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"jobserver/disk"
)

// checkLocal refuses file systems whose locks and syncs do not promise what the journal needs. FUSE
// is not among them, since it is what the root of many containers is made of.
func checkLocal(dir string) error {
	fs, err := disk.Of(dir)
	if err != nil {
		return err
	}
	return keepsPromises(dir, fs)
}

func keepsPromises(dir string, fs disk.FileSystem) error {
	if fs.Network != "" {
		return fmt.Errorf("state directory %s is on %s: %w", dir, fs.Network, ErrNetworkFS)
	}
	return nil
}

// allocate takes disk space for a part of a file. Where the file system can't,
// the zeros that are written next take it.
func allocate(f *os.File, from, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, from, n)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil || errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
}

func fdatasync(f *os.File) error {
	for {
		// EINTR says nothing about the data: it is not a sync that failed.
		err := unix.Fdatasync(int(f.Fd()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		return nil
	}
}

func dropCache(f *os.File) {
	// Advice only: a system without it reads what is in memory.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// isMediaError tells an error of the disk itself from one of the circumstances.
func isMediaError(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG)
}
