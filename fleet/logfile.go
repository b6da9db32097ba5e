package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logFile is one stream of a run in the host's files. It is made with its first byte, only grows,
// and its size is the offset from which the machine's file is followed. No descriptor is kept
// between two appends: thousands of runs may be followed at once.
type logFile struct {
	path   string
	top    string // the log directory; below it no link is followed
	size   int64
	crc    uint32 // CRC-32C of all of it
	limit  int64  // bytes that it may have; 0: any number
	excess int64  // bytes beyond that, which came and were dropped
	all    uint32 // CRC-32C of the file and of those
	ready  bool   // size and crc are those of the file
	rewind bool   // the next open empties it
}

// offset is how many bytes of the stream have come.
func (s *logFile) offset() int64 { return s.size + s.excess }

// open finds out what an earlier daemon has left, which may be nothing. A file that somebody has
// removed or changed since is looked at anew.
func (s *logFile) open() error {
	if s.ready && !s.rewind && s.unchanged() {
		return nil
	}
	flags := os.O_RDWR
	if s.rewind {
		flags |= os.O_TRUNC
	}
	f, err := s.file(flags)
	if errors.Is(err, fs.ErrNotExist) {
		s.size, s.crc, s.excess, s.all, s.ready, s.rewind = 0, 0, 0, 0, true, false
		return nil
	}
	if err != nil {
		return fmt.Errorf("open a log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at a log: %w", err)
	}
	sum := crc32.New(castagnoli)
	if s.size, err = io.CopyN(sum, f, info.Size()); err != nil {
		return fmt.Errorf("read a log: %w", err)
	}
	s.crc, s.ready, s.rewind = sum.Sum32(), true, false
	s.excess, s.all = 0, s.crc
	return nil
}

// unchanged tells whether the file has the length that it had.
func (s *logFile) unchanged() bool {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.size == 0
	}
	return err == nil && (info.Size() == s.size || !info.Mode().IsRegular())
}

// writing opens the file to append to it, and makes it for its first byte.
func (s *logFile) writing() (*os.File, error) {
	if s.size > 0 {
		return os.OpenFile(s.path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	}
	const flags = os.O_WRONLY | os.O_CREATE
	f, err := s.file(flags)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
			return nil, err
		}
		f, err = s.file(flags)
	}
	return f, err
}

// file opens the file, if it is one of ours.
func (s *logFile) file(flags int) (*os.File, error) {
	top, err := openBeneath(cmp.Or(s.top, filepath.Dir(s.path)))
	if err != nil {
		return nil, err
	}
	defer top.close()
	name, err := filepath.Rel(top.dir.Name(), s.path)
	if err != nil {
		return nil, err
	}
	f, err := top.open(name, flags&^os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil &&
		(st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || int(st.Uid) != os.Geteuid()) {
		err = fmt.Errorf("%s isn't a file of ours", s.path)
	}
	if err == nil && flags&os.O_TRUNC != 0 {
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writeSize is how much is written at once, and up to a multiple of it in the file. Linux takes
// longer pieces of memory for longer writes, which may cost a virtual machine much: 4 MiB at once
// took two to four times as long (ext4, Linux 6.18). Copying to an odd address takes two to three
// times as long, too.
const writeSize = 64 << 10

// append writes p to the end, as far as the file may have it. What was written before an error
// counts, and is remembered. When the disk gets the bytes is left to the kernel: the journal's next
// sync, and with it the news of the run's end, would wait for all that is on its way there.
func (s *logFile) append(p []byte) (err error) {
	if s.limit > 0 {
		kept := p[:min(int64(len(p)), max(s.limit-s.size, 0))]
		if dropped := p[len(kept):]; len(dropped) > 0 {
			defer func() {
				if err == nil {
					s.excess += int64(len(dropped))
					s.all = crc32.Update(s.all, castagnoli, dropped)
				}
			}()
		}
		p = kept
	}
	if len(p) == 0 {
		return nil
	}
	f, err := s.writing()
	if err != nil {
		s.ready = false // somebody has removed it: it is made again, from its start
		return fmt.Errorf("open a log: %w", err)
	}
	for len(p) > 0 && err == nil {
		var n int
		n, err = f.WriteAt(p[:min(len(p), writeSize-int(s.size%writeSize))], s.size)
		s.crc = crc32.Update(s.crc, castagnoli, p[:n])
		s.all = s.crc
		s.size += int64(n)
		p = p[n:]
	}
	if closeErr := f.Close(); err == nil && closeErr != nil {
		s.ready = false
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write a log: %w", err)
	}
	return nil
}
