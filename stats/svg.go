package stats

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"io"
	"strconv"
	"strings"

	"jobserver/foreign"
)

// svg writes what is drawn as SVG 1.1. Texts stay texts, so that they can be searched and edited; a
// reader without Liberation Sans takes Arial or Helvetica, whose letters are as wide.
type svg struct{ out bytes.Buffer }

func newSVG(width, height float64) *svg {
	s := &svg{}
	fmt.Fprintf(&s.out, `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="%[1]spt" height="%[2]spt" viewBox="0 0 %[1]s %[2]s"`+
		` font-family="Liberation Sans, Arial, Helvetica, sans-serif" font-size="%[3]d">
<rect width="%[1]s" height="%[2]s" fill="#ffffff"/>
`, length(width), length(height), fontSize)
	return s
}

// WriteTo writes the whole file.
func (s *svg) WriteTo(w io.Writer) (int64, error) {
	s.out.WriteString("</svg>\n")
	return s.out.WriteTo(w)
}

func (s *svg) line(k stroke, points ...spot) {
	fmt.Fprintf(&s.out, "<polyline points=\"%s\" fill=\"none\"%s/>\n", corners(points), k.svg())
}

func (s *svg) area(c color.RGBA, points ...spot) {
	fmt.Fprintf(&s.out, "<polygon points=\"%s\" fill=\"%s\"/>\n", corners(points), hex(c))
}

func (s *svg) disc(c color.RGBA, centre spot, radius float64) {
	fmt.Fprintf(&s.out, "<circle cx=\"%s\" cy=\"%s\" r=\"%s\" fill=\"%s\"/>\n",
		length(centre.x), length(centre.y), length(radius), hex(c))
}

func (s *svg) ring(k stroke, centre spot, radius float64) {
	fmt.Fprintf(&s.out, "<circle cx=\"%s\" cy=\"%s\" r=\"%s\" fill=\"none\"%s/>\n",
		length(centre.x), length(centre.y), length(radius), k.svg())
}

func (s *svg) text(l label) {
	x, y := length(l.at.x), length(l.at.y)
	fmt.Fprintf(&s.out, `<text x="%s" y="%s"`, x, y)
	if l.anchor != start {
		fmt.Fprintf(&s.out, ` text-anchor="%s"`, l.anchor)
	}
	if l.upward {
		fmt.Fprintf(&s.out, ` transform="rotate(-90 %s %s)"`, x, y)
	}
	fmt.Fprintf(&s.out, ">%s</text>\n", html.EscapeString(foreign.OneLine(l.text)))
}

// svg are the attributes of a line.
func (k stroke) svg() string {
	text := fmt.Sprintf(
		` stroke="%s" stroke-width="%s" stroke-linejoin="round"`,
		hex(k.color),
		length(k.width),
	)
	if k.dashed {
		text += fmt.Sprintf(` stroke-dasharray="%s %s"`, length(dashes[0]), length(dashes[1]))
	}
	return text
}

func corners(points []spot) string {
	var text strings.Builder
	for i, p := range points {
		if i > 0 {
			text.WriteByte(' ')
		}
		text.WriteString(length(p.x) + "," + length(p.y))
	}
	return text.String()
}

func hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// length is a length to a hundredth of a point, which no printer shows.
func length(v float64) string {
	text := strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0")
	if text = strings.TrimSuffix(text, "."); text == "-0" {
		return "0"
	}
	return text
}
