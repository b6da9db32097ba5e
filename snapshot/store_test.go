package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
	if err := s.WriteSnapshot(m,
		func(yield func([]byte) error) error { return yield([]byte("state")) }); err != nil {
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
	if r.Fresh || r.ServerID != id || len(r.Notices) > 0 || r.Changes() != 1 ||
		r.Snapshot() != "snap-00000002" {
		t.Errorf("second start: %+v", r)
	}
}

func open(t *testing.T, dir string, opt Options) (*Store, *Recovery) {
	t.Helper()
	s, r, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, r
}

func TestPrivateDirectory(t *testing.T) {
	dir := t.TempDir() + "/a/state"
	open(t, dir, Options{})
	for _, name := range []string{"", "/../", "/server-id", "/format", "/wal-00000001", "/lock",
		"/reserve"} {
		info, err := os.Stat(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%q has mode %v", name, mode)
		}
	}
	shared := t.TempDir()
	if err := os.Chmod(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, shared, Options{})
	if info, err := os.Stat(shared); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a directory that existed: %v, %v", info.Mode(), err)
	}
}

func TestTwoDaemons(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{})
	_, _, err := Open(dir, Options{})
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("second daemon: %v", err)
	}
	if err := s.Commit(records("a", 1)); err != nil {
		t.Errorf("the first one was disturbed: %v", err)
	}
	if r, err := Check(dir); err != nil || !r.Running || r.PID != os.Getpid() || !r.Sound() {
		t.Errorf("check beside a daemon: %+v, %v", r, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(records("b", 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after Close: %v", err)
	}
	open(t, dir, Options{})
}

// TestLockOfTheDead: a daemon that was killed while it forked leaves its lock to
// the child, for a moment. The next one waits for that.
func TestLockOfTheDead(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(lock, dead.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "0.1")
	child.ExtraFiles = []*os.File{lock}
	if err := errors.Join(child.Start(), lock.Close()); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestManyRestarts: a daemon that starts again and again does not fill the
// directory, and what it leaves is compacted.
func TestManyRestarts(t *testing.T) {
	fsys := newMemFS(512)
	opt := Options{FS: fsys, grow: 256}
	for range 20 {
		open(t, "", opt)
	}
	if n := len(fsys.image().names("wal-")); n != 1 {
		t.Errorf("%d segments after 20 starts without a commit", n)
	}
	for i := range 102 {
		s, r := open(t, "", opt)
		if got := int(r.Changes()); got != i {
			t.Fatalf("start %d: %d changes", i, got)
		}
		if err := s.Commit(records("x", 1)); err != nil {
			t.Fatal(err)
		}
		if need := s.NeedsCompaction(); need != (i > 99) {
			t.Errorf("start %d: NeedsCompaction is %v", i, need)
		}
	}
}

func TestNeedsCompaction(t *testing.T) {
	s, _ := open(t, "", Options{FS: newMemFS(512), CompactAt: 1000})
	commit := func(n int) {
		t.Helper()
		if err := s.Commit([][]byte{make([]byte, n)}); err != nil {
			t.Fatal(err)
		}
	}
	commit(900)
	if s.NeedsCompaction() {
		t.Error("too early")
	}
	commit(100)
	if !s.NeedsCompaction() {
		t.Error("not after CompactAt")
	}
	m, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if s.NeedsCompaction() {
		t.Error("again, while the snapshot is written")
	}
	if err := s.WriteSnapshot(m,
		func(func([]byte) error) error {
			return io.ErrUnexpectedEOF
		}); err == nil || !s.NeedsCompaction() {
		t.Errorf("not after one that failed: %v", err)
	}
	if m, err = s.Rotate(); err != nil || s.NeedsCompaction() {
		t.Errorf("while it is tried again: %v", err)
	}
	incompressible := make([]byte, 4000)
	rand.NewChaCha8([32]byte{}).Read(incompressible)
	err = s.WriteSnapshot(m, func(yield func([]byte) error) error { return yield(incompressible) })
	if err != nil {
		t.Fatal(err)
	}
	commit(1900)
	if s.NeedsCompaction() {
		t.Error("before half the snapshot")
	}
	commit(200)
	if !s.NeedsCompaction() {
		t.Error("not after half the snapshot")
	}
}

// TestTornTail: the last batch, incomplete, is set aside in a copy, and the
// segment stays as it is.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{})
	for _, name := range []string{"a", "b"} {
		if err := s.Commit(records(name, 1)); err != nil {
			t.Fatal(err)
		}
	}
	torn := s.off - 8
	s.lock.Close() // as a kill does
	path := dir + "/wal-00000001"
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 8), torn); err != nil {
		t.Fatal(err)
	}
	f.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) }
	s, r := open(t, dir, Options{Now: now})
	if _, change := replayed(t, r); !cmp.Equal(change, []string{"a-0"}) {
		t.Errorf("recovered %q", change)
	}
	if len(r.Notices) != 2 || !strings.Contains(r.Notices[0], "wal-00000001, at offset 120") {
		t.Errorf("notices: %q", r.Notices)
	}
	aside, err := os.ReadFile(dir + "/quarantine/20300102T030405Z/wal-00000001.offset-120")
	if err != nil || !bytes.HasPrefix(before[120:], aside) || len(aside) < batchHeader-4 {
		t.Errorf("set aside: %q, %v", aside, err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("the segment was changed")
	}
	if err := s.Commit(records("c", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, r = open(t, dir, Options{Now: now})
	if _, change := replayed(t, r); !cmp.Equal(change, []string{"a-0", "c-0"}) ||
		len(r.Notices) > 0 {
		t.Errorf("the next start: %q, notices %q", change, r.Notices)
	}
}

func TestSweepTemporaries(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".snap-000000021234", ".format77", ".wal-000000015", ".bashrc"} {
		if err := os.WriteFile(dir+"/"+name, []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, Options{})
	left, err := filepath.Glob(dir + "/.*")
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != ".bashrc" {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestLargeRecords: as large as they may be, and one byte more.
func TestLargeRecords(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{Reserve: -1})
	large := make([]byte, maxRecord)
	rand.NewChaCha8([32]byte{}).Read(large[:1<<20])
	if err := s.Commit([][]byte{nil, large, []byte("x")}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	err = s.WriteSnapshot(m, func(yield func([]byte) error) error {
		return errors.Join(yield(nil), yield(large), yield([]byte("x")))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteSnapshot(m,
		func(yield func([]byte) error) error { return yield(append(large, 0)) }); err == nil {
		t.Error("a snapshot took a record that is too large")
	}
	if err := s.Commit([][]byte{large[:5]}); err != nil {
		t.Errorf("after a snapshot that was given up: %v", err)
	}
	var many [][]byte
	for range MaxBatch / MaxRecord {
		many = append(many, large)
	}
	for what, records := range map[string][][]byte{"a record": {append(large, 0)},
		"a batch": many} {
		if err := s.Commit(records); !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrPoisoned) {
			t.Errorf("%s that is too large: %v", what, err)
		}
	}
	if err := s.Commit([][]byte{large[:6]}); err != nil {
		t.Errorf("after one that was refused: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	_, r := open(t, dir, Options{Reserve: -1})
	var sizes []int
	same := true
	count := func(rec []byte) error {
		sizes = append(sizes, len(rec))
		same = same && (len(rec) != len(large) || bytes.Equal(rec, large))
		return nil
	}
	if err := r.Replay(count, count); err != nil || !same ||
		!cmp.Equal(sizes, []int{0, maxRecord, 1, 5, 6}) {
		t.Errorf("replayed %d, same %v, %v", sizes, same, err)
	}
}
