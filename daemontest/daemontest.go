// Package daemontest runs real daemons for tests and benchmarks: the program is built as users
// build it, started as a process with a state directory of its own, called through its client,
// killed and started again.
//
// A Daemon's methods are for one goroutine; any number of goroutines may use its clients.
package daemontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"jobserver/api"
)

// Build builds the program, static as it has to be for machines, and gives its path. tags are build
// tags. It is built once a process for each set of tags.
func Build(tags ...string) (string, error) {
	built.mu.Lock()
	defer built.mu.Unlock()
	key := strings.Join(tags, ",")
	if path, ok := built.paths[key]; ok {
		return path, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "jobserver-build-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "jobserver")
	cmd := exec.Command("go", "build", "-tags", key, "-o", path, ".")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the program: %w\n%s", err, out), os.RemoveAll(dir))
	}
	if built.paths == nil {
		built.paths = map[string]string{}
	}
	built.paths[key] = path
	return path, nil
}

// built are the programs of this process. They are what tests share, and nothing else.
var built struct {
	mu    sync.Mutex
	paths map[string]string
}

// Cleanup removes what Build made; a TestMain calls it at its end.
func Cleanup() {
	built.mu.Lock()
	defer built.mu.Unlock()
	for key, path := range built.paths {
		os.RemoveAll(filepath.Dir(path))
		delete(built.paths, key)
	}
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	mod := strings.TrimSpace(string(out))
	if err != nil || mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("find the module's directory: %q, %v", mod, err)
	}
	return filepath.Dir(mod), nil
}

// Daemon is a daemon as a process.
type Daemon struct {
	Binary   string
	StateDir string
	Socket   string
	Args     []string // of serve, beside the state directory
	Env      []string // beside the process's own

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended; then err says how
	err   error
}

// patience is how long a daemon may take to answer: far more than it needs, as machines may be
// loaded.
const patience = 60 * time.Second

// Start starts the daemon and waits until it answers. One that doesn't is killed.
func (d *Daemon) Start(ctx context.Context) error {
	if d.Socket == "" {
		d.Socket = filepath.Join(d.StateDir, "socket")
	}
	if err := os.MkdirAll(d.StateDir, 0o700); err != nil {
		return err
	}
	console, err := os.OpenFile(d.Console(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer console.Close()
	d.cmd = exec.Command(d.Binary,
		append([]string{"--socket", d.Socket, "serve", "--state-dir", d.StateDir}, d.Args...)...)
	d.cmd.Env = append(os.Environ(), d.Env...)
	d.cmd.Stdout, d.cmd.Stderr = console, console
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	d.ended = make(chan struct{})
	go func() {
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	if err := d.answers(ctx); err != nil {
		return errors.Join(err, d.Kill())
	}
	return nil
}

// answers waits until the daemon that was just started answers: not one before it, whose socket may
// still be there.
func (d *Daemon) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		client, err := api.Dial(ctx, d.Socket, api.ClientOptions{RedialFor: -1})
		if err == nil {
			pid := client.Server().PID
			client.Close()
			if pid == d.cmd.Process.Pid {
				return nil
			}
		}
		select {
		case <-look.C:
		case <-d.ended:
			return fmt.Errorf("the daemon ended: %v\n%s", d.err, d.ConsoleText())
		case <-ctx.Done():
			return fmt.Errorf("the daemon doesn't answer: %v\n%s", err, d.ConsoleText())
		}
	}
}

// Console is the file with what the daemon printed, over all its starts.
func (d *Daemon) Console() string { return d.StateDir + ".console" }

// ConsoleText is its end.
func (d *Daemon) ConsoleText() string {
	b, _ := os.ReadFile(d.Console()) // what isn't there is empty
	if len(b) > 20_000 {
		b = b[len(b)-20_000:]
	}
	return string(b)
}

// PID is the process id of the daemon.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (d *Daemon) Ended() <-chan struct{} { return d.ended }

// Kill ends the daemon at once, with SIGKILL.
func (d *Daemon) Kill() error { return d.end(syscall.SIGKILL) }

// Stop ends the daemon as a user does, with SIGTERM, and fails if that wasn't clean.
func (d *Daemon) Stop() error {
	if err := d.end(syscall.SIGTERM); err != nil {
		return err
	}
	if d.err != nil {
		return fmt.Errorf("the daemon ended badly: %w\n%s", d.err, d.ConsoleText())
	}
	return nil
}

func (d *Daemon) end(sig syscall.Signal) error {
	if err := d.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(patience):
		// Its goroutines tell what it waits for; and it is not left behind.
		err := d.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-d.ended:
		case <-time.After(patience):
			err = errors.Join(err, d.cmd.Process.Kill())
		}
		return errors.Join(fmt.Errorf("the daemon doesn't end after signal %v\n%s", sig,
			d.ConsoleText()), err)
	}
}

// Client connects to the daemon. The client reconnects by itself when the daemon is restarted.
func (d *Daemon) Client(ctx context.Context) (*api.Client, error) {
	return api.Dial(ctx, d.Socket, api.ClientOptions{RedialFor: patience})
}

// Run runs a command of the client, as a process, and gives what it printed. A code other than 0 is
// not an error.
func (d *Daemon) Run(
	ctx context.Context, args ...string,
) (stdout, stderr string, code int, err error) {
	cmd := exec.CommandContext(ctx, d.Binary, append([]string{"--socket", d.Socket}, args...)...)
	cmd.Env = append(os.Environ(), d.Env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), errs.String(), exit.ExitCode(), nil
	}
	return out.String(), errs.String(), 0, err
}

// New starts a daemon for a test, in a directory of its own, and stops it at the test's end, with
// whatever still runs on its local machines.
func New(t testing.TB, args ...string) *Daemon {
	t.Helper()
	binary, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	// A socket's path may have 107 bytes, and t.TempDir's name has the test's.
	dir, err := os.MkdirTemp("", "jobserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &Daemon{Binary: binary, StateDir: filepath.Join(dir, "state"), Args: args}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		endBelow(t, dir)
		if t.Failed() {
			t.Logf("the daemon printed:\n%s", d.ConsoleText())
		}
	})
	return d
}

// endBelow kills the processes that stand below a directory, as runs do: a daemon leaves them alone
// when it stops.
func endBelow(t testing.TB, dir string) {
	for range 100 { // one may have been about to begin another
		pids := below(t, dir)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	t.Errorf("processes %v in %s don't end", below(t, dir), dir)
}

// below lists the processes that stand below a directory, which may be gone.
func below(t testing.TB, dir string) (pids []int) {
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil || len(links) == 0 {
		t.Errorf("no /proc to find processes in: %v", err)
	}
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(cwd, dir+"/") {
			continue // another's, or it has ended
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// J runs a command of the client that must succeed, and gives what it printed on stdout.
func (d *Daemon) J(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, code, err := d.Run(t.Context(), args...)
	if err != nil || code != 0 {
		t.Fatalf("j %s: exit code %d, %v\n%s%s", strings.Join(args, " "), code, err, stdout, stderr)
	}
	return stdout
}
