package ssh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"
)

// A clientConn is a Conn made by x/crypto/ssh.
type clientConn struct {
	link *link
	info Info
	env  []string // of each command, as far as sshd accepts it: NAME=VALUE
	ending
	tasks sync.WaitGroup // added to under mu, and only while err is nil
}

// newClientConn takes over l. Its goroutines end with the connection, and
// Close waits for them.
func newClientConn(addr string, l *link, opts Options) *clientConn {
	target := l.hops[len(l.hops)-1]
	c := &clientConn{
		link:   l,
		env:    target.env,
		ending: ending{done: make(chan struct{})},
		info: Info{Addr: addr, User: target.user, RemoteAddr: target.hostPort(), Via: l.via(),
			Server: string(l.client.ServerVersion())},
	}
	if a, ok := l.client.Conn.(xssh.AlgorithmsConnMetadata); ok {
		c.info.Cipher = a.Algorithms().Read.Cipher
	}
	c.tasks.Go(func() { c.end(c.link.client.Wait()) })
	c.tasks.Go(func() { c.keepAlive(opts.KeepaliveInterval, opts.KeepaliveTimeout) })
	return c
}

func (c *clientConn) Info() Info { return c.info }

func (c *clientConn) Close() error {
	c.end(ErrClosed)
	c.tasks.Wait()
	return nil
}

// end ends the connection, for the reason err if it is the first.
func (c *clientConn) end(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	switch {
	case err == ErrClosed:
		c.err = err
	case err == nil:
		c.err = c.lost(io.EOF)
	default:
		c.err = c.lost(err)
	}
	c.mu.Unlock()
	c.link.close()
	close(c.done)
}

func (c *clientConn) lost(err error) error { return &LostError{Addr: c.info.Addr, Err: err} }

// spawn runs f in a goroutine that Close waits for, or gives the reason why
// the connection has ended.
func (c *clientConn) spawn(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.tasks.Go(f)
	return nil
}

// keepAlive asks for a sign of life every interval, at the clock's multiples of
// it: with many connections the process wakes once for all of them. A request to
// an sshd that hangs blocks for ever, and others behind it: so a timer ends the
// connection.
func (c *clientConn) keepAlive(interval, timeout time.Duration) {
	for {
		tick := time.NewTimer(interval - time.Duration(time.Now().UnixNano())%interval)
		select {
		case <-c.done:
			tick.Stop()
			return
		case <-tick.C:
		}
		timer := time.AfterFunc(timeout, func() {
			c.end(fmt.Errorf("%w within %v", ErrKeepalive, timeout))
		})
		// Any answer will do: sshd refuses the request.
		_, _, err := c.link.client.SendRequest("keepalive@openssh.com", true, nil)
		timer.Stop()
		if err != nil {
			c.end(err)
			return
		}
	}
}

// opened has the result of opening a channel.
type opened[T io.Closer] struct {
	v   T
	err error
}

// open runs f, which blocks for as long as the machine likes, until ctx or the
// connection ends; what it gives later is closed. Close doesn't wait for f:
// when the connection dies at the wrong moment, x/crypto leaves who opens a
// channel waiting for ever.
func open[T io.Closer](ctx context.Context, c *clientConn, f func() (T, error)) (T, error) {
	var none T
	result := make(chan opened[T])
	if err := c.Err(); err != nil {
		return none, err
	}
	go func() {
		v, err := f()
		select {
		case result <- opened[T]{v, err}:
		case <-ctx.Done():
			if err == nil {
				v.Close()
			}
		case <-c.done:
		}
	}()
	select {
	case r := <-result:
		return r.v, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-c.done:
		return none, c.Err()
	}
}

func (c *clientConn) Exec(ctx context.Context, command string) (*Stream, error) {
	s, err := open(ctx, c, func() (*Stream, error) { return c.exec(command) })
	if err != nil {
		return nil, c.opError("start a command", err)
	}
	return s, nil
}

// opError adds what was being done, unless the error says that already.
func (c *clientConn) opError(op string, err error) error {
	var lost *LostError
	if errors.As(err, &lost) {
		return err
	}
	return fmt.Errorf("%s: %s: %w", c.info.Addr, op, err)
}

// exec opens a session for command. x/crypto's Session isn't used: it copies
// stdout and stderr through pipes and goroutines that we don't need.
func (c *clientConn) exec(command string) (*Stream, error) {
	ch, reqs, err := c.link.client.OpenChannel("session", nil)
	var open *xssh.OpenChannelError
	switch {
	case errors.As(err, &open) &&
		(open.Reason == xssh.ConnectionFailed || open.Reason == xssh.ResourceShortage):
		return nil, ErrTooManySessions
	case errors.As(err, &open):
		return nil, fmt.Errorf("the machine refuses: %s", open.Message)
	case err != nil:
		return nil, c.lost(err)
	}
	s, finish := c.newStream(ch)
	err = c.spawn(func() { finish(awaitExit(reqs)) })
	if err != nil {
		_ = s.Close() // the connection has ended; but what reads ahead must end, too
		return nil, err
	}
	// RFC 4254, sections 6.4 and 6.5.
	for _, v := range c.env {
		name, value, _ := strings.Cut(v, "=")
		if _, err := ch.SendRequest("env", false,
			xssh.Marshal(struct{ Name, Value string }{name, value})); err != nil {
			return nil, c.lost(err)
		}
	}
	ok, err := ch.SendRequest("exec", true, xssh.Marshal(struct{ Command string }{command}))
	if err != nil {
		return nil, c.lost(err)
	}
	if !ok {
		ch.Close()
		return nil, errors.New("the machine refuses to run commands for this user")
	}
	return s, nil
}

// newStream makes a Stream of a session's channel. finish is to be called with
// the command's end, once.
func (c *clientConn) newStream(ch xssh.Channel) (s *Stream, finish func(*exit)) {
	var once sync.Once
	// sshd doesn't close a session while its command lives, whatever we say,
	// and the channel's Read would wait for that: a pump ends with Close.
	out := newPump()
	s = &Stream{stdout: out, stdin: ch, closeWrite: ch.CloseWrite, stderr: &tail{},
		done: make(chan struct{})}
	set := func(err error) {
		once.Do(func() {
			s.err = err
			close(s.done)
		})
	}
	s.close = func() error {
		set(ErrClosed)
		out.stop(ErrClosed)
		if err := ch.Close(); err != nil && !errors.Is(err, io.EOF) && c.Err() == nil {
			return c.opError("close a command's streams", err)
		}
		return nil
	}
	stderrDone := make(chan struct{})
	go out.run(ch)
	go func() {
		defer close(stderrDone)
		_, _ = io.Copy(s.stderr, ch.Stderr())
	}()
	return s, func(e *exit) {
		<-stderrDone
		switch {
		case e == nil && c.ended():
			set(&LostError{Addr: c.info.Addr, Err: c.reason(), Stderr: s.Stderr()})
		case e == nil:
			set(&LostError{Addr: c.info.Addr, Err: errNoStatus, Stderr: s.Stderr()})
		case e.code == 0 && e.signal == "":
			set(nil)
		default:
			set(&ExitError{Code: e.code, Signal: e.signal, Stderr: s.Stderr()})
		}
		ch.Close()
		// What is left of stdout waits for its reader, but not beyond the connection.
		select {
		case <-out.ended:
		case <-c.done:
			out.stop(c.Err())
			<-out.ended
		}
	}
}

// errNoStatus is the reason when sshd closed a session without saying how its
// command ended.
var errNoStatus = errors.New("the machine closed the session without an exit code")

func (c *clientConn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// reason is why the connection ended, without the wrapping.
func (c *clientConn) reason() error {
	err := c.Err()
	var lost *LostError
	if errors.As(err, &lost) {
		return lost.Err
	}
	return err
}

// An exit is how the machine says a command ended.
type exit struct {
	code   int
	signal string
}

// awaitExit serves a session's requests until its channel is closed, and gives
// nil when none said how the command ended. RFC 4254, section 6.10.
func awaitExit(reqs <-chan *xssh.Request) *exit {
	var e *exit
	for r := range reqs {
		switch r.Type {
		case "exit-status":
			if len(r.Payload) >= 4 {
				e = &exit{code: int(binary.BigEndian.Uint32(r.Payload))}
			}
		case "exit-signal":
			var msg struct {
				Signal     string
				CoreDumped bool
				Message    string
				Lang       string
			}
			if xssh.Unmarshal(r.Payload, &msg) == nil {
				e = &exit{code: -1, signal: msg.Signal}
			}
		}
		if r.WantReply {
			// An error means that the channel is gone: reqs ends then.
			_ = r.Reply(false, nil)
		}
	}
	return e
}

func (c *clientConn) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	conn, err := open(ctx, c, func() (net.Conn, error) { return c.link.client.Dial("unix", path) })
	var refused *xssh.OpenChannelError
	if errors.As(err, &refused) {
		// sshd has one answer for all reasons.
		err = fmt.Errorf("nothing listens there, or sshd forbids it "+
			"(AllowStreamLocalForwarding): %s", refused.Message)
	}
	if err != nil {
		return nil, c.opError("connect to socket "+path, err)
	}
	return &timedConn{Conn: conn}, nil
}
