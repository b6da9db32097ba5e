package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	xssh "golang.org/x/crypto/ssh"
)

// A link is a chain of logged-in clients, each reached through the one
// before. The chain isn't shared: closing base ends all of it at once,
// whatever state the machines on the way are in.
type link struct {
	base   net.Conn // to the first hop
	hops   []*config
	client *xssh.Client // of the last hop; nil while there is none
}

func (l *link) close() {
	if l.base != nil {
		l.base.Close()
	}
}

// via names the jump hosts.
func (l *link) via() string {
	var names []string
	for _, h := range l.hops[:len(l.hops)-1] {
		names = append(names, h.addr.String())
	}
	return strings.Join(names, ",")
}

// connect logs in to each hop in turn. Host keys are checked on each.
func (d *Dialer) connect(ctx context.Context, hops []*config) (*link, error) {
	l := &link{hops: hops}
	for _, c := range hops {
		if err := d.extend(ctx, l, c, login{}); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// A login says what differs from an ordinary one.
type login struct {
	// inspect, if not nil, is given the host key instead of the check, and
	// its error ends the handshake.
	inspect    func(xssh.PublicKey) error
	algorithms []string // of the host key, with inspect
}

// extend connects to c through the link, and makes its client that of c.
func (d *Dialer) extend(ctx context.Context, l *link, c *config, how login) error {
	release, err := d.acquire(ctx, c.hostPort())
	if err != nil {
		return fmt.Errorf("%s: %w", c.addr, err)
	}
	defer release()
	limit := d.dialTimeout(c)
	deadline := time.Now().Add(limit)
	tctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err = d.extendBy(tctx, l, c, how, deadline)
	var key *HostKeyError
	switch {
	case err == nil || errors.As(err, &key):
		return err
	// A login that a timer ended looks like one that was refused, so this
	// comes before AuthError.
	case ctx.Err() != nil:
		return fmt.Errorf("%s: connect: %w", c.addr, context.Cause(ctx))
	case tctx.Err() != nil:
		var dial *DialError
		op := "connect to " + c.hostPort()
		if errors.As(err, &dial) {
			op = dial.Op
		}
		return &DialError{Addr: c.addr.String(), Op: op, Err: &timeoutError{limit}}
	}
	return err
}

func (d *Dialer) dialTimeout(c *config) time.Duration {
	switch {
	case d.opts.DialTimeout > 0:
		return d.opts.DialTimeout
	case c.timeout > 0:
		return c.timeout
	}
	return defaultDialTimeout
}

// A timeoutError is a net.Error that says how long it took.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string   { return fmt.Sprintf("no answer within %v", e.after) }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
func (e *timeoutError) Is(target error) bool {
	return target == os.ErrDeadlineExceeded || target == context.DeadlineExceeded
}

func (d *Dialer) extendBy(
	ctx context.Context, l *link, c *config, how login, deadline time.Time,
) error {
	conn, err := reach(ctx, l, c)
	if err != nil {
		return err
	}
	// A forwarded connection knows no deadline, and its end waits for the jump
	// host's consent: whatever happens, closing the base ends the handshake.
	base := l.base
	if base == nil {
		base = conn
	}
	stop := context.AfterFunc(ctx, func() { base.Close() })
	client, err := d.handshake(ctx, l, conn, c, how, deadline)
	if !stop() && err == nil {
		err = &DialError{Addr: c.addr.String(), Op: "handshake", Err: context.Cause(ctx)}
	}
	if err != nil {
		conn.Close()
		return err
	}
	l.base, l.client = base, client
	return nil
}

// reach opens a byte stream to c's sshd.
func reach(ctx context.Context, l *link, c *config) (net.Conn, error) {
	addr, op := c.addr.String(), "connect to "+c.hostPort()
	if l.client != nil {
		// x/crypto's DialContext ends by itself when the base is closed.
		stop := context.AfterFunc(ctx, l.close)
		defer stop()
		conn, err := l.client.DialContext(ctx, "tcp", c.hostPort())
		var open *xssh.OpenChannelError
		if errors.As(err, &open) {
			return nil, &DialError{Addr: addr, Op: op + " from " + l.hops[0].addr.String(),
				Err: errors.New(open.Message),
				Advice: "check that the jump host can reach the machine, and that its sshd has " +
					"AllowTcpForwarding"}
		}
		if err != nil {
			return nil, &DialError{Addr: addr, Op: op + " through the jump host", Err: err}
		}
		return conn, nil
	}
	nd := &net.Dialer{Control: controlSocket}
	if c.bindAddress != "" {
		ip := net.ParseIP(c.bindAddress)
		if ip == nil {
			return nil, &ConfigError{Addr: addr, OpenSSH: true,
				Err: fmt.Errorf("BindAddress %s is not an IP address", c.bindAddress)}
		}
		nd.LocalAddr = &net.TCPAddr{IP: ip}
	}
	conn, err := nd.DialContext(ctx, c.family, c.hostPort())
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return nil, &ResolveError{Addr: addr, Host: c.hostName, Err: dns}
	case err != nil:
		var op2 *net.OpError
		if errors.As(err, &op2) {
			err = op2.Err
		}
		return nil, &DialError{Addr: addr, Op: op, Err: err}
	}
	return conn, nil
}

// handshake checks the host key and logs in.
func (d *Dialer) handshake(
	ctx context.Context, l *link, conn net.Conn, c *config, how login, deadline time.Time,
) (*xssh.Client, error) {
	known := d.knownHosts(c)
	h := &handshake{watchedConn: &watchedConn{Conn: conn}, c: c}
	algorithms, isKnown := known.algorithms(c)
	var ip net.IP // of the machine itself; nil behind a jump host
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok && l.client == nil {
		ip = tcp.IP
	}
	h.check = func(key xssh.PublicKey) error { return known.check(c, key, ip) }
	var keys *keyring
	if how.inspect != nil {
		algorithms, isKnown, h.check = how.algorithms, false, how.inspect
		keys = &keyring{}
	} else {
		keys = newKeyring(ctx, c, deadline)
	}
	defer keys.close()
	conf, err := d.clientConfig(c, keys)
	if err != nil {
		return nil, err
	}
	if len(algorithms) == 0 { // the library would take its own
		return nil, &ConfigError{Addr: c.addr.String(), OpenSSH: true,
			Err: fmt.Errorf("HostKeyAlgorithms: none of %s is known to this transport",
				strings.Join(c.hostKeyAlgos, ", "))}
	}
	conf.HostKeyAlgorithms = algorithms
	conf.HostKeyCallback = h.hostKey
	sc, chans, reqs, err := xssh.NewClientConn(h.watchedConn, c.hostKeyName(), conf)
	if err != nil {
		return nil, h.explain(err, known, isKnown, keys)
	}
	h.watchedConn.established()
	return xssh.NewClient(sc, chans, reqs), nil
}

// clientConfig is everything but the host key.
func (d *Dialer) clientConfig(c *config, keys *keyring) (*xssh.ClientConfig, error) {
	known := xssh.SupportedAlgorithms()
	weak := xssh.InsecureAlgorithms()
	conf := &xssh.ClientConfig{
		User:          c.user,
		ClientVersion: "SSH-2.0-jobserver",
		// All keys in one method: the library tries each method only once.
		Auth: []xssh.AuthMethod{xssh.PublicKeys(keys.signers...)},
	}
	ciphers := c.ciphers
	if len(d.opts.Ciphers) > 0 {
		ciphers = d.opts.Ciphers
	}
	var err error
	pick := func(what string, chosen, known, weak []string) []string {
		if chosen == nil || err != nil {
			return nil
		}
		all := slices.Concat(known, weak)
		ours := slices.DeleteFunc(slices.Clone(chosen), func(a string) bool {
			return !slices.Contains(all, a)
		})
		if len(ours) == 0 {
			err = &ConfigError{Addr: c.addr.String(), OpenSSH: true,
				Err: fmt.Errorf("%s: none of %s is known to this transport", what,
					strings.Join(chosen, ", "))}
		}
		return ours
	}
	// The library's own order has aes128-gcm first, the fastest where the
	// processor knows AES.
	conf.Ciphers = pick("Ciphers", ciphers, known.Ciphers, weak.Ciphers)
	conf.KeyExchanges = pick("KexAlgorithms", c.kexs, known.KeyExchanges, weak.KeyExchanges)
	conf.MACs = pick("MACs", c.macs, known.MACs, weak.MACs)
	return conf, err
}

// A handshake follows one handshake, to tell afterwards why it ended.
type handshake struct {
	*watchedConn
	c       *config
	check   func(xssh.PublicKey) error
	keyErr  error       // what check said
	checked atomic.Bool // check said yes
}

func (h *handshake) hostKey(_ string, _ net.Addr, key xssh.PublicKey) error {
	h.keyErr = h.check(key)
	h.checked.Store(h.keyErr == nil)
	return h.keyErr
}

// explain turns the library's error into one of ours. The library has no types
// for most, so what counts is how far the handshake came, and whether the
// connection itself ended.
func (h *handshake) explain(err error, known *hostKeys, isKnown bool, keys *keyring) error {
	addr := h.c.addr.String()
	var negotiation *xssh.AlgorithmNegotiationError
	switch {
	case h.keyErr != nil:
		return h.keyErr
	case errors.As(err, &negotiation) && strings.Contains(negotiation.What, "host key") && isKnown:
		return known.otherType(h.c, negotiation.RequestedAlgorithms,
			negotiation.SupportedAlgorithms)
	case errors.As(err, &negotiation):
		return &AlgorithmError{Addr: addr, What: negotiation.What,
			Theirs: negotiation.RequestedAlgorithms, Ours: negotiation.SupportedAlgorithms}
	case h.checked.Load() && h.ioError() == nil:
		return &AuthError{Addr: addr, User: h.c.user, Tried: keys.notes, Locked: keys.locked,
			Err: trimError(err)}
	}
	if text := h.greeting(); text != "" {
		return &DialError{Addr: addr, Op: "handshake", Err: fmt.Errorf("the machine says %q", text),
			Advice: "sshd refuses new connections at present (MaxStartups, PerSourcePenalties), " +
				"or something else than sshd listens there"}
	}
	if ioErr := h.ioError(); ioErr != nil {
		err = ioErr
	}
	return &DialError{Addr: addr, Op: "handshake", Err: trimError(err)}
}

// trimError takes the library's prefix off.
func trimError(err error) error {
	if inner := errors.Unwrap(err); inner != nil &&
		strings.HasPrefix(err.Error(), "ssh: handshake failed: ") {
		return inner
	}
	return err
}

// A watchedConn remembers, during the handshake, how the connection failed
// and what the machine said before it spoke SSH.
type watchedConn struct {
	net.Conn
	up atomic.Bool // the handshake is over, or this side ended it

	buf     []byte // what Read reads into; the reader's, as are the next three
	ahead   []byte // what of it wasn't asked for yet
	filled  bool   // the last read filled it
	readErr error  // of the connection, to be told after what is ahead

	mu    sync.Mutex
	err   error  // of the first Read or Write that failed; guarded by mu
	first []byte // the first bytes read; guarded by mu
}

// maxGreeting is how much of what isn't SSH is told.
const maxGreeting = 128

func (w *watchedConn) established() { w.up.Store(true) }

// Close is what the library does when it gives up; what fails afterwards says
// nothing about the machine.
func (w *watchedConn) Close() error {
	w.up.Store(true)
	return w.Conn.Close()
}

// Read reads ahead: the library asks for the head of each packet, then for the
// rest, and takes 32 KiB at most at once.
func (w *watchedConn) Read(p []byte) (int, error) {
	if len(w.ahead) == 0 && w.readErr == nil {
		if w.buf == nil || w.filled && len(w.buf) < maxPiece {
			w.buf = make([]byte, min(max(minPiece, 2*len(w.buf)), maxPiece))
		}
		var n int
		n, w.readErr = w.Conn.Read(w.buf)
		w.ahead, w.filled = w.buf[:n], n == len(w.buf)
		if !w.up.Load() {
			w.note(w.ahead, w.readErr)
		}
	}
	if len(w.ahead) == 0 {
		return 0, w.readErr
	}
	n := copy(p, w.ahead)
	w.ahead = w.ahead[n:]
	return n, nil
}

func (w *watchedConn) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if err != nil && !w.up.Load() {
		w.note(nil, err)
	}
	return n, err
}

func (w *watchedConn) note(read []byte, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := maxGreeting - len(w.first); room > 0 {
		w.first = append(w.first, read[:min(room, len(read))]...)
	}
	if w.err == nil {
		w.err = err
	}
}

func (w *watchedConn) ioError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// greeting holds what the machine said, if it wasn't SSH.
func (w *watchedConn) greeting() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if bytes.Contains(w.first, []byte("SSH-")) {
		return ""
	}
	return strings.TrimSpace(string(w.first))
}
