package agent

import (
	"hash/crc32"
	"io"
)

// stream is one of a command's output streams on its way into a file. Nothing that goes wrong with
// the file stops it: the command must never wait for us.
type stream struct {
	create func() (io.WriteCloser, error) // opens the file, when there is something to write
	max    int64                          // bytes to keep; 0: all
	// marks, if not nil, sees all bytes first, those that are not kept too.
	marks *marks
	// grow, if not nil, is called once when there turns out to be much.
	grow func()
	// said, if not nil, is called with the number of bytes dropped so far each time that it has
	// doubled.
	said func(dropped int64)

	file             io.WriteCloser
	written, dropped int64
	crc              uint32 // CRC-32C of what was written
	err              error  // the first of writing
	lastSaid         int64
}

// busyRead is what one read brings when the other side writes faster than we read: a pipe's default
// capacity.
const busyRead = 64 << 10

// take takes the next bytes.
func (s *stream) take(p []byte) {
	if len(p) >= busyRead && s.grow != nil {
		s.grow()
		s.grow = nil
	}
	if s.marks != nil {
		s.marks.scan(p)
	}
	keep := p
	if s.max > 0 {
		keep = p[:min(int64(len(p)), s.max-s.written)]
	}
	if len(keep) > 0 {
		// A disk that is full now may have room later, so every chunk is tried.
		n, err := s.write(keep)
		s.crc = crc32.Update(s.crc, castagnoli(), keep[:n])
		s.written += int64(n)
		if err != nil && s.err == nil {
			s.err = err
		}
		keep = keep[:n]
	}
	s.dropped += int64(len(p) - len(keep))
	if s.dropped > 2*s.lastSaid && s.said != nil {
		s.lastSaid = s.dropped
		s.said(s.dropped)
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	if s.file == nil {
		file, err := s.create()
		if err != nil {
			return 0, err
		}
		s.file = file
	}
	return s.file.Write(p)
}

func (s *stream) close() {
	if s.file != nil {
		_ = s.file.Close() // what a full disk kept out has been counted
	}
	if s.marks != nil && s.marks.file != nil {
		_ = s.marks.file.Close()
	}
}

// end is called when the stream has ended.
func (s *stream) end() {
	if s.marks != nil {
		s.marks.end()
	}
}
