package logging

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits that log4rs doesn't have; there, such patterns exhaust the memory
// or the stack.
const (
	maxPatternDepth = 50     // of formatters within formatters
	maxPatternWidth = 10_000 // characters
)

// piece is one element of a parsed pattern: text, a formatter, or an error
// that is shown in its place.
type piece struct {
	text string // if name, args and err say nothing else
	err  string

	formatter bool
	name      string
	args      [][]piece
	spec      spec
}

// spec is how a formatter's output is fitted in.
type spec struct {
	fill     rune
	right    bool
	min, max int // characters, -1 for no limit
}

var noSpec = spec{fill: ' ', min: -1, max: -1}

// patternParser reads log4rs's pattern language:
//
//	pattern   := text { '{' formatter [ ':' spec ] '}' text }
//	formatter := [ name ] { '(' pattern ')' }
//	spec      := [ [ fill ] ( '<' | '>' ) ] [ min ] [ '.' max ]
//
// Braces and parentheses stand for themselves when doubled or after a
// backslash. An error never stops a pattern from working: it becomes a piece
// of its own, and the parser goes on where log4rs does.
type patternParser struct {
	rest  string
	depth int
}

func (p *patternParser) consume(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// next reads one piece; ok is false at the end.
func (p *patternParser) next() (pc piece, ok bool) {
	if p.rest == "" {
		return piece{}, false
	}
	switch c := p.rest[0]; c {
	case '{':
		p.rest = p.rest[1:]
		if p.consume('{') {
			return piece{text: "{"}, true
		}
		pc := p.argument()
		if !p.consume('}') {
			p.rest = ""
			return piece{err: "expected '}'"}, true
		}
		return pc, true
	case '}', '(', ')':
		p.rest = p.rest[1:]
		if p.consume(c) {
			return piece{text: string(c)}, true
		}
		if c == '}' {
			return piece{err: "unmatched '}'"}, true
		}
		return piece{err: fmt.Sprintf("unexpected '%c'", c)}, true
	case '\\':
		p.rest = p.rest[1:]
		for _, escaped := range []byte(`{}()\`) {
			if p.consume(escaped) {
				return piece{text: string(escaped)}, true
			}
		}
		return piece{err: `unexpected '\'`}, true
	}
	n := strings.IndexAny(p.rest, `{}()\`)
	if n < 0 {
		n = len(p.rest)
	}
	pc = piece{text: p.rest[:n]}
	p.rest = p.rest[n:]
	return pc, true
}

// argument reads what stands between braces.
func (p *patternParser) argument() piece {
	pc := piece{formatter: true, name: p.name(), spec: noSpec}
	if p.depth++; p.depth > maxPatternDepth {
		p.rest = ""
		return piece{err: "too many formatters within each other"}
	}
	defer func() { p.depth-- }()
	for p.consume('(') {
		arg, ok := p.arg()
		if !ok {
			return piece{err: "unclosed '('"}
		}
		pc.args = append(pc.args, arg)
	}
	if p.consume(':') {
		if !p.spec(&pc.spec) {
			return piece{err: fmt.Sprintf("width over %d", maxPatternWidth)}
		}
	}
	return pc
}

// name takes underscores too: log4rs documents thread_id, but its parser
// stops in the middle of it.
func (p *patternParser) name() string {
	n := 0
	for i, r := range p.rest {
		if !unicode.IsLetter(r) && (i == 0 || !unicode.IsNumber(r) && r != '_') {
			break
		}
		n = i + utf8.RuneLen(r)
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	return name
}

func (p *patternParser) arg() ([]piece, bool) {
	var arg []piece
	for !p.consume(')') {
		pc, ok := p.next()
		if !ok {
			return nil, false
		}
		arg = append(arg, pc)
	}
	return arg, true
}

// spec is false for a width beyond the limit.
func (p *patternParser) spec(s *spec) bool {
	if p.rest != "" {
		fill, size := utf8.DecodeRuneInString(p.rest)
		if after := p.rest[size:]; strings.HasPrefix(after, "<") || strings.HasPrefix(after, ">") {
			s.fill = fill
			p.rest = after
		}
	}
	if !p.consume('<') {
		s.right = p.consume('>')
	}
	s.min = p.integer()
	if p.consume('.') {
		s.max = p.integer()
	}
	return s.min <= maxPatternWidth && s.max <= maxPatternWidth
}

// integer reads digits; -1 says that there are none. It stops growing
// beyond maxPatternWidth.
func (p *patternParser) integer() int {
	n := -1
	for p.rest != "" && '0' <= p.rest[0] && p.rest[0] <= '9' {
		n = min(max(n, 0)*10+int(p.rest[0]-'0'), maxPatternWidth+1)
		p.rest = p.rest[1:]
	}
	return n
}

// parsePattern reads a whole pattern.
func parsePattern(s string) []piece {
	p := patternParser{rest: s}
	var pieces []piece
	for {
		pc, ok := p.next()
		if !ok {
			return pieces
		}
		pieces = append(pieces, pc)
	}
}
