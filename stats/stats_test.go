package stats

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// near compares to a relative precision.
func near(t *testing.T, what string, got, want, precision float64) {
	t.Helper()
	if math.Abs(got-want) > precision*max(math.Abs(want), 1e-300) {
		t.Errorf("%s is %.12g, want %.12g", what, got, want)
	}
}

// TestStudentsTable compares with the table of the t distribution that textbooks print, two-sided
// at 95 %: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, column 0.975. It is printed
// to three places.
func TestStudentsTable(t *testing.T) {
	for freedom, want := range map[int]float64{
		1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
		10: 2.228,
		11: 2.201, 12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131, 16: 2.120, 17: 2.110, 18: 2.101,
		19: 2.093, 20: 2.086,
		21: 2.080, 22: 2.074, 23: 2.069, 24: 2.064, 25: 2.060, 26: 2.056, 27: 2.052, 28: 2.048,
		29: 2.045, 30: 2.042,
		40: 2.021, 60: 2.000, 100: 1.984,
	} {
		if got := quantile(freedom + 1); math.Abs(got-want) > 0.0005001 {
			t.Errorf("t(0.975, %d) is %.5f, want %.3f", freedom, got, want)
		}
	}
}

// TestPublishedIntervals compares with examples that others have worked out.
func TestPublishedIntervals(t *testing.T) {
	// Student (1908), "The probable error of a mean", the additional hours of sleep of ten
	// patients; mean and standard deviation as in the paper's data, and the interval as R's
	// documentation of `sleep` gives it: t.test(extra ~ group, paired = TRUE).
	sleep := summarize([]float64{1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4}, quantile)
	near(t, "mean", sleep.Mean, 1.58, 1e-9)
	near(t, "std", sleep.Std, 1.229995, 1e-6)
	near(t, "lower limit", sleep.Mean-sleep.CI95, 0.7001142, 1e-6)
	near(t, "upper limit", sleep.Mean+sleep.CI95, 2.4598858, 1e-6)
	near(t, "median", sleep.Median, 1.3, 1e-12)
	// NIST/SEMATECH e-Handbook 1.3.5.2, confidence limits for the mean of the 195 values of
	// ZARR13.DAT.
	half := quantile(195) * 0.022789 / math.Sqrt(195)
	near(t, "lower limit", 9.261460-half, 9.258242, 2e-7)
	near(t, "upper limit", 9.261460+half, 9.264679, 2e-7)
}

// TestCertifiedValues compares with NIST's Statistical Reference Datasets, univariate: numbers on
// which careless summation fails.
func TestCertifiedValues(t *testing.T) {
	alternating := func(first, a, b float64) []float64 {
		all := []float64{first}
		for range 500 {
			all = append(all, a, b)
		}
		return all
	}
	for name, c := range map[string]struct {
		values    []float64
		mean, std float64
		precision float64 // of the deviation: the inputs themselves are not exact in binary
	}{
		"NumAcc1": {[]float64{10000001, 10000003, 10000002}, 10000002, 1, 1e-15},
		"NumAcc2": {alternating(1.2, 1.1, 1.3), 1.2, 0.1, 1e-13},
		"NumAcc3": {alternating(1000000.2, 1000000.1, 1000000.3), 1000000.2, 0.1, 1e-8},
		"NumAcc4": {alternating(10000000.2, 10000000.1, 10000000.3), 10000000.2, 0.1, 1e-7},
	} {
		s := summarize(c.values, quantile)
		near(t, name+": mean", s.Mean, c.mean, 1e-14)
		near(t, name+": std", s.Std, c.std, c.precision)
	}
}

func TestSmallSamples(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		values []float64
		want   Summary
	}{
		{nil, Summary{0, nan, nan, nan, nan, nan, nan}},
		{[]float64{3}, Summary{1, 3, 3, 3, 3, nan, nan}},
		{[]float64{4, 2}, Summary{2, 3, 3, 2, 4, math.Sqrt2, 12.706204736}},
		{[]float64{5, 5, 5}, Summary{3, 5, 5, 5, 5, 0, 0}},
	} {
		if diff := cmp.Diff(c.want, summarize(c.values, quantile), cmpopts.EquateNaNs(),
			cmpopts.EquateApprox(1e-9, 0)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.values, diff)
		}
	}
}

func TestPredict(t *testing.T) {
	even := Runs{N: 10, Sum: 100, Sq: 1000}   // ten of 10 s
	spread := Runs{N: 10, Sum: 100, Sq: 1020} // 8, 9, 10, 11 and 12 s, twice each
	for name, c := range map[string]struct {
		runs    Runs
		waiting int
		running []time.Duration
		slots   int
		want    Left
	}{
		"nothing known": {Runs{}, 5, nil, 2, Left{}},
		"nothing left":  {even, 0, nil, 2, Left{Known: true}},
		"no machine":    {even, 5, nil, 0, Left{}},
		"one slot":      {even, 6, nil, 1, Left{Known: true, Time: time.Minute}},
		"under way": {even, 5, []time.Duration{4 * time.Second}, 1,
			Left{Known: true, Time: 56 * time.Second}},
		"the last one": {even, 0, []time.Duration{4 * time.Second, 9 * time.Second}, 4,
			Left{Known: true, Time: 6 * time.Second}},
		"overdue":    {even, 0, []time.Duration{time.Hour}, 4, Left{Known: true}},
		"more slots": {even, 2, nil, 100, Left{Known: true, Time: 12500 * time.Millisecond}},
		"with uncertainty": {spread, 10, nil, 1,
			Left{Known: true, Time: 100 * time.Second, Error: 15081 * time.Millisecond}},
	} {
		got := Predict(c.runs, c.waiting, c.running, c.slots)
		got.Error = got.Error.Round(time.Millisecond)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
