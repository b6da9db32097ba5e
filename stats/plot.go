package stats

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// Plot says what a plot shows: the mean of Y over X, a line for each value of Series, with 95 %
// confidence intervals.
type Plot struct {
	X, Y   string
	Series string // "" : one line
	Title  string
	LogX   bool
	LogY   bool
	Format string // svg or png
}

// maxSeries is how many lines a plot may have.
const maxSeries = 30

// point is the summary of one place of the plot.
type point struct {
	x float64
	s Summary
}

// WritePlot draws the sweep's numbers. The warnings are those of the table that the plot stands
// for.
func (d *Data) WritePlot(w io.Writer, p Plot) (warnings []string, err error) {
	q := Query{Rows: []string{p.X}, Columns: []Column{{Measurement: p.Y}}}
	if p.Series != "" {
		q.Cols = []string{p.Series}
	}
	t, err := d.Pivot(q)
	if err != nil {
		return nil, err
	}
	if len(t.Cols) > maxSeries {
		return nil, hinted("name a variable with fewer values in --series",
			"a plot can't show %d series", len(t.Cols))
	}
	xs, nominal := positions(t)
	if nominal && p.LogX {
		return nil, hinted("leave --log-x out",
			"the values of %s are not all numbers: they have no logarithm", p.X)
	}
	c := chart{title: p.Title, x: axis{label: p.X, log: p.LogX}, y: axis{label: p.Y, log: p.LogY}}
	if unit := t.Units[p.Y]; unit != "" {
		c.y.label += " [" + unit + "]"
	}
	if nominal {
		for _, row := range t.Rows {
			c.x.names = append(c.x.names, row[0])
		}
	}
	drawn, below := 0, 0
	for k, col := range t.Cols {
		var points []point
		for r := range t.Rows {
			if g := t.Groups[r][k]; g != nil && len(g.Samples[0]) > 0 {
				points = append(points, point{xs[r], t.Summary(g, p.Y)})
			}
		}
		slices.SortStableFunc(points, func(a, b point) int { return cmpFloat(a.x, b.x) })
		if err := drawablePoints(p, points); err != nil {
			return nil, err
		}
		drawn += len(points)
		for _, at := range points {
			if p.LogY && at.s.low() <= 0 {
				below++
			}
		}
		name := ""
		if p.Series != "" {
			name = p.Series + "=" + col[0]
		}
		c.series = append(c.series, series{name, points})
	}
	if drawn == 0 {
		return nil, d.noMeasurements()
	}
	if below > 0 {
		t.Warnings = append(t.Warnings, fmt.Sprintf("intervals that reach down to 0, of which "+
			"there are %d, end at the edge of the plot: 0 has no logarithm", below))
	}
	return t.Warnings, c.write(w, p.Format)
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

// drawablePoints checks that a logarithmic axis can show the points, and any axis their size.
func drawablePoints(p Plot, points []point) error {
	for _, at := range points {
		if math.Abs(at.x) > drawable || math.Abs(at.s.Mean)+orZero(at.s.CI95) > drawable {
			return hinted("`matrix table` shows it", "%s=%v, %s=%v is too large to be drawn", p.X,
				at.x, p.Y, at.s.Mean)
		}
		if p.LogX && at.x <= 0 {
			return hinted("leave --log-x out", "%s=%v has no logarithm", p.X, at.x)
		}
		if p.LogY && at.s.Mean <= 0 {
			return hinted("leave --log-y out", "%s is not above 0 at %s=%v: it has no logarithm",
				p.Y, p.X, at.x)
		}
	}
	return nil
}

// low is the lower end of the interval, or the mean where there is none.
func (s *Summary) low() float64 { return s.Mean - orZero(s.CI95) }

func orZero(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}
