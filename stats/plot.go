package stats

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Plot says what a plot shows: the mean of Y over X, a line for each value of Series, with 95 % confidence intervals.
type Plot struct {
	X, Y   string
	Series string // "" : one line
	Title  string
	LogX   bool
	LogY   bool
	Format string // svg or png
}

// colors are those of Okabe and Ito, which people with any colour vision tell apart ("Color Universal Design", 2008).
var colors = [...]color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff},
	{0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0x00, 0x00, 0x00, 0xff},
}

// maxSeries is how many lines a plot may have.
const maxSeries = 30

// point is the summary of one place of the plot.
type point struct {
	x float64
	s Summary
}

// WritePlot draws the sweep's numbers. The warnings are those of the table that the plot stands for.
func (d *Data) WritePlot(w io.Writer, p Plot) (warnings []string, err error) {
	q := Query{Rows: []string{p.X}, Columns: []Column{{Metric: p.Y}}}
	if p.Series != "" {
		q.Cols = []string{p.Series}
	}
	t, err := d.Pivot(q)
	if err != nil {
		return nil, err
	}
	if len(t.Cols) > maxSeries {
		return nil, hinted("name a variable with fewer values in --series", "a plot can't show %d series", len(t.Cols))
	}
	xs, nominal := positions(t)
	drawing := plot.New()
	drawing.Title.Text, drawing.X.Label.Text, drawing.Y.Label.Text = p.Title, p.X, p.Y
	if unit := t.Units[p.Y]; unit != "" {
		drawing.Y.Label.Text += " [" + unit + "]"
	}
	if nominal {
		if p.LogX {
			return nil, hinted("leave --log-x out", "the values of %s are not all numbers: they have no logarithm", p.X)
		}
		names := make([]string, len(t.Rows))
		for i, row := range t.Rows {
			names[i] = row[0]
		}
		drawing.NominalX(names...)
	}
	drawing.Add(plotter.NewGrid())
	drawn := 0
	for k, col := range t.Cols {
		var points []point
		for r := range t.Rows {
			if g := t.Groups[r][k]; g != nil && len(g.Samples[0]) > 0 {
				points = append(points, point{xs[r], Summarize(g.Samples[0])})
			}
		}
		slices.SortStableFunc(points, func(a, b point) int { return cmpFloat(a.x, b.x) })
		if err := logarithms(p, points); err != nil {
			return nil, err
		}
		drawn += len(points)
		name := ""
		if p.Series != "" {
			name = p.Series + "=" + col[0]
		}
		if err := addSeries(drawing, k, name, points); err != nil {
			return nil, fmt.Errorf("draw %s: %w", name, err)
		}
	}
	if drawn == 0 {
		return nil, d.noMetrics()
	}
	axes(drawing, p)
	return t.Warnings, save(w, drawing, p.Format)
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// positions are where the rows stand on the x axis: at their numbers, or one after the other.
func positions(t *Table) (xs []float64, nominal bool) {
	xs = make([]float64, len(t.Rows))
	for i, row := range t.Rows {
		v, err := number(row[0])
		if err != nil {
			nominal = true
			break
		}
		xs[i] = v
	}
	if nominal {
		for i := range xs {
			xs[i] = float64(i)
		}
	}
	return xs, nominal
}

// drawable is the largest number that is drawn: beyond it the ends of an axis overflow.
const drawable = 1e300

// logarithms checks that a logarithmic axis can show the points, and any axis their size.
func logarithms(p Plot, points []point) error {
	for _, at := range points {
		if math.Abs(at.x) > drawable || math.Abs(at.s.Mean)+orZero(at.s.CI95) > drawable {
			return hinted("`matrix table` shows it", "%s=%v, %s=%v is too large to be drawn", p.X, at.x, p.Y, at.s.Mean)
		}
		if p.LogX && at.x <= 0 {
			return hinted("leave --log-x out", "%s=%v has no logarithm", p.X, at.x)
		}
		if p.LogY && at.s.Mean-orZero(at.s.CI95) <= 0 {
			return hinted("leave --log-y out", "%s, or its interval, is not above 0 at %s=%v: it has no logarithm", p.Y, p.X, at.x)
		}
	}
	return nil
}

func orZero(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// errorPoints are points with intervals, as plotter wants them.
type errorPoints struct {
	plotter.XYs
	plotter.YErrors
}

// addSeries draws one line, its points and their intervals; what has one value only has no interval.
func addSeries(drawing *plot.Plot, k int, name string, points []point) error {
	if len(points) == 0 {
		return nil
	}
	var all plotter.XYs
	var spread errorPoints
	for _, at := range points {
		xy := plotter.XY{X: at.x, Y: at.s.Mean}
		all = append(all, xy)
		if !math.IsNaN(at.s.CI95) {
			spread.XYs = append(spread.XYs, xy)
			spread.YErrors = append(spread.YErrors, struct{ Low, High float64 }{at.s.CI95, at.s.CI95})
		}
	}
	line, dots, err := plotter.NewLinePoints(all)
	if err != nil {
		return err
	}
	c := colors[k%len(colors)]
	line.Color, dots.Color = c, c
	line.Width = vg.Points(1.2)
	if k >= len(colors) {
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(2)}
	}
	shapes := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}, draw.PlusGlyph{}}
	dots.Shape, dots.Radius = shapes[k%len(shapes)], vg.Points(2.5)
	drawing.Add(line, dots)
	if len(spread.XYs) > 0 {
		bars, err := plotter.NewYErrorBars(spread)
		if err != nil {
			return err
		}
		bars.Color = c
		drawing.Add(bars)
	}
	if name != "" {
		drawing.Legend.Add(name, line, dots)
	}
	return nil
}

func axes(drawing *plot.Plot, p Plot) {
	drawing.Legend.Top = true
	// A single value has no range of its own, and the one that the library would make of it may reach below 0.
	if p.LogX && drawing.X.Min == drawing.X.Max {
		drawing.X.Min, drawing.X.Max = drawing.X.Min/2, drawing.X.Max*2
	}
	if p.LogY && drawing.Y.Min == drawing.Y.Max {
		drawing.Y.Min, drawing.Y.Max = drawing.Y.Min/2, drawing.Y.Max*2
	}
	if p.LogX {
		drawing.X.Scale, drawing.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	if p.LogY {
		drawing.Y.Scale, drawing.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	} else {
		// Room for the legend; a plot of what is positive begins at 0, so that differences don't look larger than they are.
		if drawing.Y.Min >= 0 {
			drawing.Y.Min = 0
		}
		if drawing.Y.Max > drawing.Y.Min {
			drawing.Y.Max += (drawing.Y.Max - drawing.Y.Min) / 8
		} else {
			drawing.Y.Max++
		}
	}
}

// Sizes of a plot: the width of a text column.
const (
	plotWidth  = 14 * vg.Centimeter
	plotHeight = 9 * vg.Centimeter
)

func save(w io.Writer, drawing *plot.Plot, format string) error {
	switch format {
	case "svg":
		c := vgsvg.New(plotWidth, plotHeight)
		drawing.Draw(draw.New(c))
		_, err := c.WriteTo(w)
		return err
	case "png":
		c := vgimg.NewWith(vgimg.UseWH(plotWidth, plotHeight), vgimg.UseDPI(200))
		drawing.Draw(draw.New(c))
		_, err := (vgimg.PngCanvas{Canvas: c}).WriteTo(w)
		return err
	}
	return hinted("name a file that ends in .svg or .png", "a plot can't be written as %s", strconv.Quote(strings.TrimPrefix(format, ".")))
}
