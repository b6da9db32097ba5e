package agent

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// A screen shows lines as a terminal does. Its memory is used again for the next line.
type screen struct {
	shown []byte // without sequences
	cells []cell // the characters of the line that are seen
	kept  []byte // after backspaces
}

// cell is where a character begins in its line, and how many bytes it has.
type cell struct{ at, n int32 }

// seen is what a terminal shows of a line: without a byte order mark, the sequences that colour it
// or clear what was there, what was written over since, and the blanks around. It is valid until
// the next call.
func (s *screen) seen(line []byte) []byte {
	line = bytes.TrimPrefix(line, []byte("\ufeff"))
	if bytes.IndexByte(line, escape) >= 0 {
		shown := s.shown[:0]
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
		s.shown, line = shown, shown
	}
	if bytes.IndexByte(line, '\b') >= 0 {
		line = s.overwritten(line)
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
func (s *screen) overwritten(line []byte) []byte {
	cells := s.cells[:0]
	at := 0
	for i := 0; i < len(line); {
		n := 1
		if line[i] >= utf8.RuneSelf {
			_, n = utf8.DecodeRune(line[i:])
		}
		switch {
		case line[i] == '\b':
			at = max(at-1, 0)
		case at < len(cells):
			cells[at] = cell{int32(i), int32(n)}
			at++
		default:
			cells = append(cells, cell{int32(i), int32(n)})
			at++
		}
		i += n
	}
	kept := s.kept[:0]
	for _, c := range cells {
		if c.n == 1 {
			kept = append(kept, line[c.at])
		} else {
			kept = append(kept, line[c.at:c.at+c.n]...)
		}
	}
	s.cells, s.kept = cells, kept
	return kept
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
