package agent

import (
	"errors"
	"io/fs"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// supervisorOf is the pid of a run's supervisor.
func (m *machine) supervisorOf(id RunID) int {
	m.t.Helper()
	v, err := look(m.dir(id), "boot-1")
	must(m.t, err)
	return v.launching.PID
}

// commandOf is the pid of a run's command.
func (m *machine) commandOf(id RunID) int {
	m.t.Helper()
	v, err := look(m.dir(id), "boot-1")
	must(m.t, err)
	return v.started.PID
}

// TestShutDown tells supervisors to end, as init does before the machine goes down.
func TestShutDown(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	const obedient = "trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.01; done"
	for name, tt := range map[string]struct {
		command string
		grace   time.Duration
		signal  func(supervisor, command int) error
		want    Exit // Cause, Code and Signal count
	}{
		"SIGTERM": {obedient, 0, func(s, _ int) error {
			return unix.Kill(s, unix.SIGTERM)
		}, Exit{Cause: ShutDown, Code: 7}},
		"SIGINT": {obedient, 0, func(s, _ int) error {
			return unix.Kill(s, unix.SIGINT)
		}, Exit{Cause: ShutDown, Code: 7}},
		"a tree that won't": {nasty, -1, func(s, _ int) error {
			return unix.Kill(s, unix.SIGTERM)
		}, Exit{Cause: ShutDown, Code: -1, Signal: 9}},
		"all at once, the command first": {"echo up; exec sleep 1000", 0, func(s, c int) error {
			return inOrder(unix.Kill(s, unix.SIGSTOP), unix.Kill(c, unix.SIGTERM),
				unix.Kill(s, unix.SIGTERM), unix.Kill(s, unix.SIGCONT))
		}, Exit{Cause: ShutDown, Code: -1, Signal: 15}},
		"the command alone": {"echo up; exec sleep 1000", 0, func(_, c int) error {
			return unix.Kill(c, unix.SIGTERM)
		}, Exit{Cause: Exited, Code: -1, Signal: 15}},
		"a terminal that is gone": {"echo up; while kill -0 $PPID; do [ -e done ] && exit 3; " +
			"sleep 0.01; done", 0, func(s, _ int) error {
			return inOrder(unix.Kill(s, unix.SIGHUP),
				os.WriteFile(filepath.Join(m.login, "done"), nil, 0o600))
		}, Exit{Cause: Exited, Code: 3}},
		"after a cancel": {"trap 'kill -TERM $PPID; exit 8' TERM; echo up; while :; do sleep " +
			"0.01; done", 0, func(s, c int) error {
			return unix.Kill(c, 0)
		}, Exit{Cause: Canceled, Code: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			s := m.command("%s", tt.command)
			s.Grace = tt.grace
			start(t, c, s)
			awaitOutput(t, c, s.Run, "up")
			must(t, tt.signal(m.supervisorOf(s.Run), m.commandOf(s.Run)))
			if tt.want.Cause == Canceled {
				must(t, c.Control(m.ctx(), s.Run, Control{Cancel: true}))
			}
			e := follow(t, c, s.Run)
			if e.exit == nil {
				t.Fatalf("state %v", e.state)
			}
			if e.exit.Cause != tt.want.Cause || e.exit.Code != tt.want.Code ||
				e.exit.Signal != tt.want.Signal {
				t.Errorf("exit %+v", e.exit)
			}
			if left := m.processes(s.Run); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			if tt.want.Cause == ShutDown {
				follow(t, c, start(t, c, m.command("true"))) // by another supervisor
			}
		})
	}
}

// inOrder is the first error.
func inOrder(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestShutDownTooLate: a command that had ended before has ended as it did, whatever it leaves
// behind.
func TestShutDownTooLate(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	// It says "up" when the supervisor has reaped the command.
	s := m.command("(trap '' TERM; while kill -0 $$ 2>/dev/null; do sleep 0.01; done; echo up; " +
		"sleep 0.2; echo late) & exit 0")
	start(t, c, s)
	awaitOutput(t, c, s.Run, "up")
	must(t, unix.Kill(m.supervisorOf(s.Run), unix.SIGTERM))
	if e := follow(t, c, s.Run); e.exit == nil || e.exit.Cause != Exited || e.exit.Code != 0 ||
		string(e.out) != "up\nlate\n" {
		t.Errorf("out %q, exit %+v", e.out, e.exit)
	}
}

// TestShutDownWhileIdle: a supervisor without a run ends, and the next run has another.
func TestShutDownWhileIdle(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	var before int
	for range 2 {
		s := m.command("echo up")
		start(t, c, s)
		follow(t, c, s.Run)
		v, err := look(m.dir(s.Run), "boot-1")
		must(t, err)
		if v.launching.PID == before {
			t.Error("it took another run after it was told to end")
		}
		before = v.launching.PID
		o, err := watchDeath(v.launching)
		must(t, err)
		must(t, unix.Kill(before, unix.SIGTERM))
		<-o.C
		o.close()
	}
}

// jumpy is a wall clock that is five hours wrong, forward and backward in turns.
func jumpy() func() time.Time {
	wrong := 5 * time.Hour
	return func() time.Time {
		wrong = -wrong
		return time.Now().Add(wrong).Round(0) // without its monotonic reading
	}
}

// superviseJumpy gives one run to a supervisor whose wall clock is jumpy, and returns how it ended.
func (m *machine) superviseJumpy(s Spec) *Exit {
	m.t.Helper()
	dir := m.dir(s.Run)
	must(m.t, makeRunDir(dir))
	lock, ok, err := openLock(filepath.Join(dir, fileRun))
	if err != nil || !ok {
		m.t.Fatal(ok, err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(m.t, err)
	ours, theirs := os.NewFile(uintptr(fds[0]), "order"), os.NewFile(uintptr(fds[1]), "order")
	conn, err := net.FileConn(ours)
	must(m.t, err)
	must(m.t, ours.Close())
	cmd := exec.Command(m.exe, "helper", "supervise-jumpy")
	cmd.ExtraFiles, cmd.Env = []*os.File{theirs}, append(m.env, superviseEnv...)
	must(m.t, cmd.Start())
	must(m.t, theirs.Close())
	sc := &supervisorConn{conn: conn.(*net.UnixConn)}
	o := order{Spec: s, RunDir: dir, BootID: "boot-1", LoginDir: m.login, Env: m.env}
	must(m.t, sc.send(encode(o.fields), lock))
	must(m.t, lock.Close())
	r, err := sc.answer()
	must(m.t, err)
	must(m.t, r.Err())
	_, _ = readMessage(conn) // that it is idle, or has ended
	must(m.t, conn.Close())
	must(m.t, cmd.Wait())
	v, err := look(dir, "boot-1")
	must(m.t, err)
	if v.exit == nil {
		m.t.Fatalf("state %v", v.state)
	}
	return v.exit
}

// jumpy runs a command that way, and gives its output too.
func (m *machine) jumpy(command string, timeout, grace time.Duration) (*Exit, string) {
	m.t.Helper()
	s := m.command("%s", command)
	s.Timeout, s.Grace = timeout, grace
	e := m.superviseJumpy(s)
	out, err := os.ReadFile(filepath.Join(m.dir(s.Run), fileOut))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // there is none of what prints nothing
		m.t.Error(err)
	}
	return e, string(out)
}

// TestDoubtIsOurs: a command that fails took the time that it took, not that in which we wait for
// what may have ended it.
func TestDoubtIsOurs(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	least := time.Duration(math.MaxInt64)
	for range 50 { // a machine under load may take long for any of them
		e := follow(t, c, start(t, c, m.command("exit 3")))
		if took := e.exit.EndedAt.Sub(e.exit.StartedAt); took < 0 ||
			took > e.exit.Duration+time.Second {
			t.Errorf("it took %v, from %v to %v", e.exit.Duration, e.exit.StartedAt, e.exit.EndedAt)
		}
		if least = min(least, e.exit.Duration); least < doubtTime {
			return
		}
	}
	t.Errorf("`exit 3` took %v at the least", least)
}

// TestClockJumps: whatever the machine's clock shows, a run has the time that it was given, and
// took the time that it took.
func TestClockJumps(t *testing.T) {
	m := newMachine(t)
	for name, tt := range map[string]struct {
		command        string
		timeout, grace time.Duration
		out            string
		want           Exit          // Cause, Code and Signal count
		atLeast        time.Duration // of its Duration
	}{
		"enough time": {"sleep 0.1; echo here; exit 3", time.Hour, 0, "here\n",
			Exit{Cause: Exited, Code: 3}, 100 * time.Millisecond},
		"too little": {"sleep 1000", 100 * time.Millisecond, 0, "",
			Exit{Cause: TimedOut, Code: -1, Signal: 15}, 100 * time.Millisecond},
		"a grace that isn't used up": {"trap 'sleep 0.1; echo obeys; exit 4' TERM; echo up; " +
			"while :; do sleep 0.01; done",
			100 * time.Millisecond, time.Minute, "up\nobeys\n", Exit{Cause: TimedOut, Code: 4},
			200 * time.Millisecond},
		"a grace that is": {nasty, 50 * time.Millisecond, 50 * time.Millisecond, "up\n",
			Exit{Cause: TimedOut, Code: -1, Signal: 9}, 100 * time.Millisecond},
		"what goes on writing": {"(sleep 0.1; echo late) & echo early", 0, 0, "early\nlate\n",
			Exit{Cause: Exited}, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			e, out := m.jumpy(tt.command, tt.timeout, tt.grace)
			// A machine under load may be too slow for a command to come as far as its trap.
			for strings.HasPrefix(tt.out, "up\n") && !strings.HasPrefix(out, "up\n") {
				if tt.timeout *= 2; tt.timeout > time.Minute {
					t.Fatalf("it isn't up after %v", tt.timeout/2)
				}
				e, out = m.jumpy(tt.command, tt.timeout, tt.grace)
			}
			if e.Cause != tt.want.Cause || e.Code != tt.want.Code || e.Signal != tt.want.Signal {
				t.Errorf("exit %+v", e)
			}
			if e.Duration < tt.atLeast || e.Duration > 30*time.Minute {
				t.Errorf("it took %v", e.Duration)
			}
			if wrong := time.Since(e.StartedAt).Abs(); wrong < 4*time.Hour {
				t.Errorf("the clock was only %v wrong", wrong)
			}
			if out != tt.out {
				t.Errorf("out %q", out)
			}
		})
	}
}
