package fleet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jobserver/sched"
	"jobserver/sched/statepb"
)

// pin makes a run's directory one that can't be removed, as one is in which another user has left
// files, until free is called.
func (h *host) pin(r sched.Run) (free func()) {
	h.t.Helper()
	dir := h.runDir(r)
	freed := false
	undo := func() error { return os.Chmod(filepath.Dir(dir), 0o700) }
	if os.Getuid() == 0 { // who may write everywhere, but remove no mount
		scratch := filepath.Join(dir, "scratch")
		if err := unix.Mount(scratch, scratch, "", unix.MS_BIND, ""); err != nil {
			h.t.Fatal(err)
		}
		undo = func() error {
			for _, name := range []string{filepath.Base(dir), ".forgotten-" + filepath.Base(dir)} {
				if unix.Unmount(
					filepath.Join(filepath.Dir(dir), name, "scratch"),
					unix.MNT_DETACH,
				) == nil {
					return nil
				}
			}
			return os.ErrNotExist
		}
	} else if err := os.Chmod(filepath.Dir(dir), 0o500); err != nil {
		h.t.Fatal(err)
	}
	free = func() {
		if freed {
			return
		}
		freed = true
		if err := undo(); err != nil {
			h.t.Error(err)
		}
	}
	h.t.Cleanup(free)
	return free
}

// quickly makes what a machine refuses be tried again at once.
func quickly(o *Options) {
	o.RemoveMin, o.RemoveMax, o.StrangersEvery = 2*time.Millisecond, 20*time.Millisecond,
		5*time.Millisecond
}

// TestUnremovable: of a run whose directory can't be removed it is said that nothing of it lives,
// then why it can't be; it is tried again on the same link, also after a restart, and then without
// its log.
func TestUnremovable(t *testing.T) {
	h := newHost(t, nil, quickly)
	h.connected("local")
	r := job("local", 1, "")
	g := newGate(t)
	r.Command = []byte(g.command() + "; kill -KILL $PPID; sleep 100")
	h.Start(r)
	g.reached()
	free := h.pin(r)
	g.open(t)
	await[sched.RunLost](h, nil)
	owed := &statepb.Obligation{Run: r.Ref, Cancel: true}
	h.Settle(owed)
	if o := await[sched.Stopped](h, nil); o.Unremoved != "" {
		t.Errorf("the first that is said of it is %q", o.Unremoved)
	}
	said := await(h, func(o sched.Stopped) bool { return o.Unremoved != "" })
	if !strings.Contains(said.Unremoved, filepath.Dir(h.runDir(r))) {
		t.Errorf("no path is said: %q", said.Unremoved)
	}

	h.halt()
	log := sched.LogPath(h.opt.LogDir, r.Ref, false)
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	h.run()
	h.connected("local")
	owed.Stopped, owed.Unremoved = true, said.Unremoved
	h.Settle(owed)
	await(h, func(o sched.Stopped) bool { return o.Unremoved != "" })
	free()
	await[sched.Settled](h, nil)
	if _, err := os.Stat(log); err == nil {
		t.Error("its log was fetched again")
	}
}

// TestDropOwed: what is owed no more isn't tried again, and a machine of no other use is let go of.
func TestDropOwed(t *testing.T) {
	h := newHost(t, nil, quickly)
	h.connected("local")
	r := job("local", 1, "exit 1")
	g := newGate(t)
	r.Command = []byte(g.command())
	h.Start(r)
	g.reached()
	h.pin(r)
	g.open(t)
	await[sched.Ended](h, nil)
	h.Settle(&statepb.Obligation{Run: r.Ref})
	await(h, func(o sched.Stopped) bool { return o.Unremoved != "" })
	h.Drop(r.Ref)
	runs := make(chan int)
	h.inform("local", func(m *machine) { runs <- len(m.runs) })
	if n := <-runs; n != 0 {
		t.Errorf("%d runs are known still", n)
	}
}

// TestGoneIsLeftAlone: a machine that has left the pool isn't connected to while what it owes
// rests.
func TestGoneIsLeftAlone(t *testing.T) {
	h := newHost(t, nil, func(o *Options) { o.RemoveMin, o.RemoveMax = time.Hour, time.Hour })
	r := job("local", 1, "")
	g := newGate(t)
	r.Command = []byte(g.command())
	h.connected("local")
	h.Start(r)
	g.reached()
	free := h.pin(r)
	g.open(t)
	await[sched.Ended](h, nil)
	h.inform("local", func(m *machine) { m.pool = false })
	h.Settle(&statepb.Obligation{Run: r.Ref})
	await(h, func(o sched.Stopped) bool { return o.Unremoved != "" })
	linked := make(chan bool)
	for left := true; left; { // each look is a turn of the actor's
		h.inform("local", func(m *machine) { linked <- m.link != nil })
		left = <-linked
	}
	free()
	if err := h.Clean(t.Context(), "local", []*statepb.RunRef{r.Ref}); err != nil {
		t.Error(err)
	}
	await[sched.Settled](h, nil)
}

// TestStrangers: a run that nothing here knows is said to live, and is looked at until it has
// ended.
func TestStrangers(t *testing.T) {
	h := newHost(t, nil, quickly)
	h.connected("local")
	g := newGate(t)
	r := job("local", 1, g.command())
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	h.halt()
	h.run() // a daemon that has lost its state
	if c := h.connected("local"); len(c.Runs) != 1 || c.Over[r.Ref.Token] {
		t.Errorf("of a run that lives is said %v, %v", c.Runs, c.Over)
	}
	g.open(t)
	await(h, func(o sched.Connected) bool { return len(o.Runs) == 1 && o.Over[r.Ref.Token] })
}

// TestDirectoryRemoved: a run whose directory was removed isn't called lost before nothing of it
// lives.
func TestDirectoryRemoved(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	g := newGate(t)
	alive := filepath.Join(t.TempDir(), "alive")
	r := job("local", 1, "exec 9>"+alive+"; flock 9; "+g.command())
	h.Start(r)
	g.reached()
	if err := os.RemoveAll(h.runDir(r)); err != nil {
		t.Fatal(err)
	}
	await[sched.RunLost](h, nil)
	f, err := os.Open(alive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("it lives: %v", err)
	}
}
