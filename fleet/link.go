package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/ssh"
)

// link is an agent that answers. Its goroutines are all those whose work depends on it.
type link struct {
	client *agent.Client
	info   ssh.Info // zero for this host
	conn   ssh.Conn // nil for this host
	source *channels
	cut    func() // ends what carries the bytes, so that no call can hang any more
	end    func() // waits for what is left, after the client was closed

	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	fault  atomic.Pointer[string] // why we gave it up
}

// open makes a link to addr. parent is the link's life, ctx covers the opening only.
func (f *Fleet) open(ctx, parent context.Context, addr, root string) (*link, error) {
	l := &link{}
	var err error
	if sched.IsLocal(addr) {
		err = f.openLocal(ctx, l, addr)
	} else {
		err = f.openSSH(ctx, l, addr, root)
	}
	if err != nil {
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(parent)
	l.source = newChannels(l.client, f.pieces)
	if l.conn != nil {
		more := &moreConns{f: f, l: l, root: root, newest: l.conn}
		l.source.another = func(added func(*agent.Client, error)) {
			l.spawn(func() { added(more.start()) })
		}
		end := l.end
		l.end = func() { more.close(); end() }
	}
	return l, nil
}

// close ends the link and waits for its goroutines.
func (l *link) close() {
	l.cancel()
	l.cut()
	l.tasks.Wait()
	l.client.Close() // says nothing that the connection's end didn't say
	l.source.close()
	l.end()
}

// giveUp ends a link that is of no use, although its connection lives. The actor hears of it as of
// any other end.
func (l *link) giveUp(reason error) {
	text := reason.Error()
	l.fault.CompareAndSwap(nil, &text)
	l.cut()
}

// limited bounds questions that an agent has nothing to do for but to answer. One that hangs while
// sshd lives is noticed by nothing else.
func (f *Fleet) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := f.opt.AnswerTime
	return context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("the agent gave no answer within %v", limit))
}

// why is the reason for the link's end: ours, or the connection's own where it has one.
func (l *link) why() string {
	if fault := l.fault.Load(); fault != nil {
		return *fault
	}
	if l.conn != nil && l.conn.Err() != nil {
		return l.conn.Err().Error()
	}
	return l.client.Err().Error()
}

// spawn runs a task of the link.
func (l *link) spawn(task func()) { l.tasks.Go(task) }

// connect makes a connection to addr, or to the allocation that has it.
func (f *Fleet) connect(ctx context.Context, addr string) (ssh.Conn, error) {
	if step := f.stepOf(addr); step != nil {
		return f.enter(ctx, step)
	}
	return f.dialer.Dial(ctx, addr)
}

func (f *Fleet) openSSH(ctx context.Context, l *link, addr, root string) error {
	conn, err := f.connect(ctx, addr)
	if err != nil {
		return err
	}
	if l.client, err = f.installer(conn).start(ctx, root); err != nil {
		conn.Close()
		return err
	}
	l.conn, l.info = conn, conn.Info()
	l.cut, l.end = func() { conn.Close() }, func() {}
	return nil
}

// installer starts agents over a connection.
func (f *Fleet) installer(conn ssh.Conn) *installer {
	return &installer{
		conn: conn, builds: f.builds, unique: f.opt.ServerID + "-" + randomToken(),
		patience: f.opt.AnswerTime,
	}
}

// openLocal starts the agent as a child of the daemon, for the runs of a local machine or, with the
// daemon's environment, of drivers. They begin in the daemon's directory. It has a process group of
// its own: an interrupt from the terminal is the daemon's alone.
func (f *Fleet) openLocal(ctx context.Context, l *link, addr string) error {
	if err := os.MkdirAll(f.opt.LocalRoot, 0o700); err != nil {
		return fmt.Errorf("make the root of local runs: %w", err)
	}
	stderr := &lastWords{}
	cmd, stream, err := f.startLocal(addr, stderr)
	if err != nil {
		return fmt.Errorf("start the agent of this host: %w", err)
	}
	l.cut, l.end = func() { stream.Close() }, func() { waitChild(cmd) }
	ctx, cancel := f.limited(ctx)
	defer cancel()
	if l.client, err = agent.Connect(ctx, stream); err != nil {
		l.end()
		if text := strings.TrimSpace(stderr.String()); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return err
	}
	return nil
}

// startLocal starts the slim agent, or the daemon's own program when there is none, or no place
// where it could be unpacked and run: a full disk of this host doesn't keep its jobs from being
// followed.
func (f *Fleet) startLocal(addr string, stderr io.Writer) (*exec.Cmd, pipes, error) {
	env := os.Environ()
	if addr != driversHere {
		env = loginEnv(env, f.opt.PassEnv)
	}
	slim, err := f.builds.unpack(f.opt.LocalRoot)
	if err == nil && slim != "" {
		cmd, stream, startErr := startAgent(slim, f.opt.LocalRoot, env, stderr)
		if err = startErr; err == nil {
			return cmd, stream, nil
		}
	}
	if err != nil {
		f.opt.Log.Warn("the slim agent of this host can't be used; the program itself takes its "+
			"place", "err", err)
	}
	return startAgent(f.opt.Binary, f.opt.LocalRoot, env, stderr)
}

func startAgent(program, root string, env []string, stderr io.Writer) (*exec.Cmd, pipes, error) {
	cmd := exec.Command(program, "agent", "--root", root, "--dir", ".")
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, pipes{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, pipes{}, errors.Join(err, stdin.Close())
	}
	if err := cmd.Start(); err != nil { // it has closed both
		return nil, pipes{}, err
	}
	return cmd, pipes{stdout, stdin}, nil
}

// waitChild reaps an agent whose input was closed; one that doesn't end by itself is killed.
func waitChild(cmd *exec.Cmd) {
	timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // how an agent ends says nothing about the runs
}

// pipes make one stream of a child's two.
type pipes struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.in.Write(b) }

func (p pipes) Close() error { return errors.Join(p.in.Close(), p.ReadCloser.Close()) }

// lastWords keeps the first 4 KiB of a child's errors.
type lastWords struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p[:min(len(p), max(0, 4<<10-w.buf.Len()))])
	return len(p), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
