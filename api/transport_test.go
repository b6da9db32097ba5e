package api

import (
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"jobserver/tests/budget"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCall(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{Client: "test", Version: "9"})
	want := HelloReply{Protocol: MaxProtocol, Version: "1.2", ServerID: "abc", PID: 7,
		StateDir: "/state", UID: os.Geteuid(), MaxMessage: DefaultMaxMessage}
	if diff := cmp.Diff(want, c.Server()); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			text := fmt.Sprint("call ", i)
			reply, err := Call[EchoReply](t.Context(), c, "Echo", &EchoArgs{Text: text})
			want := &EchoReply{Text: text, Size: len(text),
				Peer: Peer{UID: os.Geteuid(), PID: os.Getpid(), Of: "test 9"}}
			if diff := cmp.Diff(want, reply); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	wg.Wait()
}

func TestReplyIsEmptiedFirst(t *testing.T) {
	c := dial(t, serveEcho(t).path, ClientOptions{})
	reply := EchoReply{Text: "stale", Size: 5}
	if err := c.Call(t.Context(), "Jobserver.Echo", nil, &reply); err != nil {
		t.Fatal(err)
	}
	if reply.Text != "" || reply.Size != 0 {
		t.Errorf("stale fields in %+v", reply)
	}
}

func TestErrorsArriveAsTheyWere(t *testing.T) {
	c := dial(t, serveEcho(t).path, ClientOptions{})
	fail := Errorf(NotFound, "no job %d", 17).WithHint("see: jobserver job ls")
	tests := []struct {
		name, method string
		args         any
		want         Error
	}{
		{"wrapped", "Echo", &EchoArgs{Fail: fail},
			Error{NotFound, "echo: no job 17", "see: jobserver job ls"}},
		{"odd bytes", "Echo", &EchoArgs{Fail: &Error{Conflict, "a\x00\"\xff\n", "é\u2028"}},
			Error{Conflict, "echo: a\x00\"\xff\n", "é\u2028"}},
		{"of no kind", "Plain", &EchoArgs{Text: "text"}, Error{Internal, "plain text", ""}},
		{"no such call", "Missing", nil,
			Error{Incompatible, `the daemon doesn't know the call "Jobserver.Missing"`,
				"upgrade the daemon to the client's version and restart it: running jobs go on, " +
					"and are found again"}},
		{"of no text", "Mute", nil, Error{Internal, "", ""}},
		{"no method", "Echo.Call", nil,
			Error{Incompatible, `the daemon doesn't know the call "Echo.Call"`,
				"upgrade the daemon to the client's version and restart it: running jobs go on, " +
					"and are found again"}},
		{"of no form", ".", nil,
			Error{Incompatible, `the daemon doesn't know the call "."`,
				"upgrade the daemon to the client's version and restart it: running jobs go on, " +
					"and are found again"}},
		{"not registered", "NotACall", nil,
			Error{Incompatible, `the daemon doesn't know the call "Jobserver.NotACall"`,
				"upgrade the daemon to the client's version and restart it: running jobs go on, " +
					"and are found again"}},
		{"of another service", "Other.Echo", nil,
			Error{Incompatible, `the daemon doesn't know the call "Other.Echo"`,
				"upgrade the daemon to the client's version and restart it: running jobs go on, " +
					"and are found again"}},
		{"panic", "Panic", nil, *Bugf("Jobserver.Panic: out of cheese")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := c.Call(t.Context(), test.method, test.args, &EchoReply{})
			var got *Error
			if !errors.As(err, &got) {
				t.Fatalf("%T %v is no *Error", err, err)
			}
			if diff := cmp.Diff(test.want, *got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPanicIsLoggedWithItsStack(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{})
	if err := c.Call(t.Context(), "Panic", nil, &Empty{}); KindOf(err) != Internal {
		t.Fatal(err)
	}
	if log := s.log.String(); !strings.Contains(log, "out of cheese") ||
		!strings.Contains(log, "echo).Panic") {
		t.Errorf("the log lacks the panic or its stack:\n%s", log)
	}
	if _, err := Call[EchoReply](t.Context(), c, "Echo", &EchoArgs{}); err != nil {
		t.Errorf("the daemon doesn't go on: %v", err)
	}
}

func TestArgumentsOfAnotherShape(t *testing.T) {
	c := dial(t, serveEcho(t).path, ClientOptions{})
	type wrong struct{ Text []int }
	if err := c.Call(t.Context(), "Echo", &wrong{[]int{1}}, &EchoReply{}); KindOf(err) != Invalid {
		t.Errorf("arguments: %v", err)
	}
	type wrongReply struct{ Text []int }
	err := c.Call(t.Context(), "Echo", &EchoArgs{Text: "x"}, &wrongReply{})
	if KindOf(err) != Incompatible {
		t.Errorf("reply: %v", err)
	}
	if _, err := Call[EchoReply](t.Context(), c, "Echo", &EchoArgs{}); err != nil {
		t.Errorf("the connection doesn't go on: %v", err)
	}
}

func TestMessageLimits(t *testing.T) {
	s := newTestServer(t)
	opt := s.options()
	opt.MaxMessage = 100_000
	s.start(t, opt)
	c := dial(t, s.path, ClientOptions{})

	_, err := Call[EchoReply](t.Context(), c, "Echo", &EchoArgs{Text: strings.Repeat("x", 100_001)})
	if KindOf(err) != TooLarge || HintOf(err) == "" {
		t.Errorf("big request: %v", err)
	}
	_, err = Call[EchoReply](t.Context(), c, "Grow", nil)
	if KindOf(err) != TooLarge || HintOf(err) == "" {
		t.Errorf("big reply: %v", err)
	}
	// Above smallMessage, and more of them than the budget has room for at once.
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			reply, err := Call[EchoReply](t.Context(), c, "Echo",
				&EchoArgs{Text: strings.Repeat("x", 90_000)})
			if err != nil || reply.Size != 90_000 {
				t.Error(reply, err)
			}
		})
	}
	wg.Wait()
}

func TestReplyThatCannotBeSent(t *testing.T) {
	c := dial(t, serveEcho(t).path, ClientOptions{})
	if err := c.Call(t.Context(), "Unsendable", nil, &Empty{}); KindOf(err) != Internal ||
		!strings.Contains(err.Error(), "encode") {
		t.Errorf("got %v", err)
	}
	if _, err := Call[EchoReply](t.Context(), c, "Echo", nil); err != nil {
		t.Errorf("the connection doesn't go on: %v", err)
	}
}

// Further calls than MaxCalls wait, and have their turn.
func TestCallLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		opt := s.options()
		opt.MaxCalls = 2
		l := servePipes(t, s, opt)
		defer s.stop()
		c := pipeClient(t, l, ClientOptions{})
		defer c.Close()
		var wg sync.WaitGroup
		for range 3 { // a fourth one would wait for a mutex, which no bubble waits out
			wg.Go(func() {
				if _, err := Call[EchoReply](t.Context(), c, "Wait", nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := len(s.entered); got != 2 {
			t.Errorf("%d calls are under way", got)
		}
		close(s.release)
		wg.Wait()
	})
}

// Numbers are the client's affair: each call is answered under its own.
func TestCallsOfTheSameNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		l := servePipes(t, s, s.options())
		defer s.stop()
		conn, err := l.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		hello(t, conn)
		for range 2 {
			frame, err := encodeFrame(header{seq: 7, method: Service + ".Wait"}, &EchoArgs{}, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(frame); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // both are under way
		close(s.release)
		answers := newFrames(conn, DefaultMaxMessage, false)
		for range 2 {
			message, err := answers.read()
			if err != nil {
				t.Fatal(err)
			}
			if h, _, err := cutHeader(message); err != nil || h != (header{seq: 7}) {
				t.Errorf("got %+v, %v", h, err)
			}
		}
	})
}

// Two methods of one name are the daemon's bug: no connection is served then.
func TestMethodThatCannotBeRegistered(t *testing.T) {
	s := newTestServer(t)
	opt := s.options()
	opt.Register = func(context.Context, Peer) []Method {
		odd := Handle("Odd", func(*Empty, *Empty) error { return nil })
		return []Method{odd, odd}
	}
	s.start(t, opt)
	if _, err := Dial(t.Context(), s.path, ClientOptions{}); KindOf(err) != Internal ||
		!strings.Contains(err.Error(), "register the call Odd") {
		t.Errorf("got %v", err)
	}
}

func TestOthersAreTurnedAway(t *testing.T) {
	s := newTestServer(t)
	opt := s.options()
	opt.Allow = func(p Peer) bool { return p.UID != os.Geteuid() }
	s.start(t, opt)
	if _, err := Dial(t.Context(), s.path, ClientOptions{}); KindOf(err) != Denied {
		t.Errorf("got %v", err)
	}
}

func TestConnectionLimit(t *testing.T) {
	s := newTestServer(t)
	opt := s.options()
	opt.MaxConns = 2
	s.start(t, opt)
	a, b := dial(t, s.path, ClientOptions{}), dial(t, s.path, ClientOptions{})
	_, err := Dial(t.Context(), s.path, ClientOptions{})
	if KindOf(err) != Unavailable || !strings.Contains(err.Error(), "2 connections") {
		t.Errorf("one too many: %v", err)
	}
	for _, c := range []*Client{a, b} {
		if _, err := Call[EchoReply](t.Context(), c, "Echo", &EchoArgs{}); err != nil {
			t.Errorf("one of those that were there: %v", err)
		}
	}
}

func TestHandlersEndWithTheirConnection(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{})
	done := make(chan error, 1)
	go func() {
		_, err := Call[EchoReply](t.Context(), c, "Wait", nil)
		done <- err
	}()
	<-s.entered
	_ = c.Close()
	if err := <-done; KindOf(err) != Unavailable {
		t.Errorf("a read that was cut short: %v", err)
	}
	<-s.left
}

// They do when as many are under way as may be, and none other is read.
func TestAllHandlersEndWithTheirConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		opt := s.options()
		opt.MaxCalls = 2
		l := servePipes(t, s, opt)
		defer s.stop()
		c := pipeClient(t, l, ClientOptions{})
		var wg sync.WaitGroup
		for range opt.MaxCalls {
			wg.Go(func() { _, _ = Call[EchoReply](t.Context(), c, "Wait", nil) })
		}
		synctest.Wait()
		_ = c.Close()
		wg.Wait()
		synctest.Wait()
		if got := len(s.left); got != opt.MaxCalls {
			t.Errorf("%d handlers have ended", got)
		}
	})
}

func TestStoppingLetsAnswersOut(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{RedialFor: -1})
	type result struct {
		reply *EchoReply
		err   error
	}
	done := make(chan result, 1)
	go func() {
		reply, err := Call[EchoReply](t.Context(), c, "Wait", &EchoArgs{})
		done <- result{reply, err}
	}()
	<-s.entered
	s.stop()
	if r := <-done; r.err != nil || r.reply.Text != "ended" {
		t.Errorf("got %+v, %v", r.reply, r.err)
	}
}

func TestFirstCallMustBeHello(t *testing.T) {
	s := serveEcho(t)
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := newLink(conn, DefaultMaxMessage)
	defer l.close()
	if err := l.call(t.Context(), "Jobserver.Echo", &EchoArgs{},
		&EchoReply{}); KindOf(err) != Incompatible {
		t.Errorf("got %v", err)
	}
	var lost *lostError
	if err := l.call(t.Context(), helloMethod, &HelloArgs{MinProtocol: 1, MaxProtocol: 1},
		&HelloReply{}); !errors.As(err, &lost) {
		t.Errorf("the connection goes on: %v", err)
	}
}

func TestChooseProtocol(t *testing.T) {
	tests := []struct {
		name     string
		min, max int
		want     int
		wantText string
	}{
		{"the same", MinProtocol, MaxProtocol, MaxProtocol, ""},
		{"a newer client that still speaks ours", MinProtocol, MaxProtocol + 5, MaxProtocol, ""},
		{"a client too new", MaxProtocol + 1, MaxProtocol + 2, 0,
			"the daemon (d1, protocol 1) is too old for this client (c1, protocol 2 and up)"},
		{"a client too old", MinProtocol - 1, MinProtocol - 1, 0,
			"this client (c1, protocol 0) is too old for the daemon (d1, protocol 1 and up)"},
		{"nonsense", MaxProtocol, MinProtocol - 1, 0,
			"this client (c1, protocol 0) is too old for the daemon (d1, protocol 1 and up)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := chooseProtocol(HelloArgs{MinProtocol: test.min, MaxProtocol: test.max,
				Version: "c1"}, "d1")
			if got != test.want || (err == nil) != (test.wantText == "") {
				t.Fatalf("got %d, %v", got, err)
			}
			if err != nil && (err.Error() != test.wantText || KindOf(err) != Incompatible ||
				!strings.HasPrefix(HintOf(err), "upgrade the ")) {
				t.Errorf("got %v (hint %s)", err, HintOf(err))
			}
		})
	}
}

func TestSlowPeersAreCutOff(t *testing.T) {
	tests := []struct {
		name  string
		hello bool
		after time.Duration // from when on the connection is gone
		send  func(conn net.Conn) error
	}{
		{"no hello", false, helloTime, func(conn net.Conn) error { return nil }},
		{"half a hello", false, slackTime + time.Second, func(conn net.Conn) error {
			_, err := conn.Write([]byte{0, 0, 0, 100, 1, 2})
			return err
		}},
		{"a trickle", true, allowance(1 << 20), func(conn net.Conn) error {
			if _, err := conn.Write([]byte{0, 16, 0, 0}); err != nil {
				return err
			}
			for {
				if _, err := conn.Write([]byte{0}); err != nil {
					return nil // cut off, as it should be
				}
				time.Sleep(time.Second)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t)
				l := servePipes(t, s, s.options())
				defer s.stop()
				conn, err := l.dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if test.hello {
					hello(t, conn)
				}
				begin := time.Now()
				if err := test.send(conn); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begin); took > test.after+2*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestAnnouncedLengthTakesNoMemory(t *testing.T) {
	conn := pipeWith(t, append(binary.BigEndian.AppendUint32(nil, DefaultMaxMessage), 1, 2, 3))
	end := budget.Hold(t, 1<<20)
	if _, err := newFrames(conn, DefaultMaxMessage, false).read(); !errors.Is(err,
		io.ErrUnexpectedEOF) {
		t.Errorf("a message that was cut short: %v", err)
	}
	end()
	conn = pipeWith(t, binary.BigEndian.AppendUint32(nil, DefaultMaxMessage+1))
	if _, err := newFrames(conn, DefaultMaxMessage, false).read(); KindOf(err) != TooLarge {
		t.Errorf("one byte too long: %v", err)
	}
}

// FuzzServer sends any bytes after a hello: the server must survive, answer or hang up, and end.
func FuzzServer(f *testing.F) {
	seed := func(method string, body any) []byte {
		frame, err := encodeFrame(header{seq: 1, method: method}, body, DefaultMaxMessage)
		if err != nil {
			f.Fatal(err)
		}
		return frame
	}
	f.Add([]byte{})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 5, 1, 2, 3})
	f.Add(seed("Jobserver.Echo", &EchoArgs{Text: "hello"}))
	f.Add(seed("Jobserver.Plain", &EchoArgs{Text: "hello"}))
	f.Add(seed("Jobserver.Panic", nil))
	f.Add(append(seed("Nothing", nil),
		seed("Jobserver.Echo", &struct{ Text []string }{[]string{"a"}})...))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer budget.Hold(t, 1<<20+64*len(data))()
		s := &testServer{echo: &echo{entered: make(chan string, len(data)),
			release: make(chan struct{})}, log: &syncBuffer{}}
		close(s.release)
		opt := s.options()
		opt.MaxMessage = 1 << 20
		opt.PeerOf = func(net.Conn) (Peer, error) { return Peer{}, nil }
		l := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, l, opt) }()
		conn, err := l.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		hello(t, conn)
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, conn)
		}()
		_, _ = conn.Write(data)
		_ = conn.Close()
		<-read
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzUnpackError(f *testing.F) {
	f.Add("not_found", "no job 17", "see: ls")
	f.Add("", "", "")
	f.Add("a\"", "\x00\xff", "`")
	f.Fuzz(func(t *testing.T, kind, message, hint string) {
		defer budget.Hold(t, 1<<20+64*(len(kind)+len(message)+len(hint)))()
		want := &Error{Kind(kind), message, hint}
		if diff := cmp.Diff(want, unpackError(packError(want))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := unpackError(message); got.Message == "" && message != "" && got.Kind == Internal {
			t.Errorf("the text %q is lost", message)
		}
	})
}

// gob's own framing is another one: what it would send is no frame of ours.
func TestForeignClient(t *testing.T) {
	s := serveEcho(t)
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// It may be hung up on before all of this is written.
	_ = gob.NewEncoder(conn).Encode(&rpc.Request{ServiceMethod: helloMethod})
	if n, err := io.Copy(io.Discard, conn); n != 0 {
		t.Errorf("it got %d bytes (%v)", n, err)
	}
}
