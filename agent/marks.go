package agent

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
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

// parseMark reads a line of output.
func parseMark(line []byte) (Mark, bool) {
	line = seen(line)
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

// seen is what a terminal shows of a line: without a byte order mark, the sequences that colour it
// or clear what was there, what was written over since, and the blanks around.
func seen(line []byte) []byte {
	line = bytes.TrimPrefix(line, []byte("\ufeff"))
	if bytes.IndexByte(line, escape) >= 0 {
		shown := make([]byte, 0, len(line))
		for len(line) > 0 {
			i := bytes.IndexByte(line, escape)
			if i < 0 {
				i = len(line)
			}
			shown = append(shown, line[:i]...)
			line = line[i:]
			n := sequence(line)
			if goesToBeginning(line[:n]) {
				shown = shown[:0]
			}
			line = line[n:]
		}
		line = shown
	}
	if bytes.IndexByte(line, '\b') >= 0 {
		line = overwritten(line)
	}
	return bytes.Trim(line, blanks)
}

// goesToBeginning tells whether a control sequence moves to a line's beginning, as programs do that
// draw a bar there again and again: what is written then begins a line.
func goesToBeginning(seq []byte) bool {
	if len(seq) < 3 || seq[1] != '[' {
		return false
	}
	column := string(seq[2 : len(seq)-1])
	switch seq[len(seq)-1] {
	case 'E', 'F': // the beginning of the next line, of the one before
		return true
	case 'G': // a column
		return column == "" || column == "0" || column == "1"
	case 'H': // a line and a column
		_, column, _ = strings.Cut(column, ";")
		return column == "" || column == "0" || column == "1"
	}
	return false
}

// overwritten is a line after its backspaces: each goes back by one character, and what follows
// replaces what stood there.
func overwritten(line []byte) []byte {
	var cells [][]byte // a character each
	at := 0
	for len(line) > 0 {
		_, n := utf8.DecodeRune(line)
		switch {
		case line[0] == '\b':
			at = max(at-1, 0)
		case at < len(cells):
			cells[at] = line[:n]
			at++
		default:
			cells = append(cells, line[:n])
			at++
		}
		line = line[n:]
	}
	return bytes.Join(cells, nil)
}

const escape = 0x1b

// sequence is the length of the terminal's control sequence that p begins with (ECMA-48), 0 for
// none.
func sequence(p []byte) int {
	if len(p) < 2 {
		return len(p)
	}
	while := func(i int, from, to byte) int {
		for i < len(p) && from <= p[i] && p[i] <= to {
			i++
		}
		return i
	}
	switch p[1] {
	case '[': // CSI: parameters, intermediates, a final byte
		return min(while(while(2, '0', '?'), ' ', '/')+1, len(p))
	case ']', 'P', 'X', '^', '_': // a string, up to BEL or ESC \
		for i := 2; i < len(p); i++ {
			if p[i] == '\a' {
				return i + 1
			}
			if p[i] == escape {
				return min(i+2, len(p))
			}
		}
		return len(p)
	}
	return min(while(1, ' ', '/')+1, len(p))
}

// marks takes the RESULTS and METRIC lines out of a stream that comes in pieces.
type marks struct {
	create func() (io.WriteCloser, error) // opens the file, when there is something to write

	file     io.WriteCloser
	line     []byte // the beginning of a line whose end is still to come
	long     bool   // it has more bytes than line
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
	carriage := bytes.IndexByte(p, '\r')
	for at := 0; at < len(p); {
		end := bytes.IndexByte(p[at:], '\n')
		if carriage >= 0 && carriage < at {
			if carriage = bytes.IndexByte(p[at:], '\r'); carriage >= 0 {
				carriage += at
			}
		}
		if carriage >= 0 && (end < 0 || carriage < at+end) {
			end = carriage - at
		}
		if end < 0 {
			m.keep(p[at:])
			return
		}
		if len(m.line) > 0 || m.long {
			m.keep(p[at : at+end])
			m.look(m.line)
			m.line, m.long = m.line[:0], false
		} else if line := p[at : at+end]; word || mayBeMark(line) {
			m.long = len(line) > enough
			m.look(line[:min(len(line), enough)])
			m.long = false
		}
		at += end + 1
	}
}

// keep adds to the line whose end is still to come.
func (m *marks) keep(p []byte) {
	room := enough - len(m.line)
	m.long = m.long || len(p) > room
	m.line = append(m.line, p[:min(len(p), room)]...)
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

// suspect looks at a line that is no mark.
func (m *marks) suspect(line []byte) {
	if len(m.suspects) >= maxSuspects {
		return
	}
	line = seen(line)
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
	words := [][]byte{line}
	if i := bytes.Index(line, wordResults); i > 0 {
		words = append(words, line[i:])
	}
	for _, at := range words {
		n := len("RESULT")
		if len(at) < n || !bytes.EqualFold(at[:n], wordResults[:n]) {
			continue
		}
		rest := at[n:]
		if len(rest) > 0 && rest[0]|0x20 == 's' {
			rest = rest[1:]
		}
		rest = bytes.TrimLeft(rest, blanks)
		if len(rest) > 0 && (rest[0] == ':' || rest[0] == '=') {
			rest = bytes.Trim(rest[1:], blanks)
			return rest, len(rest) > 0
		}
	}
	return nil, false
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
