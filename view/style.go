package view

import "strings"

// Style is how text looks: the parameters of an SGR sequence (ECMA-48 8.3.117), "" for plain.
type Style string

// The styles. Those of jobs are the original client's.
const (
	Plain     Style = ""
	Bold      Style = "1"
	Dim       Style = "2"
	Red       Style = "31"
	Green     Style = "32"
	Yellow    Style = "33"
	Blue      Style = "34"
	Magenta   Style = "35"
	Cyan      Style = "36"
	Grey      Style = "90"
	RedUnder  Style = "4;31"
	BoldUnder Style = "1;4"
)

// Paint puts the style around text, when color says so.
func (s Style) Paint(text string, color bool) string {
	if !color || s == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// StatusStyle is the style of a job's status; copied says that it is done and has results on the
// host.
func StatusStyle(status string, copied bool) Style {
	switch status {
	case "waiting", "held":
		return Blue
	case "running":
		return Yellow
	case "copying":
		return Magenta
	case "done":
		if copied {
			return Green
		}
		return Magenta
	case "failed", "lost":
		return RedUnder
	case "canceled":
		return Red
	default:
		return Grey
	}
}

// Span is a piece of text in one style.
type Span struct {
	Text  string
	Style Style
}

// Paint joins spans, coloured when color says so.
func Paint(spans []Span, color bool) string {
	var b strings.Builder
	for _, span := range spans {
		b.WriteString(span.Style.Paint(span.Text, color))
	}
	return b.String()
}

// spansWidth is the number of columns that clean spans take.
func spansWidth(spans []Span) int {
	width := 0
	for _, span := range spans {
		width += Width(span.Text)
	}
	return width
}

// shortenSpans cuts clean spans to at most width columns, at the end.
func shortenSpans(spans []Span, width int) []Span {
	if spansWidth(spans) <= width {
		return spans
	}
	var cut []Span
	for _, span := range spans {
		w := Width(span.Text)
		if w >= width { // something follows: else all would fit
			text := Shorten(span.Text, width)
			if w == width && width > 0 {
				text = head(span.Text, width-1) + ellipsis
			}
			return append(cut, Span{text, span.Style})
		}
		cut = append(cut, span)
		width -= w
	}
	return cut
}
