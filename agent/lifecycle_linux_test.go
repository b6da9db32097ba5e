package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func TestStartOnce(t *testing.T) {
	m := newMachine(t)
	ledger := filepath.Join(m.login, "ledger")
	s := m.command("echo run >>%s; sleep 0.05", ledger)
	clients := make([]*Client, 4)
	for i := range clients {
		clients[i] = m.connect()
	}
	var g errgroup.Group
	at := make([]time.Time, 40)
	for i := range at {
		g.Go(func() error {
			r, err := clients[i%len(clients)].Start(m.ctx(), []Spec{s})
			if err != nil {
				return err
			}
			at[i] = r[0].StartedAt
			return r[0].Err()
		})
	}
	must(t, g.Wait())
	follow(t, clients[0], s.Run)
	runs, err := os.ReadFile(ledger)
	must(t, err)
	if string(runs) != "run\n" {
		t.Errorf("the command ran %d times", strings.Count(string(runs), "\n"))
	}
	for _, a := range at {
		if a.IsZero() || !a.Equal(at[0]) {
			t.Errorf("started at %v and %v", at[0], a)
		}
	}
}

func TestStartAfterForeignClaim(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("true")
	// An agent that claimed the run and died before it launched anything.
	must(t, os.MkdirAll(m.dir(s.Run), 0o700))
	lock, ok, err := openLock(filepath.Join(m.dir(s.Run), fileRun))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run}, nil)
	must(t, err)
	if p.State != Launching {
		t.Errorf("state %v while claimed", p.State)
	}
	started := make(chan error, 1)
	go func() {
		r, err := c.Start(m.ctx(), []Spec{s})
		if err == nil {
			err = r[0].Err()
		}
		started <- err
	}()
	must(t, lock.Close())
	must(t, <-started)
	if e := follow(t, c, s.Run); e.exit == nil {
		t.Errorf("state %v", e.state)
	}
}

func TestAmbiguousStart(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	for name, write := range map[string]func(f *os.File) error{
		"launching": func(f *os.File) error {
			p := process{PID: 1, StartTime: 1, BootID: "boot-1"}
			return slotLaunching.write(f, p.lines)
		},
		"torn launching": func(f *os.File) error {
			_, err := f.WriteAt([]byte("jobserver laun"), 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := m.command("echo never >>%s/never", m.login)
			must(t, os.MkdirAll(m.dir(s.Run), 0o700))
			f, err := os.Create(filepath.Join(m.dir(s.Run), fileRun))
			must(t, err)
			must(t, f.Truncate(slotsSize))
			must(t, write(f))
			must(t, f.Close())
			if r := startResult(t, c, s); !errors.Is(r.Err(), ErrAmbiguous) {
				t.Errorf("start: %+v", r)
			}
			if e := follow(t, c, s.Run); e.state != Ambiguous {
				t.Errorf("state %v", e.state)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(m.login, "never")); err == nil {
		t.Error("an ambiguous run was started")
	}
}

func TestOtherBoot(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("true")
	s.BootID = "boot-0"
	if r := startResult(t, c, s); !errors.Is(r.Err(), ErrOtherBoot) {
		t.Errorf("start: %+v", r)
	}
	if _, err := os.Stat(m.dir(s.Run)); err == nil {
		t.Error("a refused start left a directory")
	}
	if p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run}, nil); err != nil || p.State != None {
		t.Errorf("poll: %+v, %v", p, err)
	}
	s.BootID = "boot-1"
	start(t, c, s)
	follow(t, c, s.Run)

	// The machine boots while a run is on.
	long := m.command("echo up; sleep 1000")
	start(t, c, long)
	awaitOutput(t, c, long.Run, "up")
	killSupervisor(t, m, long.Run)
	m.boots("boot-2")
	c = m.connect()
	if e := follow(t, c, long.Run); e.state != Vanished {
		t.Errorf("after the boot: %v", e.state)
	}
	if got := c.Machine().BootID; got != "boot-2" {
		t.Errorf("boot id %q", got)
	}
	if e := follow(t, c, s.Run); e.state != Ended || e.exit.BootID != "boot-1" {
		t.Errorf("a run that ended before the boot: %+v", e)
	}
}

func killSupervisor(t *testing.T, m *machine, id RunID) {
	t.Helper()
	v, err := look(m.dir(id), "boot-1")
	must(t, err)
	must(t, unix.Kill(v.launching.PID, unix.SIGKILL))
}

func TestSupervisorDies(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("setsid sh -c 'trap \"\" TERM HUP; echo up; sleep 1000' & wait")
	start(t, c, s)
	awaitOutput(t, c, s.Run, "up")
	polled := make(chan ended, 1)
	go func() {
		e, err := followTo(c, s.Run, func(ended) bool { return false })
		if err != nil {
			t.Error(err)
		}
		polled <- e
	}()
	killSupervisor(t, m, s.Run)
	if e := <-polled; e.state != Vanished || e.exit != nil {
		t.Errorf("state %v, exit %v", e.state, e.exit)
	}
	if left := m.processes(s.Run); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if r := startResult(t, c, s); r.Status != StartOK || r.StartedAt.IsZero() {
		t.Errorf("repeated start: %+v", r)
	}
	must(t, c.Forget(m.ctx(), []RunID{s.Run}, false))
}

// processes finds those that have a run's name in their environment.
func (m *machine) processes(id RunID) (found []int) {
	all, err := allProcesses()
	must(m.t, err)
	for _, p := range all {
		if p.state != 'Z' && hasVariable(p.pid, []byte(envRun+"="+id.String())) {
			found = append(found, p.pid)
		}
	}
	return found
}

func TestAgentDies(t *testing.T) {
	m := newMachine(t)
	l := m.dial()
	c, err := Connect(m.ctx(), l)
	must(t, err)
	fifo := filepath.Join(m.login, "go")
	must(t, unix.Mkfifo(fifo, 0o600))
	s := m.command("echo one; cat %s; echo two; exit 3", fifo)
	start(t, c, s)
	before := awaitOutput(t, c, s.Run, "one\n")
	must(t, l.cmd.Process.Kill())
	<-c.Done()
	if _, err := c.Poll(m.ctx(), PollRequest{Run: s.Run}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("poll on a dead agent: %v", err)
	}
	c.Close()

	c = m.connect()
	if r := startResult(t, c, s); r.Status != StartOK {
		t.Errorf("start again: %+v", r)
	}
	must(t, os.WriteFile(fifo, []byte("between\n"), 0))
	var e ended
	p, err := c.Poll(m.ctx(),
		PollRequest{Run: s.Run, OutOff: int64(len(before.out)), Wait: time.Minute,
			Linger: time.Minute}, e.take)
	must(t, err)
	if p.Exit == nil || p.Exit.Code != 3 || string(e.out) != "between\ntwo\n" {
		t.Errorf("after the agent's death: %+v, out %q", p.Exit, e.out)
	}
}

// nasty is a tree that no signal to a process or a group ends: it changes session, ignores what can
// be ignored, forks twice, and starts again what dies.
const nasty = `
trap "" TERM HUP INT
respawn() { while :; do setsid sh -c 'trap "" TERM; sleep 1000'; done; }
respawn & respawn &
setsid sh -c '(trap "" TERM; sleep 1000 & sleep 1000) & (sleep 1000 &)' &
for i in 1 2 3 4 5; do (setsid sleep 1000 &); done
echo up
while :; do sleep 1000; done
`

func TestCancel(t *testing.T) {
	onEachKernel(t, func(t *testing.T, m *machine) {
		c := m.connect()
		for name, tt := range map[string]struct {
			command string
			control Control
			want    Exit // Cause, Code and Signal count
		}{
			"obeys": {command: "trap 'echo term; exit 7' TERM; echo up; while :; do sleep " +
				"0.01; done", control: Control{Cancel: true}, want: Exit{Cause: Canceled, Code: 7}},
			"sleeps": {command: "echo up; exec sleep 1000", control: Control{Cancel: true},
				want: Exit{Cause: Canceled, Code: -1, Signal: 15}},
			"stopped": {command: "echo up; kill -STOP $$; sleep 1000",
				control: Control{Cancel: true}, want: Exit{Cause: Canceled, Code: -1, Signal: 15}},
			"nasty": {command: nasty,
				control: Control{Cancel: true, Grace: 50 * time.Millisecond},
				want:    Exit{Cause: Canceled, Code: -1, Signal: 9}},
			"no grace": {command: nasty, control: Control{Cancel: true, Grace: -1},
				want: Exit{Cause: Canceled, Code: -1, Signal: 9}},
			"new timeout": {command: nasty,
				control: Control{SetTimeout: true, Timeout: time.Millisecond, Grace: -1},
				want:    Exit{Cause: TimedOut, Code: -1, Signal: 9}},
		} {
			t.Run(name, func(t *testing.T) {
				s := m.command("%s", tt.command)
				start(t, c, s)
				awaitOutput(t, c, s.Run, "up")
				must(t, c.Control(m.ctx(), s.Run, tt.control))
				e := follow(t, c, s.Run)
				if e.exit == nil {
					t.Fatalf("state %v", e.state)
				}
				if e.exit.Cause != tt.want.Cause || e.exit.Code != tt.want.Code ||
					e.exit.Signal != tt.want.Signal || e.exit.Left != 0 {
					t.Errorf("exit %+v", e.exit)
				}
				if left := m.processes(s.Run); len(left) > 0 {
					t.Errorf("processes are left: %v", left)
				}
				must(t, c.Control(m.ctx(), s.Run, tt.control)) // no error when it is over
			})
		}
		if err := c.Control(m.ctx(), m.command("").Run, Control{Cancel: true}); !errors.Is(err,
			ErrNoRun) {
			t.Errorf("control of no run: %v", err)
		}
	})
}

func TestCancelIsAcknowledged(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("trap '' TERM; echo up; while :; do sleep 1000; done")
	start(t, c, s)
	e := awaitOutput(t, c, s.Run, "up")
	must(t, c.Control(m.ctx(), s.Run, Control{Cancel: true, Grace: time.Hour}))
	p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run, OutOff: int64(len(e.out)), Wait: time.Minute},
		nil)
	must(t, err)
	if p.Ending != Canceled || p.State != Running {
		t.Errorf("after the cancel: ending %v, state %v", p.Ending, p.State)
	}
	must(t, c.Control(m.ctx(), s.Run, Control{Grace: -1})) // losing patience
	if e := follow(t, c, s.Run); e.exit == nil || e.exit.Cause != Canceled {
		t.Errorf("exit %+v", e.exit)
	}
}

func TestTimeout(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("%s", nasty)
	s.Timeout, s.Grace = 100*time.Millisecond, -1
	start(t, c, s)
	// Nobody is connected when the time is up.
	c.Close()
	w := newWatcher()
	defer w.close()
	news, err := w.add(m.dir(s.Run))
	must(t, err)
	defer news.close()
	for {
		v, err := look(m.dir(s.Run), "boot-1")
		must(t, err)
		if v.state == Ended {
			break
		}
		<-news.C
	}
	c = m.connect()
	e := follow(t, c, s.Run)
	if e.exit.Cause != TimedOut || e.exit.Signal != 9 || e.exit.Duration < s.Timeout {
		t.Errorf("exit %+v", e.exit)
	}
	if left := m.processes(s.Run); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

func TestTimeoutTakenBack(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	fifo := filepath.Join(m.login, "go")
	must(t, unix.Mkfifo(fifo, 0o600))
	s := m.command("cat %s; sleep 0.05", fifo)
	s.Timeout = time.Hour
	start(t, c, s)
	must(t, c.Control(m.ctx(), s.Run, Control{SetTimeout: true}))
	must(t, os.WriteFile(fifo, nil, 0))
	if e := follow(t, c, s.Run); e.exit == nil || e.exit.Cause != Exited {
		t.Errorf("exit %+v", e.exit)
	}
}

func TestLeftovers(t *testing.T) {
	onEachKernel(t, func(t *testing.T, m *machine) {
		c := m.connect()
		// A child that is still writing when the command ends may finish; one that stays is killed.
		s := m.command("(sleep 0.1; echo late) & echo early")
		start(t, c, s)
		e := follow(t, c, s.Run)
		if string(e.out) != "early\nlate\n" || e.exit.Killed != 0 || e.exit.Cause != Exited {
			t.Errorf("out %q, exit %+v", e.out, e.exit)
		}
		s = m.command("(setsid sleep 1000 &) ; echo done")
		start(t, c, s)
		e = follow(t, c, s.Run)
		if string(e.out) != "done\n" || e.exit.Killed != 1 || e.exit.Cause != Exited ||
			e.exit.Code != 0 {
			t.Errorf("out %q, exit %+v", e.out, e.exit)
		}
		if left := m.processes(s.Run); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
	})
}

func TestOrphansAreReaped(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command(
		`i=0; while [ $i -lt 20 ]; do (true & true); i=$((i+1)); done; sleep 0.05; grep -c . /proc/$PPID/task/$PPID/children; cat /proc/$PPID/task/$PPID/children | wc -w`,
	)
	start(t, c, s)
	if e := follow(t, c, s.Run); string(e.out) != "1\n1\n" {
		t.Errorf("the supervisor's children: %q %q", e.out, e.err)
	}
}

func TestListForgetKill(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	over := m.command("true")
	start(t, c, over)
	follow(t, c, over.Run)
	on := m.command("echo up; sleep 1000")
	on.Run.Machine = "m2"
	start(t, c, on)
	awaitOutput(t, c, on.Run, "up")

	list := func(server, machine string) string {
		t.Helper()
		runs, err := c.List(m.ctx(), server, machine)
		must(t, err)
		var names []string
		for _, r := range runs {
			names = append(names, fmt.Sprintf("%s %v", r.Run.Name(), r.State))
			if (r.PID != 0) != (r.State == Running) || r.StartedAt.IsZero() ||
				(r.Exit != nil) != (r.State == Ended) {
				t.Errorf("listed: %+v", r)
			}
		}
		return strings.Join(names, ", ")
	}
	if got, want := list(m.server, ""), "1.1.0-t1 ended, 2.1.0-t2 running"; got != want {
		t.Errorf("list: %s; want %s", got, want)
	}
	if got, want := list(m.server, "m2"), "2.1.0-t2 running"; got != want {
		t.Errorf("list of a machine: %s; want %s", got, want)
	}
	if got := list("other", ""); got != "" {
		t.Errorf("list of another server: %s", got)
	}
	if err := c.Forget(m.ctx(), []RunID{over.Run, on.Run}, false); !errors.Is(err, ErrRunning) {
		t.Errorf("forget: %v", err)
	}
	if got, want := list("", ""), "2.1.0-t2 running"; got != want {
		t.Errorf("after forget: %s; want %s", got, want)
	}
	must(t, c.Kill(m.ctx(), on.Run))
	if got, want := list("", ""), "2.1.0-t2 ended"; got != want {
		t.Errorf("after kill: %s; want %s", got, want)
	}
	must(t, c.Forget(m.ctx(), []RunID{on.Run, over.Run}, false))
	if got := list("", ""); got != "" {
		t.Errorf("after the last forget: %s", got)
	}
	on = m.command("mkdir -p \"$JOBSERVER_SCRATCH\"/a/b; chmod 0 \"$JOBSERVER_SCRATCH\"/a; echo " +
		"up; sleep 1000")
	start(t, c, on)
	awaitOutput(t, c, on.Run, "up")
	must(t, c.Forget(m.ctx(), []RunID{on.Run}, true))
	if _, err := os.Stat(m.dir(on.Run)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a forced forget: %v", err)
	}
}

// TestListBadDirectories: what is wrong with one run is wrong with no other, and doesn't end the
// connection.
func TestListBadDirectories(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	good := m.command("true")
	start(t, c, good)
	follow(t, c, good.Run)
	garbage, newer := m.command("").Run, m.command("").Run
	for id, content := range map[RunID]string{garbage: "GARBAGE\n", newer: "jobserver launching " +
		"99 0 00000000\n"} {
		must(t, makeRunDir(m.dir(id)))
		must(t,
			os.WriteFile(filepath.Join(m.dir(id), fileRun),
				append([]byte(content), make([]byte, slotsSize)...), 0o600))
	}
	// A file system that is mounted in it keeps even root from removing what is left of a forgotten
	// run.
	trash := filepath.Join(filepath.Dir(m.dir(good.Run)), forgotten+"9.1.0-t9")
	must(t, os.Mkdir(trash, 0o700))
	t.Run("mounted", func(t *testing.T) {
		mountSmall(t, filepath.Join(trash, "mount"))
		listed(t, m, c, "1.1.0-t1 ended, 2.1.0-t2 ambiguous, 3.1.0-t3 ambiguous")
	})
	listed(t, m, c, "1.1.0-t1 ended, 2.1.0-t2 ambiguous, 3.1.0-t3 ambiguous")
	if _, err := os.Stat(trash); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what could be removed: %v", err)
	}
	for _, id := range []RunID{garbage, newer} {
		if p, err := c.Poll(m.ctx(), PollRequest{Run: id}, nil); err == nil ||
			errors.Is(err, ErrClosed) || errors.Is(err, ErrProtocol) {
			t.Errorf("poll: %+v, %v", p, err)
		}
	}
	must(t, c.Ping(m.ctx()))
	must(t, c.Forget(m.ctx(), []RunID{garbage, newer}, true))
	listed(t, m, c, "1.1.0-t1 ended")
}

// listed compares a listing of names and states.
func listed(t *testing.T, m *machine, c *Client, want string) {
	t.Helper()
	runs, err := c.List(m.ctx(), m.server, "")
	must(t, err)
	var names []string
	for _, r := range runs {
		names = append(names, fmt.Sprintf("%s %v", r.Run.Name(), r.State))
	}
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("list: %s; want %s", got, want)
	}
}

func TestKillStoppedSupervisor(t *testing.T) {
	for name, end := range map[string]func(context.Context, *Client, RunID) error{
		"killed": func(ctx context.Context, c *Client, run RunID) error { return c.Kill(ctx, run) },
		"canceled": func(ctx context.Context, c *Client, run RunID) error {
			return c.Control(ctx, run, Control{Cancel: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			c := m.connect()
			s := m.command("echo up; sleep 1000")
			start(t, c, s)
			awaitOutput(t, c, s.Run, "up")
			v, err := look(m.dir(s.Run), "boot-1")
			must(t, err)
			must(t, unix.Kill(v.launching.PID, unix.SIGSTOP))
			must(t, end(m.ctx(), c, s.Run))
			if e := follow(t, c, s.Run); e.exit == nil || e.exit.Cause != Canceled {
				t.Errorf("state %v, exit %+v", e.state, e.exit)
			}
		})
	}
}

func TestPollEndsWithItsContext(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("sleep 1000")
	start(t, c, s)
	ctx, cancel := context.WithCancel(m.ctx())
	polled := make(chan error, 1)
	go func() {
		_, err := c.Poll(ctx, PollRequest{Run: s.Run, Wait: time.Hour}, nil)
		polled <- err
	}()
	must(t, c.Ping(m.ctx()))
	cancel()
	if err := <-polled; !errors.Is(err, context.Canceled) {
		t.Errorf("poll: %v", err)
	}
	must(t, c.Ping(m.ctx()))
	p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run, Wait: time.Millisecond}, nil)
	if err != nil || p.State != Running {
		t.Errorf("poll: %+v, %v", p, err)
	}
}

func TestSecretsAreInNoFile(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("echo ${#JOBSERVER_KEY}; tr '\\0' ' ' </proc/$$/cmdline; cat " +
		"/proc/$PPID/cmdline /proc/$PPID/environ | tr '\\0' ' '")
	s.Secrets = []Pair{{"KEY", "hunter2-hunter2"}}
	start(t, c, s)
	if e := follow(t, c, s.Run); !strings.HasPrefix(string(e.out), "15\n") ||
		strings.Contains(string(e.out), "hunter2") {
		t.Errorf("out %q", e.out)
	}
	must(t, filepath.WalkDir(m.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		if strings.Contains(string(p), "hunter2") {
			t.Errorf("%s has the secret", path)
		}
		return err
	}))
}

// TestWithoutInotify is about a watcher whose user has no inotify instance left.
func TestWithoutInotify(t *testing.T) {
	w := &watcher{}
	defer w.close()
	if _, err := w.add(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that isn't there: %v", err)
	}
	news, err := w.add(t.TempDir())
	must(t, err)
	<-news.C
	<-news.C
	news.close()
}
