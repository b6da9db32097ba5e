//go:build torture

package snapshot

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests take their time, and most of them a root who may mount a loop
// device: `make torture` runs them, with this tag. DURATION, in seconds or as a
// Go duration, is how long each of them runs.
func torture(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DURATION")
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(n) * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return time.Minute
	}
	return d
}

// TestTorturePowerCut is TestPowerCut and TestKillThenPowerCut with other seeds,
// more states, and power cuts during the recoveries.
func TestTorturePowerCut(t *testing.T) {
	end := time.Now().Add(torture(t))
	states, lives := 0, 0
	for ; time.Now().Before(end) && !t.Failed(); lives++ {
		seed := rand.Uint64()
		sim := newSimulation(seed, 10+int(seed%200), 50)
		kill := -1
		if lives%2 == 1 {
			kill = sim.rng.IntN(320)
		}
		sim.grow = int64(64 << sim.rng.IntN(5))
		if err := sim.run(kill, nil); err != nil {
			t.Errorf("seed %d, kill %d: %v", seed, kill, err)
		}
		for _, err := range sim.faults {
			t.Errorf("seed %d, kill %d: %v", seed, kill, err)
		}
		states += sim.tried
	}
	t.Logf("counted: %d states of a disk after a simulated power cut", states)
	t.Logf("counted: %d simulated lives of a daemon", lives)
}

// ext4Shutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32), and the flag that
// drops what is not in the file system's journal yet: as near to pulling the
// plug as a test comes.
const (
	ext4Shutdown     = 0x8004587d
	shutdownNoFlush  = 2
	imageSize        = 64 << 20
	commitsUntilCut  = 2000
	recordsPerCommit = 3
)

// volume is an ext4 in a file, on a loop device.
type volume struct {
	t        *testing.T
	img, mnt string
	mounted  bool
}

// newVolume makes one, and mounts it for the length of the test.
func newVolume(t *testing.T) *volume {
	t.Helper()
	dir := t.TempDir()
	v := &volume{t: t, img: filepath.Join(dir, "image"), mnt: filepath.Join(dir, "mnt")}
	v.run("truncate", "-s", strconv.Itoa(imageSize), v.img)
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", v.img).CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("no mkfs.ext4 here: %v %s", err, out))
	}
	if err := os.Mkdir(v.mnt, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", v.img, v.mnt).CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("no loop mounts here: %v %s", err, out))
	}
	v.mounted = true
	t.Cleanup(func() {
		if v.mounted {
			v.run("umount", v.mnt)
		}
	})
	return v
}

// missing skips a test for want of a tool; where the tests must be complete, it
// fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func (v *volume) run(name string, args ...string) {
	v.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		v.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// remount follows a power cut.
func (v *volume) remount() {
	v.t.Helper()
	v.run("umount", v.mnt)
	v.mounted = false
	v.run("mount", "-o", "loop", v.img, v.mnt)
	v.mounted = true
}

// cut takes the file system down without writing anything more.
func (v *volume) cut() error {
	d, err := os.Open(v.mnt)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.IoctlSetPointerInt(int(d.Fd()), ext4Shutdown, shutdownNoFlush)
}

// TestTortureExt4 cuts the power of a real ext4 while commits and snapshots go
// on, mounts it again, and compares with the ledger.
func TestTortureExt4(t *testing.T) {
	end := time.Now().Add(torture(t))
	v := newVolume(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := &client{ledger: newLedger(), opt: Options{FS: OS(v.mnt), Reserve: 1 << 20}}
	cuts := 0
	for ; time.Now().Before(end); cuts++ {
		if err := c.untilCut(v, rng); err != nil {
			t.Fatalf("cut %d: %v", cuts, err)
		}
	}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	t.Logf("counted: %d power cuts of a real ext4", cuts)
	t.Logf("counted: %d records acknowledged before them", c.acked)
	if err := c.store.Close(); err != nil {
		t.Error(err)
	}
}

// lazyFS claims to sync files.
type lazyFS struct{ FS }

func (l lazyFS) Open(name string, write bool) (File, error) {
	f, err := l.FS.Open(name, write)
	return lazyFile{f}, err
}

type lazyFile struct{ File }

func (lazyFile) Sync() error { return nil }

// TestTortureExt4Lazy: the test above is worth something, since without
// fdatasync the same cuts lose records.
func TestTortureExt4Lazy(t *testing.T) {
	v := newVolume(t)
	rng := rand.New(rand.NewPCG(1, 0))
	c := &client{ledger: newLedger(), opt: Options{FS: lazyFS{OS(v.mnt)}, Reserve: -1}}
	for range 30 {
		if err := c.untilCut(v, rng); err != nil {
			t.Logf("as it should be: %v", err)
			return
		}
	}
	if err := c.open(); err == nil {
		t.Error("30 power cuts lost nothing, though nothing was synced")
	}
}

// untilCut starts, and commits until the file system is cut off at a random
// moment. What had been acknowledged just before is what the ledger counts:
// while the file system goes down, it may claim anything.
func (c *client) untilCut(v *volume, rng *rand.Rand) error {
	if err := c.open(); err != nil {
		return err
	}
	var acked atomic.Int64
	acked.Store(int64(c.acked))
	start, sampled := make(chan struct{}), make(chan int64, 1)
	var cutErr error
	go func() {
		<-start
		n := acked.Load()
		cutErr = v.cut()
		sampled <- n
	}()
	err := c.commitUntilError(rng, &acked, start)
	c.acked = int(<-sampled)
	c.store.file.Close()
	c.store.lock.Close()
	if cutErr != nil || !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ESHUTDOWN) {
		return fmt.Errorf("commit until the cut: %w", errors.Join(err, cutErr))
	}
	v.remount()
	return nil
}

// commitUntilError commits, and takes a snapshot on the way, until it fails;
// after a random number of commits it closes start.
func (c *client) commitUntilError(rng *rand.Rand, acked *atomic.Int64, start chan struct{}) error {
	after := 2 + rng.IntN(commitsUntilCut)
	for i := range after + 1_000_000 {
		if i == after {
			close(start)
		}
		do := func() error { return c.commit(1 + rng.IntN(recordsPerCommit)) }
		if i == after/2 {
			do = c.compact
		}
		if err := do(); err != nil {
			return err
		}
		acked.Store(int64(c.acked))
	}
	return errors.New("the file system did not go")
}

// TestTortureFullDisk fills a real ext4: commits go on out of the reserve; when
// there is space again, a restart has all of them.
func TestTortureFullDisk(t *testing.T) {
	v := newVolume(t)
	c := &client{ledger: newLedger(),
		opt: Options{FS: OS(v.mnt), MinFree: 8 << 20, Reserve: 4 << 20}}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	if c.store.Full() {
		t.Error("an empty disk is full")
	}
	fill := filepath.Join(v.mnt, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = c.commit(100)
	}
	size := c.store.off
	if !errors.Is(err, ErrPoisoned) || !errors.Is(err, syscall.ENOSPC) || size < 3<<20 ||
		!c.store.Full() {
		t.Errorf("after %d bytes: %v", size, err)
	}
	if err := errors.Join(c.store.file.Close(), c.store.lock.Close(), os.Remove(fill)); err != nil {
		t.Fatal(err)
	}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of commits on a full disk", size)
	if err := c.store.Close(); err != nil {
		t.Error(err)
	}
}
