package agent

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// RESULTS and METRIC lines are read as people see them: at the beginning of a line of the screen,
// which a carriage return begins too, with blanks around them and in whatever colour. Else every
// byte counts.

var (
	prefixResults     = []byte("RESULTS:")
	prefixMeasurement = []byte("METRIC:")
	wordResults       = []byte("RESULTS")
	wordMetric        = []byte("METRIC")
)

// blanks stand around a text without being seen.
const blanks = " \t\v\f\r"

// parseMark reads a line as it is seen.
func parseMark(line []byte) (Mark, bool) {
	if text, ok := bytes.CutPrefix(line, prefixResults); ok {
		return Mark{Kind: Results, Text: string(bytes.TrimLeft(text, blanks))}, true
	}
	if text, ok := bytes.CutPrefix(line, prefixMeasurement); ok {
		text = bytes.TrimLeft(text, blanks)
		return Mark{Kind: Measurement, Text: string(text)}, len(text) > 0
	}
	return Mark{}, false
}

// line is a mark as the file has it.
func (k Mark) line() []byte {
	prefix := prefixResults
	if k.Kind == Measurement {
		prefix = prefixMeasurement
	}
	line := append(append(make([]byte, 0, len(prefix)+len(k.Text)+2), prefix...), ' ')
	return append(append(line, k.Text...), '\n')
}

// parseMarks takes apart what the marks file has from some offset on, at most maxList lines, and
// returns how many bytes it used. A line without its newline is still being written.
func parseMarks(p []byte) (found []Mark, used int64) {
	var s screen
	for len(found) < maxList {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		if m, ok := parseMark(s.seen(p[:i])); ok {
			found = append(found, m)
		}
		used += int64(i) + 1
		p = p[i+1:]
	}
	return found, used
}

// marks takes the RESULTS and METRIC lines out of a stream that comes in pieces.
type marks struct {
	create func() (io.WriteCloser, error) // opens the file, when there is something to write

	file     io.WriteCloser
	line     []byte // the beginning of a line whose end is still to come
	long     bool   // it has more bytes than line
	screen   screen
	suspects []suspect
	taken    []string // the first paths of RESULTS lines
	written  int64
	dropped  int64
	err      error
}

// enough is how much of a line is looked at: a mark may come with colours.
const enough = MaxMarkLine + 4<<10

// scan looks at the next piece.
func (m *marks) scan(p []byte) {
	// Most pieces have neither a carriage return, nor the words, nor what moves on a line.
	word := bytes.Contains(p, wordResults) || bytes.Contains(p, wordMetric) ||
		bytes.IndexByte(p, escape) >= 0 || bytes.IndexByte(p, '\b') >= 0
	newline, carriage := -1, -1
	for at := 0; at < len(p); {
		if newline < at {
			newline = indexFrom(p, at, '\n')
		}
		if carriage < at {
			carriage = indexFrom(p, at, '\r')
		}
		end := min(newline, carriage)
		if end == len(p) {
			m.keep(p[at:])
			return
		}
		if len(m.line) > 0 || m.long {
			m.keep(p[at:end])
			m.look(m.line)
			m.line, m.long = m.line[:0], false
		} else if line := p[at:end]; word || mayBeMark(line) {
			m.long = len(line) > enough
			m.look(line[:min(len(line), enough)])
			m.long = false
		}
		at = end + 1
	}
}

// indexFrom is where the next b stands, from at on; the length of p if nowhere.
func indexFrom(p []byte, at int, b byte) int {
	if i := bytes.IndexByte(p[at:], b); i >= 0 {
		return at + i
	}
	return len(p)
}

// keep adds to the line whose end is still to come.
func (m *marks) keep(p []byte) {
	room := enough - len(m.line)
	m.long = m.long || len(p) > room
	m.line = append(m.line, p[:min(len(p), room)]...)
}

// mayName rules out the lines that have no colon and no equals sign, or not the letters of RESULT
// or METRIC, whatever was written over in them: so a binary file's lines cost little, or a bar's
// that is drawn again and again.
func mayName(line []byte) bool {
	if bytes.IndexByte(line, ':') < 0 && bytes.IndexByte(line, '=') < 0 {
		return false
	}
	return hasAll(line, "ULRSTE", "ulrste") || hasAll(line, "MCIRTE", "MCIRTE")
}

// hasAll tells whether p has each of some letters, as one or the other.
func hasAll(p []byte, letters, others string) bool {
	for i := range len(letters) {
		if bytes.IndexByte(p, letters[i]) < 0 && bytes.IndexByte(p, others[i]) < 0 {
			return false
		}
	}
	return true
}

// mayBeMark rules out most lines by their first byte.
func mayBeMark(line []byte) bool {
	if len(line) == 0 {
		return false
	}
	switch line[0] {
	case 'R', 'M', 'r', escape, ' ', '\t', '\v', '\f', 0xef:
		return true
	}
	return false
}

// look takes a whole line, or its beginning if it is long.
func (m *marks) look(line []byte) {
	if !mayName(line) {
		return
	}
	line = m.screen.seen(line)
	mark, ok := parseMark(line)
	if !ok {
		m.suspect(line)
		return
	}
	text := mark.line()
	if m.long || len(text)-1 > MaxMarkLine || m.written+int64(len(text)) > MaxMarks {
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
	n, m.err = m.file.Write(text)
	if m.err != nil {
		m.dropped++
		return
	}
	m.written += int64(n)
	if mark.Kind == Results && len(m.taken) < maxTaken {
		m.taken = append(m.taken, mark.Text)
	}
}

// maxTaken is how many paths are remembered, to tell lines that name them again.
const maxTaken = 1000

// end is called at the end of the stream: its last line may have no newline.
func (m *marks) end() {
	if len(m.line) > 0 {
		m.look(m.line)
	}
	m.line, m.long = nil, false
}

// suspect is a line that was not taken for a RESULTS line, and may have been meant as one.
type suspect struct{ line, path string }

// maxSuspects is how many such lines are remembered.
const maxSuspects = 16

// suspect looks at a line, as it is seen, that is no mark.
func (m *marks) suspect(line []byte) {
	if len(m.suspects) >= maxSuspects {
		return
	}
	if rest, ok := afterResults(line); ok && len(rest) <= maxSuspectPath {
		m.suspects = append(
			m.suspects,
			suspect{string(line[:min(len(line), maxSuspectPath)]), string(rest)},
		)
	}
}

const maxSuspectPath = 4095

// afterResults is what follows the word RESULTS and a colon or an equals sign, anywhere in a line;
// at its beginning, in any case and also in the singular.
func afterResults(line []byte) ([]byte, bool) {
	rest, ok := afterWord(line)
	if i := bytes.Index(line, wordResults); !ok && i > 0 {
		rest, ok = afterWord(line[i:])
	}
	return rest, ok && len(rest) > 0
}

// afterWord is what follows such a word at the beginning of p.
func afterWord(p []byte) (rest []byte, ok bool) {
	n := len("RESULT")
	if len(p) < n || !bytes.EqualFold(p[:n], wordResults[:n]) {
		return nil, false
	}
	rest = p[n:]
	if len(rest) > 0 && rest[0]|0x20 == 's' {
		rest = rest[1:]
	}
	rest = bytes.TrimLeft(rest, blanks)
	if len(rest) == 0 || rest[0] != ':' && rest[0] != '=' {
		return nil, false
	}
	return bytes.Trim(rest[1:], blanks), true
}

// overlooked is the first line that names something which is there, in the directory of the
// command, as if it were to be a result: "" for none.
func (m *marks) overlooked(dir string) string {
	full := func(path string) string {
		if filepath.IsAbs(path) {
			return filepath.Clean(path)
		}
		return filepath.Join(dir, path)
	}
	for _, s := range m.suspects {
		for _, path := range s.paths() {
			path = full(path)
			named := slices.ContainsFunc(m.taken, func(other string) bool {
				other = full(other)
				return path == other || strings.HasPrefix(path, other+"/")
			})
			if _, err := os.Lstat(path); err == nil && !named {
				return s.line
			}
		}
	}
	return ""
}

// paths are what the line may have meant: all that follows, or its first word; as it is, or without
// what people put around a name.
func (s *suspect) paths() []string {
	const around = "\"'`()[]{}<>,;.!"
	first := string(bytes.Fields([]byte(s.path))[0])
	var paths []string
	for _, p := range []string{s.path, first} {
		paths = append(paths, p)
		if bare := string(bytes.Trim([]byte(p), around)); bare != "" && bare != p {
			paths = append(paths, bare)
		}
	}
	return paths
}
