package api

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialErrors(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	l, err := Listen(dead)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path, text string
		kind             Kind
	}{
		{"no socket", filepath.Join(dir, "none"), "no daemon is running: there is no socket",
			Unavailable},
		{"a dead daemon's socket", dead, "no daemon is running: nothing listens", Unavailable},
		{"a long path", filepath.Join(dir, strings.Repeat("x", 200)), "the system allows 107",
			Invalid},
		{"no path", "", "empty", Invalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Dial(t.Context(), test.path, ClientOptions{})
			if KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v (%s)", err, KindOf(err))
			}
			if test.path != "" && HintOf(err) == "" {
				t.Error("no hint")
			}
		})
	}
}

// TestDaemonOfAnotherUser: one that isn't ours, nor root's, is told nothing.
func TestDaemonOfAnotherUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan int, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := conn.Read(make([]byte, 100))
			heard <- n
			_ = conn.Close()
		}
	}()
	defer l.Close()
	for uid, refused := range map[int]bool{os.Geteuid() + 1: true, 65534 + os.Geteuid(): true,
		os.Geteuid(): false, 0: false} {
		opt := ClientOptions{PeerOf: func(net.Conn) (Peer, error) { return Peer{UID: uid}, nil }}
		_, err := Dial(t.Context(), path, opt)
		if got := KindOf(err) == Denied; got != refused || refused && HintOf(err) == "" {
			t.Errorf("user %d's: %v", uid, err)
		}
		if n := <-heard; refused != (n == 0) {
			t.Errorf("user %d's heard %d bytes", uid, n)
		}
	}
	opt := ClientOptions{PeerOf: func(net.Conn) (Peer, error) {
		return Peer{}, errors.New("no such call")
	}}
	if _, err := Dial(t.Context(), path, opt); KindOf(err) != Denied {
		t.Errorf("one of whom nothing is known: %v", err)
	}
}

// TestNoDaemon: what answers with an endless message, before the client has said anything or
// afterwards, is no daemon.
func TestNoDaemon(t *testing.T) {
	for _, heardFirst := range []bool{true, false} {
		ours, theirs := net.Pipe()
		go func() {
			if heardFirst {
				_, _ = io.ReadAtLeast(theirs, make([]byte, 1<<16), frameHeader+1)
			}
			_, _ = theirs.Write([]byte{255, 255, 255, 255})
			_, _ = io.Copy(io.Discard, theirs)
		}()
		_, err := NewClient(t.Context(), ours, ClientOptions{RedialFor: -1})
		if kind := KindOf(err); kind != Incompatible && kind != Unavailable ||
			heardFirst && kind != Incompatible {
			t.Errorf("heard first: %t: %v, of kind %s", heardFirst, err, kind)
		}
		_ = theirs.Close()
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "socket")
	for range 2 { // the second one finds the first one's socket, which nobody removed
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has mode %o, not %o", name, got, want)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the socket went with its listener: %v", err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); KindOf(err) != Conflict {
		t.Errorf("over a file: %v", err)
	}
	if _, err := Listen("/tmp/" + strings.Repeat("x", 103)); KindOf(err) != Invalid ||
		!strings.Contains(err.Error(), "108 bytes") {
		t.Errorf("a path of 108 bytes: %v", err)
	}
}

func TestContextEndsACall(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Call[EchoReply](ctx, c, "Wait", nil)
		done <- err
	}()
	<-s.entered
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || KindOf(err) != Canceled {
		t.Errorf("got %v", err)
	}
	close(s.release)
	if _, err := Call[EchoReply](t.Context(), c, "Echo", nil); err != nil {
		t.Errorf("the connection doesn't go on: %v", err)
	}
}

// A daemon that is stopped takes connections but says nothing.
func TestSilentDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		begin := time.Now()
		_, err := NewClient(t.Context(), here, ClientOptions{HelloTimeout: 3 * time.Second})
		if KindOf(err) != Unavailable || time.Since(begin) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// hangUp answers Hello and then does with the connection what then says.
func hangUp(l *pipeListener, id string, then func(net.Conn)) {
	conn := <-l.conns
	c := &serverConn{
		server: newServer(ServerOptions{
			Hello:    HelloReply{ServerID: id},
			Register: func(context.Context, Peer) []Method { return (&echo{}).methods() },
		}.withDefaults()),
		frames: newFrames(conn, DefaultMaxMessage, true),
	}
	if _, err := c.hello(context.Background()); err == nil {
		then(conn)
	}
	_ = conn.Close()
}

func readOne(conn net.Conn) {
	_, _ = newFrames(conn, DefaultMaxMessage, true).read()
}

func pipeClient(t *testing.T, l *pipeListener, opt ClientOptions) *Client {
	t.Helper()
	conn, err := l.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(t.Context(), conn, opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLostConnectionThatCannotComeBack(t *testing.T) {
	tests := []struct {
		name string
		then func(net.Conn)
		args any
		want Kind
	}{
		{"a mutation that never left", func(net.Conn) {}, &EchoArgs{}, Unavailable},
		{"a mutation that was sent", readOne, &EchoArgs{}, OutcomeUnknown},
		{"a read that was sent", readOne, nil, Unavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipeListener()
				go hangUp(l, "", test.then)
				c := pipeClient(t, l, ClientOptions{})
				defer c.Close()
				synctest.Wait()
				_, err := Call[EchoReply](t.Context(), c, "Wait", test.args)
				if KindOf(err) != test.want || HintOf(err) == "" {
					t.Errorf("got %v (%s)", err, KindOf(err))
				}
			})
		})
	}
}

// A daemon that restarts gets the interrupted calls again, with the same request ids.
func TestCallsOutliveARestart(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{})
	// The first daemon hangs up in the middle of the call.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	var text string
	go func() {
		reply, err := Call[EchoReply](ctx, c, "Wait", &EchoArgs{})
		if err == nil {
			text = reply.Text
		}
		done <- err
	}()
	first := <-s.entered
	_ = c.current().codec.frames.conn.Close()
	second := <-s.entered
	close(s.release)
	if err := <-done; err != nil || text != "released" {
		t.Fatalf("%q, %v", text, err)
	}
	if first == "" || first != second {
		t.Errorf("the request ids are %q and %q", first, second)
	}
	// Between calls the restart isn't even seen.
	s.stop()
	s.start(t, s.options())
	if _, err := Call[EchoReply](t.Context(), c, "Echo", &EchoArgs{}); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

func TestGivingUpTheRedial(t *testing.T) {
	tests := []struct {
		name   string
		redial func(ctx context.Context) (net.Conn, error)
		args   any
		want   Kind
		after  time.Duration
	}{
		{"nobody there, after a read", refuse, nil, Unavailable, 4 * time.Second},
		{"nobody there, after a mutation", refuse, &EchoArgs{}, OutcomeUnknown, 4 * time.Second},
		{"another daemon there", another, nil, Conflict, 0},
		{"another daemon there, after a mutation", another, &EchoArgs{}, OutcomeUnknown, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipeListener()
				go hangUp(l, "mine", readOne)
				c := pipeClient(t, l, ClientOptions{Redial: test.redial})
				defer c.Close()
				synctest.Wait()
				begin := time.Now()
				_, err := Call[EchoReply](t.Context(), c, "Wait", test.args)
				if KindOf(err) != test.want {
					t.Errorf("got %v (%s)", err, KindOf(err))
				}
				if took := time.Since(begin); took < test.after || took > defaultRedialFor {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func refuse(context.Context) (net.Conn, error) { return nil, errors.New("connection refused") }

func another(ctx context.Context) (net.Conn, error) {
	l := newPipeListener()
	go hangUp(l, "other", func(net.Conn) {})
	return l.dial(ctx)
}

func TestCloseEndsTheRedial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		go hangUp(l, "", readOne)
		c := pipeClient(t, l, ClientOptions{RedialFor: time.Hour, Redial: refuse})
		time.AfterFunc(time.Minute, func() { _ = c.Close() })
		begin := time.Now()
		_, err := Call[EchoReply](t.Context(), c, "Wait", nil)
		if took := time.Since(begin); KindOf(err) != Unavailable || took != time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// A daemon that doesn't read must not hold a caller whose context ends.
func TestContextEndsABlockedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		hold := make(chan struct{})
		go hangUp(l, "", func(net.Conn) { <-hold })
		c := pipeClient(t, l, ClientOptions{})
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Call[EchoReply](ctx, c, "Echo", &EchoArgs{Text: "unread"})
		if KindOf(err) != Timeout {
			t.Errorf("got %v", err)
		}
		close(hold)
	})
}

func BenchmarkCall(b *testing.B) {
	dir := b.TempDir()
	l, err := Listen(filepath.Join(dir, "s"))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, ServerOptions{Register: func(context.Context, Peer) []Method {
			return (&echo{}).methods()
		}})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	b.Run("on a connection", func(b *testing.B) {
		c, err := Dial(ctx, filepath.Join(dir, "s"), ClientOptions{})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		for b.Loop() {
			if _, err := Call[EchoReply](ctx, c, "Echo", &EchoArgs{Text: "x"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("with its connection", func(b *testing.B) {
		for b.Loop() {
			c, err := Dial(ctx, filepath.Join(dir, "s"), ClientOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := Call[EchoReply](ctx, c, "Echo", &EchoArgs{Text: "x"}); err != nil {
				b.Fatal(err)
			}
			if err := c.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
