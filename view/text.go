package view

import (
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"jobserver/foreign"
)

const ellipsis = "…" // one column

// Clean makes text from outside safe to print on a terminal and to put on one line: see
// foreign.Clean.
func Clean(s string) string { return foreign.Clean(s) }

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

// ShortenMiddle cuts clean text to at most width columns and keeps both ends, the first a little
// longer.
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
