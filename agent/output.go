package agent

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
)

// stream is one of a command's output streams on its way into a file. Nothing that goes wrong with
// the file stops it: the command must never wait for us.
type stream struct {
	create func() (io.WriteCloser, error) // opens the file, when there is something to write
	max    int64                          // bytes to keep; 0: all. Of more the end is kept, too
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
	late             tail // what comes when the beginning is full
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
	keep, late := p, []byte(nil)
	if s.max > 0 {
		n := min(int64(len(p)), max(s.max-tailRoom(s.max)-s.written, 0))
		keep, late = p[:n], p[n:]
	}
	s.dropped += int64(len(keep)) - s.keep(keep)
	s.dropped += s.late.add(late, int(tailRoom(s.max)))
	if s.dropped > 2*s.lastSaid && s.said != nil {
		s.lastSaid = s.dropped
		s.said(s.dropped)
	}
}

// keep writes to the file, and gives how many bytes are there. A disk that is full now may have
// room later, so every chunk is tried.
func (s *stream) keep(p []byte) int64 {
	if len(p) == 0 {
		return 0
	}
	n, err := s.write(p)
	s.crc = crc32.Update(s.crc, castagnoli(), p[:n])
	s.written += int64(n)
	if err != nil && s.err == nil {
		s.err = err
	}
	return int64(n)
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

// end is called when the stream has ended. What of its end was held back is written now, behind a
// line that says how much is missing before it.
func (s *stream) end() {
	late := s.late.bytes()
	if n := s.late.passed; n > 0 && len(late) > 0 {
		if at := bytes.IndexByte(late, '\n'); at >= 0 && at+1 < len(late) {
			late, n = late[at+1:], n+int64(at+1) // whole lines
		}
		s.dropped += int64(len(s.late.bytes()) - len(late))
		s.keep(fmt.Appendf(nil, gapLine, n))
	}
	s.dropped += int64(len(late)) - s.keep(late)
	s.late = tail{}
	if s.marks != nil {
		s.marks.end()
	}
}
