package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pool has an agent's supervisors: those with a run, each in a goroutine that waits for the run's
// end, and some that wait for another order. It owns nothing but their sockets: when those close,
// an idle supervisor ends, and one with a run ends after the run.
type pool struct {
	start func() (*net.UnixConn, error) // another supervisor
	work  sync.WaitGroup

	mu     sync.Mutex
	idle   []*supervisorConn // the longest idle first
	busy   map[*supervisorConn]bool
	closed bool
}

// supervisorConn is the agent's end of a supervisor's socket.
type supervisorConn struct {
	conn  *net.UnixConn
	leave *time.Timer // while idle
}

// At most maxIdle supervisors wait for orders, all but one
// only for idleTime: that one makes the next start quick.
const (
	maxIdle  = 16
	idleTime = 10 * time.Second
)

func newPool(start func() (*net.UnixConn, error)) *pool {
	return &pool{start: start, busy: map[*supervisorConn]bool{}}
}

// close lets go of all supervisors and waits for the goroutines.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.idle {
		c.leave.Stop()
		c.conn.Close()
	}
	p.idle = nil
	for c := range p.busy {
		c.conn.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

// launch has a run started by an idle or a new supervisor. An error says that its answer isn't
// known.
func (p *pool) launch(ctx context.Context, order []byte, lock *os.File) (StartResult, error) {
	for {
		c, fresh, err := p.take()
		if err != nil {
			return failed(err), nil
		}
		if err := c.send(order, lock); err != nil {
			p.drop(c)
			if fresh {
				return StartResult{}, fmt.Errorf("give the supervisor its order: %w", err)
			}
			continue // it died while it was idle: without the whole order it can't have begun
		}
		lock.Close()
		stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
		// Its job may stop it before it can answer; the agent's other supervisors don't mind.
		wake := time.AfterFunc(wakeTime, func() { wakeSupervisors(os.Getpid()) })
		r, err := c.answer()
		wake.Stop()
		if !stop() || err != nil {
			p.drop(c)
			return r, err
		}
		p.work.Go(func() { p.await(c) })
		return r, nil
	}
}

// await waits until a supervisor is free again, or has ended.
func (p *pool) await(c *supervisorConn) {
	ready, err := readMessage(c.conn)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, c)
	if err != nil || len(ready) > 0 || p.closed || len(p.idle) >= maxIdle {
		c.conn.Close()
		return
	}
	p.idle = append(p.idle, c)
	c.leave = time.AfterFunc(idleTime, func() { p.dismiss(c) })
}

// dismiss lets an idle supervisor go, unless it is the only one.
func (p *pool) dismiss(c *supervisorConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.idle {
		if other == c && len(p.idle) > 1 {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			c.conn.Close()
			return
		}
	}
}

func (p *pool) drop(c *supervisorConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, c)
	c.conn.Close()
}

// take returns the supervisor that was busy last, whose memory is warm, or a fresh one.
func (p *pool) take() (c *supervisorConn, fresh bool, err error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c = p.idle[n-1]
		p.idle = p.idle[:n-1]
		c.leave.Stop()
		p.busy[c] = true
	}
	p.mu.Unlock()
	if c != nil {
		return c, false, nil
	}
	conn, err := p.start()
	if err != nil {
		return nil, false, fmt.Errorf("start a supervisor: %w", err)
	}
	c = &supervisorConn{conn: conn}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.conn.Close()
		return nil, false, errors.New("the connection has ended")
	}
	p.busy[c] = true
	return c, true, nil
}

// startSupervisor starts a supervisor, and gives our end of its socket.
func startSupervisor() (*net.UnixConn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(fds[1])
	conn, err := socketConn(fds[0])
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer null.Close()
	// The executable may have been replaced on disk since: /proc/self/exe is the one that runs
	// here.
	_, err = syscall.ForkExec("/proc/self/exe", []string{"jobserver", "supervise"},
		&syscall.ProcAttr{
			Dir:   "/",
			Env:   superviseEnv,
			Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(fds[1])},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// socketConn takes a descriptor of a Unix socket over.
func socketConn(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "order")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// send sends an order; the lock travels with its first bytes.
func (c *supervisorConn) send(order []byte, lock *os.File) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(order)))
	if _, _, err := c.conn.WriteMsgUnix(head, unix.UnixRights(int(lock.Fd())), nil); err != nil {
		return err
	}
	_, err := c.conn.Write(order)
	return err
}

// answer waits for what became of the order.
func (c *supervisorConn) answer() (r StartResult, err error) {
	p, err := readMessage(c.conn)
	if err == nil {
		err = decode(p, r.fields)
	}
	return r, err
}

// reapChildren takes the statuses of supervisors that end,
// until ctx does. They say nothing: the exit record does.
func reapChildren(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		select {
		case <-ended:
			for {
				pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
				if pid <= 0 && err != unix.EINTR {
					break
				}
			}
		case <-ctx.Done():
			return
		}
	}
}
