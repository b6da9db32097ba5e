package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// space is what is known about the disk's free space. It belongs to the
// goroutine that commits.
type space struct {
	checked time.Time
	written int64 // bytes since then
	full    bool
	reserve bool // the reserve file is there
}

// spaceAfter is how many bytes may be committed before Full looks again.
const spaceAfter = 1 << 20

// Full tells that the disk has less than MinFree left, or that the reserve had
// to be given up: new work should be refused. Commit still works for as long as
// it can, so that running work can end. It looks at the disk at most once a
// second, or after a MiB of commits, and restores the reserve when there is
// space for it again.
func (s *Store) Full() bool {
	now := s.opt.Now()
	since := now.Sub(s.space.checked)
	if since < time.Second && since >= 0 && s.space.written < spaceAfter {
		return s.space.full
	}
	s.space.checked, s.space.written = now, 0
	free, err := s.fs.Free()
	if err != nil {
		s.space.full = true // a file system that can't say is in no state for more work
		return true
	}
	s.space.full = free < s.opt.MinFree
	if s.opt.Reserve > 0 && !s.space.reserve {
		s.space.full = s.space.full || free < s.opt.MinFree+s.opt.Reserve || s.makeReserve() != nil
	}
	return s.space.full
}

// makeReserve writes the reserve file. Its blocks only have to be taken, so
// its name need not survive a crash.
func (s *Store) makeReserve() error {
	if err := writeFile(s.fs, reserveName, make([]byte, s.opt.Reserve)); err != nil {
		return fmt.Errorf("make reserve: %w", err)
	}
	s.space.reserve = true
	return nil
}

// findReserve looks for the reserve file of an earlier run.
func (s *Store) findReserve() error {
	f, err := s.fs.Open(reserveName, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	s.space.reserve = size == s.opt.Reserve
	return err
}

// withReserve does something that takes space; if there is none, it gives up
// the reserve and does it once more. What it does must be repeatable: taking
// space and writing temporary files are, writing and syncing a batch are not.
func (s *Store) withReserve(do func() error) error {
	err := do()
	if !isNoSpace(err) || !s.space.reserve {
		return err
	}
	s.space.reserve, s.space.full = false, true
	if err := s.fs.Remove(reserveName); err != nil {
		return err
	}
	// Blocks may only be free when the removal is durable.
	if err := s.fs.SyncDir("."); err != nil {
		return err
	}
	return do()
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
