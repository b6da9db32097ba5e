package view

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

const ellipsis = "…" // one column

// Clean makes text from outside safe to print on a terminal and to put on one line: control characters appear
// as their pictures (an escape as ␛, a line's end as ␊), and whatever else would move the cursor, turn the
// direction of writing or be invisible appears as its code (\u202e, \xff). Joiners stay, since emoji and
// several scripts need them.
func Clean(s string) string {
	first := strings.IndexFunc(s, needsCleaning)
	if first < 0 {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:first])
	for i := first; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !needsCleaning(r):
			b.WriteRune(r)
		case r < 0x20:
			b.WriteRune('␀' + r)
		case r == 0x7f:
			b.WriteRune('␡')
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

// needsCleaning is also true for U+FFFD, behind which an invalid byte may stand.
func needsCleaning(r rune) bool {
	const zwnj, zwj = '\u200c', '\u200d'
	if r < utf8.RuneSelf {
		return r < 0x20 || r == 0x7f
	}
	return r == utf8.RuneError || !unicode.IsGraphic(r) && r != zwnj && r != zwj
}

// Width is the number of columns that clean text takes on a terminal.
func Width(s string) int {
	if isASCII(s) {
		return len(s)
	}
	width, state := 0, -1
	for s != "" {
		var w int
		_, s, w, state = uniseg.FirstGraphemeClusterInString(s, state)
		width += w
	}
	return width
}

// Shorten cuts clean text to at most width columns; an ellipsis stands for the end that is missing.
func Shorten(s string, width int) string {
	if Width(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return head(s, width-1) + ellipsis
}

// ShortenMiddle cuts clean text to at most width columns and keeps both ends, the first a little longer.
func ShortenMiddle(s string, width int) string {
	if Width(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	front := width / 2
	return head(s, front) + ellipsis + tail(s, width-1-front)
}

// head is the longest beginning of at most width columns that cuts no character in two.
func head(s string, width int) string {
	if isASCII(s) {
		return s[:min(width, len(s))]
	}
	used, end, state, rest := 0, 0, -1, s
	for rest != "" {
		var cluster string
		var w int
		cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if used+w > width {
			break
		}
		used += w
		end += len(cluster)
	}
	return s[:end]
}

// tail is the longest end of at most width columns that cuts no character in two.
func tail(s string, width int) string {
	if isASCII(s) {
		return s[len(s)-min(width, len(s)):]
	}
	surplus := Width(s) - width
	skipped, start, state, rest := 0, 0, -1, s
	for rest != "" && skipped < surplus {
		var cluster string
		var w int
		cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
		skipped += w
		start += len(cluster)
	}
	return s[start:]
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// FirstLine is the first line of a text that says something, with a mark when more follow.
func FirstLine(text string) string {
	text = strings.TrimSpace(text)
	first, rest, _ := strings.Cut(text, "\n")
	if strings.TrimSpace(rest) == "" {
		return text
	}
	return strings.TrimRight(first, " \t\r") + " …"
}
