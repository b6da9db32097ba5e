package stats

import (
	"image/color"

	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
)

// A canvas takes the strokes of a chart: there is one that writes SVG and one that writes PNG.
// Lengths are in points, a 72nd of an inch, from the upper left corner.
type canvas interface {
	line(s stroke, points ...spot)
	area(c color.RGBA, corners ...spot)
	disc(c color.RGBA, centre spot, radius float64)
	ring(s stroke, centre spot, radius float64)
	text(l label)
}

// spot is a place on a canvas.
type spot struct{ x, y float64 }

// stroke is how a line is drawn.
type stroke struct {
	color  color.RGBA
	width  float64
	dashed bool
}

// dashes are the lengths of a dash and of the space behind it.
var dashes = [2]float64{4, 2}

// label is one line of text.
type label struct {
	text   string
	at     spot // of its baseline
	anchor anchor
	upward bool // it is read from the bottom to the top
}

// anchor says which part of a label stands at its place, in the words of SVG.
type anchor string

const (
	start  anchor = "start"
	middle anchor = "middle"
	end    anchor = "end"
)

// fontSize is the size of all labels.
const fontSize = 10

// Heights of Liberation Sans at that size, from its tables hhea and OS/2.
const (
	ascent    = 0.905 * fontSize
	descent   = 0.212 * fontSize
	lineHigh  = ascent + descent
	capHeight = 0.729 * fontSize
)

// typeface is Liberation Sans: letters of a height, in pixels, for drawing and measuring.
type typeface struct {
	font.Face
	scale float64 // pixels a point
}

// loadTypeface makes the letters for a canvas of so many pixels a point.
func loadTypeface(scale float64) (*typeface, error) {
	parsed, err := opentype.Parse(liberationsansregular.TTF)
	if err != nil {
		return nil, err
	}
	face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: fontSize * scale, DPI: 72})
	if err != nil {
		return nil, err
	}
	return &typeface{face, scale}, nil
}

// width measures a text, in points.
func (t *typeface) width(text string) float64 {
	return float64(font.MeasureString(t, text)) / 64 / t.scale
}
