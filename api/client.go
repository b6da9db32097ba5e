package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	defaultHelloTimeout = 10 * time.Second
	defaultRedialFor    = 5 * time.Second
	firstRedialPause    = 20 * time.Millisecond
	longestRedialPause  = time.Second
)

// ClientOptions say who calls, and what to do when the connection is lost. All have defaults.
type ClientOptions struct {
	Client  string // what the client is, for the daemon's log: "cli", "completion"
	Version string // the client's

	// for connecting and Hello, where the context gives less it holds; 0 is 10 s
	HelloTimeout time.Duration
	// how long a call tries to reach the daemon again; 0 is 5 s, negative not at all
	RedialFor time.Duration
	// bytes; 0 is DefaultMaxMessage. For requests the daemon's limit holds too
	MaxMessage int

	// PeerOf tells Dial who answers on a socket; nil is PeerOf.
	PeerOf func(net.Conn) (Peer, error)

	// Redial makes a new connection to the same daemon. Dial sets it; a client of NewClient that
	// has none doesn't outlive its connection.
	Redial func(ctx context.Context) (net.Conn, error)
}

func (opt ClientOptions) withDefaults() ClientOptions {
	if opt.HelloTimeout <= 0 {
		opt.HelloTimeout = defaultHelloTimeout
	}
	if opt.RedialFor == 0 {
		opt.RedialFor = defaultRedialFor
	}
	if opt.MaxMessage <= 0 {
		opt.MaxMessage = DefaultMaxMessage
	}
	if opt.PeerOf == nil {
		opt.PeerOf = PeerOf
	}
	return opt
}

// Mutating is implemented by the arguments of a call that changes something, by embedding Mutation.
// SetRequestID keeps an id that is already there.
type Mutating interface{ SetRequestID(id string) }

// Client calls a daemon. It may be used by several goroutines at once.
type Client struct {
	opt     ClientOptions
	first   HelloReply      // of the first connection: later ones must reach the same state
	closing context.Context // ends with Close
	end     context.CancelFunc

	dialing chan struct{} // has room for one: whoever makes a new connection

	mu   sync.Mutex // protects link
	link *link      // nil while the connection is lost
}

// Dial connects to the daemon's socket. It doesn't wait for a daemon that isn't there, and says
// nothing to one of another user: it could be anybody's in a directory that others may write, and
// what it is told are commands and secrets.
func Dial(ctx context.Context, path string, opt ClientOptions) (*Client, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	opt = opt.withDefaults()
	opt.Redial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, dialError(path, err)
		}
		if err := ours(path, conn, opt.PeerOf); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
	helloCtx, cancel := context.WithTimeout(ctx, opt.HelloTimeout)
	defer cancel()
	conn, err := opt.Redial(helloCtx)
	if err != nil {
		return nil, err
	}
	return NewClient(ctx, conn, opt)
}

// NewClient speaks to the daemon at the other end of conn, which it takes over; on an error conn is
// closed.
func NewClient(ctx context.Context, conn net.Conn, opt ClientOptions) (*Client, error) {
	c := &Client{opt: opt.withDefaults(), dialing: make(chan struct{}, 1)}
	l, err := c.hello(ctx, conn)
	if err != nil {
		return nil, err
	}
	c.link, c.first = l, l.server
	c.closing, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Server has what the daemon said of itself when the client first connected.
func (c *Client) Server() HelloReply { return c.first }

// Close ends the connection and the calls that are under way. It may be called again.
func (c *Client) Close() error {
	c.end()
	c.setLink(nil)
	return nil
}

// Call calls a method, "AddJobs" or in full "Jobserver.AddJobs", with args (a pointer; nil for
// none) and fills in reply (a pointer), which it empties first. It returns when ctx ends, whatever
// becomes of the call. Errors of the daemon come as *Error; those of a lost connection are
// described in the package's contract.
func (c *Client) Call(ctx context.Context, method string, args, reply any) error {
	if !strings.Contains(method, ".") {
		method = Service + "." + method
	}
	mutation, mutates := args.(Mutating)
	if mutates {
		mutation.SetRequestID(rand.Text())
	}
	reflect.ValueOf(reply).Elem().SetZero()

	var until time.Time // when to give up; set once the connection is lost
	sent := false       // in any try
	for pause := firstRedialPause; ; pause = min(2*pause, longestRedialPause) {
		err := c.try(ctx, method, args, reply)
		var lost *lostError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &lost):
			sent = sent || lost.sent
		case sent && mutates && ctx.Err() == nil:
			// The daemon that got the request isn't the one that refuses now.
			return (&lostError{cause: err, sent: true}).final(method, true)
		default:
			return err
		}
		if until.IsZero() {
			until = time.Now().Add(c.opt.RedialFor)
		}
		if c.opt.Redial == nil || time.Until(until) < pause || !c.sleep(ctx, pause) {
			return (&lostError{cause: lost.cause, sent: sent}).final(method, mutates)
		}
	}
}

// Call is Client.Call with a reply of its own, so that no field of an earlier one is left in it.
func Call[Reply any](ctx context.Context, c *Client, method string, args any) (*Reply, error) {
	reply := new(Reply)
	if err := c.Call(ctx, method, args, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

// try makes one call on the connection that there is, or on a new one. A *lostError may be tried
// again.
func (c *Client) try(ctx context.Context, method string, args, reply any) error {
	l, err := c.connected(ctx)
	if err != nil {
		if KindOf(err) == Unavailable {
			return &lostError{cause: err}
		}
		return err
	}
	err = l.call(ctx, method, args, reply)
	var lost *lostError
	if errors.As(err, &lost) {
		c.drop(l)
		// an error of the daemon may have the kind Unavailable too: that one is the answer
		return err
	}
	return err
}

// connected is the connection to use, made anew when the last one was lost. One caller at a time
// does that.
func (c *Client) connected(ctx context.Context) (*link, error) {
	if l := c.current(); l != nil {
		return l, nil
	}
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("reach the daemon: %w", ctx.Err())
	}
	if l := c.current(); l != nil {
		return l, nil
	}
	if c.opt.Redial == nil || c.closing.Err() != nil {
		return nil, Errorf(Unavailable, "the connection to the daemon is closed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.closing, cancel)()

	dialCtx, cancelDial := context.WithTimeout(ctx, c.opt.HelloTimeout)
	defer cancelDial()
	conn, err := c.opt.Redial(dialCtx)
	if err != nil {
		return nil, asUnavailable(err)
	}
	l, err := c.hello(ctx, conn)
	if err != nil {
		return nil, err
	}
	if l.server.ServerID != c.first.ServerID {
		l.close()
		return nil, Errorf(
			Conflict,
			"another daemon answers there now, whose state is %s",
			l.server.StateDir,
		)
	}
	c.setLink(l)
	return l, nil
}

func (c *Client) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

// setLink replaces the connection; after Close there is none any more.
func (c *Client) setLink(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		c.link.close()
	}
	if l != nil && c.closing.Err() != nil {
		l.close()
		l = nil
	}
	c.link = l
}

// drop forgets a connection that was lost, unless there is a newer one.
func (c *Client) drop(l *link) {
	l.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == l {
		c.link = nil
	}
}

// sleep waits before the next try, and says whether there is to be one.
func (c *Client) sleep(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.closing, cancel)()
	return sleep(ctx, d)
}

// hello introduces the client on a new connection.
func (c *Client) hello(ctx context.Context, conn net.Conn) (*link, error) {
	helloCtx, cancel := context.WithTimeout(ctx, c.opt.HelloTimeout)
	defer cancel()
	l := newLink(conn, c.opt.MaxMessage)
	args := &HelloArgs{
		MinProtocol: MinProtocol,
		MaxProtocol: MaxProtocol,
		Version:     c.opt.Version,
		Client:      c.opt.Client,
	}
	err := l.call(helloCtx, helloMethod, args, &l.server)
	if err == nil && (l.server.Protocol < MinProtocol || l.server.Protocol > MaxProtocol) {
		err = Errorf(
			Incompatible,
			"the daemon (%s) chose protocol %d; this client (%s) speaks %d to %d",
			orUnknown(
				l.server.Version,
			),
			l.server.Protocol,
			orUnknown(c.opt.Version),
			MinProtocol,
			MaxProtocol,
		).
			WithHint("use a client of the daemon's version")
	}
	if err == nil {
		l.codec.limitRequests(l.server.MaxMessage)
		return l, nil
	}
	l.close()
	var lost *lostError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("reach the daemon: %w", ctx.Err())
	case helloCtx.Err() != nil:
		return nil, Errorf(
			Unavailable,
			"the daemon takes connections, but didn't answer within %v",
			c.opt.HelloTimeout,
		).
			WithHint("it may be stopped or overloaded: see its log")
	case errors.As(err, &lost):
		return nil, Errorf(
			Unavailable,
			"the connection ended before the daemon said hello: %w",
			lost.cause,
		)
	case KindOf(err) == TooLarge:
		return nil, Errorf(Incompatible, "what answers is no daemon: %w", err)
	}
	return nil, err
}

// ours says whether it is this user's or root's daemon that answers.
func ours(path string, conn net.Conn, peerOf func(net.Conn) (Peer, error)) error {
	peer, err := peerOf(conn)
	if err != nil {
		return Errorf(Denied, "can't tell whose daemon listens on %s: %w", path, err)
	}
	if self := os.Geteuid(); peer.UID != self && peer.UID != 0 {
		return Errorf(
			Denied,
			"the daemon on %s is user %d's, and you are user %d: nothing was said to it",
			path,
			peer.UID,
			self,
		).
			WithHint("name your own daemon with --socket or JOBSERVER_SOCKET")
	}
	return nil
}

func dialError(path string, err error) error {
	const start = "start the daemon with: jobserver serve"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Errorf(
			Unavailable,
			"no daemon is running: there is no socket %s",
			path,
		).WithHint(start)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Errorf(
			Unavailable,
			"no daemon is running: nothing listens on %s",
			path,
		).WithHint(start)
	case errors.Is(err, fs.ErrPermission):
		return Errorf(Unavailable, "the daemon's socket %s is another user's", path).
			WithHint("name your own with --socket or JOBSERVER_SOCKET")
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("reach the daemon: %w", err)
	default:
		return Errorf(Unavailable, "reach the daemon: %w", err)
	}
}

// asUnavailable gives an error of a dial function its kind, unless it has one or the context ended.
func asUnavailable(err error) error {
	if KindOf(err) != Internal {
		return err
	}
	return Errorf(Unavailable, "reach the daemon: %w", err)
}
