// Package foreign is the one door through which text from outside goes on its way to a terminal, a
// document, a page, a log, a message or a shell: names, commands, what machines and jobs say, what
// other people have chosen.
//
// Such text may hold anything: control sequences that rewrite the screen or the clipboard, marks
// that turn the direction of writing, characters that can't be seen, bytes that are no characters.
// What may be written as it is, Unsafe decides, for all of these; how the rest is written depends
// on where it goes.
package foreign

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Unsafe says that a character must not be written as it is: it would act on a terminal, turn the
// direction of writing, or be invisible. Joiners are safe, since emoji and several scripts need
// them. It is also true for U+FFFD, behind which an invalid byte may stand.
func Unsafe(r rune) bool {
	const zwnj, zwj = '\u200c', '\u200d'
	if r < utf8.RuneSelf {
		return r < 0x20 || r == 0x7f
	}
	return r == utf8.RuneError || !unicode.IsGraphic(r) && r != zwnj && r != zwj
}

// Clean makes one line of a text, all of which can be seen: control characters appear as their
// pictures (an escape as ␛, a line's end as ␊), whatever else is unsafe as its code (\u202e, \xff).
func Clean(s string) string {
	first := strings.IndexFunc(s, Unsafe)
	if first < 0 {
		return s
	}
	b := append(make([]byte, 0, len(s)+16), s[:first]...)
	for i := first; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		b = appendSeen(b, s[i:i+size], r)
		i += size
	}
	return string(b)
}

// appendSeen appends a character, of those bytes, as Clean writes it.
func appendSeen(b []byte, raw string, r rune) []byte {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		return fmt.Appendf(b, `\x%02x`, raw[0])
	case !Unsafe(r):
		return append(b, raw...)
	case r < 0x20:
		return utf8.AppendRune(b, '␀'+r)
	case r == 0x7f:
		return append(b, "␡"...)
	case r > 0xffff:
		return fmt.Appendf(b, `\U%08x`, r)
	}
	return fmt.Appendf(b, `\u%04x`, r)
}

// OneLine makes one line of a text that is read and not looked into, with blanks for all that is
// unsafe.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r != utf8.RuneError && Unsafe(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// JSON escapes what JSON lets stand though a terminal may act on it. The text stays the same JSON.
func JSON(text []byte) []byte {
	var out []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == '\n' || r == utf8.RuneError || !Unsafe(r) {
			out = append(out, text[:size]...)
		} else {
			for _, unit := range utf16.AppendRune(nil, r) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
		}
		text = text[size:]
	}
	return out
}
