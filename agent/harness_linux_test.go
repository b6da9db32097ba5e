package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the program that agents and supervisors are started from.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "agent":
			os.Exit(Main(os.Args[2:]))
		case "supervise":
			os.Exit(SuperviseMain(os.Args[2:]))
		case "keep":
			os.Exit(KeepMain(os.Args[2:]))
		case "helper":
			os.Exit(helperMain(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

// machine is a ROOT of a test's own, a boot id, and any number of agents.
type machine struct {
	t testing.TB
	// an id that no other process of tests has: what is left of a run is found by its name
	server string
	root   string
	login  string
	bootID string // the file
	env    []string
	exe    string
	runs   atomic.Int64
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, server: fmt.Sprintf("srv-%d", os.Getpid()),
		root: filepath.Join(dir, "root"), login: filepath.Join(dir, "login"),
		bootID: filepath.Join(dir, "boot_id"), exe: "/proc/self/exe"}
	// Under the race detector a process would wait a second before it ends.
	m.env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	must(t, os.Mkdir(m.login, 0o755))
	m.boots("boot-1")
	t.Cleanup(m.end)
	return m
}

// boots gives the machine another boot id; agents that live keep theirs.
func (m *machine) boots(id string) {
	m.t.Helper()
	must(m.t, os.WriteFile(m.bootID, []byte(id+"\n"), 0o644))
}

// end kills what a test has left running.
func (m *machine) end() {
	c := m.connect()
	runs, err := c.List(m.ctx(), "", "")
	if err != nil {
		m.t.Errorf("list what is left: %v", err)
	}
	for _, r := range runs {
		if !r.State.Final() {
			if err := c.Kill(m.ctx(), r.Run); err != nil {
				m.t.Errorf("kill what is left: %v", err)
			}
		}
	}
	c.Close()
}

// ctx bounds what would otherwise hang.
func (m *machine) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	m.t.Cleanup(cancel)
	return ctx
}

// link is an agent's process with its standard streams.
type link struct {
	io.Reader
	io.WriteCloser
	cmd  *exec.Cmd
	once sync.Once
}

func (l *link) Close() error {
	l.once.Do(func() {
		l.WriteCloser.Close()
		_ = l.cmd.Wait() // its exit code says nothing here
	})
	return nil
}

// dial starts an agent and returns its streams, without the protocol.
func (m *machine) dial(args ...string) *link {
	m.t.Helper()
	cmd := exec.Command(m.exe,
		append([]string{"agent", "--root", m.root, "--dir", ".", "--boot-id-file", m.bootID},
			args...)...)
	cmd.Dir, cmd.Env, cmd.Stderr = m.login, m.env, os.Stderr
	in, err := cmd.StdinPipe()
	must(m.t, err)
	out, err := cmd.StdoutPipe()
	must(m.t, err)
	must(m.t, cmd.Start())
	l := &link{Reader: out, WriteCloser: in, cmd: cmd}
	m.t.Cleanup(func() { l.Close() })
	return l
}

func (m *machine) connect() *Client {
	m.t.Helper()
	c, err := Connect(m.ctx(), m.dial())
	must(m.t, err)
	m.t.Cleanup(func() { c.Close() })
	return c
}

// command is a Spec of a new run.
func (m *machine) command(format string, args ...any) Spec {
	n := m.runs.Add(1)
	return Spec{
		Run: RunID{Server: m.server, Machine: "m1", Job: uint64(n), Attempt: 1,
			Token: fmt.Sprintf("t%d", n)},
		Command: fmt.Appendf(nil, format, args...),
	}
}

func (m *machine) dir(id RunID) string { return runDir(m.root, id) }

// start starts one run that is expected to start.
func start(t testing.TB, c *Client, s Spec) RunID {
	t.Helper()
	r := startResult(t, c, s)
	must(t, r.Err())
	return s.Run
}

func startResult(t testing.TB, c *Client, s Spec) StartResult {
	t.Helper()
	r, err := c.Start(t.Context(), []Spec{s})
	must(t, err)
	return r[0]
}

// ended has all that follow has collected.
type ended struct {
	state    State
	exit     *Exit
	out, err []byte
	marks    []Mark
	polls    int
}

// take collects output.
func (e *ended) take(s Stream, p []byte) error {
	if s == Stderr {
		e.err = append(e.err, p...)
	} else {
		e.out = append(e.out, p...)
	}
	return nil
}

// follow polls a run to its end.
func follow(t testing.TB, c *Client, id RunID) ended {
	t.Helper()
	e, err := followTo(c, id, func(ended) bool { return false })
	must(t, err)
	return e
}

// followTo polls until the run is over or done says so.
func followTo(c *Client, id RunID, done func(ended) bool) (ended, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var e ended
	r := PollRequest{Run: id, Wait: time.Minute}
	for {
		p, err := c.Poll(ctx, r, e.take)
		if err != nil {
			return e, err
		}
		e.polls++
		e.state, e.exit = p.State, p.Exit
		e.marks = append(e.marks, p.Marks...)
		r.OutOff, r.ErrOff, r.MarksOff, r.Ending = int64(len(e.out)), int64(len(e.err)), p.MarksOff,
			p.Ending
		if p.Exit != nil || done(e) {
			return e, nil
		}
		if p.State == Vanished || p.State == Ambiguous || p.State == None {
			return e, nil
		}
		if ctx.Err() != nil {
			return e, errors.New("the run did not end in time")
		}
	}
}

// awaitOutput polls until the output has a text in it.
func awaitOutput(t testing.TB, c *Client, id RunID, text string) ended {
	t.Helper()
	e, err := followTo(c, id, func(e ended) bool { return strings.Contains(string(e.out), text) })
	must(t, err)
	if !strings.Contains(string(e.out), text) {
		t.Fatalf("run ended (%v) without %q: out %q, err %q", e.state, text, e.out, e.err)
	}
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// helperMain is a program for runs that a shell can't be.
func helperMain(args []string) int {
	switch args[0] {
	case "bytes": // N bytes without a newline, quickly
		var n int64
		fmt.Sscan(args[1], &n)
		buf := make([]byte, 1<<20)
		for i := range buf {
			buf[i] = byte(i) | 1<<7
		}
		for n > 0 {
			k, err := os.Stdout.Write(buf[:min(n, int64(len(buf)))])
			if err != nil {
				return 1
			}
			n -= int64(k)
		}
		return 0
	case "ask", "listen":
		return otherUser(args)
	case "emulated":
		return emulated(args[1:])
	case "supervise-jumpy":
		return superviseMain(nil, jumpy())
	}
	return 2
}

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli()) }
