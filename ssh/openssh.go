package ssh

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An opensshConn is a Conn made of processes of OpenSSH's client, one for each
// command. Each logs in by itself, unless the user's configuration has a
// ControlPath with a master that runs: that is how second factors work.
//
// Nothing but its processes tells how the connection is. It ends when one of
// them loses its own, so a caller has one running all the time.
type opensshConn struct {
	program string
	args    []string // options and host, before the command
	env     []string // of its processes
	timeout time.Duration
	info    Info
	config  *config
	ending
	procs map[*os.Process]bool // that run; guarded by mu
	tasks sync.WaitGroup       // one for each process; added to under mu, and only while err is nil
}

// dialOpenSSH logs in once, to see whether that works, and to have the errors
// of the login here rather than from each command.
func (d *Dialer) dialOpenSSH(ctx context.Context, addr Addr) (Conn, error) {
	program, err := exec.LookPath(d.opts.SSHProgram)
	if err != nil {
		return nil, &ConfigError{Addr: addr.String(),
			Err: fmt.Errorf("the transport openssh needs OpenSSH's client: %w", err)}
	}
	done, err := d.beginLookUp(ctx, addr)
	if err != nil {
		return nil, err
	}
	cfg, args, err := d.opensshLogin(ctx, program, addr)
	done()
	if err != nil {
		return nil, err
	}
	release, err := d.acquire(ctx, cfg.hostPort())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	defer release()
	c := &opensshConn{
		program: program,
		args:    args,
		env:     environment(cfg.sendEnv),
		timeout: d.dialTimeout(cfg),
		info: Info{Addr: addr.String(), User: cfg.user, RemoteAddr: cfg.hostPort(),
			Via: strings.Join(cfg.proxyJump, ",")},
		config: cfg,
		ending: ending{done: make(chan struct{})},
		procs:  map[*os.Process]bool{},
	}
	if err := c.tryLogin(ctx, c.timeout); err != nil {
		return nil, err
	}
	return c, nil
}

// opensshLogin gives a machine's configuration, and what ssh is called with to log in there.
func (d *Dialer) opensshLogin(
	ctx context.Context, program string, addr Addr,
) (*config, []string, error) {
	cfg, err := d.resolve(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	defaults, err := d.sshDefaults(ctx, program)
	if err != nil {
		return nil, nil, d.configError(ctx, addr, err)
	}
	options := func(a Addr) []string {
		return d.opensshArgs(a, d.dialTimeout(cfg), defaults.unknown)
	}
	args := options(addr)
	jump, err := d.jumpCommand(ctx, program, addr, cfg.proxyJump, options, 0)
	if err != nil {
		return nil, nil, err
	}
	if jump != "" {
		args = append(args, "-o", "ProxyCommand="+jump)
	}
	return cfg, append(args, "--", addr.Host), nil
}

// opensshArgs are the options that make ssh behave as this package does: what the configuration
// says of the session is switched off, as far as this ssh knows it.
func (d *Dialer) opensshArgs(addr Addr, timeout time.Duration, unknown []string) []string {
	seconds := func(t time.Duration) string {
		return strconv.Itoa(int(max(1, math.Ceil(t.Seconds()))))
	}
	args := append([]string{"-T"}, d.sshArgs(addr)...)
	options := switchedOff(func(name string) bool {
		return !slices.Contains(unknown, strings.ToLower(name))
	})
	options = append(options,
		"ConnectTimeout="+seconds(timeout),
		"ServerAliveInterval="+seconds(d.opts.KeepaliveInterval),
		"ServerAliveCountMax="+
			strconv.Itoa(max(1, int(d.opts.KeepaliveTimeout/d.opts.KeepaliveInterval))),
	)
	if d.opts.KnownHosts != "" {
		options = append(options, "UserKnownHostsFile="+quoteWord(literal(d.opts.KnownHosts)))
	}
	if len(d.opts.Ciphers) > 0 {
		options = append(options, "Ciphers="+strings.Join(d.opts.Ciphers, ","))
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	return args
}

// literal keeps ssh from expanding tokens in the name of a file.
func literal(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// environment is ours without the variables that SendEnv would send: commands on a machine don't
// depend on where this program was started.
func environment(sendEnv []string) []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.ContainsFunc(sendEnv, func(pattern string) bool {
			return matchPattern(name, pattern)
		})
	})
}

func (c *opensshConn) tryLogin(ctx context.Context, timeout time.Duration) error {
	tctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// A command that every shell knows.
	cmd := exec.CommandContext(tctx, c.program, append(c.args, "true")...)
	stderr := &tail{}
	cmd.Stderr, cmd.Env = stderr, c.env
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // a ProxyCommand's holds stderr still
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: connect: %w", c.info.Addr, context.Cause(ctx))
	case tctx.Err() != nil:
		return &DialError{Addr: c.info.Addr, Op: "connect to " + c.info.RemoteAddr,
			Err: &timeoutError{timeout}}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() != sshFailed {
		return nil // we were in, and the login shell is a strange one
	}
	return c.sortStderr(stderr.String(), err)
}

// sshFailed is ssh's exit code for errors of its own.
const sshFailed = 255

func (c *opensshConn) Info() Info { return c.info }

func (c *opensshConn) Close() error {
	c.end(ErrClosed)
	c.tasks.Wait()
	return nil
}

// end kills all processes, and ends the connection for the reason err if it is
// the first.
func (c *opensshConn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	for p := range c.procs {
		killGroup(p)
	}
	close(c.done)
}

// run starts cmd, and calls finish in a goroutine when it has ended.
func (c *opensshConn) run(cmd *exec.Cmd, finish func(error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	// A process group of its own: an interrupt at the terminal isn't for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: start ssh: %w", c.info.Addr, err)
	}
	c.procs[cmd.Process] = true
	c.tasks.Go(func() {
		err := cmd.Wait()
		c.mu.Lock()
		delete(c.procs, cmd.Process)
		c.mu.Unlock()
		finish(err)
	})
	return nil
}

func (c *opensshConn) Exec(ctx context.Context, command string) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: start a command: %w", c.info.Addr, context.Cause(ctx))
	}
	cmd := exec.Command(c.program, append(c.args, command)...)
	pipes, err := newPipes()
	if err != nil {
		return nil, fmt.Errorf("%s: start a command: %w", c.info.Addr, err)
	}
	s := &Stream{stdout: pipes.out, stdin: pipes.in, closeWrite: pipes.in.Close, stderr: &tail{},
		done: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = pipes.theirIn, pipes.theirOut, s.stderr, c.env
	// Descendants (ProxyCommand) may hold stderr beyond ssh's end.
	cmd.WaitDelay = time.Second
	var closed sync.Once
	gaveUp := make(chan struct{})
	s.close = func() error {
		closed.Do(func() {
			close(gaveUp)
			pipes.close()
			c.kill(cmd.Process)
		})
		return nil
	}
	err = c.run(cmd, func(err error) {
		s.err = c.verdict(err, s.Stderr(), gaveUp)
		close(s.done)
	})
	pipes.theirIn.Close()
	pipes.theirOut.Close()
	if err != nil {
		pipes.close()
		return nil, err
	}
	return s, nil
}

func (c *opensshConn) kill(p *os.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.procs[p] {
		killGroup(p)
	}
}

// killGroup kills a process and those that it began, as ssh does for ProxyCommand. One that has
// ended already needs no killing.
func killGroup(p *os.Process) {
	if p.Kill() == nil {
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	}
}

// verdict says what the end of a command's ssh means. 255 is ssh's own
// failure, or a signal that ended the command, or the command's own code:
// unknown, in short.
func (c *opensshConn) verdict(err error, stderr string, gaveUp <-chan struct{}) error {
	select {
	case <-gaveUp:
		return ErrClosed
	default:
	}
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if ended := c.Err(); ended != nil {
		var lost *LostError
		if errors.As(ended, &lost) {
			ended = lost.Err
		}
		return &LostError{Addr: c.info.Addr, Err: ended, Stderr: stderr}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() && exit.ExitCode() != sshFailed {
		return &ExitError{Code: exit.ExitCode(), Stderr: stderr}
	}
	reason := c.sortStderr(stderr, err)
	if errors.Is(reason, ErrTooManySessions) {
		return reason
	}
	lost := &LostError{Addr: c.info.Addr, Err: reason, Stderr: stderr}
	c.end(&LostError{Addr: c.info.Addr, Err: reason})
	return lost
}

// pipes connect a command's stdin and stdout without a copy in between.
type pipes struct{ in, out, theirIn, theirOut *os.File }

func newPipes() (*pipes, error) {
	var p pipes
	var err error
	if p.theirIn, p.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	if p.out, p.theirOut, err = os.Pipe(); err != nil {
		p.theirIn.Close()
		p.in.Close()
		return nil, err
	}
	return &p, nil
}

func (p *pipes) close() {
	p.in.Close()
	p.out.Close()
}
