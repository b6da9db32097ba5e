package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// EchoArgs are exported, as net/rpc wants it.
type EchoArgs struct {
	Mutation
	Text string
	Fail *Error
}

// EchoReply is, too.
type EchoReply struct {
	Text string
	Size int
	Peer Peer
}

// echo has one method of each kind that matters here.
type echo struct {
	ctx     context.Context
	peer    Peer
	entered chan string // request ids, of Wait
	left    chan string // likewise
	release chan struct{}
}

func (e *echo) methods() []Method {
	return []Method{
		Handle("Echo", e.Echo), Handle("Plain", e.Plain), Handle("Mute", e.Mute),
		Handle("Panic", e.Panic),
		Handle("Grow", e.Grow), Handle("Wait", e.Wait), Handle("Unsendable", e.Unsendable),
	}
}

func (e *echo) Echo(args *EchoArgs, reply *EchoReply) error {
	if args.Fail != nil {
		return fmt.Errorf("echo: %w", args.Fail)
	}
	*reply = EchoReply{Text: args.Text, Size: len(args.Text), Peer: e.peer}
	return nil
}

func (e *echo) Plain(args *EchoArgs, _ *Empty) error { return errors.New("plain " + args.Text) }

func (e *echo) Mute(_ *Empty, _ *Empty) error { return errors.New("") }

func (e *echo) Unsendable(_ *Empty, reply *func()) error { return nil }

func (e *echo) Panic(_ *Empty, _ *Empty) error { panic("out of cheese") }

func (e *echo) Grow(args *EchoArgs, reply *EchoReply) error {
	reply.Text = strings.Repeat("x", 1<<20)
	return nil
}

// Wait says that it has begun, and ends with the connection or when it is released.
func (e *echo) Wait(args *EchoArgs, reply *EchoReply) error {
	e.entered <- args.RequestID
	defer func() { e.left <- args.RequestID }()
	select {
	case <-e.ctx.Done():
		reply.Text = "ended"
	case <-e.release:
		reply.Text = "released"
	}
	return nil
}

func (e *echo) NotACall(_ *Empty, _ *Empty) error { return nil }

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
		Hello: HelloReply{Version: "1.2", ServerID: "abc", PID: 7, StateDir: "/state",
			UID: os.Geteuid()},
		Logger: slog.New(slog.NewTextHandler(s.log, nil)),
		Register: func(ctx context.Context, peer Peer) []Method {
			return (&echo{ctx: ctx, peer: peer, entered: s.entered, left: s.left,
				release: s.release}).methods()
		},
	}
}

func newTestServer(t *testing.T) *testServer {
	return &testServer{
		echo: &echo{entered: make(chan string, 100), left: make(chan string, 100),
			release: make(chan struct{})},
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

// hello sends a correct greeting by hand and reads the answer.
func hello(t *testing.T, conn net.Conn) {
	t.Helper()
	frame, err := encodeFrame(header{method: helloMethod},
		&HelloArgs{MinProtocol: 1, MaxProtocol: 1}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	if _, err := newFrames(conn, DefaultMaxMessage, false).read(); err != nil {
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

func servePipes(t *testing.T, s *testServer, opt ServerOptions) *pipeListener {
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
