package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// steer gives an instruction that is expected to be taken.
func steer(t *testing.T, m *machine, c *Client, id RunID, k Control) {
	t.Helper()
	must(t, c.Steer(m.ctx(), id, k))
}

// awaitPause polls until there were so many changes of a run's pause.
func awaitPause(t *testing.T, m *machine, c *Client, id RunID, changes int) Pause {
	t.Helper()
	r := PollRequest{Run: id, Wait: time.Minute}
	for {
		p, err := c.Poll(m.ctx(), r, nil)
		must(t, err)
		if p.State.Final() {
			t.Fatalf("the run has ended: %+v", p)
		}
		if p.Pause.Changes >= changes {
			return p.Pause
		}
		r.OutOff, r.MarksOff, r.Pauses = r.OutOff+p.Bytes, p.MarksOff, p.Pause.Changes
	}
}

// states gives the states of all processes of a run but its supervisor, one letter each.
func (m *machine) states(id RunID) string {
	m.t.Helper()
	v, err := look(m.dir(id), "boot-1")
	must(m.t, err)
	var all strings.Builder
	for _, p := range family(id, v.launching) {
		if p.pid != v.launching.PID {
			all.WriteByte(p.state)
		}
	}
	return all.String()
}

// awaitStates waits until the processes of a run are in such states: the kernel stops one when it
// is its turn to run, which on a busy machine comes after the signal.
func (m *machine) awaitStates(id RunID, when string, ok func(states string) bool) {
	m.t.Helper()
	ctx := m.ctx()
	for got := m.states(id); !ok(got); got = m.states(id) {
		if ctx.Err() != nil {
			m.t.Fatalf("%s, its processes are in the states %q", when, got)
		}
	}
}

// timer reads what is left on the timer of a run's supervisor, as the kernel writes it.
func (m *machine) timer(id RunID) string {
	m.t.Helper()
	v, err := look(m.dir(id), "boot-1")
	must(m.t, err)
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", v.launching.PID))
	must(m.t, err)
	for _, file := range files {
		p, _ := os.ReadFile(file)
		if _, left, ok := strings.Cut(string(p), "it_value: "); ok {
			left, _, _ = strings.Cut(left, "\n")
			return left
		}
	}
	return ""
}

const stopsTree = `(setsid sh -c 'echo up; while :; do :; done' & while :; do :; done) & wait`

func TestPause(t *testing.T) {
	onEachKernel(t, func(t *testing.T, m *machine) {
		c := m.connect()
		s := m.command(stopsTree)
		s.Timeout = time.Hour
		start(t, c, s)
		awaitOutput(t, c, s.Run, "up")
		if got := m.timer(s.Run); got == "" || got == "(0, 0)" {
			t.Errorf("the timer of a run with a time limit is %q", got)
		}
		for i := range 2 { // a pause that is repeated is none
			steer(t, m, c, s.Run, Control{SetPause: true, Pause: true})
			if p := awaitPause(t, m, c, s.Run, 1); !p.On || p.Changes != 1 || p.Total != 0 {
				t.Errorf("pause %d: %+v", i+1, p)
			}
		}
		m.awaitStates(s.Run, "while it is paused", func(states string) bool {
			return len(states) >= 3 && strings.Trim(states, "T") == ""
		})
		if got := m.timer(s.Run); got != "(0, 0)" {
			t.Errorf("while it is paused, its time limit goes on: %s", got)
		}
		c2 := m.connect() // who comes later hears of it at once
		if p := awaitPause(t, m, c2, s.Run, 1); !p.On {
			t.Errorf("another connection: %+v", p)
		}

		steer(t, m, c, s.Run, Control{SetPause: true})
		p := awaitPause(t, m, c, s.Run, 2)
		if p.On || p.Total <= 0 {
			t.Errorf("it goes on: %+v", p)
		}
		m.awaitStates(s.Run, "when it goes on", func(states string) bool {
			return !strings.Contains(states, "T")
		})
		if got := m.timer(s.Run); got == "(0, 0)" {
			t.Errorf("when it goes on, its time limit does not")
		}
		must(t, c.Control(m.ctx(), s.Run, Control{Cancel: true}))
		e := follow(t, c, s.Run).exit
		if e == nil || e.Cause != Canceled || e.Paused != p.Total {
			t.Fatalf("%+v, of which it was paused %s", e, p.Total)
		}
		if whole := e.EndedAt.Sub(e.StartedAt); e.Duration > whole-e.Paused+10*time.Millisecond {
			t.Errorf("it took %s of %s, and was paused %s", e.Duration, whole, e.Paused)
		}
	})
}

// TestPauseEnds ends runs that are paused.
func TestPauseEnds(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	const obedient = "trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.01; done"
	for name, tt := range map[string]struct {
		do    func(t *testing.T, id RunID)
		cause Cause
		says  string
	}{
		"cancel": {func(t *testing.T, id RunID) {
			must(t, c.Control(m.ctx(), id, Control{Cancel: true}))
		}, Canceled, "up\nterm\n"},
		"kill": {func(t *testing.T, id RunID) {
			must(t, c.Kill(m.ctx(), id))
		}, Canceled, "up\nterm\n"},
		"a time limit that is over when it goes on": {func(t *testing.T, id RunID) {
			must(t, c.Control(m.ctx(), id, Control{SetTimeout: true, Timeout: 1}))
			steer(t, m, c, id, Control{SetPause: true})
		}, TimedOut, "up\nterm\n"},
		"its supervisor is told to end": {func(t *testing.T, id RunID) {
			v, err := look(m.dir(id), "boot-1")
			must(t, err)
			must(t, unix.Kill(v.launching.PID, unix.SIGTERM))
		}, ShutDown, "up\nterm\n"},
		"somebody kills it": {func(t *testing.T, id RunID) {
			must(t, unix.Kill(m.commandOf(id), unix.SIGKILL))
		}, Exited, "up\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := m.command(obedient)
			start(t, c, s)
			awaitOutput(t, c, s.Run, "up")
			steer(t, m, c, s.Run, Control{SetPause: true, Pause: true})
			awaitPause(t, m, c, s.Run, 1)
			tt.do(t, s.Run)
			e := follow(t, c, s.Run)
			if e.exit == nil || e.exit.Cause != tt.cause || e.exit.Paused <= 0 {
				t.Fatalf("%v %+v", e.state, e.exit)
			}
			if got := string(e.out); !strings.HasPrefix(tt.says, got) || tt.says != got &&
				name != "kill" {
				t.Errorf("it says %q, not %q", got, tt.says)
			}
		})
	}
}

// TestPauseKeepsWhatHadStopped: what had stopped itself isn't woken.
func TestPauseKeepsWhatHadStopped(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command(`sh -c 'echo up; kill -STOP $$; echo awake' & wait`)
	start(t, c, s)
	awaitOutput(t, c, s.Run, "up")
	ctx := m.ctx()
	for !strings.Contains(m.states(s.Run), "T") { // it is about to
		must(t, ctx.Err())
	}
	steer(t, m, c, s.Run, Control{SetPause: true, Pause: true})
	awaitPause(t, m, c, s.Run, 1)
	steer(t, m, c, s.Run, Control{SetPause: true})
	awaitPause(t, m, c, s.Run, 2)
	if got := m.states(s.Run); strings.Count(got, "T") != 1 {
		t.Errorf("its processes are in the states %q", got)
	}
	must(t, c.Kill(m.ctx(), s.Run))
	if e := follow(t, c, s.Run); strings.Contains(string(e.out), "awake") {
		t.Error("what had stopped itself was woken")
	}
}

func TestSignals(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("trap 'echo one' USR1; trap 'echo two' USR2; echo up; " +
		"while :; do sleep 0.01; done")
	start(t, c, s)
	awaitOutput(t, c, s.Run, "up")
	steer(t, m, c, s.Run, Control{Signal: int(unix.SIGUSR1)})
	awaitOutput(t, c, s.Run, "one\n")
	steer(t, m, c, s.Run, Control{Signal: int(unix.SIGUSR2)})
	awaitOutput(t, c, s.Run, "two\n")
	// Another instruction doesn't repeat them.
	must(t, c.Control(m.ctx(), s.Run, Control{SetTimeout: true, Timeout: time.Hour}))
	steer(t, m, c, s.Run, Control{Signal: int(unix.SIGUSR1)})
	awaitOutput(t, c, s.Run, "one\ntwo\none\n")
	steer(t, m, c, s.Run, Control{Signal: int(unix.SIGTERM)})
	if e := follow(t, c, s.Run); e.exit.Cause != Exited || e.exit.Signal != int(unix.SIGTERM) ||
		string(e.out) != "up\none\ntwo\none\n" {
		t.Errorf("%+v, %q", e.exit, e.out)
	}
}

// TestOlderSupervisorIsNotSteered: one from before there were pauses would take none.
func TestOlderSupervisorIsNotSteered(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("true")
	lock := m.claim(s.Run)
	old := process{PID: 1 << 30, StartTime: 1, BootID: "boot-1", ReadsSlot: true}
	must(t, allocate(lock, slotsSize))
	must(t, slotLaunching.write(lock, old.lines))
	for _, k := range []Control{{SetPause: true, Pause: true}, {Signal: 10}} {
		err := c.Steer(m.ctx(), s.Run, k)
		if !errors.Is(err, ErrOlder) || !strings.Contains(err.Error(), s.Run.Name()) {
			t.Errorf("%+v: %v", k, err)
		}
		var got Control
		must(t, got.read(lock))
		if got != (Control{}) {
			t.Errorf("%+v was written for it", got)
		}
	}
	if err := c.Steer(m.ctx(), m.command("true").Run, Control{Signal: 10}); !errors.Is(err,
		ErrNoRun) {
		t.Errorf("of a run that isn't there: %v", err)
	}
}
