package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells when something happens in run directories. One inotify instance serves all of an
// agent's waiting calls. A user may have 128 of them, and so many watches; when others have taken
// them, directories are looked at from time to time instead.
type watcher struct {
	file *os.File // nil without inotify
	fd   int
	done chan struct{}

	mu   sync.Mutex
	subs map[int32]map[*subscription]bool // by watch descriptor
}

// subscription has a value in C when something has happened, or may have, in its directory since
// the last look.
type subscription struct {
	C    chan struct{}
	w    *watcher
	wd   int32
	look *looker // instead of a watch
}

// lookEvery is how late news may be without inotify.
const lookEvery = 50 * time.Millisecond

// What changes when a run does: files appear, grow, are renamed in; the lock is closed at a
// supervisor's death. Of a directory that is removed while the supervisor stands in it only the end
// of its files tells.
const watched = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE |
	unix.IN_DELETE | unix.IN_MOVED_FROM |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

func newWatcher() *watcher {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &watcher{}
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, done: make(chan struct{}),
		subs: map[int32]map[*subscription]bool{}}
	go w.read()
	return w
}

func (w *watcher) close() {
	if w.file != nil {
		w.file.Close()
		<-w.done
	}
}

// add begins to watch a directory.
func (w *watcher) add(dir string) (*subscription, error) {
	if w.file == nil {
		return lookAgain(dir)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, err := unix.InotifyAddWatch(w.fd, dir, watched)
	if errors.Is(err, unix.ENOSPC) {
		return lookAgain(dir)
	}
	if err != nil {
		return nil, &os.PathError{Op: "watch", Path: dir, Err: err}
	}
	s := &subscription{C: make(chan struct{}, 1), w: w, wd: int32(wd)}
	if w.subs[s.wd] == nil {
		w.subs[s.wd] = map[*subscription]bool{}
	}
	w.subs[s.wd][s] = true
	return s, nil
}

// lookAgain is a subscription without a watch.
func lookAgain(dir string) (*subscription, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	s := &subscription{C: make(chan struct{}, 1), look: &looker{stop: make(chan struct{})}}
	s.look.work.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.news()
			case <-s.look.stop:
				return
			}
		}
	})
	return s, nil
}

// looker is the goroutine that gives a subscription its news without a watch.
type looker struct {
	stop chan struct{}
	work sync.WaitGroup
}

// news is noticed at the next look at C.
func (s *subscription) news() {
	select {
	case s.C <- struct{}{}:
	default:
	}
}

func (s *subscription) close() {
	if s.look != nil {
		close(s.look.stop)
		s.look.work.Wait()
		return
	}
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.subs[s.wd], s)
	if len(w.subs[s.wd]) == 0 {
		delete(w.subs, s.wd)
		// The directory may be gone, and the watch with it.
		_, _ = unix.InotifyRmWatch(w.fd, uint32(s.wd))
	}
}

// read hands events on until the watcher is closed.
func (w *watcher) read() {
	defer close(w.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		w.dispatch(buf[:n])
	}
}

// dispatch wakes who watches. An event is a struct inotify_event: wd, mask, cookie, length of a
// name, name.
func (w *watcher) dispatch(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(p) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(p))
		mask := binary.NativeEndian.Uint32(p[4:])
		p = p[unix.SizeofInotifyEvent+min(int(binary.NativeEndian.Uint32(p[12:])),
			len(p)-unix.SizeofInotifyEvent):]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, subs := range w.subs {
				wake(subs)
			}
			continue
		}
		wake(w.subs[wd])
	}
}

func wake(subs map[*subscription]bool) {
	for s := range subs {
		s.news()
	}
}

// obituary closes C when a process is dead. It must be closed.
type obituary struct {
	C chan struct{}
	f *os.File
}

var errNoPidfd = errors.New("this kernel has no pidfd")

// watchDeath waits for the end of a process, however it is related to us. If it is dead already, or
// another process has its pid, C is closed at once.
func watchDeath(p process) (*obituary, error) {
	o := &obituary{C: make(chan struct{})}
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		close(o.C)
		return o, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPidfd, err)
	}
	// Now the pid can't come to mean another process without the descriptor telling.
	if s, ok := readStat(p.PID); !ok || s.startTime != p.StartTime {
		unix.Close(fd)
		close(o.C)
		return o, nil
	}
	o.f = os.NewFile(uintptr(fd), "pidfd")
	go o.wait()
	return o, nil
}

func (o *obituary) wait() {
	conn, err := o.f.SyscallConn()
	if err != nil {
		return
	}
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
	if err == nil {
		close(o.C)
	}
}

func (o *obituary) close() {
	if o.f != nil {
		o.f.Close()
	}
}
