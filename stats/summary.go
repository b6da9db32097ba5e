// Package stats turns the numbers that the cells of a sweep have left into a table or a plot for a paper: metrics out of
// printed lines and result files, means with confidence intervals over repeats, pivot tables as text, CSV, JSON, Markdown and
// LaTeX, plots with error bars, the time that a sweep still takes, and warnings where machines may have made the difference.
//
// It is pure: it reads no file, asks no daemon and has no clock. Nothing is left out in silence: a cell that failed, is
// missing, or printed what is no number is counted, and shown or warned of.
package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Summary describes a sample. Of none, all but N is NaN; of one, Std and CI95 are NaN: there is no spread to see.
type Summary struct {
	N      int
	Mean   float64
	Median float64
	Min    float64
	Max    float64
	Std    float64 // of the sample: divided by N-1
	CI95   float64 // half the width of the 95 % confidence interval of the mean, by Student's t
}

// Summarize describes the values; it leaves them in order.
func Summarize(values []float64) Summary { return summarize(values, quantile) }

func summarize(values []float64, quantile func(n int) float64) Summary {
	nan := math.NaN()
	s := Summary{len(values), nan, nan, nan, nan, nan, nan}
	if s.N == 0 {
		return s
	}
	slices.Sort(values)
	s.Min, s.Max = values[0], values[s.N-1]
	s.Median = (values[(s.N-1)/2] + values[s.N/2]) / 2
	if s.N == 1 {
		s.Mean = values[0]
		return s
	}
	s.Mean, s.Std = stat.MeanStdDev(values, nil)
	s.CI95 = quantile(s.N) * s.Std / math.Sqrt(float64(s.N))
	return s
}

// HalfWidth is half the width of the 95 % confidence interval of the mean of n values with the standard deviation std:
// t(0.975, n-1) · std / √n, Student's formula. It is NaN below two values.
func HalfWidth(n int, std float64) float64 {
	return quantile(n) * std / math.Sqrt(float64(n))
}

// quantile is t(0.975, n-1).
func quantile(n int) float64 {
	if n < 2 {
		return math.NaN()
	}
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}.Quantile(0.975)
}
