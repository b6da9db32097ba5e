package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// copyTo makes a directory of what Copy gives.
func copyTo(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	return Copy(from, func(name string, size int64, content io.Reader) error {
		text, err := io.ReadAll(content)
		if err == nil && int64(len(text)) != size {
			err = errors.New(name + " has not the size that was said")
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, 0o600)
	})
}

// TestWithSegment keeps what another version says of itself.
func TestWithSegment(t *testing.T) {
	ours := formatFile{7, "1.1.0"}.encode()
	if got := withSegment(formatFile{3, "1.1.0"}.encode(), 7); !bytes.Equal(got, ours) {
		t.Errorf("got %q, want %q", got, ours)
	}
	old := bytes.Replace(
		ours,
		fmt.Appendf(nil, "incompat %d\nsegment 7\nby 1.1.0\n", knownIncompat),
		[]byte("incompat 0\nsegment 7\nmore 1\n"),
		1,
	)
	got := withSegment(old, 12)
	if !bytes.HasPrefix(
		got,
		[]byte("jobserver state 1.0 incompat 0\nsegment 12\nmore 1\ncrc32c "),
	) {
		t.Errorf("got %q", got)
	}
	if f, err := decodeFormat(got); err != nil || f.segment != 12 {
		t.Error(f, err)
	}
}

// tornFS shows a segment as one reads it that a daemon is writing: each file that is opened lacks
// one batch, though later ones are there.
type tornFS struct {
	FS
	segment string
	missing []int64 // where it begins, for one opened file after the other
	whole   bool    // the last of them stays missing for good
}

func (f *tornFS) Open(name string, write bool) (File, error) {
	file, err := f.FS.Open(name, write)
	if err != nil || name != f.segment || len(f.missing) == 0 {
		return file, err
	}
	at := f.missing[0]
	if len(f.missing) > 1 || !f.whole {
		f.missing = f.missing[1:]
	}
	return tornFile{file, at}, nil
}

type tornFile struct {
	File
	at int64
}

func (f tornFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if from := f.at - off; from < int64(n) {
		clear(p[max(0, from):min(int64(n), max(0, from+batchAlign))])
	}
	return n, err
}

// TestLoadBeside believes damage beside a daemon at work only where it stays.
func TestLoadBeside(t *testing.T) {
	dir := t.TempDir()
	store, _, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var begins []int64
	for range 20 {
		begins = append(begins, store.off)
		if err := store.Commit([][]byte{make([]byte, 300)}); err != nil {
			t.Fatal(err)
		}
	}
	moving := &tornFS{FS: OS(dir), segment: segmentName(1), missing: begins[:15]}
	if c, err := loadBeside(moving, true); err != nil || c.spans[0].end != store.off {
		t.Errorf("beside a daemon that is always ahead: %+v, %v", c, err)
	}
	for _, running := range []bool{false, true} {
		damaged := &tornFS{OS(dir), segmentName(1), begins[3:4], true}
		var corrupt *CorruptError
		if _, err := loadBeside(damaged, running); !errors.As(err, &corrupt) ||
			corrupt.Offset != begins[3] {
			t.Errorf("a batch that stays damaged, running %v: %v", running, err)
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// TestCopyWhileCommitting copies a store that is at work: each copy has all that was acknowledged
// before it, in order, and opens as a store of its own, while commits and snapshots go on.
func TestCopyWhileCommitting(t *testing.T) {
	dir := t.TempDir()
	if err := copyTo(dir, t.TempDir()); !errors.Is(err, ErrNoState) {
		t.Errorf("of an empty directory: %v", err)
	}
	store, _, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	record := func(n uint64) []byte {
		return append(binary.BigEndian.AppendUint64(nil, n), make([]byte, 300)...)
	}
	var acknowledged atomic.Uint64
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- commitUntil(store, stop, &acknowledged, record) }()
	for i := range 30 {
		before := acknowledged.Load()
		to := filepath.Join(t.TempDir(), "copy")
		if err := copyTo(dir, to); err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
		var last uint64
		each := func(rec []byte) error {
			if n := binary.BigEndian.Uint64(rec); n != last+1 && last != 0 {
				t.Errorf("copy %d: %d follows %d", i, n, last)
			} else {
				last = n
			}
			return nil
		}
		copied, recovery, err := Open(to, Options{})
		if err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
		if err := recovery.Replay(each, each); err != nil {
			t.Errorf("copy %d: %v", i, err)
		}
		if last < before || len(recovery.Notices) > 0 {
			t.Errorf(
				"copy %d ends with %d, and %d was acknowledged: %v",
				i,
				last,
				before,
				recovery.Notices,
			)
		}
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// commitUntil commits numbers, and writes a snapshot of the newest alone now and then.
func commitUntil(
	s *Store,
	stop chan struct{},
	acknowledged *atomic.Uint64,
	record func(uint64) []byte,
) error {
	for n := uint64(1); ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := s.Commit([][]byte{record(n)}); err != nil {
			return err
		}
		acknowledged.Store(n)
		if n%50 != 0 {
			continue
		}
		mark, err := s.Rotate()
		if err != nil {
			return err
		}
		one := func(put func([]byte) error) error { return put(record(n)) }
		if err := s.WriteSnapshot(mark, one); err != nil {
			return err
		}
	}
}
