package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"jobserver/agent"
	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// testNow is the time of day in tests of what is printed.
var testNow = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// fakeDaemon answers calls from a table, and keeps what it was
// asked. Answers cross gob, as they do on the socket.
type fakeDaemon struct {
	t       *testing.T
	answers map[string]func(args any) (any, error)

	mu    sync.Mutex // protects calls
	calls []fakeCall
}

type fakeCall struct {
	Method string
	Args   any
}

// Call answers.
func (f *fakeDaemon) Call(ctx context.Context, method string, args, reply any) error {
	f.mu.Lock()
	f.calls = append(f.calls, fakeCall{method, args})
	f.mu.Unlock()
	answer, ok := f.answers[method]
	if !ok {
		return api.Errorf(api.Internal, "the test has no answer to %s", method)
	}
	got, err := answer(args)
	if err != nil {
		return err
	}
	var wire bytes.Buffer
	if err := gob.NewEncoder(&wire).Encode(got); err != nil {
		return err
	}
	reflect.ValueOf(reply).Elem().SetZero()
	return gob.NewDecoder(&wire).Decode(reply)
}

// Close is nothing.
func (f *fakeDaemon) Close() error { return nil }

// on answers a method.
func on[Args any](f *fakeDaemon, method string, answer func(*Args) (any, error)) {
	f.answers[method] = func(args any) (any, error) { return answer(args.(*Args)) }
}

// session is a command line in process, with a fake daemon.
type session struct {
	env    *cli.Env
	daemon *fakeDaemon
	stdout bytes.Buffer
	stderr bytes.Buffer
}

func newSession(t *testing.T) *session {
	t.Helper()
	s := &session{daemon: &fakeDaemon{t: t, answers: map[string]func(any) (any, error){}}}
	home := t.TempDir()
	vars := map[string]string{"HOME": home}
	s.env = &cli.Env{
		Name: "j", Stdin: strings.NewReader(""), Stdout: &s.stdout, Stderr: &s.stderr,
		Getenv:  func(name string) string { return vars[name] },
		Now:     func() time.Time { return testNow },
		Grammar: reflect.TypeFor[grammar](),
		Dial:    func(context.Context) (cli.Daemon, error) { return s.daemon, nil },
	}
	return s
}

// run runs a command line on a fresh screen.
func (s *session) run(args ...string) int {
	s.stdout.Reset()
	s.stderr.Reset()
	s.daemon.calls = nil
	e := *s.env
	return run(context.Background(), &e, args)
}

// asked gives what the daemon was last asked by the method.
func asked[Args any](t *testing.T, s *session, method string) Args {
	t.Helper()
	for _, call := range slices.Backward(s.daemon.calls) {
		if call.Method == method {
			return *call.Args.(*Args)
		}
	}
	t.Fatalf("%s was not called; stderr: %s", method, s.stderr.String())
	panic("unreachable")
}

// screens draws something at all widths, with colours and without, as one text.
func screens(t *testing.T, s *session, draw func(io.Writer, *cli.Env) error) string {
	t.Helper()
	var all strings.Builder
	for _, width := range []int{60, 80, 120, 200} {
		for _, color := range []bool{false, true} {
			e := *s.env
			e.Screen = view.Screen{Terminal: true, Width: width, Color: color}
			var out bytes.Buffer
			e.Stdout = &out
			if err := draw(&out, &e); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&all, "== %d columns, colours %v\n%s\n", width, color,
				strings.ReplaceAll(out.String(), "\x1b", "^["))
			if !color {
				for line := range strings.Lines(out.String()) {
					if w := view.Width(strings.TrimSuffix(line, "\n")); w > width {
						t.Errorf("a line is %d columns wide on a screen of %d: %q", w, width, line)
					}
				}
			}
		}
	}
	return all.String()
}

// TestMain lets the test binary be the program itself: scripts
// run it under its name, and daemons put it on their machines.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "agent":
			os.Exit(agent.Main(os.Args[2:]))
		case "supervise":
			os.Exit(agent.SuperviseMain(os.Args[2:]))
		case "keep":
			os.Exit(agent.KeepMain(os.Args[2:]))
		}
	}
	testscript.Main(m, map[string]func(){"jobserver": main, "j": main})
}

// TestScripts runs testdata/script: a file for each group of
// commands, against a daemon with machines on this host.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_STATE_HOME", "")
			env.Setenv("XDG_CONFIG_HOME", "")
			env.Setenv("SHELL", "/bin/sh")
			env.Setenv("TERM", "dumb")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": startDaemon,
			"code":   expectCode,
			"table":  runTable,
			"tty":    runOnTerminal,
		},
	})
}

// expectCode is the script command `code N PROGRAM ARG…`: the program has to exit with N.
func expectCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// runTable is the script command `table FILE`: each line of the file is CODE | COMMAND | PATTERN, a
// command of the shell that has to exit with that code, to print nothing, and to say on stderr what
// the pattern is. Blank lines and #comments are skipped. All lines are tried.
func runTable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: table file")
	}
	failed := 0
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		columns := strings.SplitN(line, " | ", 3)
		if len(columns) != 3 {
			ts.Fatalf("%s: %q isn't CODE | COMMAND | PATTERN", args[0], line)
		}
		err := ts.Exec("sh", "-c", columns[1])
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else {
			ts.Check(err)
		}
		said := ts.ReadFile("stderr")
		ok, err := regexp.MatchString("(?m)"+columns[2], said)
		ts.Check(err)
		printed := ts.ReadFile("stdout")
		if fmt.Sprint(code) != columns[0] || !ok || printed != "" {
			ts.Logf("%s\nexits with %d, prints %q and says\n%s", line, code, printed, said)
			failed++
		}
	}
	if failed > 0 {
		ts.Fatalf("%s: %d lines are not as they should be", args[0], failed)
	}
}

// startDaemon is the script command `daemon ARG…`: `jobserver serve ARG…`, until the end of the
// script. It returns when the daemon answers.
func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: daemon args…")
	}
	program, err := exec.LookPath("jobserver")
	ts.Check(err)
	cmd := exec.Command(program, append([]string{"serve"}, args...)...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"HOME", "PATH", "TMPDIR", "XDG_STATE_HOME", "TERM"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ts.Defer(func() {
		// It may have ended before, by the script's doing.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			ts.Logf("the daemon: %v", err)
		}
		ts.Logf("[daemon]\n%s", output.String())
	})
	socket := filepath.Join(ts.Getenv("WORK"), ".local", "state", "jobserver", "socket")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		client, err := api.Dial(context.Background(), socket, api.ClientOptions{})
		if err == nil {
			ts.Check(client.Close())
			return
		}
		select {
		case err := <-ended:
			ended <- err
			ts.Fatalf("the daemon ended: %v\n%s", err, output.String())
		default:
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the daemon doesn't answer: %v", err)
		}
	}
}

// TestBackupFails: of a backup that failed half way, as on a full disk, nothing is left, so that it
// can be tried again; what others have put there stays.
func TestBackupFails(t *testing.T) {
	full := errors.New("no space left on device")
	for name, last := range map[string]io.Reader{
		"a write":          iotest.ErrReader(full),
		"a shorter file":   strings.NewReader("sho"),
		"in the middle":    io.MultiReader(strings.NewReader("shor"), iotest.ErrReader(full)),
		"one there before": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			to := &dirFiles{dir: dir + "/"}
			put := func(name string, content io.Reader) error { return to.put(name, 5, content) }
			err := errors.Join(put("wal-00000001", strings.NewReader("12345")),
				put("logs/000000/1.1.out", strings.NewReader("12345")),
				put("logs/000001/2.1.out", strings.NewReader("12345")))
			if err != nil {
				t.Fatal(err)
			}
			theirs := filepath.Join(dir, "logs", "theirs")
			if last == nil {
				if err := os.WriteFile(theirs, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				err = put("logs/theirs", strings.NewReader("12345"))
			} else {
				err = put("logs/000001/3.1.out", last)
			}
			if err == nil {
				t.Error("it succeeded")
			}
			if err := to.undo(); err != nil {
				t.Error(err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
			if last == nil && err == nil && len(left) == 1 && left[0] == theirs {
				return
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("%v is left, %v", entries, err)
			}
		})
	}
}
