package fleet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"jobserver/agent"
)

// smallSize is up to which size, in bytes, a result is gathered in memory until it is whole. What
// small files cost is making them, and several can be made at once.
const smallSize = 64 << 10

// smallFiles writes small results, each in one go. begin, finish and close belong to the goroutine
// of the fetch.
type smallFiles struct {
	todo    chan *smallFile // nil until there is one
	writers sync.WaitGroup
	memory  sync.Pool // *smallFile

	failed  atomic.Bool // there is an error
	mu      sync.Mutex
	err     error     // the first; guarded by mu
	refused []refusal // guarded by mu until close has returned

	clash func(dir *beneath, name string) error // says that a name is taken
}

// refusal is a file that the destination can't have.
type refusal struct {
	entry agent.Entry
	err   error
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
				w.fail(s, err)
			}
		}
		w.drop(s)
	}
}

// fail notes what became of a file that wasn't written.
func (w *smallFiles) fail(s *smallFile, err error) {
	switch {
	case errors.Is(err, fs.ErrExist) && w.clash != nil:
		err = w.clash(s.dir.beneath, s.entry.Name)
	case !cannotName(err):
		err = fmt.Errorf("write a result: %s: %w", s.entry.Name, err)
	default:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refused = append(w.refused, refusal{s.entry, err})
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.failed.Store(true)
}

// write makes the file. It gets its time last: that is what tells a whole one.
func (s *smallFile) write() error {
	sum := sha256.Sum256(s.data)
	s.item.sha256 = sum[:]
	name := path.Base(s.entry.Name)
	mode := s.entry.Mode.Perm() | 0o400
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := openat(s.dir.fd(), name, flags, uint32(mode))
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	for p := s.data; len(p) > 0 && err == nil; {
		var n int
		if n, err = unix.Write(fd, p); err == unix.EINTR {
			err = nil
			continue
		}
		p = p[max(n, 0):]
	}
	if err := errors.Join(err, setMode(fd, mode), unix.Close(fd)); err != nil {
		return err
	}
	return s.dir.setTime(name, s.entry.ModTime)
}

// folder is an open directory of the results. The last one to let go of it closes it.
type folder struct {
	*beneath
	name  string // below part
	users atomic.Int32
}

// openFolder opens a directory within part, for one user.
func openFolder(part *beneath, name string) (*folder, error) {
	dir, err := part.sub(name)
	if err != nil {
		return nil, fmt.Errorf("open a directory of the results: %w", err)
	}
	d := &folder{beneath: dir, name: name}
	d.users.Store(1)
	return d, nil
}

func (d *folder) leave() {
	if d.users.Add(-1) == 0 {
		d.close()
	}
}
