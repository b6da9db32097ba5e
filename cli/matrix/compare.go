package matrix

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/stats"
	"jobserver/view"
)

// Compare is `matrix compare A B`.
type Compare struct {
	A    string `arg:"" name:"A" predictor:"matrix" help:"A matrix, by id or name."`
	B    string `arg:"" name:"B" predictor:"matrix" help:"The matrix that is compared with it."`
	Cell string `name:"cell" placeholder:"METRIC" help:"The metrics to compare, with commas between; by default all that both have."`
	cellFilter
}

// Run sets the cells of two matrices side by side.
func (c *Compare) Run(ctx context.Context, e *cli.Env) error {
	metrics := names(c.Cell)
	for _, m := range metrics {
		if !stats.IsMeasurementName(m) {
			return api.Errorf(api.Usage, "--cell %q names no metric", m).
				WithHint("write for example --cell throughput: the means are compared")
		}
	}
	a, matrixA, err := (&cellSource{Matrix: c.A, cellFilter: c.cellFilter}).load(ctx, e)
	if err != nil {
		return err
	}
	b, matrixB, err := (&cellSource{Matrix: c.B, cellFilter: c.cellFilter}).load(ctx, e)
	if err != nil {
		return err
	}
	found, err := stats.Compare(a, b, metrics)
	if err != nil {
		return api.Wrap(api.Usage, err)
	}
	e.Warn(found.Warnings)
	if !e.ForScripts() {
		noteContrasts(e, found, matrixA, matrixB)
	}
	rows := make([]contrast, len(found.Contrasts))
	for i := range found.Contrasts {
		rows[i] = contrastOf(found, &found.Contrasts[i])
	}
	columns := append(contrastKeys(found), contrastTexts(titleOf(matrixA), titleOf(matrixB))...)
	if e.Format() == view.CSV {
		columns = append(contrastKeys(found), contrastNumbers()...)
	}
	return cli.List(e, rows, columns)
}

func titleOf(m *api.Matrix) string { return cmp.Or(m.Name, fmt.Sprint(m.ID)) }

// noteContrasts says what the table shows, and how much of it chance may have made.
func noteContrasts(e *cli.Env, found *stats.Comparison, a, b *api.Matrix) {
	marked, paired := 0, 0
	for i := range found.Contrasts {
		if found.Contrasts[i].Significant() {
			marked++
		}
		if found.Contrasts[i].Pairs > 0 {
			paired++
		}
	}
	n := len(found.Contrasts)
	method := "Welch's t"
	switch {
	case paired == n:
		method = "pairs of runs with the same seed"
	case paired > 0:
		method = fmt.Sprintf("pairs of runs with the same seed in %d of them, else Welch's t",
			paired)
	}
	e.Note("%s − %s, and %[1]s / %[2]s, with 95 %% confidence intervals by %[3]s; "+
		"* marks p < 0.05: %[4]d of %[5]d", titleOf(b), titleOf(a), method, marked, n)
	if n >= 10 && marked > 0 {
		e.Note("of %d comparisons, chance alone marks about %.0f", n, math.Ceil(float64(n)/20))
	}
}

// contrast is a row of the comparison. What isn't known is absent.
type contrast struct {
	Vars            map[string]string  `json:"vars"`
	Metric          string             `json:"metric"`
	Unit            string             `json:"unit,omitempty"`
	A               sample             `json:"a"`
	B               sample             `json:"b"`
	Difference      api.Maybe[float64] `json:"difference,omitzero"` // of the means, b - a
	DifferenceRange []float64          `json:"difference_ci95,omitempty"`
	Ratio           api.Maybe[float64] `json:"ratio,omitzero"` // of the means, b / a
	RatioRange      []float64          `json:"ratio_ci95,omitempty"`
	P               api.Maybe[float64] `json:"p,omitzero"`
	Freedom         api.Maybe[float64] `json:"degrees_of_freedom,omitzero"`
	Pairs           int                `json:"pairs,omitempty"` // of runs with the same seed
	Significant     bool               `json:"significant"`     // p < 0.05

	of *stats.Contrast
}

// sample has what one of the matrices has in a cell.
type sample struct {
	N    int                `json:"n"`
	Mean api.Maybe[float64] `json:"mean,omitzero"`
	CI95 api.Maybe[float64] `json:"ci95,omitzero"` // half the width of the interval
}

func contrastOf(found *stats.Comparison, c *stats.Contrast) contrast {
	row := contrast{Vars: map[string]string{}, Metric: c.Measurement,
		Unit: found.Units[c.Measurement], A: sampleOf(c.A), B: sampleOf(c.B),
		Difference: known(c.Difference.Value), DifferenceRange: rangeOf(c.Difference),
		Ratio: known(c.Ratio.Value), RatioRange: rangeOf(c.Ratio), P: known(c.P),
		Freedom: known(c.Freedom), Pairs: c.Pairs, Significant: c.Significant(), of: c}
	for i, name := range found.Variables {
		row.Vars[name] = c.Values[i]
	}
	return row
}

func sampleOf(s stats.Summary) sample { return sample{s.N, known(s.Mean), known(s.CI95)} }

// known is a number that JSON can carry.
func known(v float64) (m api.Maybe[float64]) {
	if !math.IsNaN(v) && !math.IsInf(v, 0) {
		m = api.Some(v)
	}
	return m
}

func rangeOf(i stats.Interval) []float64 {
	if math.IsNaN(i.Low) || math.IsInf(i.High, 0) {
		return nil
	}
	return []float64{i.Low, i.High}
}

// contrastKeys are the columns that say what is compared.
func contrastKeys(found *stats.Comparison) []view.Column[contrast] {
	type r = contrast
	var columns []view.Column[r]
	for _, name := range found.Variables {
		columns = append(columns, show.Plain(name, name, func(r r) string { return r.Vars[name] }))
	}
	metric := show.Plain("Metric", "metric", func(r r) string {
		return strings.TrimSpace(r.Metric + " " + unitText(r.Unit))
	})
	metric.Value = func(r r) string { return r.Metric }
	return append(columns, metric)
}

// contrastTexts are the columns of tables; a and b are what the matrices are called.
func contrastTexts(a, b string) []view.Column[contrast] {
	type r = contrast
	text := func(title string, f func(r r) string) view.Column[r] {
		return view.Column[r]{Title: title, Right: true, Cell: view.Text(f)}
	}
	wide := func(title string, f func(r r) string) view.Column[r] {
		return view.Column[r]{Title: title, Right: true, OnlyWide: true, Cell: view.Text(f)}
	}
	return []view.Column[r]{
		text(a, func(r r) string { return r.of.A.MeanText() }),
		text(b, func(r r) string { return r.of.B.MeanText() }),
		text("Difference", func(r r) string { return r.of.Difference.Text() }),
		text("Ratio", func(r r) string { return r.of.Ratio.Text() }),
		{Cell: func(r r) []view.Span {
			if !r.Significant {
				return nil
			}
			return []view.Span{{Text: "*", Style: view.Bold}}
		}},
		wide("p", func(r r) string { return show.StatText(show.KnownMaybe(r.P)) }),
		wide("Pairs", func(r r) string { return show.NumberText(r.Pairs) }),
	}
}

// contrastNumbers are the columns of CSV.
func contrastNumbers() []view.Column[contrast] {
	type r = contrast
	number := func(key string, f func(r r) api.Maybe[float64]) view.Column[r] {
		return show.OnlyCSV(key, func(r r) string { return show.StatText(show.KnownMaybe(f(r))) })
	}
	bound := func(key string, at int, f func(r r) []float64) view.Column[r] {
		return show.OnlyCSV(key, func(r r) string {
			if i := f(r); i != nil {
				return fmt.Sprint(i[at])
			}
			return ""
		})
	}
	return []view.Column[r]{
		show.OnlyCSV("n_a", func(r r) string { return fmt.Sprint(r.A.N) }),
		number("mean_a", func(r r) api.Maybe[float64] { return r.A.Mean }),
		number("ci95_a", func(r r) api.Maybe[float64] { return r.A.CI95 }),
		show.OnlyCSV("n_b", func(r r) string { return fmt.Sprint(r.B.N) }),
		number("mean_b", func(r r) api.Maybe[float64] { return r.B.Mean }),
		number("ci95_b", func(r r) api.Maybe[float64] { return r.B.CI95 }),
		number("difference", func(r r) api.Maybe[float64] { return r.Difference }),
		bound("difference_low", 0, func(r r) []float64 { return r.DifferenceRange }),
		bound("difference_high", 1, func(r r) []float64 { return r.DifferenceRange }),
		number("ratio", func(r r) api.Maybe[float64] { return r.Ratio }),
		bound("ratio_low", 0, func(r r) []float64 { return r.RatioRange }),
		bound("ratio_high", 1, func(r r) []float64 { return r.RatioRange }),
		number("p", func(r r) api.Maybe[float64] { return r.P }),
		number("degrees_of_freedom", func(r r) api.Maybe[float64] { return r.Freedom }),
		show.OnlyCSV("pairs", func(r r) string { return fmt.Sprint(r.Pairs) }),
		show.OnlyCSV("significant", func(r r) string { return fmt.Sprint(r.Significant) }),
	}
}

func unitText(unit string) string {
	if unit == "" {
		return ""
	}
	return "(" + unit + ")"
}
