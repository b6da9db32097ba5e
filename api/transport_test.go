package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type echoArgs struct {
	Mutation
	Text string
	Fail *Error
}

type echoReply struct {
	Text string
	Size int
	Peer Peer
}

// echo is a receiver with one method of each kind that matters here.
type echo struct {
	peer    Peer
	entered chan string // request ids, of Wait
	release chan struct{}
}

func (e *echo) Echo(args *echoArgs, reply *echoReply) error {
	if args.Fail != nil {
		return fmt.Errorf("echo: %w", args.Fail)
	}
	*reply = echoReply{Text: args.Text, Size: len(args.Text), Peer: e.peer}
	return nil
}

func (e *echo) Plain(args echoArgs, reply *echoReply) error { return errors.New("plain " + args.Text) }

func (e *echo) Panic(_ *Empty, _ *Empty) error { panic("out of cheese") }

func (e *echo) Grow(args *echoArgs, reply *echoReply) error {
	reply.Text = strings.Repeat("x", 1<<20)
	return nil
}

// Wait says that it has begun, and ends with the connection or when it is released.
func (e *echo) Wait(ctx context.Context, args *echoArgs, reply *echoReply) error {
	e.entered <- args.RequestID
	select {
	case <-ctx.Done():
		reply.Text = "ended"
	case <-e.release:
		reply.Text = "released"
	}
	return nil
}

func (e *echo) NotACall(int) {}

// testServer serves echo on a socket of its own until the test ends or stop is called.
type testServer struct {
	*echo
	path string
	log  *syncBuffer
	stop func()
}

type syncBuffer struct {
	mu  sync.Mutex // protects buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (s *testServer) options() ServerOptions {
	return ServerOptions{
		Hello:  HelloReply{Version: "1.2", ServerID: "abc", PID: 7, StateDir: "/state", UID: os.Geteuid()},
		Logger: slog.New(slog.NewTextHandler(s.log, nil)),
		Register: func(_ context.Context, peer Peer) any {
			return &echo{peer: peer, entered: s.entered, release: s.release}
		},
	}
}

func newTestServer(t *testing.T) *testServer {
	return &testServer{
		echo: &echo{entered: make(chan string, 100), release: make(chan struct{})},
		path: filepath.Join(t.TempDir(), "s"),
		log:  &syncBuffer{},
	}
}

func (s *testServer) start(t *testing.T, opt ServerOptions) {
	t.Helper()
	l, err := Listen(s.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, opt) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(s.stop)
}

func serveEcho(t *testing.T) *testServer {
	s := newTestServer(t)
	s.start(t, s.options())
	return s
}

func dial(t *testing.T, path string, opt ClientOptions) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestCall(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{Client: "test", Version: "9"})
	want := HelloReply{Protocol: MaxProtocol, Version: "1.2", ServerID: "abc", PID: 7, StateDir: "/state", UID: os.Geteuid(), MaxMessage: DefaultMaxMessage}
	if diff := cmp.Diff(want, c.Server()); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			text := fmt.Sprint("call ", i)
			reply, err := Call[echoReply](t.Context(), c, "Echo", &echoArgs{Text: text})
			want := &echoReply{Text: text, Size: len(text), Peer: Peer{UID: os.Geteuid(), PID: os.Getpid(), Of: "test 9"}}
			if diff := cmp.Diff(want, reply); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	wg.Wait()
}

func TestReplyIsEmptiedFirst(t *testing.T) {
	c := dial(t, serveEcho(t).path, ClientOptions{})
	reply := echoReply{Text: "stale", Size: 5}
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
		{"wrapped", "Echo", &echoArgs{Fail: fail}, Error{NotFound, "echo: no job 17", "see: jobserver job ls"}},
		{"odd bytes", "Echo", &echoArgs{Fail: &Error{Conflict, "a\x00\"\xff\n", "é\u2028"}}, Error{Conflict, "echo: a\x00\"\xff\n", "é\u2028"}},
		{"of no kind", "Plain", &echoArgs{Text: "text"}, Error{Internal, "plain text", ""}},
		{"no such call", "Missing", nil, Error{Incompatible, `the daemon doesn't know the call "Jobserver.Missing"`, "upgrade the daemon to the client's version and restart it: running jobs go on, and are found again"}},
		{"of another form", "NotACall", nil, Error{Incompatible, `the daemon doesn't know the call "Jobserver.NotACall"`, "upgrade the daemon to the client's version and restart it: running jobs go on, and are found again"}},
		{"of another service", "Other.Echo", nil, Error{Incompatible, `the daemon doesn't know the call "Other.Echo"`, "upgrade the daemon to the client's version and restart it: running jobs go on, and are found again"}},
		{"panic", "Panic", nil, Error{Internal, "Jobserver.Panic: the daemon met a bug: out of cheese", "the daemon goes on; its log has the details"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := c.Call(t.Context(), test.method, test.args, &echoReply{})
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
	if log := s.log.String(); !strings.Contains(log, "out of cheese") || !strings.Contains(log, "echo).Panic") {
		t.Errorf("the log lacks the panic or its stack:\n%s", log)
	}
	if _, err := Call[echoReply](t.Context(), c, "Echo", &echoArgs{}); err != nil {
		t.Errorf("the daemon doesn't go on: %v", err)
	}
}

func TestArgumentsOfAnotherShape(t *testing.T) {
	c := dial(t, serveEcho(t).path, ClientOptions{})
	type wrong struct{ Text []int }
	if err := c.Call(t.Context(), "Echo", &wrong{[]int{1}}, &echoReply{}); KindOf(err) != Invalid {
		t.Errorf("arguments: %v", err)
	}
	type wrongReply struct{ Text []int }
	err := c.Call(t.Context(), "Echo", &echoArgs{Text: "x"}, &wrongReply{})
	if KindOf(err) != Incompatible {
		t.Errorf("reply: %v", err)
	}
	if _, err := Call[echoReply](t.Context(), c, "Echo", &echoArgs{}); err != nil {
		t.Errorf("the connection doesn't go on: %v", err)
	}
}

func TestMessageLimits(t *testing.T) {
	s := newTestServer(t)
	opt := s.options()
	opt.MaxMessage = 100_000
	s.start(t, opt)
	c := dial(t, s.path, ClientOptions{})

	_, err := Call[echoReply](t.Context(), c, "Echo", &echoArgs{Text: strings.Repeat("x", 100_001)})
	if KindOf(err) != TooLarge || HintOf(err) == "" {
		t.Errorf("big request: %v", err)
	}
	_, err = Call[echoReply](t.Context(), c, "Grow", nil)
	if KindOf(err) != TooLarge || HintOf(err) == "" {
		t.Errorf("big reply: %v", err)
	}
	// Above smallMessage, and more of them than the budget has room for at once.
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			reply, err := Call[echoReply](t.Context(), c, "Echo", &echoArgs{Text: strings.Repeat("x", 90_000)})
			if err != nil || reply.Size != 90_000 {
				t.Error(reply, err)
			}
		})
	}
	wg.Wait()
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
		if _, err := Call[echoReply](t.Context(), c, "Echo", &echoArgs{}); err != nil {
			t.Errorf("one of those that were there: %v", err)
		}
	}
}

func TestHandlersEndWithTheirConnection(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{})
	done := make(chan error, 1)
	go func() {
		_, err := Call[echoReply](t.Context(), c, "Wait", nil)
		done <- err
	}()
	<-s.entered
	_ = c.Close()
	if err := <-done; KindOf(err) != Unavailable {
		t.Errorf("a read that was cut short: %v", err)
	}
	s.stop() // waits for the handler, which ends only with its context
}

func TestStoppingLetsAnswersOut(t *testing.T) {
	s := serveEcho(t)
	c := dial(t, s.path, ClientOptions{RedialFor: -1})
	type result struct {
		reply *echoReply
		err   error
	}
	done := make(chan result, 1)
	go func() {
		reply, err := Call[echoReply](t.Context(), c, "Wait", &echoArgs{})
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
	if err := l.call(t.Context(), "Jobserver.Echo", &echoArgs{}, &echoReply{}); KindOf(err) != Incompatible {
		t.Errorf("got %v", err)
	}
	var lost *lostError
	if err := l.call(t.Context(), helloMethod, &HelloArgs{MinProtocol: 1, MaxProtocol: 1}, &HelloReply{}); !errors.As(err, &lost) {
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
		{"a client too new", MaxProtocol + 1, MaxProtocol + 2, 0, "the daemon (d1, protocol 1) is too old for this client (c1, protocol 2 and up)"},
		{"a client too old", MinProtocol - 1, MinProtocol - 1, 0, "this client (c1, protocol 0) is too old for the daemon (d1, protocol 1 and up)"},
		{"nonsense", MaxProtocol, MinProtocol - 1, 0, "this client (c1, protocol 0) is too old for the daemon (d1, protocol 1 and up)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := chooseProtocol(HelloArgs{MinProtocol: test.min, MaxProtocol: test.max, Version: "c1"}, "d1")
			if got != test.want || (err == nil) != (test.wantText == "") {
				t.Fatalf("got %d, %v", got, err)
			}
			if err != nil && (err.Error() != test.wantText || KindOf(err) != Incompatible || !strings.HasPrefix(HintOf(err), "upgrade the ")) {
				t.Errorf("got %v (hint %s)", err, HintOf(err))
			}
		})
	}
}

// hello sends a correct greeting by hand and reads the answer.
func hello(t *testing.T, conn net.Conn) {
	t.Helper()
	frame, err := encodeFrame(header{method: helloMethod}, &HelloArgs{MinProtocol: 1, MaxProtocol: 1}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	if _, err := newFrames(conn, DefaultMaxMessage, false).read(func(int) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// pipeListener hands out ends of pipes, so that the server runs inside a bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func servePipes(t *testing.T, s *testServer) *pipeListener {
	opt := s.options()
	opt.PeerOf = func(net.Conn) (Peer, error) { return Peer{UID: os.Geteuid()}, nil }
	l := newPipeListener()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, opt) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l
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
				l := servePipes(t, s)
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
	nothing := func(int) error { return nil }
	conn := pipeWith(t, append(binary.BigEndian.AppendUint32(nil, DefaultMaxMessage), 1, 2, 3))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := newFrames(conn, DefaultMaxMessage, false).read(nothing); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a message that was cut short: %v", err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes for a message of which 3 bytes came", got)
	}
	conn = pipeWith(t, binary.BigEndian.AppendUint32(nil, DefaultMaxMessage+1))
	if _, err := newFrames(conn, DefaultMaxMessage, false).read(nothing); KindOf(err) != TooLarge {
		t.Errorf("one byte too long: %v", err)
	}
}

// pipeWith is a connection from which data can be read.
func pipeWith(t *testing.T, data []byte) net.Conn {
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = there.Write(data)
		_ = there.Close()
	}()
	t.Cleanup(func() { _ = here.Close(); <-done })
	return here
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
	f.Add(seed("Jobserver.Echo", &echoArgs{Text: "hello"}))
	f.Add(seed("Jobserver.Plain", &echoArgs{Text: "hello"}))
	f.Add(seed("Jobserver.Panic", nil))
	f.Add(append(seed("Nothing", nil), seed("Jobserver.Echo", &struct{ Text []string }{[]string{"a"}})...))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &testServer{echo: &echo{entered: make(chan string, len(data)), release: make(chan struct{})}, log: &syncBuffer{}}
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
	if err := gob.NewEncoder(conn).Encode(&rpc.Request{ServiceMethod: helloMethod}); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); n != 0 {
		t.Errorf("it got %d bytes (%v)", n, err)
	}
}
