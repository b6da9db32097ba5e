package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	defaultMaxConns = 1024
	defaultMaxCalls = 64

	// Connections that are over the limit, or not allowed, get their one answer in that many places; others are
	// just closed.
	maxRefusals = 16

	// helloTime is how long a connection may take to introduce itself.
	helloTime = 10 * time.Second

	// stopGrace is how long the last answers may take to be written when the server stops.
	stopGrace = 2 * time.Second

	// bigMessages is how many messages of the full size may be held at once, over all connections.
	bigMessages = 4
)

// Peer is the process at the other end of a connection.
type Peer struct {
	UID int
	PID int    // 0 where the system doesn't tell
	Of  string // what its Hello said that it is, and its version; not to be trusted
}

// ServerOptions say how to serve. Register is needed, the rest has defaults.
type ServerOptions struct {
	// Register gives the calls that a connection answers after its Hello. ctx ends with the connection, at the
	// latest when the server stops; it is for the handlers to keep.
	Register func(ctx context.Context, peer Peer) []Method

	// Hello is what Hello answers; Protocol and MaxMessage are filled in.
	Hello HelloReply

	Logger     *slog.Logger                 // nil: nothing is logged
	MaxMessage int                          // bytes; 0 is DefaultMaxMessage
	MaxConns   int                          // connections at once; 0 is 1,024
	MaxCalls   int                          // calls at once on one connection; further ones wait unread. 0 is 64
	PeerOf     func(net.Conn) (Peer, error) // nil is PeerOf
	Allow      func(Peer) bool              // nil allows root and the user that the process runs as
}

func (opt ServerOptions) withDefaults() ServerOptions {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.MaxMessage <= 0 {
		opt.MaxMessage = DefaultMaxMessage
	}
	if opt.MaxConns <= 0 {
		opt.MaxConns = defaultMaxConns
	}
	if opt.MaxCalls <= 0 {
		opt.MaxCalls = defaultMaxCalls
	}
	if opt.PeerOf == nil {
		opt.PeerOf = PeerOf
	}
	if opt.Allow == nil {
		self := os.Geteuid()
		opt.Allow = func(p Peer) bool { return p.UID == 0 || p.UID == self }
	}
	return opt
}

// Serve answers calls on l until ctx ends; then it closes l, reads no further call, ends the handlers'
// contexts, waits for the handlers, sends their last answers, and returns nil. Any other return says why it
// can't accept any more; the connections are ended in the same way.
func Serve(ctx context.Context, l net.Listener, opt ServerOptions) error {
	opt = opt.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	s := &server{
		opt:      opt,
		places:   make(chan struct{}, opt.MaxConns),
		refusals: make(chan struct{}, maxRefusals),
		budget:   semaphore.NewWeighted(bigMessages * int64(opt.MaxMessage)),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = l.Close() // Accept reports whatever is wrong with it
	})
	err := s.accept(ctx, l)
	cancel()
	if !stop() {
		<-closed
	}
	s.conns.Wait()
	return err
}

type server struct {
	opt      ServerOptions
	places   chan struct{}       // one for each connection
	refusals chan struct{}       // one for each connection that gets no more than a refusal
	budget   *semaphore.Weighted // bytes of big messages
	conns    sync.WaitGroup
}

// accept takes connections until ctx ends (nil) or the listener breaks.
func (s *server) accept(ctx context.Context, l net.Listener) error {
	const firstPause, longestPause = 5 * time.Millisecond, time.Second
	pause := firstPause
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close() // nothing was said on it yet
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of file descriptors, most likely: others end and make room.
			s.opt.Logger.Warn("can't accept a connection", "error", err, "retry_in", pause)
			if !sleep(ctx, pause) {
				return nil
			}
			pause = min(2*pause, longestPause)
			continue
		}
		pause = firstPause
		s.start(ctx, conn)
	}
}

// start gives the connection a goroutine, or closes it when there are far too many.
func (s *server) start(ctx context.Context, conn net.Conn) {
	peer, err := s.opt.PeerOf(conn)
	var refusal *Error
	places := s.places
	switch {
	case err != nil:
		s.opt.Logger.Warn("refused a connection", "error", err)
		refusal = Errorf(Denied, "the daemon can't tell who connects")
	case !s.opt.Allow(peer):
		s.opt.Logger.Warn("refused a connection", "uid", peer.UID, "pid", peer.PID)
		refusal = Errorf(Denied, "the daemon serves user %d, not user %d", os.Geteuid(), peer.UID)
	default:
		select {
		case places <- struct{}{}:
		default:
			s.opt.Logger.Warn("refused a connection: too many", "limit", s.opt.MaxConns, "pid", peer.PID)
			refusal = Errorf(Unavailable, "the daemon has %d connections already", s.opt.MaxConns).
				WithHint("end some clients that wait or follow, then try again")
		}
	}
	if refusal != nil {
		places = s.refusals
		select {
		case places <- struct{}{}:
		default:
			_ = conn.Close() // it gets no answer in any case
			return
		}
	}
	c := &serverConn{
		server:  s,
		peer:    peer,
		refusal: refusal,
		frames:  newFrames(conn, s.opt.MaxMessage, true),
		logger:  s.opt.Logger.With("peer_pid", peer.PID),
	}
	s.conns.Go(func() {
		defer func() { <-places }()
		c.serve(ctx)
	})
}

// sleep waits, and says whether it did so to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
