package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"jobserver/ssh/sshtest"
)

// quick notices a hanging machine fast.
func quick(o *Options) {
	o.KeepaliveInterval = 20 * time.Millisecond
	o.KeepaliveTimeout = time.Second // a busy machine may take a while
}

// started runs a command that says "up" and then waits, and reads that.
func started(t *testing.T, c Conn, command string) *Stream {
	t.Helper()
	s, err := c.Exec(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 3)); err != nil {
		t.Fatalf("%q didn't start: %v", command, err)
	}
	return s
}

func wantLost(t *testing.T, err error) {
	t.Helper()
	var lost *LostError
	if !errors.As(err, &lost) {
		t.Errorf("got %T %v, want a *LostError", err, err)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m), m.Name)
	t.Run("code", func(t *testing.T) {
		out, err := output(t, c, "echo out; echo wrong >&2; exit 7")
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 7 || exit.Signal != "" ||
			exit.Stderr != "wrong\n" || out != "out\n" {
			t.Errorf("got %q, %+v", out, err)
		}
	})
	t.Run("signal", func(t *testing.T) {
		_, err := output(t, c, "kill -9 $$")
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Signal != "KILL" || exit.Code != -1 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("both ways", func(t *testing.T) {
		s, err := c.Exec(t.Context(), "cat")
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB: more than a window
		go func() {
			s.Write(want)
			s.CloseWrite()
		}()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back, want %d; %v", len(got), len(want), err)
		}
		if err := s.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("stderr", func(t *testing.T) {
		_, err := output(t, c,
			"i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1")
		var exit *ExitError
		if !errors.As(err, &exit) || len(exit.Stderr) != tailSize ||
			!strings.HasSuffix(exit.Stderr, "line 1999\n") {
			t.Errorf("stderr %d bytes", len(exit.Stderr))
		}
	})
	t.Run("close", func(t *testing.T) {
		s := started(t, c, "echo up; exec sleep 1000")
		ended := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(s)
			ended <- err
		}()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Wait(); err != ErrClosed {
			t.Errorf("Wait after Close: %v", err)
		}
		<-ended // a reader is not left behind
	})
}

func TestTooManySessions(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.ServerConfig("MaxSessions 2"))
	c := mustDial(t, dialer(m), m.Name)
	a := started(t, c, "echo up; cat")
	started(t, c, "echo up; cat")
	if _, err := c.Exec(t.Context(), "true"); !errors.Is(err, ErrTooManySessions) {
		t.Errorf("third session: %v", err)
	}
	a.CloseWrite()
	if err := a.Wait(); err != nil {
		t.Error(err)
	}
}

func TestDialUnix(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m), m.Name)
	socket := filepath.Join(t.TempDir(), "s")
	if _, err := c.DialUnix(t.Context(), socket); err == nil ||
		!strings.Contains(err.Error(), socket) {
		t.Errorf("nobody listens: %v", err)
	}
	socket, served := serveOnce(t)
	conn, err := c.DialUnix(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	io.WriteString(conn, "hello")
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	var timeout net.Error
	if _, err := conn.Read(got); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("after the deadline: %v", err)
	}
	conn.Close()
	<-served
}

// serveOnce echoes the first 5 bytes of one connection to a Unix socket; the
// channel is closed when the other side is gone.
func serveOnce(t *testing.T) (string, <-chan struct{}) {
	t.Helper()
	dir, err := os.MkdirTemp("", "unix") // t.TempDir's names may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := io.CopyN(c, c, 5); err != nil {
			t.Errorf("echo: %v", err)
		}
		io.Copy(io.Discard, c)
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
		os.RemoveAll(dir)
	})
	return socket, served
}

func TestSessionKilled(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m), m.Name)
	s := started(t, c, "echo up; exec sleep 1000")
	if _, err := m.KillSessions(); err != nil {
		t.Fatal(err)
	}
	wantLost(t, s.Wait())
	<-c.Done()
	wantLost(t, c.Err())
	_, err := c.Exec(t.Context(), "true")
	wantLost(t, err)
}

func TestServerPaused(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m, quick), m.Name)
	s := started(t, c, "echo up; exec sleep 1000")
	if err := m.Pause(); err != nil {
		t.Fatal(err)
	}
	// An opening that hangs meanwhile ends with its context.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Exec(ctx, "true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Exec: %v", err)
	}
	<-c.Done()
	if !errors.Is(c.Err(), ErrKeepalive) {
		t.Errorf("Err = %v", c.Err())
	}
	wantLost(t, s.Wait())
	if err := m.Resume(); err != nil {
		t.Fatal(err)
	}
	mustDial(t, dialer(m), m.Name)
}

// through makes m reachable over a proxy, under another alias.
func through(t *testing.T, m *sshtest.Machine, extra ...string) *sshtest.Proxy {
	t.Helper()
	p := sshtest.NewProxy(t, net.JoinHostPort(m.Host, strconv.Itoa(m.Port)))
	if err := m.AddHost("proxied", m.User, p.Host, p.Port, append(extra, "HostKeyAlias "+
		m.Host)...); err != nil {
		t.Fatal(err)
	}
	if err := m.Know(m.Host, 22, read(t, m.HostKeyFile("ed25519")+".pub")); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNetworkCut(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	p := through(t, m)
	c := mustDial(t, dialer(m, quick), "proxied")
	s := started(t, c, "echo up; exec cat")
	p.Cut()
	<-c.Done()
	if !errors.Is(c.Err(), ErrKeepalive) {
		t.Errorf("Err = %v", c.Err())
	}
	wantLost(t, s.Wait())
	p.Heal()
	mustDial(t, dialer(m, quick), "proxied")
}

// TestShortCut has a network that is back before anybody gives up: nothing is lost.
func TestShortCut(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	p := through(t, m)
	c := mustDial(t, dialer(m), "proxied")
	s := started(t, c, "echo up; exec cat")
	p.Cut()
	if _, err := io.WriteString(s, "still here"); err != nil {
		t.Fatal(err)
	}
	p.Heal()
	s.CloseWrite()
	if b, err := io.ReadAll(s); string(b) != "still here" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

func TestConnectionReset(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	p := through(t, m)
	c := mustDial(t, dialer(m), "proxied")
	s := started(t, c, "echo up; exec cat")
	p.Reset()
	wantLost(t, s.Wait())
	<-c.Done()
	wantLost(t, c.Err())
	// In the middle of the handshake, and after the host key.
	for _, n := range []int64{100, 1500, 2200} {
		p.ResetAfter(n)
		wantError[*DialError](t, dialer(m), "proxied", false)
	}
}
