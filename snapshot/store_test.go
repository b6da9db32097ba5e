package snapshot

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// records makes n records that tell where they come from.
func records(prefix string, n int) [][]byte {
	recs := make([][]byte, n)
	for i := range recs {
		recs[i] = fmt.Appendf(nil, "%s-%d", prefix, i)
	}
	return recs
}

// replayed gives the snapshot's records and the journal's.
func replayed(t *testing.T, r *Recovery) (snap, change []string) {
	t.Helper()
	err := r.Replay(
		func(rec []byte) error { snap = append(snap, string(rec)); return nil },
		func(rec []byte) error { change = append(change, string(rec)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return snap, change
}

func TestCommitAndReopen(t *testing.T) {
	dir := t.TempDir()
	s, r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Fresh || len(r.ServerID) != 32 || len(r.Notices) > 0 {
		t.Errorf("first start: %+v", r)
	}
	id := r.ServerID
	if err := s.Commit(records("a", 3)); err != nil {
		t.Fatal(err)
	}
	m, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(records("b", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteSnapshot(m, func(yield func([]byte) error) error { return yield([]byte("state")) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, r, err = Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	snap, change := replayed(t, r)
	if diff := cmp.Diff([]string{"state"}, snap); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b-0"}, change); diff != "" {
		t.Error(diff)
	}
	if r.Fresh || r.ServerID != id || len(r.Notices) > 0 || r.Changes() != 1 || r.Snapshot() != "snap-00000002" {
		t.Errorf("second start: %+v", r)
	}
}
