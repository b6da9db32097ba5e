package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"
)

// fetch sends files, packed as stream.go says. What is wrong with
// one file is said in its place; an error is one of the connection.
func fetch(ctx context.Context, r *FetchRequest, s *serving) error {
	p := packer{ctx: ctx, s: s, buf: newFrame(dataSize), holes: r.holes}
	for i := range r.Files {
		if err := p.file(&r.Files[i]); err != nil {
			return err
		}
	}
	return p.flush()
}

// packer fills frames with pieces.
type packer struct {
	ctx context.Context
	s   *serving
	buf []byte

	holes bool // the host understands them
}

func (p *packer) flush() error {
	if len(p.buf) == frameHead {
		return nil
	}
	err := p.s.part(p.ctx, p.buf)
	p.buf = p.buf[:frameHead]
	return err
}

// file sends the bytes of one file from its offset to the size that the manifest gave, and how that
// went.
func (p *packer) file(f *FetchFile) error {
	var end Fetched
	fd, err := openFetched(f)
	if err == nil {
		err = p.contents(fd, f, &end)
		if err == nil {
			err = unchanged(fd, f)
		}
		unix.Close(fd)
	}
	if err != nil {
		var conn *connError
		if errors.As(err, &conn) {
			return conn.err
		}
		end.Status, end.Reason = FetchFailed, err.Error()
		if errors.Is(err, errChanged) {
			end.Status = FetchChanged
		}
		end.Reason = end.Reason[:min(len(end.Reason), 500)]
	}
	return p.end(&end)
}

// errChanged: size, time or kind are not those of the manifest.
var errChanged = errors.New("the file has changed since it was listed")

// connError sets an error of sending apart from those of reading.
type connError struct{ err error }

func (e *connError) Error() string { return e.err.Error() }

// openFetched opens a file for reading, unless it isn't what the manifest said. It doesn't follow a
// link, and doesn't wait for the other end of a fifo, that has taken the file's place.
func openFetched(f *FetchFile) (fd int, err error) {
	for err = unix.EINTR; err == unix.EINTR; {
		fd, err = unix.Open(
			f.Source,
			unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK,
			0,
		)
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return -1, fmt.Errorf("%w: %w", errChanged, err)
	case err != nil:
		return -1, err
	}
	if err := unchanged(fd, f); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if f.Offset < 0 || f.Offset > f.end() || f.end() > f.Size {
		unix.Close(fd)
		return -1, fmt.Errorf("offset %d is not within its %d bytes", f.Offset, f.Size)
	}
	return fd, nil
}

func unchanged(fd int, f *FetchFile) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != f.Size ||
		unix.TimespecToNsec(st.Mtim) != f.ModTime.UnixNano() {
		return errChanged
	}
	return nil
}

// pieceHead is the length of a piece as a uvarint of always 4
// bytes, so that the bytes can be read to where they go.
const pieceHead = 4

// pageSize is what pieces of a long file end at a multiple of: both sides copy them from and to
// memory for files, which takes two to three times as long at odd addresses.
const pageSize = 4096

func (p *packer) contents(fd int, f *FetchFile, end *Fetched) error {
	stop := f.end()
	if stop-f.Offset > dataSize {
		_ = unix.Fadvise(fd, f.Offset, 0, unix.FADV_SEQUENTIAL) // a hint
	}
	extent := extents{fd: fd, size: stop, off: !p.holes || !sparse(fd)}
	for at := f.Offset; at < stop; {
		hole, upTo, err := extent.next(at)
		if err != nil {
			return err
		}
		if hole > 0 {
			if err := p.hole(hole, end); err != nil {
				return err
			}
			at += hole
			continue
		}
		room := cap(p.buf) - len(p.buf) - pieceHead
		if room < min(pageSize, int(min(upTo-at, dataSize))) {
			if err := p.flush(); err != nil {
				return &connError{err}
			}
			continue
		}
		n := int(min(int64(room), upTo-at))
		if odd := int((at + int64(n)) % pageSize); at+int64(n) < upTo && odd < n {
			n -= odd
		}
		head := len(p.buf)
		to := p.buf[head+pieceHead : head+pieceHead+n]
		n, err = unix.Pread(fd, to, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errChanged
		}
		p.buf = p.buf[:head+pieceHead+n]
		for i := range pieceHead {
			p.buf[head+i] = byte(n>>(7*i))&0x7f | 0x80
		}
		p.buf[head+pieceHead-1] &= 0x7f
		end.CRC = crc32.Update(end.CRC, castagnoli(), to[:n])
		end.Bytes += int64(n)
		at += int64(n)
	}
	return nil
}

// leastHole is how many zeros are worth a word of their own.
const leastHole = 64 << 10

// sparse tells whether a file has fewer blocks than bytes.
func sparse(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Blocks*512 <= st.Size-leastHole
}

// extents tells the holes of a file from its data.
type extents struct {
	fd   int
	size int64
	off  bool  // all is data
	upTo int64 // up to here it is
}

// next is the length of the hole at an offset, or else up to where there are data.
func (e *extents) next(at int64) (hole, upTo int64, err error) {
	if e.off {
		return 0, e.size, nil
	}
	if at < e.upTo {
		return 0, e.upTo, nil
	}
	data, err := unix.Seek(e.fd, at, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO: // from here on
		data = e.size
	case err != nil: // a file system that can't tell
		e.off = true
		return 0, e.size, nil
	}
	if data = min(data, e.size); data-at >= leastHole || data == e.size && data > at {
		return data - at, 0, nil
	}
	end, err := unix.Seek(e.fd, data, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	e.upTo = min(end, e.size)
	return 0, e.upTo, nil
}

// hole says that zeros come next.
func (p *packer) hole(n int64, end *Fetched) error {
	end.CRC = crc32.Update(end.CRC, castagnoli(), holeSum(n))
	end.Bytes += n
	if err := p.end(&Fetched{Status: fetchHole, Bytes: n}); err != nil {
		return &connError{err}
	}
	return nil
}

// end marks the end of a file, or what a hole is.
func (p *packer) end(f *Fetched) error {
	m := encode(f.fields)
	if len(p.buf)+len(m)+2*binary.MaxVarintLen32 > cap(p.buf) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.buf = append(p.buf, 0)
	p.buf = binary.AppendUvarint(p.buf, uint64(len(m)))
	p.buf = append(p.buf, m...)
	return nil
}
