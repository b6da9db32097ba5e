package stats

import (
	"fmt"
	"image/color"
	"math"
	"strconv"

	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font/opentype"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A chart is drawn on gonum's canvases, which make SVG and PNG of the same strokes. Axes, ticks and the legend are ours: gonum's own
// package plot for them reads twelve fonts when a program that contains it starts, and ours starts once for every attempt.
type chart struct {
	title  string
	x, y   axis
	series []series
	label  text.Style
}

// series is one line, its points from left to right.
type series struct {
	name   string
	points []point
}

// colors are those of Okabe and Ito, which people with any colour vision tell apart ("Color Universal Design", 2008).
var colors = [...]color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff},
	{0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0x00, 0x00, 0x00, 0xff},
}

var (
	black = color.RGBA{A: 0xff}
	grey  = color.RGBA{0xd0, 0xd0, 0xd0, 0xff}
)

// Lengths of a chart's parts.
const (
	fontSize = 10 // points
	gap      = vg.Length(6)
	tickSize = vg.Length(4)
	dotSize  = vg.Length(2.5)
	capSize  = vg.Length(3) // half the width of an error bar's ends
	swatch   = vg.Length(22)
)

// draw draws the chart.
func (c *chart) draw(canvas draw.Canvas) error {
	face, err := opentype.Parse(liberationsansregular.TTF)
	if err != nil {
		return fmt.Errorf("read the font of plots: %w", err)
	}
	sans := font.Font{Typeface: "Liberation", Variant: "Sans", Size: fontSize}
	cache := font.NewCache(font.Collection{{Font: font.Font{Typeface: "Liberation", Variant: "Sans"}, Face: face}})
	c.label = text.Style{Color: black, Font: sans, Handler: text.Plain{Fonts: cache}}
	c.fit()
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	area := c.frame(canvas)
	c.axes(canvas, area)
	for k, s := range c.series {
		c.line(canvas, area, k, s)
	}
	return nil
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

// rectangle is an area of the canvas.
type rectangle struct{ left, right, bottom, top vg.Length }

// frame lays out what stands around the area of the lines: title, labels, and the legend at the right.
func (c *chart) frame(canvas draw.Canvas) rectangle {
	r := rectangle{canvas.Min.X + gap, canvas.Max.X - 2*gap, canvas.Min.Y + gap, canvas.Max.Y - 2*gap}
	height := c.label.Height("Ag")
	if c.title != "" {
		style := c.label
		style.XAlign, style.YAlign = text.XCenter, text.YTop
		canvas.FillText(style, vg.Point{X: (r.left + r.right) / 2, Y: canvas.Max.Y - gap}, c.title)
		r.top -= height + gap
	}
	widest := vg.Length(0)
	for _, s := range c.series {
		widest = max(widest, c.label.Width(s.name))
	}
	if widest > 0 {
		r.right -= widest + swatch + 2*gap
		c.legend(canvas, r.right+gap, r.top)
	}
	r.bottom += 2*height + tickSize + 2*gap
	widest = 0
	for _, t := range c.y.ticks {
		widest = max(widest, c.label.Width(t.text))
	}
	r.left += height + widest + tickSize + 3*gap
	return r
}

// legend names the series, from the top down, with what they are drawn like.
func (c *chart) legend(canvas draw.Canvas, left, top vg.Length) {
	style := c.label
	style.YAlign = text.YCenter
	for k, s := range c.series {
		y := top - vg.Length(k)*(c.label.Height("Ag")+gap) - gap
		canvas.StrokeLine2(lineStyle(k), left, y, left+swatch, y)
		canvas.DrawGlyphNoClip(glyphStyle(k), vg.Point{X: left + swatch/2, Y: y})
		canvas.FillText(style, vg.Point{X: left + swatch + gap, Y: y}, s.name)
	}
}

// axes draws the grid, the axes, and their labels.
func (c *chart) axes(canvas draw.Canvas, r rectangle) {
	thin := draw.LineStyle{Color: grey, Width: 0.5}
	thick := draw.LineStyle{Color: black, Width: 0.8}
	below, beside := c.label, c.label
	below.XAlign, below.YAlign = text.XCenter, text.YTop
	beside.XAlign, beside.YAlign = text.XRight, text.YCenter
	free := r.left - vg.Inch // labels along x that would overlap are left out
	for _, t := range c.x.ticks {
		x := c.x.at(t.value, r.left, r.right)
		canvas.StrokeLine2(thin, x, r.bottom, x, r.top)
		canvas.StrokeLine2(thick, x, r.bottom, x, r.bottom-tickSize)
		if width := c.label.Width(t.text); x-width/2 > free {
			canvas.FillText(below, vg.Point{X: x, Y: r.bottom - tickSize - gap/2}, t.text)
			free = x + width/2 + gap/2
		}
	}
	for _, t := range c.y.ticks {
		y := c.y.at(t.value, r.bottom, r.top)
		canvas.StrokeLine2(thin, r.left, y, r.right, y)
		canvas.StrokeLine2(thick, r.left, y, r.left-tickSize, y)
		canvas.FillText(beside, vg.Point{X: r.left - tickSize - gap/2, Y: y}, t.text)
	}
	canvas.StrokeLine2(thick, r.left, r.bottom, r.right, r.bottom)
	canvas.StrokeLine2(thick, r.left, r.bottom, r.left, r.top)
	below.YAlign = text.YBottom
	canvas.FillText(below, vg.Point{X: (r.left + r.right) / 2, Y: canvas.Min.Y + gap}, c.x.label)
	below.Rotation, below.YAlign = math.Pi/2, text.YTop
	canvas.FillText(below, vg.Point{X: canvas.Min.X + gap, Y: (r.bottom + r.top) / 2}, c.y.label)
}

// line draws a series: intervals, the line, and its points. What has one value only has no interval.
func (c *chart) line(canvas draw.Canvas, r rectangle, k int, s series) {
	var path []vg.Point
	bars := draw.LineStyle{Color: colors[k%len(colors)], Width: 0.8}
	for _, p := range s.points {
		at := vg.Point{X: c.x.at(p.x, r.left, r.right), Y: c.y.at(p.s.Mean, r.bottom, r.top)}
		path = append(path, at)
		if spread := p.s.CI95; spread > 0 {
			low, high := r.bottom, c.y.at(p.s.Mean+spread, r.bottom, r.top)
			ends := p.s.low() > 0 || !c.y.log // where a logarithm can show it
			if ends {
				low = c.y.at(p.s.low(), r.bottom, r.top)
			}
			canvas.StrokeLine2(bars, at.X, low, at.X, high)
			if ends {
				canvas.StrokeLine2(bars, at.X-capSize, low, at.X+capSize, low)
			}
			canvas.StrokeLine2(bars, at.X-capSize, high, at.X+capSize, high)
		}
	}
	canvas.StrokeLines(lineStyle(k), path)
	for _, at := range path {
		canvas.DrawGlyphNoClip(glyphStyle(k), at)
	}
}

func lineStyle(k int) draw.LineStyle {
	style := draw.LineStyle{Color: colors[k%len(colors)], Width: 1.2}
	if k >= len(colors) {
		style.Dashes = []vg.Length{4, 2}
	}
	return style
}

func glyphStyle(k int) draw.GlyphStyle {
	shapes := [...]draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.CrossGlyph{}, draw.PlusGlyph{}, draw.RingGlyph{}}
	return draw.GlyphStyle{Color: colors[k%len(colors)], Radius: dotSize, Shape: shapes[k%len(shapes)]}
}

// axis is one direction of a chart.
type axis struct {
	label    string
	log      bool
	names    []string // of an axis without numbers: what stands at 0, 1, 2, …
	min, max float64
	known    bool
	ticks    []tick
}

type tick struct {
	value float64
	text  string
}

// cover makes room for a value.
func (a *axis) cover(v float64) {
	if !a.known {
		a.min, a.max, a.known = v, v, true
	}
	a.min, a.max = min(a.min, v), max(a.max, v)
}

// at is where a value stands between two ends.
func (a *axis) at(v float64, from, to vg.Length) vg.Length {
	low, high := a.min, a.max
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return from + vg.Length((v-low)/(high-low))*(to-from)
}

// settle rounds the range and chooses the ticks.
func (a *axis) settle() {
	switch {
	case a.names != nil:
		a.min, a.max = -0.5, float64(len(a.names))-0.5
		for i, name := range a.names {
			a.ticks = append(a.ticks, tick{float64(i), name})
		}
	case a.log:
		a.logTicks()
	default:
		a.linearTicks()
	}
}

// linearTicks are multiples of 1, 2 or 5 times a power of ten, about five of them; the range grows to the outermost.
func (a *axis) linearTicks() {
	if a.max-a.min <= 1e-9*max(math.Abs(a.min), math.Abs(a.max)) { // nothing to tell apart
		room := max(math.Abs(a.max)/10, 1e-9)
		a.min, a.max = a.min-room, a.max+room
	}
	raw := (a.max - a.min) / 5
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw {
			step = m * power
			break
		}
	}
	first, last := math.Floor(a.min/step+1e-9), math.Ceil(a.max/step-1e-9)
	a.min, a.max = first*step, last*step
	for i := first; i <= last && len(a.ticks) < 20; i++ {
		// A multiple of the step has no more digits than it, whatever the product in binary says.
		a.ticks = append(a.ticks, tick{i * step, strconv.FormatFloat(roundTo(i*step, step), 'g', -1, 64)})
	}
}

// roundTo takes away the digits behind those of a step.
func roundTo(v, step float64) float64 {
	text := strconv.FormatFloat(v, 'f', max(0, -int(math.Floor(math.Log10(step)+1e-9))), 64)
	out, err := strconv.ParseFloat(text, 64)
	if err != nil || out == 0 {
		return 0 // never -0
	}
	return out
}

// logTicks are powers of ten, or of two where there are few of these.
func (a *axis) logTicks() {
	if a.min == a.max {
		a.min, a.max = a.min/2, a.max*2
	}
	base := 10.0
	if math.Log10(a.max/a.min) < 2 {
		base = 2
	}
	low, high := math.Floor(math.Log(a.min)/math.Log(base)+1e-9), math.Ceil(math.Log(a.max)/math.Log(base)-1e-9)
	a.min, a.max = math.Pow(base, low), math.Pow(base, high)
	skip := math.Ceil((high - low) / 10)
	for e := low; e <= high; e += skip {
		v := math.Pow(base, e)
		a.ticks = append(a.ticks, tick{v, strconv.FormatFloat(v, 'g', 6, 64)})
	}
}
