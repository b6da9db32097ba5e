package ssh

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
)

// A Dialer makes connections. It holds the limits, so one process has one. Its
// methods may be called from any goroutine.
type Dialer struct {
	opts    Options
	dials   *semaphore.Weighted // one for each connection that is being made
	lookUps *semaphore.Weighted // one for each address that is being looked up in the configuration

	mu       sync.Mutex
	perAddr  map[string]*addrLimit   // guarded by mu, as are all below; by host:port
	configs  map[string]cachedConfig // by the address as given
	hosts    map[string]*hostKeys    // by the names of the files
	defaults *sshDefaults            // nil until known

	looking sync.Mutex   // held while the configuration's files are looked at
	files   *configFiles // guarded by looking

	trusting sync.Mutex // held while a known_hosts file is changed
}

// NewDialer returns a Dialer. It starts nothing and needs no end.
func NewDialer(opts Options) *Dialer {
	return &Dialer{
		opts:    opts.withDefaults(),
		dials:   semaphore.NewWeighted(maxDials),
		lookUps: semaphore.NewWeighted(maxLookUps),
		perAddr: map[string]*addrLimit{},
		configs: map[string]cachedConfig{},
		hosts:   map[string]*hostKeys{},
	}
}

// Dial connects to addr, [user@]host[:port], and logs in. ctx covers the dial
// only. Its errors are *ConfigError, *ResolveError, *DialError, *HostKeyError,
// *AlgorithmError and *AuthError, each with a Hint, or ctx's.
func (d *Dialer) Dial(ctx context.Context, addr string) (Conn, error) {
	a, err := ParseAddr(addr)
	if err != nil {
		return nil, &ConfigError{Addr: addr, Err: err}
	}
	if d.opts.OpenSSH {
		return d.dialOpenSSH(ctx, a)
	}
	hops, err := d.route(ctx, a)
	if err != nil {
		return nil, err
	}
	l, err := d.connect(ctx, hops)
	if err != nil {
		return nil, err
	}
	return newClientConn(addr, l, d.opts), nil
}

// beginLookUp waits until less than maxLookUps are under way. One who holds a
// place waits for no address.
func (d *Dialer) beginLookUp(ctx context.Context, addr Addr) (done func(), err error) {
	if err := d.lookUps.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("%s: wait for other look-ups in the ssh configuration: %w", addr,
			context.Cause(ctx))
	}
	return func() { d.lookUps.Release(1) }, nil
}

// An addrLimit counts the dials to one address.
type addrLimit struct {
	sem   *semaphore.Weighted
	users int // that hold it or wait for it; guarded by Dialer.mu
}

// acquire waits until less than maxDialsPerAddr dials to hostPort are under
// way, and then until less than maxDials are in all: who waits for an address
// takes no place that another needs. One who holds them waits for no others;
// between two hops there is nothing to hold.
func (d *Dialer) acquire(ctx context.Context, hostPort string) (release func(), err error) {
	d.mu.Lock()
	l := d.perAddr[hostPort]
	if l == nil {
		l = &addrLimit{sem: semaphore.NewWeighted(maxDialsPerAddr)}
		d.perAddr[hostPort] = l
	}
	l.users++
	d.mu.Unlock()
	leave := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(d.perAddr, hostPort)
		}
	}
	if err := l.sem.Acquire(ctx, 1); err != nil {
		leave()
		return nil, fmt.Errorf("wait for other dials to %s: %w", hostPort, context.Cause(ctx))
	}
	if err := d.dials.Acquire(ctx, 1); err != nil {
		l.sem.Release(1)
		leave()
		return nil, fmt.Errorf("wait for other dials: %w", context.Cause(ctx))
	}
	return func() {
		d.dials.Release(1)
		l.sem.Release(1)
		leave()
	}, nil
}
