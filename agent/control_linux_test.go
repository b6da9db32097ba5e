package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestControlOnFullDisk: a run that fills the disk can be ended.
func TestControlOnFullDisk(t *testing.T) {
	m := newMachine(t)
	mountSmall(t, m.root)
	c := m.connect()
	fifo := filepath.Join(m.login, "full")
	must(t, unix.Mkfifo(fifo, 0o600))
	for name, end := range map[string]func(RunID) error{
		"control": func(id RunID) error {
			return c.Control(m.ctx(), id, Control{Cancel: true, Grace: -1})
		},
		"kill":   func(id RunID) error { return c.Kill(m.ctx(), id) },
		"forget": func(id RunID) error { return c.Forget(m.ctx(), []RunID{id}, true) },
	} {
		t.Run(name, func(t *testing.T) {
			s := m.command("cat /dev/zero >$JOBSERVER_SCRATCH/fill; echo full >%s; exec sleep 1000",
				fifo)
			start(t, c, s)
			_, err := os.ReadFile(fifo) // waits
			must(t, err)
			must(t, end(s.Run))
			if e := follow(t, c, s.Run); name == "forget" && e.state != None || name != "forget" &&
				(e.exit == nil || e.exit.Cause != Canceled) {
				t.Errorf("state %v, exit %+v", e.state, e.exit)
			}
			if left := m.processes(s.Run); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			must(t, c.Forget(m.ctx(), []RunID{s.Run}, false))
		})
	}

	// While a run is claimed there are no blocks for an instruction. It is refused, and can be
	// repeated.
	s := m.command("true")
	m.claim(s.Run)
	fill := filepath.Join(m.root, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	if err := c.Control(m.ctx(), s.Run, Control{Cancel: true}); err == nil ||
		!strings.Contains(err.Error(), "no space") {
		t.Errorf("without blocks: %v", err)
	}
	must(t, os.Remove(fill))
	must(t, c.Control(m.ctx(), s.Run, Control{Cancel: true}))
}

// claim takes a run's lock, as an agent does that is about to launch it. The test's end lets go of
// it.
func (m *machine) claim(id RunID) *os.File {
	m.t.Helper()
	must(m.t, makeRunDir(m.dir(id)))
	lock, ok, err := openLock(filepath.Join(m.dir(id), fileRun))
	if err != nil || !ok {
		m.t.Fatal(ok, err)
	}
	m.t.Cleanup(func() { lock.Close() })
	return lock
}

// TestControlOfClaimedRun: what comes before the supervisor has made room for its records looks
// like no record of its, and is obeyed.
func TestControlOfClaimedRun(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("echo ran >%s/ran", m.login)
	lock := m.claim(s.Run)
	must(t, c.Control(m.ctx(), s.Run, Control{Cancel: true}))
	must(t, c.Control(m.ctx(), s.Run, Control{SetTimeout: true, Timeout: time.Hour}))
	if p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run}, nil); err != nil || p.State != Launching {
		t.Errorf("while it is claimed: %+v, %v", p, err)
	}
	must(t, lock.Close())
	if p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run}, nil); err != nil || p.State != None {
		t.Errorf("when the claim was cut: %+v, %v", p, err)
	}
	start(t, c, s)
	if e := follow(t, c, s.Run); e.exit == nil || e.exit.Cause != Canceled {
		t.Errorf("state %v, exit %+v", e.state, e.exit)
	}
	if _, err := os.Stat(filepath.Join(m.login, "ran")); err == nil {
		t.Error("it ran, although it was canceled")
	}
}

// TestFill: making room by writing doesn't erase an instruction.
func TestFill(t *testing.T) {
	t.Chdir(t.TempDir())
	f, err := os.Create(fileRun)
	must(t, err)
	defer f.Close()
	want := Control{Cancel: true, Grace: time.Minute}
	must(t, slotControl.write(f, want.lines))
	must(t, fill(f, slotsSize))
	var got Control
	must(t, got.read(f))
	if got != want {
		t.Errorf("%+v is %+v", want, got)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != slotsSize {
		t.Errorf("%v, %v", fi, err)
	}
}

// TestTornControl cuts an instruction after every byte. It is none then, nor an error for what
// follows.
func TestTornControl(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, fileRun)
	whole := Control{Cancel: true, Grace: -1, SetTimeout: true, Timeout: time.Hour}
	record := formatRecord(slotControl.name, whole.lines)
	for n := range len(record) {
		content := make([]byte, slotsSize)
		copy(content[slotControl.at:], record[:n])
		must(t, os.WriteFile(file, content, 0o600))
		f, err := os.Open(file)
		must(t, err)
		var got Control
		must(t, got.read(f))
		if got != (Control{}) {
			t.Fatalf("%d of %d bytes: %+v", n, len(record), got)
		}
		must(t, instruct(dir, Control{Cancel: true}, process{PID: 1, ReadsSlot: true}))
		must(t, got.read(f))
		must(t, f.Close())
		if got != (Control{Cancel: true}) {
			t.Fatalf("written over %d of %d bytes: %+v", n, len(record), got)
		}
	}
}

// TestControlOfOlderSupervisor: one that was started before slotControl was new looks for a file.
func TestControlOfOlderSupervisor(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("true")
	lock := m.claim(s.Run)
	old := process{PID: 1 << 30, StartTime: 1, BootID: "boot-1"}
	must(t, allocate(lock, slotsSize))
	must(t, slotLaunching.write(lock, old.lines))
	// What an older agent has said.
	var want Control
	for i, k := range []Control{{SetTimeout: true, Timeout: time.Hour}, {Cancel: true}} {
		want.merge(k)
		if i == 0 {
			must(t,
				os.WriteFile(filepath.Join(m.dir(s.Run), fileControl),
					formatRecord(fileControl, k.lines), 0o600))
		} else {
			must(t, c.Control(m.ctx(), s.Run, k))
		}
		var got Control
		must(t, readRecord(filepath.Join(m.dir(s.Run), fileControl), fileControl, 0, got.lines))
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Control{})); diff != "" {
			t.Error(diff)
		}
	}

	young := m.command("echo up; exec sleep 1000")
	start(t, c, young)
	awaitOutput(t, c, young.Run, "up")
	must(t, c.Control(m.ctx(), young.Run, Control{Cancel: true}))
	if e := follow(t, c, young.Run); e.exit == nil || e.exit.Cause != Canceled {
		t.Errorf("state %v, exit %+v", e.state, e.exit)
	}
	if _, err := os.Stat(filepath.Join(m.dir(young.Run), fileControl)); err == nil {
		t.Error("there is a file for a supervisor that reads the slot")
	}
}
