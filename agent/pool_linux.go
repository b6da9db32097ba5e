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

// pool has an agent's supervisors: those with a run, each in a goroutine that waits for the run's end, and some that wait
// for another order. It owns nothing but their sockets: when those close, an idle supervisor ends, and one with a run ends
// after the run.
type pool struct {
	work sync.WaitGroup

	mu     sync.Mutex
	idle   []*worker // the longest idle first
	busy   map[*worker]bool
	closed bool
}

// worker is the agent's end of a supervisor's socket.
type worker struct {
	conn  *net.UnixConn
	leave *time.Timer // while idle
}

// At most maxIdle supervisors wait for orders, all but one only for idleTime: that one makes the next start quick.
const (
	maxIdle  = 16
	idleTime = 10 * time.Second
)

func newPool() *pool { return &pool{busy: map[*worker]bool{}} }

// close lets go of all supervisors and waits for the goroutines.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, w := range p.idle {
		w.leave.Stop()
		w.conn.Close()
	}
	p.idle = nil
	for w := range p.busy {
		w.conn.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

// launch has a run started by an idle or a new supervisor. An error says that its answer isn't known.
func (p *pool) launch(ctx context.Context, order []byte, lock *os.File) (StartResult, error) {
	for {
		w, fresh, err := p.take()
		if err != nil {
			return failed(err), nil
		}
		if err := w.send(order, lock); err != nil {
			p.drop(w)
			if fresh {
				return StartResult{}, fmt.Errorf("give the supervisor its order: %w", err)
			}
			continue // it died while it was idle: without the whole order it can't have begun
		}
		lock.Close()
		stop := context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) })
		r, err := w.answer()
		if !stop() || err != nil {
			p.drop(w)
			return r, err
		}
		p.work.Go(func() { p.await(w) })
		return r, nil
	}
}

// await waits until a supervisor is free again, or has ended.
func (p *pool) await(w *worker) {
	ready, err := readMessage(w.conn)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, w)
	if err != nil || len(ready) > 0 || p.closed || len(p.idle) >= maxIdle {
		w.conn.Close()
		return
	}
	p.idle = append(p.idle, w)
	w.leave = time.AfterFunc(idleTime, func() { p.dismiss(w) })
}

// dismiss lets an idle supervisor go, unless it is the only one.
func (p *pool) dismiss(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.idle {
		if other == w && len(p.idle) > 1 {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			w.conn.Close()
			return
		}
	}
}

func (p *pool) drop(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, w)
	w.conn.Close()
}

// take returns the supervisor that was busy last, whose memory is warm, or a fresh one.
func (p *pool) take() (w *worker, fresh bool, err error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		w = p.idle[n-1]
		p.idle = p.idle[:n-1]
		w.leave.Stop()
		p.busy[w] = true
	}
	p.mu.Unlock()
	if w != nil {
		return w, false, nil
	}
	w, err = newWorker()
	if err != nil {
		return nil, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		w.conn.Close()
		return nil, false, errors.New("the connection has ended")
	}
	p.busy[w] = true
	return w, true, nil
}

// newWorker starts a supervisor.
func newWorker() (*worker, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start a supervisor: socketpair: %w", err)
	}
	defer unix.Close(fds[1])
	ours := os.NewFile(uintptr(fds[0]), "order")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("start a supervisor: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start a supervisor: %w", err)
	}
	defer null.Close()
	// The executable may have been replaced on disk since: /proc/self/exe is the one that runs here.
	_, err = syscall.ForkExec("/proc/self/exe", []string{"jobserver", "supervise"}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   superviseEnv,
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(fds[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start a supervisor: %w", err)
	}
	return &worker{conn: conn.(*net.UnixConn)}, nil
}

// send sends an order; the lock travels with its first bytes.
func (w *worker) send(order []byte, lock *os.File) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(order)))
	if _, _, err := w.conn.WriteMsgUnix(head, unix.UnixRights(int(lock.Fd())), nil); err != nil {
		return err
	}
	_, err := w.conn.Write(order)
	return err
}

// answer waits for what became of the order.
func (w *worker) answer() (r StartResult, err error) {
	p, err := readMessage(w.conn)
	if err == nil {
		err = decode(p, r.fields)
	}
	return r, err
}

// reapChildren takes the statuses of supervisors that end, until ctx does. They say nothing: the exit record does.
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
