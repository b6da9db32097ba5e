package fleet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"jobserver/agent"
)

// smallSize is up to which size, in bytes, a result is gathered in memory until it is whole. What small files cost is
// making them, and several can be made at once.
const smallSize = 64 << 10

// smallFiles writes small results, each in one go. begin, finish and close belong to the goroutine of the fetch.
type smallFiles struct {
	todo    chan *smallFile // nil until there is one
	writers sync.WaitGroup
	memory  sync.Pool // *smallFile

	failed atomic.Bool // there is an error
	mu     sync.Mutex
	err    error // the first; guarded by mu
}

// smallFile is one that is being gathered, or written.
type smallFile struct {
	entry agent.Entry
	dir   *folder
	data  []byte
	item  *item // gets the hash
}

// begin takes up a file.
func (w *smallFiles) begin(e agent.Entry, dir *folder) *smallFile {
	s, _ := w.memory.Get().(*smallFile)
	if s == nil {
		s = &smallFile{}
	}
	dir.users.Add(1)
	s.entry, s.dir, s.data, s.item = e, dir, s.data[:0], nil
	return s
}

// add appends bytes of the file.
func (s *smallFile) add(p []byte) error {
	if int64(len(s.data)+len(p)) > s.entry.Size {
		return fmt.Errorf("more bytes of %s came than it has, %d", s.entry.Source, s.entry.Size)
	}
	s.data = append(s.data, p...)
	return nil
}

// drop lets go of a file.
func (w *smallFiles) drop(s *smallFile) {
	s.dir.leave()
	w.memory.Put(s)
}

// finish has the file written, which may happen later. The error may be another file's.
func (w *smallFiles) finish(s *smallFile) error {
	if w.todo == nil {
		w.todo = make(chan *smallFile, 64)
		for range min(runtime.GOMAXPROCS(0), 4) {
			w.writers.Go(w.work)
		}
	}
	w.todo <- s
	return w.error()
}

// close returns when nothing is written any more, with the first error.
func (w *smallFiles) close() error {
	if w.todo != nil {
		close(w.todo)
		w.writers.Wait()
	}
	return w.error()
}

func (w *smallFiles) error() error {
	if !w.failed.Load() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// work is a writer's life. After an error nothing more is written.
func (w *smallFiles) work() {
	for s := range w.todo {
		if !w.failed.Load() {
			if err := s.write(); err != nil {
				w.mu.Lock()
				if w.err == nil {
					w.err = fmt.Errorf("write a result: %s: %w", s.entry.Name, err)
				}
				w.mu.Unlock()
				w.failed.Store(true)
			}
		}
		w.drop(s)
	}
}

// write makes the file. It gets its time last: that is what tells a whole one.
func (s *smallFile) write() error {
	sum := sha256.Sum256(s.data)
	s.item.sha256 = sum[:]
	name := path.Base(s.entry.Name)
	mode := uint32(s.entry.Mode.Perm() | 0o400)
	fd, err := s.dir.create(name, mode)
	if err != nil {
		return err
	}
	for p := s.data; len(p) > 0 && err == nil; {
		var n int
		if n, err = unix.Write(fd, p); err == unix.EINTR {
			err = nil
			continue
		}
		p = p[max(n, 0):]
	}
	if err := errors.Join(err, unix.Fchmod(fd, mode), unix.Close(fd)); err != nil {
		return err
	}
	return s.dir.setTime(name, s.entry.ModTime)
}

// folder is an open directory of the results. The last one to let go of it closes it.
type folder struct {
	name  string // below part
	root  *os.Root
	file  *os.File // the same directory
	users atomic.Int32
}

// openFolder opens a directory within part, for one user.
func openFolder(part *os.Root, name string) (*folder, error) {
	root, err := part.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open a directory of the results: %w", err)
	}
	file, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("open a directory of the results: %w", err)
	}
	d := &folder{name: name, root: root, file: file}
	d.users.Store(1)
	return d, nil
}

func (d *folder) leave() {
	if d.users.Add(-1) == 0 {
		d.file.Close()
		d.root.Close()
	}
}

// create makes an empty file in the directory, or empties what an earlier copy left of it. name has one element, and no link is
// followed: nothing outside can be reached.
func (d *folder) create(name string, mode uint32) (int, error) {
	// O_NONBLOCK: nobody reads from a fifo that somebody has put there.
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	dir := int(d.file.Fd())
	for again := true; ; {
		fd, err := unix.Openat(dir, name, flags, mode)
		switch {
		case err == unix.EINTR:
		case err == unix.EACCES && again: // one that was left may not be written to
			again = false
			if err := unix.Unlinkat(dir, name, 0); err != nil {
				return -1, os.NewSyscallError("unlinkat", err)
			}
		case err != nil:
			return -1, os.NewSyscallError("openat", err)
		default:
			return fd, nil
		}
	}
}

// setTime gives a file the time that it has on the machine.
func (d *folder) setTime(name string, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err != nil {
		return err
	}
	err = unix.UtimesNanoAt(int(d.file.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	return os.NewSyscallError("utimensat", err)
}
