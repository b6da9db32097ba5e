package ssh

import (
	"net"
	"os"
	"sync"
	"time"
)

// A timedConn gives deadlines to a connection that has none: one that passes
// closes it. A Read that is under way then returns when the other side has
// agreed, or the connection below has ended.
type timedConn struct {
	net.Conn

	mu      sync.Mutex
	timers  [2]*time.Timer // of reading and writing; guarded by mu
	expired bool           // guarded by mu
}

const (
	reading = iota
	writing
)

func (t *timedConn) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	return n, t.explain(err)
}

func (t *timedConn) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	return n, t.explain(err)
}

func (t *timedConn) explain(err error) error {
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.expired {
		return os.ErrDeadlineExceeded
	}
	return err
}

func (t *timedConn) Close() error {
	t.set(time.Time{}, reading, writing)
	return t.Conn.Close()
}

func (t *timedConn) SetDeadline(at time.Time) error {
	t.set(at, reading, writing)
	return nil
}

func (t *timedConn) SetReadDeadline(at time.Time) error {
	t.set(at, reading)
	return nil
}

func (t *timedConn) SetWriteDeadline(at time.Time) error {
	t.set(at, writing)
	return nil
}

func (t *timedConn) set(at time.Time, which ...int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range which {
		if t.timers[i] != nil {
			t.timers[i].Stop()
			t.timers[i] = nil
		}
		if !at.IsZero() {
			t.timers[i] = time.AfterFunc(time.Until(at), t.expire)
		}
	}
}

func (t *timedConn) expire() {
	t.mu.Lock()
	t.expired = true
	t.mu.Unlock()
	t.Conn.Close()
}

// CloseWrite tells the other side that nothing more will come.
func (t *timedConn) CloseWrite() error {
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return t.Conn.Close()
}
