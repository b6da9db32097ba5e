package stats

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Column is one number of a table's cells: a statistic of a measurement over the cells that share
// it.
type Column struct {
	Stat        string // of Statistics; "" is the mean with its 95 % confidence interval
	Measurement string
}

// Statistics are the names that a Column may have.
func Statistics() []string {
	return []string{"mean", "median", "min", "max", "std", "ci95", "n"}
}

// ParseColumns reads what the cells of a table shall say: STAT(METRIC) or METRIC, several with
// commas between.
func ParseColumns(text string) ([]Column, error) {
	var columns []Column
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		c := Column{Measurement: word}
		if name, rest, ok := strings.Cut(word, "("); ok {
			measurement, closed := strings.CutSuffix(rest, ")")
			c = Column{strings.TrimSpace(name), strings.TrimSpace(measurement)}
			if !closed || !slices.Contains(Statistics(), c.Stat) {
				return nil, hinted("write for example mean(throughput); statistics are "+
					strings.Join(Statistics(), ", "), "%q is not of the form STATISTIC(METRIC)",
					word)
			}
		}
		if !IsMeasurementName(c.Measurement) {
			return nil, hinted("write for example mean(throughput)", "%q names no metric", word)
		}
		columns = append(columns, c)
	}
	return columns, nil
}

// String is the column as it is asked for.
func (c Column) String() string {
	if c.Stat == "" {
		return c.Measurement
	}
	return c.Stat + "(" + c.Measurement + ")"
}

// of gives the statistic, NaN when the sample is too small for it.
func (s Summary) of(stat string) float64 {
	switch stat {
	case "median":
		return s.Median
	case "min":
		return s.Min
	case "max":
		return s.Max
	case "std":
		return s.Std
	case "ci95":
		return s.CI95
	case "n":
		return float64(s.N)
	}
	return s.Mean
}

// Summary describes the values of a measurement in a group.
func (t *Table) Summary(g *Group, measurement string) Summary {
	return summarize(g.Samples[slices.Index(t.Measurements, measurement)], func(n int) float64 {
		q, ok := t.quantiles[n] // to compute one takes 100 µs, and a table has few different n
		if !ok {
			q = quantile(n)
			t.quantiles[n] = q
		}
		return q
	})
}

// text is what a place of the table shows for a column: the number, or why there is none.
func (t *Table) text(g *Group, c Column, plusMinus string) string {
	if g == nil {
		return "–" // the grid has no such cell
	}
	s := t.Summary(g, c.Measurement)
	if s.N == 0 && c.Stat != "n" {
		return g.absence()
	}
	var text string
	if c.Stat == "" {
		text = meanText(s, plusMinus)
	} else if v := s.of(c.Stat); math.IsNaN(v) {
		text = fmt.Sprintf("n=%d", s.N) // of one value there is no spread
	} else {
		text = numberText(v)
	}
	if g.Failed+g.Canceled+g.Missing > 0 {
		text += " (" + g.absence() + ")"
	}
	return text
}

// absence says which cells of a group have no number.
func (g *Group) absence() string {
	var words []string
	for _, part := range []struct {
		n    int
		what string
	}{{g.Failed, "failed"}, {g.Canceled, "canceled"}, {g.Missing, "missing"},
		{g.Silent, "without value"}} {
		if part.n == 0 || part.what == "without value" && len(words) > 0 {
			continue
		}
		if g.Done+g.Failed+g.Canceled+g.Missing == 1 {
			words = append(words, part.what)
		} else {
			words = append(words, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	return strings.Join(words, ", ")
}

// meanText writes a mean with its interval as papers do: the interval to two significant digits,
// the mean to the same place.
func meanText(s Summary, plusMinus string) string {
	switch {
	case math.IsNaN(s.CI95):
		return fmt.Sprintf("%s (n=%d)", numberText(s.Mean), s.N)
	case s.CI95 == 0:
		return numberText(s.Mean) + plusMinus + "0"
	}
	place := 1 - int(math.Floor(math.Log10(s.CI95)))
	if place > 12 || place < -12 {
		return numberText(s.Mean) + plusMinus + numberText(s.CI95)
	}
	if place < 0 { // an interval of hundreds: whole numbers, rounded to its place
		unit := math.Pow(10, float64(-place))
		return strconv.FormatFloat(math.Round(s.Mean/unit)*unit, 'f', 0,
			64) + plusMinus + strconv.FormatFloat(math.Round(s.CI95/unit)*unit, 'f', 0, 64)
	}
	return strconv.FormatFloat(s.Mean, 'f', place, 64) + plusMinus + strconv.FormatFloat(s.CI95,
		'f', place, 64)
}

// numberText writes a number to five significant digits, whole ones in full.
func numberText(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	if a := math.Abs(v); a >= 1e5 && a < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 5, 64)
}
