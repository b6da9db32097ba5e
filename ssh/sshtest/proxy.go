package sshtest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Proxy forwards TCP connections to a target, and fails on demand. Its
// methods may be called from any goroutine.
type Proxy struct {
	Addr string // 127.0.0.1:port
	Host string
	Port int

	target   string
	listener net.Listener
	tasks    sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond    // of cut and closed
	cut     bool          // guarded by mu, as are all below
	drop    bool          // bytes are thrown away
	closed  bool          // Close was called
	delay   time.Duration // of each piece
	// bytes that may pass until the connections are reset; -1 for no limit
	budget int64
	life   func() int64          // of each new connection, in bytes; nil: they don't die
	conns  map[*net.TCPConn]bool // all that are open, of both sides
}

// NewProxy starts a proxy for a test, and ends it with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := ListenProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// ListenProxy starts a proxy to target, host:port, until Close.
func ListenProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		Addr:     l.Addr().String(),
		Host:     "127.0.0.1",
		Port:     l.Addr().(*net.TCPAddr).Port,
		target:   target,
		listener: l,
		budget:   -1,
		conns:    map[*net.TCPConn]bool{},
	}
	p.changed = sync.NewCond(&p.mu)
	p.tasks.Go(p.accept)
	return p, nil
}

// Cut makes the network silent: nothing arrives any more, in either direction
// and on new connections too, and nobody is told.
func (p *Proxy) Cut() { p.change(func() { p.cut = true }) }

// Heal ends Cut and SetDrop. What was sent during a Cut arrives now.
func (p *Proxy) Heal() { p.change(func() { p.cut, p.drop = false, false }) }

// SetDelay delays everything that is sent from now on by d in each direction.
func (p *Proxy) SetDelay(d time.Duration) { p.change(func() { p.delay = d }) }

// SetDrop throws bytes away that arrive from now on, in both directions.
func (p *Proxy) SetDrop(on bool) { p.change(func() { p.drop = on }) }

// ResetAfter resets all connections once n more bytes have passed, in both
// directions together.
func (p *Proxy) ResetAfter(n int64) { p.change(func() { p.budget = n }) }

// SetLife lets each connection that is made from now on die by a TCP reset when as many bytes have
// passed on it, in both directions together, as life says for it; nil lets them live.
func (p *Proxy) SetLife(life func() int64) { p.change(func() { p.life = life }) }

// Reset ends all connections with a TCP reset.
func (p *Proxy) Reset() { p.change(p.resetAll) }

// Close ends the proxy and its connections, and waits for its goroutines.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.change(func() {
		p.closed = true
		p.resetAll()
	})
	p.tasks.Wait()
	return err
}

func (p *Proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.changed.Broadcast()
}

// resetAll is called with mu held.
func (p *Proxy) resetAll() {
	for c := range p.conns {
		_ = c.SetLinger(0) // of a connection that has ended there is nothing to reset
		c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.tasks.Go(func() { p.forward(c.(*net.TCPConn)) })
	}
}

// forward serves one connection to its end.
func (p *Proxy) forward(near *net.TCPConn) {
	if !p.add(near) {
		return
	}
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		p.remove(near)
		return
	}
	far := conn.(*net.TCPConn)
	if !p.add(far) {
		p.remove(near)
		return
	}
	left := p.newLife()
	var both sync.WaitGroup
	both.Go(func() { p.pump(far, near, left) })
	both.Go(func() { p.pump(near, far, left) })
	both.Wait()
	p.remove(near)
	p.remove(far)
}

// newLife is how many bytes may pass on a new connection; nil: any number.
func (p *Proxy) newLife() *atomic.Int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil {
		return nil
	}
	var left atomic.Int64
	left.Store(p.life())
	return &left
}

func (p *Proxy) add(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) remove(c *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

// A piece is a part of the stream on its way.
type piece struct {
	data []byte
	due  time.Time
}

// pump copies from src to dst until src ends or dst fails. Pieces on their way
// wait for their time in a queue, so that a delay costs no throughput.
func (p *Proxy) pump(dst, src *net.TCPConn, left *atomic.Int64) {
	queue := make(chan piece, 256)
	var writer sync.WaitGroup
	writer.Go(func() {
		for q := range queue {
			if wait := time.Until(q.due); wait > 0 {
				time.Sleep(wait)
			}
			if !p.pass(len(q.data)) {
				continue
			}
			if left != nil && left.Add(-int64(len(q.data))) < 0 {
				for _, c := range []*net.TCPConn{src, dst} {
					_ = c.SetLinger(0) // it may have died already
					c.Close()
				}
				continue
			}
			if _, err := dst.Write(q.data); err != nil {
				src.CloseRead()
			}
		}
		if p.pass(0) {
			dst.CloseWrite()
		}
	})
	for {
		buf := make([]byte, 32<<10)
		n, err := src.Read(buf)
		if n > 0 {
			queue <- piece{buf[:n], time.Now().Add(p.currentDelay())}
		}
		if err != nil {
			break
		}
	}
	close(queue)
	writer.Wait()
}

func (p *Proxy) currentDelay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay
}

// pass waits while the network is cut, and tells whether n bytes arrive.
func (p *Proxy) pass(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut && !p.closed {
		p.changed.Wait()
	}
	if p.closed || p.drop {
		return false
	}
	if p.budget >= 0 {
		if p.budget -= int64(n); p.budget < 0 {
			p.budget = -1
			p.resetAll()
			return false
		}
	}
	return true
}
