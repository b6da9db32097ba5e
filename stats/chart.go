package stats

import (
	"fmt"
	"image/color"
	"io"
)

// A chart is drawn on a canvas, of which there are two (svg.go, png.go): the same strokes make the
// same picture. All of it is ours, since a library for plots brings typesetters, rasterizers and
// fonts into a program that starts once for every attempt.
type chart struct {
	title  string
	x, y   axis
	series []series
	face   *typeface
}

// series is one line, its points from left to right.
type series struct {
	name   string
	points []point
}

// colors have the hues of Okabe and Ito, which people with any colour vision tell apart ("Color
// Universal Design", 2008), darkened until each has the contrast of 3:1 to white that WCAG 2.2
// (1.4.11) asks of what must be seen, and unevenly, so that they stay as far apart.
var colors = [...]color.RGBA{
	{
		0x00,
		0x52,
		0x7f,
		0xff,
	},
	{0xd5, 0x5e, 0x00, 0xff},
	{0x00, 0x80, 0x5e, 0xff},
	{0xc8, 0x6d, 0x9f, 0xff},
	{0x67, 0x48, 0x00, 0xff},
	{0x1d, 0x9b, 0xe1, 0xff},
	{0x00, 0x00, 0x00, 0xff},
}

var (
	black = color.RGBA{A: 0xff}
	grey  = color.RGBA{0xd0, 0xd0, 0xd0, 0xff}
)

// Lengths of a chart, in points.
const (
	inch       = 72.0
	centimetre = inch / 2.54
	plotWidth  = 14 * centimetre // a text column's
	plotHeight = 9 * centimetre
	gap        = 6.0
	tickSize   = 4.0
	dotSize    = 2.5
	capSize    = 3.0 // half the width of an error bar's ends
	swatch     = 22.0
)

// pngScale is the pixels a point of a PNG: 200 an inch.
const pngScale = 200 / inch

// write writes the chart as a file of the format.
func (c *chart) write(w io.Writer, format string) (err error) {
	if c.face, err = loadTypeface(pngScale); err != nil {
		return fmt.Errorf("read the font of plots: %w", err)
	}
	switch format {
	case "svg":
		out := newSVG(plotWidth, plotHeight)
		c.draw(out)
		_, err = out.WriteTo(w)
	case "png":
		out := newRaster(plotWidth, plotHeight, c.face)
		c.draw(out)
		_, err = out.WriteTo(w)
	default:
		return hinted(
			"name a file that ends in .svg or .png",
			"a plot can't be written as %q",
			format,
		)
	}
	return err
}

// draw draws the chart.
func (c *chart) draw(on canvas) {
	c.fit()
	area := c.frame(on)
	c.axes(on, area)
	for k, s := range c.series {
		c.line(on, area, k, s)
	}
}

// fit gives the axes their ranges and ticks.
func (c *chart) fit() {
	for _, s := range c.series {
		for _, p := range s.points {
			c.x.cover(p.x)
			c.y.cover(p.s.Mean + orZero(p.s.CI95))
			if low := p.s.low(); low > 0 || !c.y.log {
				c.y.cover(low)
			} else {
				c.y.cover(p.s.Mean)
			}
		}
	}
	if !c.y.log && c.y.min > 0 {
		c.y.min = 0 // differences don't look larger than they are
	}
	c.x.settle()
	c.y.settle()
}

// rectangle is an area of the canvas; its top is less than its bottom.
type rectangle struct{ left, right, top, bottom float64 }

// frame lays out what stands around the area of the lines: title, labels, and the legend at the
// right.
func (c *chart) frame(on canvas) rectangle {
	r := rectangle{gap, plotWidth - 2*gap, 2 * gap, plotHeight - gap}
	if c.title != "" {
		on.text(label{c.title, spot{(r.left + r.right) / 2, gap + ascent}, middle, false})
		r.top += lineHigh + gap
	}
	widest := 0.0
	for _, s := range c.series {
		widest = max(widest, c.face.width(s.name))
	}
	if widest > 0 {
		r.right -= widest + swatch + 2*gap
		c.legend(on, r.right+gap, r.top)
	}
	r.bottom -= 2*lineHigh + tickSize + 2*gap
	widest = 0
	for _, t := range c.y.ticks {
		widest = max(widest, c.face.width(t.text))
	}
	r.left += lineHigh + widest + tickSize + 3*gap
	return r
}

// legend names the series, from the top down, with what they are drawn like.
func (c *chart) legend(on canvas, left, top float64) {
	for k, s := range c.series {
		y := top + float64(k)*(lineHigh+gap) + gap
		on.line(lineOf(k), spot{left, y}, spot{left + swatch, y})
		mark(on, k, spot{left + swatch/2, y})
		on.text(label{s.name, spot{left + swatch + gap, y + capHeight/2}, start, false})
	}
}

// axes draws the grid, the axes, and their labels.
func (c *chart) axes(on canvas, r rectangle) {
	thin, thick := stroke{color: grey, width: 0.5}, stroke{color: black, width: 0.8}
	free := r.left - inch // labels along x that would overlap are left out
	for _, t := range c.x.ticks {
		x := c.x.at(t.value, r.left, r.right)
		on.line(thin, spot{x, r.bottom}, spot{x, r.top})
		on.line(thick, spot{x, r.bottom}, spot{x, r.bottom + tickSize})
		if width := c.face.width(t.text); x-width/2 > free {
			on.text(label{t.text, spot{x, r.bottom + tickSize + gap/2 + ascent}, middle, false})
			free = x + width/2 + gap/2
		}
	}
	for _, t := range c.y.ticks {
		y := c.y.at(t.value, r.bottom, r.top)
		on.line(thin, spot{r.left, y}, spot{r.right, y})
		on.line(thick, spot{r.left, y}, spot{r.left - tickSize, y})
		on.text(label{t.text, spot{r.left - tickSize - gap/2, y + capHeight/2}, end, false})
	}
	on.line(thick, spot{r.left, r.bottom}, spot{r.right, r.bottom})
	on.line(thick, spot{r.left, r.bottom}, spot{r.left, r.top})
	on.text(
		label{c.x.label, spot{(r.left + r.right) / 2, plotHeight - gap - descent}, middle, false},
	)
	on.text(label{c.y.label, spot{gap + ascent, (r.bottom + r.top) / 2}, middle, true})
}

// line draws a series: intervals, the line, and its points. What has one value only has no
// interval.
func (c *chart) line(on canvas, r rectangle, k int, s series) {
	var path []spot
	bar := stroke{color: colors[k%len(colors)], width: 0.8}
	for _, p := range s.points {
		at := spot{c.x.at(p.x, r.left, r.right), c.y.at(p.s.Mean, r.bottom, r.top)}
		path = append(path, at)
		if spread := p.s.CI95; spread > 0 {
			low, high := r.bottom, c.y.at(p.s.Mean+spread, r.bottom, r.top)
			ends := p.s.low() > 0 || !c.y.log // where a logarithm can show it
			if ends {
				low = c.y.at(p.s.low(), r.bottom, r.top)
			}
			on.line(bar, spot{at.x, low}, spot{at.x, high})
			if ends {
				on.line(bar, spot{at.x - capSize, low}, spot{at.x + capSize, low})
			}
			on.line(bar, spot{at.x - capSize, high}, spot{at.x + capSize, high})
		}
	}
	if len(path) > 1 {
		on.line(lineOf(k), path...)
	}
	for _, at := range path {
		mark(on, k, at)
	}
}

// lineOf is the line of the k-th series: when the colours are used up, they come again with dashes.
func lineOf(k int) stroke {
	return stroke{colors[k%len(colors)], 1.2, k >= len(colors)}
}

// mark draws a point of the k-th series, in a shape of its own, for those who see no colours.
func mark(on canvas, k int, at spot) {
	const (
		side = dotSize * 0.854 // half of a square's, as large to the eye as the disc
		tall = dotSize * 1.25  // from the middle of a triangle to its corners
		arm  = dotSize * 0.707
	)
	c := colors[k%len(colors)]
	thin := stroke{color: c, width: 0.5}
	off := func(dx, dy float64) spot { return spot{at.x + dx, at.y + dy} }
	switch k % 6 {
	case 0:
		on.disc(c, at, dotSize)
	case 1:
		on.area(c, off(-side, -side), off(side, -side), off(side, side), off(-side, side))
	case 2:
		on.area(c, off(0, -tall), off(-0.866*tall, tall/2), off(0.866*tall, tall/2))
	case 3:
		on.line(thin, off(-arm, -arm), off(arm, arm))
		on.line(thin, off(-arm, arm), off(arm, -arm))
	case 4:
		on.line(thin, off(0, -dotSize), off(0, dotSize))
		on.line(thin, off(-dotSize, 0), off(dotSize, 0))
	case 5:
		on.ring(thin, at, dotSize)
	}
}
