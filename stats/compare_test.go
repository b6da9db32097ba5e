package stats

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// sweepOf is a sweep of one variable with the values of each of its cells.
func sweepOf(name string, seed uint64, values map[string][]float64) *Data {
	d := &Data{Name: name, Seed: seed, Axes: []Axis{{Name: "X", Values: []string{"a", "b", "c"}}}}
	for i, x := range d.Axes[0].Values {
		for r, v := range values[x] {
			d.Cells = append(d.Cells, Cell{Index: []uint32{uint32(i)}, Repeat: uint32(r),
				Status: "done", Measurements: []Measurement{{Name: "m", Value: v}}})
		}
	}
	return d
}

func agree(a, b float64) bool {
	return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1)
}

// TestContrast has the numbers of R's t.test (sleep, and the example of Welch's test) and of
// scipy.stats.ttest_ind and ttest_rel; the intervals of ratios were computed with numpy.
func TestContrast(t *testing.T) {
	// Student's sleep data (Biometrika 6, 1908), which R has as `sleep`.
	sleep1 := []float64{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0, 2}
	sleep2 := []float64{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4}
	one := []float64{27.5, 21, 19, 23.6, 17, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19, 21.7,
		21.4}
	two := []float64{27.1, 22, 20.8, 23.4, 23.4, 23.5, 25.8, 22, 24.8, 20.2, 21.9, 22.1, 22.9, 30.5,
		31.3}
	nan := math.NaN()
	for _, tt := range []struct {
		name              string
		a, b              []float64
		seeds             bool
		difference, ratio Interval
		p, freedom        float64
		pairs             int
	}{
		{"sleep", sleep1, sleep2, false, Interval{1.58, -0.20548323071163632, 3.365483230711636},
			Interval{3.106666666666666, 0.5350049197585143, 18.03979257262555},
			0.07939414018735823, 17.776473516178495, 0},
		{"sleep in pairs", sleep1, sleep2, true,
			Interval{1.58, 0.7001142367452713, 2.4598857632547286},
			Interval{3.106666666666666, 0.8695387859378105, 11.099421824373962},
			0.00283289019738427, 9, 10},
		{"Welch", one, two, false, Interval{3.293333333333333, 1.0033320346903483,
			5.583334631976324}, Interval{1.1581812359910344, 1.046454078027459, 1.28183720964631},
			0.006460408027460329, 27.31161047222031, 0},
		{"of other length aren't paired", one[:3], two[:2], true,
			Interval{2.0500000000000007, -10.28764304775186, 14.387643047751862},
			Interval{1.0911111111111111, 0.6555850398014597, 1.8159710556401152},
			0.6149031577592096, 2.6775911091072166, 0},
		{"pairs", []float64{100, 200, 300, 400}, []float64{110, 215, 330, 445}, true,
			Interval{25, -0.1594471397145547, 50.15944713971456},
			Interval{1.1, 1.0743199403189763, 1.1262939042542013}, 0.05078186628649374, 3, 4},
		{"far apart", []float64{1, 2}, []float64{1e6, 1e6 + 1}, false,
			Interval{999999, 999995.9575650776, 1000002.0424349224},
			Interval{666667, 9649.33587851565, 46059635.03442359}, 5.000010000011251e-13, 2, 0},
		{"one value", []float64{1}, []float64{3, 4}, false, Interval{2.5, nan, nan},
			Interval{3.5, nan, nan}, nan, nan, 0},
		{"none", nil, []float64{3}, false, Interval{nan, nan, nan}, Interval{nan, nan, nan}, nan,
			nan, 0},
		{"the same", []float64{2, 2}, []float64{2, 2}, false, Interval{0, 0, 0},
			Interval{1, 1, 1}, 1, 2, 0},
		{"constants", []float64{2, 2}, []float64{3, 3}, true, Interval{1, 1, 1},
			Interval{1.5, 1.5, 1.5}, 0, 1, 2},
		{"of both signs", []float64{-1, -2}, []float64{1, 2}, false,
			Interval{3.0, -0.042434922411073384, 6.042434922411074}, Interval{-1, nan, nan},
			0.051316701949486204, 2.0, 0},
		{"from nothing", []float64{0, 0}, []float64{1, 2}, false,
			Interval{1.5, -4.853102368216048, 7.853102368216048}, Interval{nan, nan, nan},
			0.20483276469913345, 1.0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var a, b []run
			for i, v := range tt.a {
				a = append(a, run{fmt.Sprint(i), v})
			}
			for i, v := range tt.b {
				b = append(b, run{fmt.Sprint(i), v})
			}
			var c Contrast
			c.compare(a, b, tt.seeds)
			for what, pair := range map[string][2]float64{
				"difference":   {c.Difference.Value, tt.difference.Value},
				"its low":      {c.Difference.Low, tt.difference.Low},
				"its high":     {c.Difference.High, tt.difference.High},
				"ratio":        {c.Ratio.Value, tt.ratio.Value},
				"ratio's low":  {c.Ratio.Low, tt.ratio.Low},
				"ratio's high": {c.Ratio.High, tt.ratio.High}, "p": {c.P, tt.p},
				"freedom": {c.Freedom, tt.freedom},
			} {
				if !agree(pair[0], pair[1]) {
					t.Errorf("%s is %.16g, want %.16g", what, pair[0], pair[1])
				}
			}
			if c.Pairs != tt.pairs || c.Significant() != (tt.p < 0.05) {
				t.Errorf("%d pairs, significant: %v", c.Pairs, c.Significant())
			}
		})
	}
}

func TestCompare(t *testing.T) {
	a := sweepOf("1", 7, map[string][]float64{"a": {1, 2, 3}, "b": {5, 6, 7}})
	b := sweepOf("2", 7, map[string][]float64{"a": {2, 3, 4.5}, "c": {1}})
	got, err := Compare(a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Contrasts) != 1 || got.Contrasts[0].Values[0] != "a" || got.Contrasts[0].Pairs != 3 {
		t.Errorf("%+v", got.Contrasts)
	}
	if w := strings.Join(got.Warnings, "; "); !strings.Contains(w, "2 cells have no counterpart") {
		t.Error(w)
	}
	// Other seeds: there are no pairs.
	b.Seed = 8
	if got, err = Compare(a, b, []string{"m"}); err != nil || got.Contrasts[0].Pairs != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	// A variable SEED of both pairs them, whatever the repeats; one that only one has is told.
	for i, d := range []*Data{a, b} {
		d.Axes = append(d.Axes, Axis{Name: SeedName, Values: []string{"10", "11", "12"}},
			Axis{Name: fmt.Sprintf("Y%d", i), Values: []string{"1", "2"}})
		for k := range d.Cells {
			d.Cells[k].Index = append(d.Cells[k].Index, d.Cells[k].Repeat, uint32(k%2))
			d.Cells[k].Repeat = 0
		}
	}
	got, err = Compare(a, b, nil)
	if err != nil || got.Contrasts[0].Pairs != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	if w := strings.Join(got.Warnings, "; "); !strings.Contains(w, "only matrix 1 has Y0") ||
		!strings.Contains(w, "only matrix 2 has Y1") {
		t.Error(w)
	}
	other := sweepOf("3", 7, map[string][]float64{"c": {1, 2}})
	if _, err := Compare(sweepOf("1", 7, map[string][]float64{"a": {1}}), other,
		nil); err == nil || !strings.Contains(err.Error(), "no cell with the same values of X") {
		t.Error(err)
	}
	if _, err := Compare(a, b, []string{"n"}); err == nil ||
		!strings.Contains(err.Error(), "not both matrices have the metric n") {
		t.Error(err)
	}
}

func TestIntervalText(t *testing.T) {
	nan := math.NaN()
	for want, i := range map[string]Interval{
		"–":                          {nan, nan, nan},
		"1.5":                        {1.5, nan, nan},
		"1.6 [-0.2, 3.4]":            {1.58, -0.2054, 3.3654},
		"1 [1, 1]":                   {1, 1, 1},
		"1234 [1100, 1368]":          {1234.4, 1100.2, 1368.4},
		"0.00120 [0.00101, 0.00139]": {0.0012, 0.00101, 0.00139},
	} {
		if got := i.Text(); got != want {
			t.Errorf("%v is %q, want %q", i, got, want)
		}
	}
}
