package stats

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mathext"
)

// SeedName is the variable by whose values runs of two sweeps are told to have had the same
// random numbers, when it is one of both.
const SeedName = "SEED"

// Interval is an estimate with its 95 % confidence interval; NaN where nothing can be said.
type Interval struct{ Value, Low, High float64 }

// Contrast is how one group of cells of a sweep differs from the cells of another sweep with the
// same values of the variables that both have.
type Contrast struct {
	Values      []string // of those variables
	Measurement string
	A, B        Summary
	Difference  Interval // of the means, B − A
	Ratio       Interval // of the means, B / A
	P           float64  // that chance alone makes as much of a difference; NaN: not known
	Freedom     float64  // degrees, of Student's t
	Pairs       int      // of runs with the same seed, which is what was compared; 0: all runs were
}

// Significant says that the difference is one at the level of 5 %.
func (c *Contrast) Significant() bool { return c.P < 0.05 }

// Comparison sets the cells of two sweeps side by side.
type Comparison struct {
	Variables []string // that both have
	Units     map[string]string
	Contrasts []Contrast
	Warnings  []string
}

func (c *Comparison) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// seedAt is the place of a variable SEED of the sweep's own among its axes, or -1. Without one, the
// seed of a run follows from its repeat.
func (d *Data) seedAt() int {
	return slices.IndexFunc(d.Axes, func(a Axis) bool { return a.Name == SeedName })
}

// Compare compares two sweeps, cell by cell of the variables that both have, in the measurements
// that are named, or all that both have. Where the runs of a cell have the same seeds in both, they
// are compared in pairs, which takes away what the seeds have made of the differences; else all
// of the one with all of the other, by Welch's t.
func Compare(a, b *Data, measurements []string) (*Comparison, error) {
	c := &Comparison{Units: map[string]string{}}
	for _, axis := range a.Axes {
		other := slices.ContainsFunc(b.Axes, func(o Axis) bool { return o.Name == axis.Name })
		if other && axis.Name != SeedName {
			c.Variables = append(c.Variables, axis.Name)
		}
	}
	measurements, err := bothHave(a, b, measurements)
	if err != nil {
		return nil, err
	}
	left, err := a.sort(c.Variables, measurements)
	if err != nil {
		return nil, err
	}
	right, err := b.sort(c.Variables, measurements)
	if err != nil {
		return nil, err
	}
	a.pooled(c)
	b.pooled(c)
	byRepeat := a.seedAt() < 0 && b.seedAt() < 0 && a.Seed == b.Seed
	bySeed := a.seedAt() >= 0 && b.seedAt() >= 0
	alone := 0
	for _, key := range left.order {
		g, h := left.groups[key], right.groups[key]
		if h == nil {
			alone++
			continue
		}
		for k, name := range measurements {
			one := Contrast{Values: g.values, Measurement: name}
			one.compare(g.runs[k], h.runs[k], byRepeat || bySeed)
			c.Contrasts = append(c.Contrasts, one)
			if g.unit[k] != h.unit[k] {
				c.warn("%s is in %q and in %q: the numbers are taken as they are", name, g.unit[k],
					h.unit[k])
			}
			c.Units[name] = g.unit[k]
		}
	}
	for _, key := range right.order {
		if left.groups[key] == nil {
			alone++
		}
	}
	if alone > 0 {
		c.warn("%s no counterpart in the other matrix, and %s left out", has(alone, "cell"),
			map[bool]string{true: "is", false: "are"}[alone == 1])
	}
	if len(c.Contrasts) == 0 {
		return nil, hinted("`matrix table` shows the cells of each",
			"the two matrices have no cell with the same values of %s",
			strings.Join(c.Variables, ", "))
	}
	c.Warnings = slices.Compact(c.Warnings)
	return c, nil
}

// bothHave checks the measurements that are to be compared.
func bothHave(a, b *Data, wanted []string) ([]string, error) {
	of, other := a.MeasurementNames(), b.MeasurementNames()
	for _, d := range []*Data{a, b} {
		if len(d.MeasurementNames()) == 0 {
			return nil, d.noMeasurements()
		}
	}
	both := slices.DeleteFunc(slices.Clone(of), func(m string) bool {
		return !slices.Contains(other, m)
	})
	if len(wanted) == 0 {
		if len(both) == 0 {
			return nil, hinted(fmt.Sprintf("the one has %s, the other %s", strings.Join(of, ", "),
				strings.Join(other, ", ")), "the two matrices have no metric in common")
		}
		return both, nil
	}
	for _, m := range wanted {
		if !slices.Contains(both, m) {
			return nil, hinted("both have "+strings.Join(both, ", "),
				"not both matrices have the metric %s", m)
		}
	}
	return wanted, nil
}

// run is a value with what it may be paired by.
type run struct {
	pair  string
	value float64
}

// shelf is the runs that share the values of the variables.
type shelf struct {
	values []string
	runs   [][]run // by measurement
	unit   []string
}

type shelves struct {
	groups map[string]*shelf
	order  []string
}

// sort puts the runs that are done on the shelves of their values.
func (d *Data) sort(variables, measurements []string) (*shelves, error) {
	dims, err := d.dimensions(variables)
	if err != nil {
		return nil, err
	}
	all := &shelves{groups: map[string]*shelf{}}
	seedAt := d.seedAt()
	for i := range d.Cells {
		c := &d.Cells[i]
		if c.Status != "done" {
			continue
		}
		values := make([]string, len(dims))
		for k, dim := range dims {
			values[k] = dim.text(dim.at(c))
		}
		key := strings.Join(values, "\x00")
		s := all.groups[key]
		if s == nil {
			s = &shelf{values: values, runs: make([][]run, len(measurements)),
				unit: make([]string, len(measurements))}
			all.groups[key] = s
			all.order = append(all.order, key)
		}
		pair := fmt.Sprint(c.Repeat)
		if seedAt >= 0 {
			pair = d.Axes[seedAt].Values[c.Index[seedAt]] + " " + pair
		}
		for k, name := range measurements {
			for j := len(c.Measurements) - 1; j >= 0; j-- { // the last of a name counts
				if m := c.Measurements[j]; m.Name == name {
					s.runs[k], s.unit[k] = append(s.runs[k], run{pair, m.Value}), m.Unit
					break
				}
			}
		}
	}
	return all, nil
}

// pooled warns of variables that only one of the sweeps has.
func (d *Data) pooled(c *Comparison) {
	for a, axis := range d.Axes {
		if slices.Contains(c.Variables, axis.Name) || axis.Name == SeedName {
			continue
		}
		for i := range d.Cells {
			if d.Cells[i].Index[a] != d.Cells[0].Index[a] {
				c.warn("only matrix %s has %s: cells with different values of it are taken "+
					"together; --where narrows them", d.Name, axis.Name)
				break
			}
		}
	}
}

// compare describes both samples and what is between them.
func (c *Contrast) compare(a, b []run, seeds bool) {
	nan := math.NaN()
	c.Difference, c.Ratio = Interval{nan, nan, nan}, Interval{nan, nan, nan}
	c.P, c.Freedom = nan, nan
	c.A, c.B = summarize(valuesOf(a), quantile), summarize(valuesOf(b), quantile)
	if c.A.N == 0 || c.B.N == 0 {
		return
	}
	c.Difference.Value = c.B.Mean - c.A.Mean
	if c.A.Mean != 0 {
		c.Ratio.Value = c.B.Mean / c.A.Mean
	}
	if x, y := paired(a, b); seeds && x != nil {
		c.pairs(x, y)
		return
	}
	c.welch()
}

func valuesOf(runs []run) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = r.value
	}
	return values
}

// paired are the values of two samples with the same seeds, in the same order; nil when each of
// them hasn't exactly one counterpart, or there are fewer than two.
func paired(a, b []run) (x, y []float64) {
	if len(a) != len(b) || len(a) < 2 {
		return nil, nil
	}
	other := map[string]float64{}
	for _, r := range b {
		other[r.pair] = r.value
	}
	seen := map[string]bool{}
	for _, r := range a {
		v, ok := other[r.pair]
		if !ok || seen[r.pair] {
			return nil, nil
		}
		seen[r.pair] = true
		x, y = append(x, r.value), append(y, v)
	}
	if len(other) != len(b) {
		return nil, nil
	}
	return x, y
}

// pairs compares pair by pair: Student's t of the differences. The interval of the ratio is that of
// its logarithm by the delta method, with the covariance of the means.
func (c *Contrast) pairs(x, y []float64) {
	n := float64(len(x))
	d := make([]float64, len(x))
	for i := range x {
		d[i] = y[i] - x[i]
	}
	mean, std := meanStd(d)
	c.Pairs, c.Freedom = len(x), n-1
	c.infer(mean, std/math.Sqrt(n), c.Freedom)
	a, b := c.A.Mean, c.B.Mean
	// The variance of y/b − x/a, whose mean is 0, is that of the logarithm of the ratio.
	for i := range x {
		d[i] = y[i]/b - x[i]/a
	}
	if a*b > 0 {
		_, std = meanStd(d)
		c.ratio(std/math.Sqrt(n), c.Freedom)
	}
}

// welch compares samples whose runs have nothing to do with each other: B. L. Welch, "The
// generalization of 'Student's' problem when several different population variances are involved"
// (Biometrika 34, 1947). The ratio's interval is that of its logarithm by the delta method.
func (c *Contrast) welch() {
	if c.A.N < 2 || c.B.N < 2 {
		return
	}
	va, vb := c.A.Std*c.A.Std/float64(c.A.N), c.B.Std*c.B.Std/float64(c.B.N)
	c.Freedom = satterthwaite(va, c.A.N, vb, c.B.N)
	c.infer(c.Difference.Value, math.Sqrt(va+vb), c.Freedom)
	if a, b := c.A.Mean, c.B.Mean; a*b > 0 {
		ra, rb := va/(a*a), vb/(b*b)
		c.ratio(math.Sqrt(ra+rb), satterthwaite(ra, c.A.N, rb, c.B.N))
	}
}

// satterthwaite are the degrees of freedom of the sum of two variances of means.
func satterthwaite(va float64, na int, vb float64, nb int) float64 {
	if va+vb == 0 {
		return float64(na + nb - 2)
	}
	return (va + vb) * (va + vb) / (va*va/float64(na-1) + vb*vb/float64(nb-1))
}

// infer sets the interval of the difference and its p-value, of its standard error.
func (c *Contrast) infer(d, standardError, freedom float64) {
	half := quantileOf(freedom) * standardError
	c.Difference = Interval{d, d - half, d + half}
	switch {
	case standardError > 0:
		t := d / standardError
		c.P = mathext.RegIncBeta(freedom/2, 0.5, freedom/(freedom+t*t))
	case d == 0:
		c.P = 1
	default: // all runs of each agree to the last digit
		c.P = 0
	}
}

// ratio sets the interval of the ratio, of the standard error of its logarithm.
func (c *Contrast) ratio(standardError, freedom float64) {
	factor := math.Exp(quantileOf(freedom) * standardError)
	c.Ratio.Low, c.Ratio.High = c.Ratio.Value/factor, c.Ratio.Value*factor
}

// quantileOf is t(0.975, freedom), as quantile has it.
func quantileOf(freedom float64) float64 {
	x := mathext.InvRegIncBeta(freedom/2, 0.5, 0.05)
	return math.Sqrt(freedom * (1 - x) / x)
}

// Text writes the interval as papers do: 3.1 [2.8, 3.4]. Without an interval it is the estimate.
func (i Interval) Text() string {
	switch {
	case math.IsNaN(i.Value):
		return "–"
	case math.IsNaN(i.Low):
		return numberText(i.Value)
	}
	place := 0
	if width := i.High - i.Low; width > 0 {
		place = min(max(1-int(math.Floor(math.Log10(width/2))), 0), 12)
	}
	return fmt.Sprintf("%.*f [%.*f, %.*f]", place, i.Value, place, i.Low, place, i.High)
}

// MeanText writes a mean with its interval, "–" for none.
func (s Summary) MeanText() string {
	if s.N == 0 {
		return "–"
	}
	return meanText(s, " ± ")
}
