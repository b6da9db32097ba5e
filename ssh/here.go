package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hereGrace is how long a command may go on when it has lost its streams; then it is killed. What
// it has started elsewhere, as srun does, ends in order when it does.
const hereGrace = 5 * time.Second

// A hereConn is a Conn to this host itself: its commands are child processes.
type hereConn struct {
	env  []string
	user string
	ending
	procs map[*os.Process]func() // guarded by mu
	// one for each process; added to under mu, and only while err is nil
	tasks sync.WaitGroup
}

// Here returns a Conn to this host: its commands are run by /bin/sh, as children of this process,
// with the environment given. It ends only when it is closed. A command that has lost its streams,
// by Stream.Close or Close, is killed after a while; Close waits for that.
func Here(env []string) Conn {
	c := &hereConn{env: env, ending: ending{done: make(chan struct{})},
		procs: map[*os.Process]func(){}}
	if u, err := user.Current(); err == nil {
		c.user = u.Username
	}
	return c
}

func (c *hereConn) Info() Info { return Info{User: c.user} }

func (c *hereConn) Close() error {
	c.mu.Lock()
	if c.err == nil {
		c.err = ErrClosed
		close(c.done)
		for _, cut := range c.procs {
			cut()
		}
	}
	c.mu.Unlock()
	c.tasks.Wait()
	return nil
}

func (c *hereConn) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", path)
}

func (c *hereConn) Exec(ctx context.Context, command string) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start a command: %w", context.Cause(ctx))
	}
	pipes, err := newPipes()
	if err != nil {
		return nil, fmt.Errorf("start a command: %w", err)
	}
	s := &Stream{stdout: pipes.out, stdin: pipes.in, closeWrite: pipes.in.Close, stderr: &tail{},
		done: make(chan struct{})}
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = pipes.theirIn, pipes.theirOut, s.stderr, c.env
	cmd.WaitDelay = time.Second
	// A process group of its own: an interrupt at the terminal isn't for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	gaveUp, kill := make(chan struct{}), (*time.Timer)(nil)
	cut := sync.OnceFunc(func() {
		close(gaveUp)
		pipes.close()
		kill = time.AfterFunc(hereGrace, func() { killGroup(cmd.Process) })
	})
	s.close = func() error {
		cut()
		return nil
	}
	err = c.run(cmd, cut, func(err error) {
		s.err = hereVerdict(err, s.Stderr(), gaveUp)
		close(s.done)
		select {
		case <-gaveUp:
			cut() // has set kill
			kill.Stop()
		default:
		}
	})
	pipes.theirIn.Close()
	pipes.theirOut.Close()
	if err != nil {
		pipes.close()
		return nil, err
	}
	return s, nil
}

// run starts cmd, and calls finish in a goroutine when it has ended.
func (c *hereConn) run(cmd *exec.Cmd, cut func(), finish func(error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a command: %w", err)
	}
	c.procs[cmd.Process] = cut
	c.tasks.Go(func() {
		err := cmd.Wait()
		c.mu.Lock()
		delete(c.procs, cmd.Process)
		c.mu.Unlock()
		finish(err)
	})
	return nil
}

// hereVerdict says what the end of a command means.
func hereVerdict(err error, stderr string, gaveUp <-chan struct{}) error {
	select {
	case <-gaveUp:
		return ErrClosed
	default:
	}
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &exit) && exit.Exited():
		return &ExitError{Code: exit.ExitCode(), Stderr: stderr}
	case errors.As(err, &exit):
		signal := ""
		if status, ok := exit.Sys().(syscall.WaitStatus); ok {
			signal = strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
		}
		return &ExitError{Code: -1, Signal: signal, Stderr: stderr}
	}
	return err
}
