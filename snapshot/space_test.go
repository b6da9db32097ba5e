package snapshot

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// clock is a clock that is set by hand.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// TestFullDisk fills a disk with commits: below MinFree, Full says so, and
// commits go on; then out of the reserve; then they fail. When there is space
// again, a restart has all, and the reserve is back.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	fsys := newMemFS(512)
	fsys.size = 64 << 10
	time := &clock{noon()}
	opt := Options{FS: fsys, Now: time.Now, MinFree: 16 << 10, Reserve: 8 << 10, grow: 1 << 10}
	c := &client{ledger: newLedger(), opt: opt}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	if c.store.Full() || len(fsys.image()[reserveName]) != 8<<10 {
		t.Fatal("an empty disk is full, or there is no reserve")
	}
	full, reserve := 0, 0 // acknowledged when it began
	var err error
	for err == nil {
		time.now = time.now.Add(2e9)
		if c.store.Full() && full == 0 {
			full = c.acked
		}
		if fsys.image()[reserveName] == nil && reserve == 0 {
			reserve = c.acked
		}
		err = c.commit(1)
	}
	if !errors.Is(err, ErrPoisoned) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the commit that failed: %v", err)
	}
	if full == 0 || reserve < full+10 || c.acked < reserve+20 {
		t.Errorf("full after %d commits, the reserve went after %d, the last was %d", full, reserve,
			c.acked)
	}
	fsys.size += 64 << 10
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	if c.store.Full() || len(fsys.image()[reserveName]) != 8<<10 {
		t.Error("space is there again, but it is full, or there is no reserve")
	}
}

// TestFullIsCheap: the disk is asked once a second, or after a MiB.
func TestFullIsCheap(t *testing.T) {
	t.Parallel()
	fsys := newMemFS(512)
	time := &clock{noon()}
	s, _ := open(t, "", Options{FS: fsys, Now: time.Now, MinFree: 1 << 20})
	fsys.size = 1 << 20 // it is full from now on
	if s.Full() {
		t.Error("it was looked at twice at once")
	}
	time.now = time.now.Add(999e6)
	if s.Full() {
		t.Error("it was looked at before a second had passed")
	}
	time.now = time.now.Add(2e6)
	if !s.Full() {
		t.Error("it was not looked at after a second")
	}
	fsys.size = 1 << 30
	if err := s.Commit([][]byte{make([]byte, spaceAfter)}); err != nil {
		t.Fatal(err)
	}
	if s.Full() {
		t.Error("it was not looked at after a MiB")
	}
	fsys.size = 1 << 20
	time.now = time.now.Add(-3600e9)
	if !s.Full() {
		t.Error("it was not looked at after the clock went back")
	}
}

// TestNoRoomForSegment: a rotation for which there is no space leaves the
// journal usable.
func TestNoRoomForSegment(t *testing.T) {
	t.Parallel()
	fsys := newMemFS(512)
	opt := Options{FS: fsys, Reserve: -1, grow: 1 << 10, CompactAt: 1}
	c := &client{ledger: newLedger(), opt: opt}
	if err := errors.Join(c.open(), c.commit(1)); err != nil {
		t.Fatal(err)
	}
	fsys.size = fsys.used() + 100
	if _, err := c.store.Rotate(); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrPoisoned) {
		t.Errorf("rotation: %v", err)
	}
	if !c.store.NeedsCompaction() {
		t.Error("it doesn't want to rotate any more")
	}
	if err := c.commit(1); err != nil {
		t.Errorf("the commit after it: %v", err)
	}
	fsys.size = 0
	if err := errors.Join(c.compact(), c.open()); err != nil {
		t.Error(err)
	}
}
