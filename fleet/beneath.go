package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// beneath is a directory that is held open. What is below it is reached by local names, of which no
// element may be a symbolic link: neither a machine's bytes nor what another job left in the
// destination leads a write elsewhere. os.Root isn't enough: it follows links that stay inside, and
// its Rename replaces.
type beneath struct {
	dir *os.File
	// plain opens directories element by element, as systems without openat2 need it (before Linux
	// 5.6).
	plain bool
}

// openBeneath opens a directory by a path of the user's own, whose links are followed.
func openBeneath(dir string) (*beneath, error) {
	fd, err := openat(unix.AT_FDCWD, dir, openDirectory, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &beneath{dir: os.NewFile(uintptr(fd), dir)}, nil
}

const (
	openDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	noLinks       = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
)

func (b *beneath) close() error { return b.dir.Close() }

func (b *beneath) fd() int { return int(b.dir.Fd()) }

// path is a name below b as messages show it.
func (b *beneath) path(name string) string { return filepath.Join(b.dir.Name(), name) }

// sub opens the directory of a name.
func (b *beneath) sub(name string) (*beneath, error) {
	fd, err := b.openDir(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: b.path(name), Err: err}
	}
	return &beneath{dir: os.NewFile(uintptr(fd), b.path(name)), plain: b.plain}, nil
}

// openDir opens the directory of a name, which doesn't follow a link in its last element either.
func (b *beneath) openDir(name string) (int, error) {
	if !filepath.IsLocal(name) {
		return -1, unix.EXDEV
	}
	if b.plain {
		return b.walk(name)
	}
	how := unix.OpenHow{Flags: openDirectory, Resolve: noLinks}
	fd, err := openat2(b.fd(), name, &how)
	if err == unix.ENOSYS || err == unix.EPERM { // some sandboxes refuse calls that they don't know
		return b.walk(name)
	}
	return fd, err
}

// walk is openDir one element after the other.
func (b *beneath) walk(name string) (int, error) {
	fd, err := openat(b.fd(), ".", openDirectory, 0)
	for element := range strings.SplitSeq(path.Clean(name), "/") {
		if err != nil || element == "." {
			break
		}
		var next int
		next, err = openat(fd, element, openDirectory|unix.O_NOFOLLOW, 0)
		unix.Close(fd)
		fd = next
	}
	return fd, err
}

// in calls do with the directory that a name stands in, and its last element.
func (b *beneath) in(op, name string, do func(dir int, base string) error) error {
	dir, base := path.Split(name)
	at := b.fd()
	if dir != "" {
		fd, err := b.openDir(path.Clean(dir))
		if err != nil {
			return &fs.PathError{Op: op, Path: b.path(name), Err: err}
		}
		defer unix.Close(fd)
		at = fd
	}
	if base == "" || base == "." || base == ".." {
		return &fs.PathError{Op: op, Path: b.path(name), Err: unix.EINVAL}
	}
	if err := retry(func() error { return do(at, base) }); err != nil {
		return &fs.PathError{Op: op, Path: b.path(name), Err: err}
	}
	return nil
}

// mkdir makes a directory; the error is fs.ErrExist for whatever has the name.
func (b *beneath) mkdir(name string, mode uint32) error {
	return b.in(
		"make",
		name,
		func(dir int, base string) error { return unix.Mkdirat(dir, base, mode) },
	)
}

// symlink makes a link; the error is fs.ErrExist for whatever has the name.
func (b *beneath) symlink(target, name string) error {
	return b.in(
		"link",
		name,
		func(dir int, base string) error { return unix.Symlinkat(target, dir, base) },
	)
}

// open opens a file. It doesn't wait for the other end of a fifo.
func (b *beneath) open(name string, flags int, mode uint32) (*os.File, error) {
	var file *os.File
	err := b.in("open", name, func(dir int, base string) error {
		fd, err := openat(dir, base, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
		if err == nil {
			file = os.NewFile(uintptr(fd), b.path(name))
		}
		return err
	})
	return file, err
}

// create makes a file that wasn't there; the error is fs.ErrExist for whatever has the name.
func (b *beneath) create(name string, mode uint32) (*os.File, error) {
	return b.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
}

// writeNew makes a file with all its bytes.
func (b *beneath) writeNew(name string, data []byte, mode uint32) error {
	f, err := b.create(name, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// lstat looks at a name without following it.
func (b *beneath) lstat(name string) (st unix.Stat_t, err error) {
	err = b.in("look at", name, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

func (b *beneath) readlink(name string) (target string, err error) {
	buf := make([]byte, unix.PathMax+1)
	err = b.in("read", name, func(dir int, base string) error {
		n, err := unix.Readlinkat(dir, base, buf)
		target = string(buf[:max(n, 0)])
		return err
	})
	return target, err
}

// list has the names in a directory, in no order.
func (b *beneath) list(name string) ([]fs.DirEntry, error) {
	sub, err := b.sub(name)
	if err != nil {
		return nil, err
	}
	defer sub.close()
	return sub.dir.ReadDir(-1)
}

// remove removes a file or a link, or an empty directory.
func (b *beneath) remove(name string) error {
	return b.in("remove", name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if err == unix.EISDIR || err == unix.EPERM { // a directory, as Linux and as POSIX say it
			if dirErr := unix.Unlinkat(dir, base, unix.AT_REMOVEDIR); dirErr != unix.ENOTDIR {
				err = dirErr
			}
		}
		return err
	})
}

// removeAll removes a name with all below it. That it isn't there is no error.
func (b *beneath) removeAll(name string) error {
	err := b.remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, listErr := b.list(name)
	if listErr != nil || path.Clean(name) == "." {
		return err
	}
	for _, e := range entries {
		if err := b.removeAll(path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return b.remove(name)
}

// chmod gives a directory its permissions, through its descriptor.
func (b *beneath) chmod(name string, mode fs.FileMode) error {
	sub, err := b.sub(name)
	if err != nil {
		return err
	}
	defer sub.close()
	return setMode(sub.fd(), mode)
}

// setTime gives a file the time that it has on the machine. It is called when the file was closed:
// some file systems write only then. A file system that can't keep times is none of the results'
// problems.
func (b *beneath) setTime(name string, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err != nil {
		return err
	}
	err = b.in("set the time of", name, func(dir int, base string) error {
		return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
	if cannot(err) {
		return nil
	}
	return err
}

// setMode gives an open file its permissions, where the file system has any.
func setMode(fd int, mode fs.FileMode) error {
	if err := retry(func() error { return unix.Fchmod(fd, uint32(mode.Perm())) }); !cannot(err) {
		return os.NewSyscallError("fchmod", err)
	}
	return nil
}

// cannot tells whether a file system has said that it doesn't do such a thing at all.
func cannot(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) ||
		errors.Is(err, unix.ENOSYS)
}

// sync makes a directory durable, or with unix.Syncfs all of its file system.
func (b *beneath) sync(name string, how func(int) error) error {
	sub, err := b.sub(name)
	if err != nil {
		return fmt.Errorf("sync the results: %w", err)
	}
	defer sub.close()
	err = how(sub.fd())
	if err == unix.EINVAL || err == unix.ENOSYS { // some file systems don't sync directories
		return nil
	}
	if err != nil {
		return fmt.Errorf("sync the results: %w", err)
	}
	return nil
}

// whereLinkLeads says what the kernel finds when it follows a link with this target, standing in
// the directory dir, without leaving b.
func (b *beneath) whereLinkLeads(dir, target string) leads {
	if b.plain {
		return unknown
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := openat2(b.fd(), dir+"/"+target, &how)
	switch {
	case err == nil:
		unix.Close(fd)
		return inside
	case err == unix.EXDEV:
		return outside
	}
	return unknown
}

type leads int

const (
	unknown leads = iota // nothing is there, or the system can't say
	inside
	outside
)

// openat2 tries again while somebody else renames things in the way.
func openat2(dir int, name string, how *unix.OpenHow) (fd int, err error) {
	for range 100 {
		fd, err = unix.Openat2(dir, name, how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

func openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, flags, mode)
		return err
	})
	return fd, err
}

// retry repeats a system call that a signal has interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
