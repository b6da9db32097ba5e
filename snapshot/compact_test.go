package snapshot

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSnapshotBesideCommits writes snapshots in a goroutine while another
// commits, as the daemon does.
func TestSnapshotBesideCommits(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{Reserve: -1})
	committed := 0
	commit := func() {
		t.Helper()
		if err := s.Commit([][]byte{record(committed)}); err != nil {
			t.Fatal(err)
		}
		committed++
	}
	for range 5 {
		for range 20 {
			commit()
		}
		m, err := s.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		have := committed
		half, done := make(chan struct{}), make(chan error, 1)
		go func() {
			done <- s.WriteSnapshot(m, func(yield func([]byte) error) error {
				for i := range have {
					if i == have/2 {
						<-half // there are commits before and after
					}
					if err := yield(record(i)); err != nil {
						return err
					}
				}
				return nil
			})
		}()
		for i := range 40 {
			commit()
			s.NeedsCompaction()
			if i == 20 {
				close(half)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, r := open(t, dir, Options{Reserve: -1})
	recs, err := contentsOf(r)
	l := &ledger{submitted: committed, acked: committed, bounds: map[int]bool{committed: true}}
	if err := errors.Join(err, l.check(recs)); err != nil {
		t.Error(err)
	}
	if len(r.Notices) > 0 || r.Snapshot() != "snap-00000006" || r.Changes() != 40 {
		t.Errorf("%s, %d changes, notices %q", r.Snapshot(), r.Changes(), r.Notices)
	}
}

// TestThreeSnapshots: which files are kept as snapshots are taken.
func TestThreeSnapshots(t *testing.T) {
	fsys := newMemFS(512)
	c := &client{ledger: newLedger(), opt: Options{FS: fsys, Reserve: -1}}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for range 5 {
		if err := errors.Join(c.commit(1), c.compact()); err != nil {
			t.Fatal(err)
		}
		inv, err := takeInventory(fsys)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, fmt.Sprint(inv.snapshots, inv.segments))
	}
	want := []string{
		"[2] [1 2]",
		"[2 3] [1 2 3]",
		"[2 3 4] [2 3 4]",
		"[3 4 5] [3 4 5]",
		"[4 5 6] [4 5 6]",
	}
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Error(diff)
	}
}
