// Package joblog reads the logs of jobs on this host, as they were written or compressed since, and
// compresses those that nothing will be written to any more.
//
// The daemon compresses with Zstandard, in the seekable format of zstd's contrib/seekable_format:
// frames of a fixed length, and behind them a table of their lengths, in a frame that other readers
// skip. So `zstdcat` reads it, and bytes from its middle cost no more than the frame they are in.
// What somebody compressed with zstd or gzip is read, too, from its beginning.
package joblog

import (
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// The names of compressed logs end so.
const (
	Suffix     = ".zst"
	gzipSuffix = ".gz" // by somebody's hand
)

// openFlags let no link lead elsewhere, and no pipe hold us up.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// Plain is the path of a log without what a compressed one has at its end.
func Plain(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(path, Suffix), gzipSuffix)
}

// Find gives the path at which a log lies: as it is, or compressed. Where there is none it is an
// error that is fs.ErrNotExist, of the path that was asked for.
func Find(path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return path, nil // /dev/full, say: whoever reads it is told
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	for _, suffix := range []string{"", Suffix, gzipSuffix} {
		if other := Plain(path) + suffix; other != path {
			if _, err := os.Stat(other); err == nil {
				return other, nil
			}
		}
	}
	return path, err
}

// Log is a log that is open for reading. Sizes and offsets are those of its text. It may be used by
// several goroutines.
type Log struct {
	file   *os.File
	frames []frame // of one with a table
	size   int64   // -1: of one that was never read to its end

	mu   sync.Mutex
	text io.ReadCloser // guarded by mu: of one that can be read from its beginning only; or nil
	at   int64         // guarded by mu: where that is
	last int           // guarded by mu: the frame that was read last, and
	raw  []byte        // guarded by mu: its text
}

// Open opens the log that Find finds. A link is not followed, and a pipe doesn't hold it up.
func Open(path string) (*Log, error) {
	for try := 0; ; try++ {
		found, err := Find(path)
		if err != nil {
			return nil, err
		}
		l, err := open(found)
		if errors.Is(err, fs.ErrNotExist) && try < 3 {
			continue // it was compressed just now
		}
		return l, err
	}
}

func open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &Log{file: f, size: info.Size(), last: -1}
	switch {
	case strings.HasSuffix(path, gzipSuffix):
		l.size = -1
	case strings.HasSuffix(path, Suffix):
		if l.frames, l.size, err = readTable(f, info.Size()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return l, nil
}

// Name is the path of the file.
func (l *Log) Name() string { return l.file.Name() }

// Stat tells of the file, which has another size than the log if it is compressed.
func (l *Log) Stat() (fs.FileInfo, error) { return l.file.Stat() }

// Packed tells whether the log is compressed.
func (l *Log) Packed() bool { return Plain(l.Name()) != l.Name() }

// Close closes it.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text != nil {
		l.text.Close()
	}
	return l.file.Close()
}

// Size is how many bytes the log has. Of one that somebody else has compressed it is known when all
// of it has been read, which this does.
func (l *Log) Size() (int64, error) {
	if !l.Packed() {
		info, err := l.file.Stat()
		if err != nil {
			return 0, err
		}
		return info.Size(), nil // it may grow
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size >= 0 {
		return l.size, nil
	}
	_, err := l.skip(1<<63 - 1)
	return l.at, err
}

// ReadAt implements io.ReaderAt.
func (l *Log) ReadAt(p []byte, offset int64) (n int, err error) {
	if !l.Packed() {
		return l.file.ReadAt(p, offset)
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frames != nil {
		return l.readFrames(p, offset)
	}
	if l.text == nil || offset < l.at {
		if err := l.rewind(); err != nil {
			return 0, err
		}
	}
	if whole, err := l.skip(offset - l.at); err != nil || !whole {
		return 0, errors.Join(err, io.EOF)
	}
	for n < len(p) && err == nil { // io.ReadFull can't tell a cut file from one that ends here
		var more int
		more, err = l.text.Read(p[n:])
		n += more
	}
	l.at += int64(n)
	if n == len(p) {
		return n, nil
	}
	return n, err
}

// rewind begins to read from the beginning.
func (l *Log) rewind() error {
	if l.text != nil {
		l.text.Close()
	}
	l.text, l.at = nil, 0
	content := io.NewSectionReader(l.file, 0, 1<<63-1)
	if strings.HasSuffix(l.Name(), gzipSuffix) {
		z, err := gzip.NewReader(content)
		if err != nil {
			return err
		}
		l.text = z
		return nil
	}
	z, err := zstd.NewReader(content, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	l.text = z.IOReadCloser()
	return nil
}

// skip reads so many bytes further, and tells whether there were as many.
func (l *Log) skip(n int64) (whole bool, err error) {
	if l.text == nil {
		if err := l.rewind(); err != nil {
			return false, err
		}
	}
	got, err := io.CopyN(io.Discard, l.text, n)
	l.at += got
	if errors.Is(err, io.EOF) {
		l.size, err = l.at, nil
	}
	return got == n, err
}

// Reader reads all of the log, as far as it has come.
func (l *Log) Reader() io.Reader {
	if l.frames == nil && l.Packed() {
		return &sequential{l: l}
	}
	size, err := l.Size()
	if err != nil {
		size = 0
	}
	return io.NewSectionReader(l, 0, size)
}

// sequential reads one from beginning to end whose size isn't known.
type sequential struct {
	l  *Log
	at int64
}

func (s *sequential) Read(p []byte) (int, error) {
	n, err := s.l.ReadAt(p, s.at)
	s.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Tail gives the last bytes of a log, at most so many, and whether there are more before them.
func Tail(path string, most int64) (tail []byte, more bool, err error) {
	l, err := Open(path)
	if err != nil {
		return nil, false, err
	}
	defer l.Close()
	size, err := l.Size()
	if err != nil {
		return nil, false, err
	}
	tail, err = io.ReadAll(io.NewSectionReader(l, max(size-most, 0), most))
	return tail, size > most, err
}
