package snapshot

import (
	"errors"
	"fmt"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestReplayStops: the first error of either function ends the replay, and the
// goroutine that reads ahead with it.
func TestReplayStops(t *testing.T) {
	fsys := newMemFS(512)
	s, _ := open(t, "", Options{FS: fsys})
	m, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	const blocks = 12 // more than are read ahead
	rec := make([]byte, blockSize)
	err = s.WriteSnapshot(m, func(yield func([]byte) error) error {
		for range blocks {
			if err := yield(rec); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(records("x", 3)); err != nil {
		t.Fatal(err)
	}
	_, r := open(t, "", Options{FS: fsys})
	enough := errors.New("enough")
	for stop := range blocks + 3 {
		n := 0
		fn := func([]byte) error {
			if n++; n > stop {
				return enough
			}
			return nil
		}
		if err := r.Replay(fn, fn); err != enough || n != stop+1 {
			t.Errorf("after %d records: %d calls, %v", stop, n, err)
		}
		goleak.VerifyNone(t)
	}
}

// TestSnapshotGivenUp: a snapshot that its caller gives up leaves nothing.
func TestSnapshotGivenUp(t *testing.T) {
	fsys := newMemFS(512)
	s, _ := open(t, "", Options{FS: fsys})
	m, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	before := fmt.Sprint(fsys.List("."))
	err = s.WriteSnapshot(m, func(yield func([]byte) error) error {
		return errors.Join(yield([]byte("a")), enough)
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if after := fmt.Sprint(fsys.List(".")); after != before {
		t.Errorf("it left %s of %s", after, before)
	}
}
