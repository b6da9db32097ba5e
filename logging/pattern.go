package logging

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
	"unicode/utf8"
)

// defaultPattern serves an encoder that names none.
const defaultPattern = "{d} {l} {t} - {m}{n}"

// pattern is the compiled form of a pattern encoder.
type pattern struct {
	chunks []chunk
	local  *time.Location
	pid    int
}

type chunkKind uint8

const (
	chunkText chunkKind = iota // also an error: its text
	chunkDate
	chunkLevel
	chunkMessage
	chunkModule
	chunkFile
	chunkLine
	chunkThread
	chunkThreadID
	chunkPID
	chunkTarget
	chunkMDC
	chunkKV
	chunkHighlight
	chunkGroup // shows what is in it: the unnamed formatter, and {R(…)}
)

// chunk is one step of writing a line.
type chunk struct {
	kind  chunkKind
	text  string     // chunkText; the key of chunkMDC and chunkKV
	def   string     // the default of chunkMDC and chunkKV
	date  dateFormat // chunkDate
	utc   bool       // chunkDate
	inner []chunk    // chunkHighlight and chunkGroup
	spec  spec
}

// newPattern compiles a pattern. As in log4rs a wrong formatter isn't fatal:
// it prints {ERROR: …} in its place. The problems are returned too, so that
// somebody hears of them before reading the log.
func newPattern(text string, local *time.Location) (*pattern, []error) {
	c := patternCompiler{}
	p := &pattern{chunks: c.compile(parsePattern(text)), local: local, pid: os.Getpid()}
	return p, c.problems
}

type patternCompiler struct{ problems []error }

func (c *patternCompiler) compile(pieces []piece) []chunk {
	chunks := make([]chunk, 0, len(pieces))
	for _, pc := range pieces {
		ch, err := chunk{kind: chunkText, text: pc.text, spec: noSpec}, error(nil)
		switch {
		case pc.err != "":
			err = errors.New(pc.err)
		case pc.formatter:
			ch, err = c.formatter(pc)
		}
		if err != nil {
			c.problems = append(c.problems, err)
			ch = chunk{kind: chunkText, text: errorText(err), spec: noSpec}
		}
		chunks = append(chunks, ch)
	}
	return chunks
}

func errorText(err error) string {
	return string(appendEscaped(nil, "{ERROR: "+err.Error()+"}"))
}

// simpleFormatter gives the kind of a formatter that takes no arguments.
func simpleFormatter(name string) (chunkKind, bool) {
	switch name {
	case "l", "level":
		return chunkLevel, true
	case "m", "message":
		return chunkMessage, true
	case "M", "module":
		return chunkModule, true
	case "f", "file":
		return chunkFile, true
	case "L", "line":
		return chunkLine, true
	case "t", "target":
		return chunkTarget, true
	case "T", "thread":
		return chunkThread, true
	case "I", "thread_id", "i", "tid":
		return chunkThreadID, true
	case "P", "pid":
		return chunkPID, true
	}
	return 0, false
}

func (c *patternCompiler) formatter(pc piece) (chunk, error) {
	ch := chunk{spec: pc.spec}
	if kind, ok := simpleFormatter(pc.name); ok || pc.name == "n" {
		if len(pc.args) > 0 {
			return ch, errors.New("unexpected arguments")
		}
		ch.kind = kind
		if pc.name == "n" {
			ch.kind, ch.text = chunkText, "\n"
		}
		return ch, nil
	}
	switch pc.name {
	case "d", "date":
		return c.dateFormatter(ch, pc)
	case "X", "mdc":
		ch.kind = chunkMDC
		return c.keyFormatter(ch, pc, "MDC")
	case "K", "key_value":
		ch.kind = chunkKV
		return c.keyFormatter(ch, pc, "key_value")
	case "h", "highlight", "D", "debug", "R", "release", "":
		if len(pc.args) != 1 {
			return ch, errors.New("expected exactly one argument")
		}
		ch.kind, ch.inner = chunkGroup, c.compile(pc.args[0])
		switch pc.name {
		case "h", "highlight":
			ch.kind = chunkHighlight
		case "D", "debug": // every build is a release build
			ch.inner = nil
		}
		return ch, nil
	}
	return ch, fmt.Errorf("unknown formatter `%s`", pc.name)
}

func (c *patternCompiler) dateFormatter(ch chunk, pc piece) (chunk, error) {
	if len(pc.args) > 2 {
		return ch, errors.New("expected at most two arguments")
	}
	format := "%+"
	if len(pc.args) > 0 {
		format = ""
		for _, arg := range pc.args[0] {
			if arg.formatter || arg.err != "" {
				return ch, errors.New("unexpected formatter in a date format")
			}
			format += arg.text
		}
	}
	if len(pc.args) == 2 {
		zone, err := firstText(pc.args[1], "timezone")
		switch {
		case err != nil:
			return ch, err
		case zone != "utc" && zone != "local":
			return ch, fmt.Errorf("invalid timezone `%s`", zone)
		}
		ch.utc = zone == "utc"
	}
	date, err := parseDateFormat(format)
	ch.kind, ch.date = chunkDate, date
	return ch, err
}

func (c *patternCompiler) keyFormatter(ch chunk, pc piece, what string) (chunk, error) {
	if len(pc.args) > 2 {
		return ch, errors.New("expected at most two arguments")
	}
	if len(pc.args) == 0 {
		return ch, fmt.Errorf("missing %s key", what)
	}
	var err error
	if ch.text, err = firstText(pc.args[0], what+" key"); err != nil {
		return ch, err
	}
	if len(pc.args) == 2 {
		ch.def, err = firstText(pc.args[1], what+" default")
	}
	return ch, err
}

// firstText is an argument that has to be text. log4rs looks at its first
// piece alone.
func firstText(arg []piece, what string) (string, error) {
	switch {
	case len(arg) > 0 && arg[0].err != "":
		return "", errors.New(arg[0].err)
	case len(arg) == 0 || arg[0].formatter:
		return "", fmt.Errorf("invalid %s", what)
	}
	return arg[0].text, nil
}

func (p *pattern) append(buf []byte, ev *event, color bool) []byte {
	return p.appendChunks(buf, p.chunks, ev, color)
}

func (p *pattern) appendChunks(buf []byte, chunks []chunk, ev *event, color bool) []byte {
	for i := range chunks {
		ch := &chunks[i]
		start := len(buf)
		buf = p.appendChunk(buf, ch, ev, color)
		if ch.spec.min >= 0 || ch.spec.max >= 0 {
			buf = fit(buf, start, ch.spec)
		}
	}
	return buf
}

func (p *pattern) appendChunk(buf []byte, ch *chunk, ev *event, color bool) []byte {
	switch ch.kind {
	case chunkText:
		return append(buf, ch.text...)
	case chunkDate:
		t := ev.time.In(p.local)
		if ch.utc {
			t = ev.time.UTC()
		}
		return ch.date.append(buf, t)
	case chunkLevel:
		return append(buf, levelName(ev.level)...)
	case chunkMessage:
		return ev.appendText(appendEscaped(buf, ev.message))
	case chunkModule:
		return append(buf, ev.source.pkg...)
	case chunkFile:
		return appendEscaped(buf, ev.source.file)
	case chunkLine:
		if ev.source.line == 0 {
			return append(buf, unknown...)
		}
		return strconv.AppendInt(buf, int64(ev.source.line), 10)
	case chunkThread:
		return append(buf, "unnamed"...) // goroutines have no names
	case chunkThreadID:
		return strconv.AppendInt(buf, int64(threadID()), 10)
	case chunkPID:
		return strconv.AppendInt(buf, int64(p.pid), 10)
	case chunkTarget:
		return appendEscaped(buf, ev.name)
	case chunkMDC, chunkKV:
		if v, ok := ev.lookUp(ch.text, ch.kind == chunkMDC); ok {
			return appendValue(buf, v, appendEscaped)
		}
		return append(buf, ch.def...)
	case chunkHighlight:
		style := ""
		if color {
			style = levelStyle(levelName(ev.level))
		}
		buf = p.appendChunks(append(buf, style...), ch.inner, ev, color)
		if style != "" {
			buf = append(buf, styleEnd...)
		}
		return buf
	}
	return p.appendChunks(buf, ch.inner, ev, color) // chunkGroup
}

const styleEnd = "\x1b[0m"

// levelStyle is the escape sequence that highlights a level, byte for byte
// as log4rs writes it.
func levelStyle(level string) string {
	switch level {
	case "ERROR":
		return "\x1b[0;31;1m"
	case "WARN":
		return "\x1b[0;33m"
	case "INFO":
		return "\x1b[0;32m"
	case "TRACE":
		return "\x1b[0;36m"
	}
	return ""
}

// fit cuts buf[start:] to the spec's maximum and fills it up to its minimum.
// Widths count characters; escape sequences, which only styles can have
// brought in, count as nothing and are never cut off.
func fit(buf []byte, start int, s spec) []byte {
	width, end := 0, start
	for i := start; i < len(buf); {
		size := styleLen(buf[i:])
		if size == 0 {
			_, size = utf8.DecodeRune(buf[i:])
			if s.max >= 0 && width == s.max {
				i += size
				continue
			}
			width++
		}
		end += copy(buf[end:], buf[i:i+size])
		i += size
	}
	buf = buf[:end]
	missing := s.min - width
	if missing <= 0 {
		return buf
	}
	for range missing {
		buf = utf8.AppendRune(buf, s.fill)
	}
	if s.right {
		rotate(buf[start:], len(buf)-end)
	}
	return buf
}

// styleLen is the length of the escape sequence that b begins with, or 0.
func styleLen(b []byte) int {
	if len(b) < 2 || b[0] != 0x1b || b[1] != '[' {
		return 0
	}
	for i := 2; i < len(b); i++ {
		if b[i] == 'm' {
			return i + 1
		}
	}
	return 0
}

// rotate moves the last n bytes of b to its front, in place.
func rotate(b []byte, n int) {
	reverse(b)
	reverse(b[:n])
	reverse(b[n:])
}

func reverse(b []byte) {
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
}
