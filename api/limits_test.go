package api

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A request above its method's limit is refused, and the connection goes on.
func TestLongRequests(t *testing.T) {
	c := dial(t, serveEcho(t).path, ClientOptions{})
	for _, size := range []int{maxRequest + 1, 5 << 20} {
		_, err := Call[EchoReply](
			t.Context(),
			c,
			"Echo",
			&EchoArgs{Text: strings.Repeat("x", size)},
		)
		if KindOf(err) != TooLarge ||
			!strings.Contains(err.Error(), "Jobserver.Echo: a request of") ||
			HintOf(err) == "" {
			t.Errorf("%d bytes: %v", size, err)
		}
		if _, err := Call[EchoReply](
			t.Context(),
			c,
			"Echo",
			&EchoArgs{Text: strings.Repeat("x", maxRequest/2)},
		); err != nil {
			t.Errorf("after it: %v", err)
		}
	}
}

// An error names what it was asked for, but not a megabyte of it.
func TestLongErrorsAreCut(t *testing.T) {
	c := dial(t, serveEcho(t).path, ClientOptions{})
	long := strings.Repeat("é", maxRequest/10)
	err := c.Call(t.Context(), "Echo", &EchoArgs{Fail: &Error{Conflict, long, long}}, &EchoReply{})
	var got *Error
	if !errors.As(err, &got) || got.Kind != Conflict || len(got.Message) > maxErrorText+10 ||
		len(got.Hint) > maxErrorText+10 {
		t.Errorf("an error of %d bytes (%s)", len(err.Error()), KindOf(err))
	}
}

// crowd are clients that have said hello and then do what then says; they never read an answer.
func crowd(t *testing.T, l *pipeListener, n int, then func(conn net.Conn)) []net.Conn {
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := l.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		hello(t, conn)
		then(conn)
		conns[i] = conn
	}
	return conns
}

// TestHoldersOfMemory: clients that take no answers, or send no more of what they announced, don't
// keep others from theirs for longer than patience, and all of them together hold no more than
// there is.
func TestHoldersOfMemory(t *testing.T) {
	grow, err := encodeFrame(header{seq: 1, method: Service + ".Grow"}, &EchoArgs{}, maxRequest)
	if err != nil {
		t.Fatal(err)
	}
	announced := binary.BigEndian.AppendUint32(nil, maxRequest)
	announced = append(
		header{seq: 1, method: Service + ".Echo"}.append(announced),
		make([]byte, maxHeader)...)
	tests := []struct {
		name string
		send []byte
	}{{"they read nothing", grow}, {"they send no more", announced}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t)
				opt := s.options()
				opt.Memory = 10 << 20
				var room *room
				opt.Register = func(ctx context.Context, peer Peer) []Method {
					return append(
						(&echo{ctx: ctx, peer: peer}).methods(),
						Method{Name: "Spy", receiver: func(c *serverConn) any {
							room = c.server.room
							return &guarded[Empty, Empty]{}
						}},
					)
				}
				l := servePipes(t, s, opt)
				defer s.stop()
				held := crowd(t, l, 30, func(conn net.Conn) {
					if _, err := conn.Write(test.send); err != nil {
						t.Fatal(err)
					}
				})
				synctest.Wait()
				room.mu.Lock()
				if room.used > opt.Memory || room.used < opt.Memory/2 {
					t.Errorf("they hold %d bytes", room.used)
				}
				room.mu.Unlock()
				for range 3 {
					began := time.Now()
					c := pipeClient(t, l, ClientOptions{})
					reply, err := Call[EchoReply](t.Context(), c, "Grow", nil)
					if err != nil || len(reply.Text) != 1<<20 {
						t.Errorf("one who reads: %v", err)
					}
					if took := time.Since(began); took > 3*patience {
						t.Errorf("it took %v", took)
					}
					_ = c.Close()
				}
				for _, conn := range held {
					_ = conn.Close()
				}
				synctest.Wait()
				room.mu.Lock()
				defer room.mu.Unlock()
				if room.used != 0 || len(room.leases) != 0 || len(room.waiting) != 0 {
					t.Errorf(
						"when all are gone, %d bytes are held by %d calls, and %d wait",
						room.used,
						len(room.leases),
						len(room.waiting),
					)
				}
			})
		})
	}
}

// A client that takes an answer in small bites is served as long as nobody needs its memory; one
// that takes none is dropped.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		l := servePipes(t, s, s.options())
		defer s.stop()
		grow, err := encodeFrame(header{seq: 1, method: Service + ".Grow"}, &EchoArgs{}, maxRequest)
		if err != nil {
			t.Fatal(err)
		}
		conn := crowd(t, l, 1, func(conn net.Conn) { _, _ = conn.Write(grow) })[0]
		if _, err := io.ReadFull(conn, make([]byte, 600<<10)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		synctest.Wait()
		time.Sleep(stallTime + time.Second)
		if n, _ := io.Copy(io.Discard, conn); n > 500<<10 {
			t.Errorf("after %v it got %d bytes more", time.Since(began), n)
		}
	})
}

// TestSilentConnections: those that say nothing take nobody's place, and are gone soon.
func TestSilentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		opt := s.options()
		opt.MaxConns = 4
		l := servePipes(t, s, opt)
		defer s.stop()
		silent := make([]net.Conn, 3*maxSilent)
		for i := range silent {
			conn, err := l.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			silent[i] = conn
		}
		for range 4 {
			c := pipeClient(t, l, ClientOptions{})
			defer c.Close()
			if _, err := Call[EchoReply](t.Context(), c, "Echo", nil); err != nil {
				t.Errorf("one who speaks: %v", err)
			}
		}
		synctest.Wait()
		open := func() (n int) {
			for _, conn := range silent {
				_ = conn.SetReadDeadline(time.Now().Add(time.Nanosecond))
				if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
					n++
				}
			}
			return n
		}
		if n := open(); n > maxSilent {
			t.Errorf("%d silent connections are open", n)
		}
		time.Sleep(helloTime + time.Second)
		if n := open(); n > 0 {
			t.Errorf("%d are open for ever", n)
		}
	})
}

// TestIdleMakesWay: when there are as many connections as may be, one on which nothing is asked
// makes way, and its client, which can dial again, doesn't notice. One that waits for an answer
// stays.
func TestIdleMakesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		opt := s.options()
		opt.MaxConns = 2
		l := servePipes(t, s, opt)
		defer s.stop()
		connect := func() (*Client, error) {
			conn, err := l.dial(t.Context())
			if err != nil {
				return nil, err
			}
			return NewClient(t.Context(), conn, ClientOptions{Redial: l.dial})
		}
		busy, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		idle, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		done := make(chan error, 1)
		go func() {
			_, err := Call[EchoReply](t.Context(), busy, "Wait", nil)
			done <- err
		}()
		<-s.entered
		if _, err := connect(); KindOf(err) != Unavailable { // it isn't idle yet
			t.Errorf("at once: %v", err)
		}
		time.Sleep(shortestIdle)
		late, err := connect()
		if err != nil {
			t.Fatalf("nobody makes way: %v", err)
		}
		if _, err := Call[EchoReply](t.Context(), late, "Echo", nil); err != nil {
			t.Error(err)
		}
		_ = late.Close()
		if _, err := Call[EchoReply](t.Context(), idle, "Echo", &EchoArgs{}); err != nil {
			t.Errorf("the idle one: %v", err)
		}
		close(s.release)
		if err := <-done; err != nil {
			t.Errorf("the one that waited: %v", err)
		}
	})
}

// TestTurns: few answers are made at the same time; those who wait for something to happen keep
// nobody from his turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		opt := s.options()
		entered, release := make(chan struct{}, 100), make(chan struct{})
		watched := make(chan struct{})
		opt.Register = func(ctx context.Context, _ Peer) []Method {
			return []Method{
				Handle("Read", func(*Empty, *EchoReply) error {
					entered <- struct{}{}
					<-release
					return nil
				}),
				HandleTurn("Watch", func(_ *Empty, reply *EchoReply, turn Turn) error {
					<-watched
					if err := turn(); err != nil {
						return err
					}
					entered <- struct{}{}
					return nil
				}),
			}
		}
		l := servePipes(t, s, opt)
		defer s.stop()
		var wg sync.WaitGroup
		start := func(n int, method string) {
			for range n {
				c := pipeClient(t, l, ClientOptions{})
				wg.Go(func() {
					defer c.Close()
					if _, err := Call[EchoReply](t.Context(), c, method, nil); err != nil {
						t.Errorf("%s: %v", method, err)
					}
				})
			}
		}
		start(3*maxTurns, "Watch")
		start(2*maxTurns, "Read")
		synctest.Wait()
		if n := len(entered); n != maxTurns {
			t.Errorf("%d answers are made at the same time", n)
		}
		close(watched)
		synctest.Wait()
		if n := len(entered); n != maxTurns {
			t.Errorf("%d answers are made at the same time", n)
		}
		close(release)
		wg.Wait()
	})
}
