package logging

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// appendEscaped appends s with everything that isn't printable written as an
// escape, so that it stays on its line and does nothing to a terminal. Unlike
// [strconv.AppendQuote] it leaves quotes and backslashes as they are: this is
// for text that is read, not parsed.
func appendEscaped(buf []byte, s string) []byte {
	plain := 0 // start of the text not yet copied
	for i := 0; i < len(s); {
		if c := s[i]; ' ' <= c && c <= '~' {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if printable(r, size) {
			i += size
			continue
		}
		buf = append(buf, s[plain:i]...)
		buf = appendRuneEscape(buf, s[i:i+size], r)
		i += size
		plain = i
	}
	return append(buf, s[plain:]...)
}

// printable says whether a rune may be written as it is. Besides control
// characters it refuses those that reorder or hide text, and invalid bytes.
func printable(r rune, size int) bool {
	return unicode.IsPrint(r) && (r != utf8.RuneError || size > 1)
}

// appendRuneEscape appends r, which stands for the bytes raw, as Go would
// write it in a string literal.
func appendRuneEscape(buf []byte, raw string, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '\n':
		return append(buf, `\n`...)
	case r == '\r':
		return append(buf, `\r`...)
	case r == '\t':
		return append(buf, `\t`...)
	case len(raw) == 1:
		return append(buf, '\\', 'x', hex[raw[0]>>4], hex[raw[0]&15])
	case r < 0x10000:
		return append(buf, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	buf = append(buf, `\U00`...)
	for shift := 20; shift >= 0; shift -= 4 {
		buf = append(buf, hex[r>>shift&15])
	}
	return buf
}

// appendQuotedIfNeeded appends s as the key or the value of key=value: as it
// is where that is unambiguous, quoted like a Go string otherwise.
func appendQuotedIfNeeded(buf []byte, s string) []byte {
	if needsQuotes(s) {
		return strconv.AppendQuote(buf, s)
	}
	return append(buf, s...)
}

func needsQuotes(s string) bool {
	if s == "" {
		return true
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f {
				return true
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if !printable(r, size) || unicode.IsSpace(r) {
			return true
		}
		i += size
	}
	return false
}

// appendJSONString appends s as a JSON string. What isn't printable is
// escaped here too: JSON would allow most of it, terminals act on it.
func appendJSONString(buf []byte, s string) []byte {
	const hex = "0123456789abcdef"
	buf = append(buf, '"')
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			buf = append(buf, '\\', byte(r))
		case r == '\n':
			buf = append(buf, `\n`...)
		case r == '\r':
			buf = append(buf, `\r`...)
		case r == '\t':
			buf = append(buf, `\t`...)
		case printable(r, size):
			buf = append(buf, s[i:i+size]...)
		case r < 0x10000:
			buf = append(buf, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default: // a surrogate pair
			for _, half := range [2]rune{0xd800 + (r-0x10000)>>10, 0xdc00 + (r-0x10000)&0x3ff} {
				buf = append(buf, '\\', 'u', hex[half>>12&15], hex[half>>8&15], hex[half>>4&15],
					hex[half&15])
			}
		}
		i += size
	}
	return append(buf, '"')
}
