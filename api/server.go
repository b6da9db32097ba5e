package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

const (
	defaultMaxConns = 1024
	defaultMaxCalls = 64
	defaultMemory   = 32 << 20

	// ownCalls is how many calls any connection may have under way; more than that share maxExtras
	// places.
	ownCalls  = 2
	maxExtras = 512

	// maxSilent is how many connections there may be that haven't introduced themselves.
	maxSilent = 512

	// maxTurns is how many answers are made at the same time.
	maxTurns = 4

	// patience is how long a client waits for memory that others hold, before those who hold the
	// most are dropped.
	patience = 2 * time.Second

	// Connections that are not allowed get their one answer in that many places; others are just
	// closed.
	maxRefusals = 16

	// helloTime is how long a connection may take to introduce itself.
	helloTime = 5 * time.Second

	// stopGrace is how long the last answers may take to be written when the server stops.
	stopGrace = 2 * time.Second
)

// Peer is the process at the other end of a connection.
type Peer struct {
	UID int
	PID int    // 0 where the system doesn't tell
	Of  string // what its Hello said that it is, and its version; not to be trusted
}

// ServerOptions say how to serve. Register is needed, the rest has defaults.
type ServerOptions struct {
	// Register gives the calls that a connection answers after its Hello. ctx ends with the
	// connection, at the latest when the server stops; it is for the handlers to keep.
	Register func(ctx context.Context, peer Peer) []Method

	// Hello has the answer to Hello; Protocol and MaxMessage are filled in.
	Hello HelloReply

	// Pressed hears that much of Memory is used, and that it is so no more; nil: nobody does.
	Pressed func(bool)

	Logger *slog.Logger // nil: nothing is logged
	// bytes; 0 is DefaultMaxMessage. Requests of most methods may have less
	MaxMessage int
	// bytes that all requests and answers may take together; 0 is 32 MiB
	Memory int
	// connections at once, of clients that have introduced themselves; 0 is 1,024
	MaxConns int
	// calls at once on one connection; further ones wait unread. 0 is 64
	MaxCalls int
	PeerOf   func(net.Conn) (Peer, error) // nil is PeerOf
	Allow    func(Peer) bool              // nil allows root and the user that the process runs as
}

func (opt ServerOptions) withDefaults() ServerOptions {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.MaxMessage <= 0 {
		opt.MaxMessage = DefaultMaxMessage
	}
	if opt.Memory <= 0 {
		opt.Memory = defaultMemory
	}
	if opt.MaxConns <= 0 {
		opt.MaxConns = defaultMaxConns
	}
	if opt.MaxCalls <= 0 {
		opt.MaxCalls = defaultMaxCalls
	}
	if opt.Pressed == nil {
		opt.Pressed = func(bool) {}
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

// Serve answers calls on l until ctx ends; then it closes l, reads no further call, ends the
// handlers' contexts, waits for the handlers, sends their last answers, and returns nil. Any other
// return says why it can't accept any more; the connections are ended in the same way.
func Serve(ctx context.Context, l net.Listener, opt ServerOptions) error {
	opt = opt.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	s := newServer(opt)
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
	door     *door
	refusals chan struct{} // one for each connection that gets no more than a refusal
	turns    *room         // for answers that are made
	extras   chan struct{} // one for each call beyond ownCalls
	room     *room         // the memory for requests and answers
	accepted uint64        // connections, so far; of the goroutine that accepts
	conns    sync.WaitGroup
}

// newServer makes a server of complete options.
func newServer(opt ServerOptions) *server {
	return &server{
		opt: opt,
		door: &door{
			maxSilent: maxSilent,
			maxOpen:   opt.MaxConns,
			open:      map[*serverConn]struct{}{},
		},
		refusals: make(chan struct{}, maxRefusals),
		turns:    newTurns(maxTurns),
		extras:   make(chan struct{}, maxExtras),
		room:     newRoom(opt.Memory, opt.MaxConns, patience, opt.Pressed),
	}
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

// start gives the connection a goroutine. One that isn't allowed gets no more than a refusal, and
// not even that when there are far too many.
func (s *server) start(ctx context.Context, conn net.Conn) {
	peer, err := s.opt.PeerOf(conn)
	s.accepted++
	c := &serverConn{
		server: s,
		number: s.accepted,

		answering: make(chan struct{}, 1),
		peer:      peer,
		frames:    newFrames(conn, s.opt.MaxMessage, true),
		logger:    s.opt.Logger.With("peer_pid", peer.PID),
	}
	switch {
	case err != nil:
		c.logger.Warn("refused a connection", "error", err)
		c.refusal = Errorf(Denied, "the daemon can't tell who connects")
	case !s.opt.Allow(peer):
		c.logger.Warn("refused a connection", "uid", peer.UID)
		c.refusal = Errorf(Denied, "the daemon serves user %d, not user %d", os.Geteuid(), peer.UID)
	}
	leave := func() { s.door.leave(c) }
	if c.refusal != nil {
		leave = func() { <-s.refusals }
		select {
		case s.refusals <- struct{}{}:
		default:
			_ = conn.Close() // it gets no answer in any case
			return
		}
	}
	var connCtx context.Context
	connCtx, c.end = context.WithCancel(ctx)
	if c.refusal == nil {
		s.door.arrive(c)
	}
	s.conns.Go(func() {
		defer leave()
		c.serve(ctx, connCtx)
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
