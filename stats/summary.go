// Package stats turns the numbers that the cells of a sweep have left into a table or a plot for a
// paper: measurements out of printed lines and result files, means with confidence intervals over
// repeats, pivot tables as text, CSV, JSON, Markdown and LaTeX, plots with error bars, the time
// that a sweep still takes, and warnings where machines may have made the difference.
//
// It is pure: it reads no file, asks no daemon and has no clock. Nothing is left out in silence: a
// cell that failed, is missing, or printed what is no number is counted, and shown or warned of.
package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// Summary describes a sample. Of none, all but N is NaN; of one, Std and CI95 are NaN: there is no
// spread to see.
type Summary struct {
	N      int
	Mean   float64
	Median float64
	Min    float64
	Max    float64
	Std    float64 // of the sample: divided by N-1
	CI95   float64 // half the width of the 95 % confidence interval of the mean, by Student's t
}

// summarize describes the values, which it leaves in order; quantile is the function of that name,
// or one that remembers what it said.
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
	s.Mean, s.Std = meanStd(values)
	s.CI95 = quantile(s.N) * s.Std / math.Sqrt(float64(s.N))
	return s
}

// meanStd are the mean and the standard deviation of a sample of two or more. The second pass also
// makes up for what rounding took from the first: Chan, Golub, LeVeque, "Algorithms for computing
// the sample variance" (1983), (1.7).
func meanStd(values []float64) (mean, std float64) {
	n := float64(len(values))
	for _, v := range values {
		mean += v
	}
	mean /= n
	var squares, left float64
	for _, v := range values {
		squares += (v - mean) * (v - mean)
		left += v - mean
	}
	return mean + left/n, math.Sqrt((squares - left*left/n) / (n - 1))
}

// quantile is t(0.975, n-1), by way of the incomplete beta function: Abramowitz and Stegun, 26.7.1.
func quantile(n int) float64 {
	if n < 2 {
		return math.NaN()
	}
	freedom := float64(n - 1)
	x := mathext.InvRegIncBeta(freedom/2, 0.5, 0.05)
	return math.Sqrt(freedom * (1 - x) / x)
}
