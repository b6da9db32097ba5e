package agent

import (
	"bytes"
	"hash/crc32"
	"io"
)

// stream is one of a command's output streams on its way into a file. Nothing that goes wrong with the file
// stops it: the command must never wait for us.
type stream struct {
	create func() (io.WriteCloser, error) // opens the file, when there is something to write
	max    int64                          // bytes to keep; 0: all
	// marks, if not nil, sees all bytes first, those that are not kept too.
	marks *marks
	// grow, if not nil, is called once when there turns out to be much.
	grow func()
	// said, if not nil, is called with the number of bytes dropped so far each time that it has doubled.
	said func(dropped int64)

	file             io.WriteCloser
	written, dropped int64
	crc              uint32 // CRC-32C of what was written
	err              error  // the first of writing
	lastSaid         int64
}

// busyRead is what one read brings when the other side writes faster than we read: a pipe's default capacity.
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

// The prefixes are exact and stand at the start of a line.
var (
	prefixResults = []byte("RESULTS: ")
	prefixMetric  = []byte("METRIC: ")
)

// marks takes the RESULTS and METRIC lines out of a stream that comes in pieces.
type marks struct {
	create func() (io.WriteCloser, error) // opens the file, when there is something to write

	file    io.WriteCloser
	line    []byte // the beginning of a line that may be a mark, or is one
	skip    bool   // the rest of the line doesn't matter
	written int64
	dropped int64
	err     error
}

// scan looks at the next piece.
func (m *marks) scan(p []byte) {
	for len(p) > 0 {
		if len(m.line) == 0 && !m.skip && p[0] != prefixResults[0] && p[0] != prefixMetric[0] {
			m.skip = p[0] != '\n' // by far the most frequent line
		}
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if !m.skip {
			m.more(part)
		}
		if i < 0 {
			return
		}
		if !m.skip {
			m.finish()
		}
		m.line, m.skip = m.line[:0], false
		p = p[i+1:]
	}
}

// more adds to the line, as long as it may be a mark of reasonable length.
func (m *marks) more(p []byte) {
	const enough = MaxMarkLine + 16
	m.line = append(m.line, p[:min(len(p), enough-min(len(m.line), enough))]...)
	if !mayBeMark(m.line) {
		m.line, m.skip = m.line[:0], true
	}
}

func mayBeMark(line []byte) bool {
	for _, prefix := range [...][]byte{prefixResults, prefixMetric} {
		n := min(len(line), len(prefix))
		if bytes.Equal(line[:n], prefix[:n]) {
			return true
		}
	}
	return false
}

// finish writes the line if it is a mark.
func (m *marks) finish() {
	if _, ok := parseMark(m.line); !ok {
		return
	}
	if len(m.line) > MaxMarkLine || m.written+int64(len(m.line))+1 > MaxMarks {
		m.dropped++
		return
	}
	if m.file == nil && m.err == nil {
		m.file, m.err = m.create()
	}
	if m.err != nil {
		// Half a line may stand in the file: no other may follow it.
		m.dropped++
		return
	}
	var n int
	n, m.err = m.file.Write(append(m.line, '\n'))
	if m.err != nil {
		m.dropped++
		return
	}
	m.written += int64(n)
}

// end is called at the end of the stream: its last line may have no newline.
func (m *marks) end() {
	if !m.skip {
		m.finish()
	}
	m.line, m.skip = nil, true
}

// parseMark takes a line without its newline.
func parseMark(line []byte) (Mark, bool) {
	if text, ok := bytes.CutPrefix(line, prefixResults); ok {
		return Mark{Kind: Results, Text: string(text)}, true
	}
	if text, ok := bytes.CutPrefix(line, prefixMetric); ok {
		return Mark{Kind: Metric, Text: string(text)}, true
	}
	return Mark{}, false
}

// parseMarks takes apart what the marks file has from some offset on, at most maxList lines, and returns how
// many bytes it used. A line without its newline is still being written.
func parseMarks(p []byte) (found []Mark, used int64) {
	for len(found) < maxList {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		if m, ok := parseMark(p[:i]); ok {
			found = append(found, m)
		}
		used += int64(i) + 1
		p = p[i+1:]
	}
	return found, used
}
