package foreign

import (
	"bytes"
	"io"
	"regexp"
	"sync"
	"unicode/utf8"
)

// Terminal writes to a terminal, as the last guard: lines and tabs pass, and those sequences that
// our own screens are made of; all else that is unsafe can be seen, and does nothing.
type Terminal struct {
	mu      sync.Mutex
	w       io.Writer
	pass    func() *regexp.Regexp // what passes of what begins with an escape
	returns bool                  // so do carriage returns anywhere, and backspaces
	rest    []byte                // of a character or a sequence of which more is to come
}

// Ours are the sequences of our own screens: styles (view.Style), to the beginning, and clear what
// follows.
var ours = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\x1b\[(?:(?:0|1|2|1;4|4;31|3[1-6]|90)?m|[HJK])`)
})

// Colors are those that output of programs may have on a terminal: any colours, and clear the line.
var colors = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\x1b\[(?:[0-9;:]*m|[0-2]?K)`)
})

// longestRest is how long what is held back may be: no sequence that passes is longer.
const longestRest = 64

// NewTerminal guards what the program itself prints.
func NewTerminal(w io.Writer) *Terminal { return &Terminal{w: w, pass: ours} }

// NewLogTerminal guards the output of jobs, which may be coloured and draw bars.
func NewLogTerminal(w io.Writer) *Terminal { return &Terminal{w: w, pass: colors, returns: true} }

// Write writes p. What may be the beginning of a character or of a sequence waits for the rest of
// it.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := append(t.rest, p...)
	held := len(t.rest)
	out := make([]byte, 0, len(text))
	t.rest = nil
	for i := 0; i < len(text); {
		n, ok := t.passes(text[i:], i == held)
		switch {
		case n == 0 && len(text)-i < longestRest:
			t.rest = bytes.Clone(text[i:])
			i = len(text)
		case ok:
			out = append(out, text[i:i+n]...)
			i += n
		default:
			r, size := utf8.DecodeRune(text[i:])
			out = appendSeen(out, string(text[i:i+size]), r)
			i += size
		}
	}
	if _, err := t.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// passes says how many bytes of text are one character or sequence, and whether it may be written
// as it is; 0: that depends on what follows. A line that is written anew begins with a carriage
// return.
func (t *Terminal) passes(text []byte, first bool) (n int, ok bool) {
	c := text[0]
	switch {
	case c == '\n' || c == '\t':
		return 1, true
	case c == '\r':
		return 1, first || t.returns
	case c == '\b':
		return 1, t.returns
	case c == 0x1b:
		if found := t.pass().Find(text); found != nil {
			return len(found), true
		}
		if unfinished().Match(text) {
			return 0, false
		}
		return 1, false
	case c < utf8.RuneSelf:
		return 1, c >= ' ' && c != 0x7f
	case !utf8.FullRune(text):
		return 0, false
	}
	r, size := utf8.DecodeRune(text)
	return size, !Unsafe(r)
}

// unfinished matches what may become a sequence that passes.
var unfinished = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\x1b(?:\[[0-9;:]*)?$`)
})

// Flush writes what waits for more.
func (t *Terminal) Flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := t.rest
	t.rest = nil
	_, err := io.WriteString(t.w, Clean(string(rest)))
	return err
}
