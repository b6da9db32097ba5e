package stats

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestParseMeasurement(t *testing.T) {
	for line, want := range map[string]Measurement{
		"throughput=123.5 MB/s": {"throughput", 123.5, "MB/s"},
		"loss = 1e-3":           {"loss", 0.001, ""},
		"p99=-7":                {"p99", -7, ""},
		"a.b/c=+.5 per  run":    {"a.b/c", 0.5, "per run"},
	} {
		got, err := ParseMeasurement(line)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	for line, want := range map[string]string{
		"":                             `"" is not of the form name=value [unit]`,
		"x":                            `"x" is not of the form name=value [unit]`,
		"x=":                           `"x=" is not of the form name=value [unit]`,
		"=1":                           `"" can't be a metric's name`,
		"a b=1":                        `"a b" can't be a metric's name`,
		"f(x)=1":                       `"f(x)" can't be a metric's name`,
		"x=fast":                       `x: "fast" is not a number`,
		"x=NaN":                        "x: NaN is not a finite number",
		"x=-Inf":                       "x: -Inf is not a finite number",
		"x=1e999":                      "x: 1e999 is not a finite number",
		"x=1_000":                      `x: "1_000" is not a number`,
		"x=0x10p0":                     `x: "0x10p0" is not a number`,
		"x=" + strings.Repeat("a", 99): `x: "` + strings.Repeat("a", 60) + `…" is not a number`,
	} {
		if _, err := ParseMeasurement(line); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}

func TestParseFile(t *testing.T) {
	type result struct {
		Measurements []Measurement
		Problems     []string
		Err          string
	}
	for text, want := range map[string]result{
		"level,bytes\n3,100\n6,90\n": {Measurements: []Measurement{{"level", 6, ""},
			{"bytes", 90, ""}}},
		"\xef\xbb\xbfname,x\n\"a,b\", 1.5\n": {Measurements: []Measurement{{"x", 1.5, ""}}},
		"a,b\nNaN,2\n": {Measurements: []Measurement{{"b", 2, ""}},
			Problems: []string{"a: NaN is not a finite number"}},
		`{"x": 1, "y": {"z": 2.5, "s": "t"}}`: {Measurements: []Measurement{{"x", 1, ""},
			{"y.z", 2.5, ""}}},
		`[{"x": 1}, {"x": 2}]`: {Measurements: []Measurement{{"x", 2, ""}}},
		`{"x": 1e999}`: {Problems: []string{"x: 1e999 is not a finite " +
			"number"}},
		`{"x": NaN, "y": -Infinity, "z": 1, "s": "NaN \" NaN"}`: {
			Measurements: []Measurement{{"z", 1, ""}},
			Problems: []string{"x: NaN is not a finite number",
				"y: -Infinity is not a finite number"},
		},
		`[{"x": NaN}, {"x": 2, "y": [1, Infinity, 3]}]`: {Measurements: []Measurement{{"x", 2, ""},
			{"y", 3, ""}}},
		"{\"step\": 1, \"x\": NaN}\n{\"step\": 2, \"x\": 0.5}\n\n{\"eval\": 3}\n": {
			Measurements: []Measurement{{"step", 2, ""}, {"x", 0.5, ""}, {"eval", 3, ""}},
		},
		"{\"x\": 1}\r\n{\"x\": 2}\r\n": {Measurements: []Measurement{{"x", 2, ""}}},
		"{\"x\": 1}\n{\"x\": ":         {Err: "it is not JSON: unexpected EOF"},
		"epoch\tloss\tnote\n1\t0.5\t\n2\t0.25\ta \"b\n": {Measurements: []Measurement{{"epoch", 2,
			""},
			{"loss", 0.25, ""}}},
		"# made by bench\n#\nx,y\n1,2\n# halfway\n3,4\n": {Measurements: []Measurement{{"x", 3, ""},
			{"y", 4, ""}}},
		"# x y\n1 2\n3 4\n": {Measurements: []Measurement{{"x", 3, ""},
			{"y", 4, ""}}},
		"#x,y\r\n1,2\r\n": {Measurements: []Measurement{{"x", 1, ""},
			{"y", 2, ""}}},
		"x   y\n1   2\n": {Measurements: []Measurement{{"x", 1, ""},
			{"y", 2, ""}}},
		"x;y\n1;2\n": {Measurements: []Measurement{{"x", 1, ""},
			{"y", 2, ""}}},
		"loss\n0.5\n": {Measurements: []Measurement{{"loss", 0.5, ""}}},
		"x,y\n1,inf\n": {Measurements: []Measurement{{"x", 1, ""}},
			Problems: []string{"y: inf is not a finite number"}},
		"# nothing\n": {Err: "there is nothing but comments " +
			"in it"},
		"": {Err: "the file is empty"},
		"a,b\n": {Err: "it is a table with a header and " +
			"no row"},
		"a,b\n1,2,3\n": {Err: "it is neither JSON nor a table: " +
			"record on line 2: wrong number of fields"},
		"a\nb\n": {Err: "there is no number in it"},
		`{"x": `: {Err: "it is not JSON: unexpected EOF"},
		`{"x": 1} 2`: {Err: "it is not JSON: there is more " +
			"after its end"},
	} {
		var got result
		var err error
		got.Measurements, got.Problems, err = ParseFile([]byte(text))
		if err != nil {
			got.Err = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// bench is a sweep of I by MODE, five repeats, with everything that may have happened to its cells.
func bench() *Data {
	d := &Data{Name: "bench",
		Axes: []Axis{{"I", []string{"1", "2", "4", "10"}},
			{"MODE", []string{"fast", "small_&_tidy"}}},
	}
	job := uint64(10)
	for i, value := range []float64{1, 2, 4, 10} {
		for mode := range uint32(2) {
			if i == 3 && mode == 1 {
				continue // excluded
			}
			for r := range uint32(5) {
				job++
				c := Cell{Job: job, Index: []uint32{uint32(i), mode}, Repeat: r, Status: "done",
					Machine: string("ab"[r%2]),
					Measurements: []Measurement{{"throughput", 0, "MB/s"},
						{"throughput", 1000*value + 100*float64(mode) + 7*float64(r*r), "MB/s"},
						{"rss", 1 << 20, "B"}}}
				switch {
				case i == 0 && mode == 1 && r == 4:
					c.Status, c.Measurements = "failed", nil
				case i == 1 && mode == 1:
					c.Status, c.Measurements, c.Machine = "waiting", nil, ""
				case i == 2 && mode == 1 && r > 0:
					c.Status = "lost"
				case i == 3 && r == 0:
					c.Measurements = nil
				}
				d.Cells = append(d.Cells, c)
			}
		}
	}
	return d
}

func TestTables(t *testing.T) {
	cells := func(text string) []Column {
		columns, err := ParseColumns(text)
		if err != nil {
			t.Fatal(err)
		}
		return columns
	}
	for name, q := range map[string]Query{
		"default": {Rows: []string{"I", "MODE"}},
		"pivot":   {Rows: []string{"I"}, Cols: []string{"MODE"}, Columns: cells("throughput")},
		"stats": {Rows: []string{"MODE"},
			Columns: cells(
				"n(throughput),mean(throughput),median(throughput),min(throughput),max(throughput),std(throughput),ci95(throughput)",
			)},
		"machines": {Rows: []string{"I", "machine"}, Cols: []string{"MODE"},
			Columns: cells("mean(throughput)")},
		"single": {Rows: []string{"I", "REPEAT"}, Columns: cells("throughput")},
		"all":    {Columns: cells("mean(rss),throughput")},
	} {
		t.Run(name, func(t *testing.T) {
			table, err := bench().Pivot(q)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			fmt.Fprintf(&out, "%s\n", table.Caption())
			m := table.Layout(" ± ")
			for _, row := range append([][]string{m.Header}, m.Rows...) {
				fmt.Fprintf(&out, "%s\n", strings.Join(row, "\t"))
			}
			for _, w := range table.Warnings {
				fmt.Fprintf(&out, "warning: %s\n", w)
			}
			for _, write := range []func(*bytes.Buffer) error{
				func(b *bytes.Buffer) error { return table.WriteMarkdown(b) },
				func(b *bytes.Buffer) error { return table.WriteLaTeX(b) },
				func(b *bytes.Buffer) error {
					return table.WriteCSV(b, func(s string) string { return s })
				},
				func(b *bytes.Buffer) error {
					enc := json.NewEncoder(b)
					enc.SetIndent("", "  ")
					return enc.Encode(table.Lines())
				},
			} {
				out.WriteString("\n")
				if err := write(&out); err != nil {
					t.Fatal(err)
				}
			}
			golden(t, "table-"+name+".txt", out.String())
		})
	}
}

func TestBadQueries(t *testing.T) {
	empty := bench()
	for i := range empty.Cells {
		empty.Cells[i].Measurements = nil
	}
	waiting := &Data{Axes: bench().Axes, Cells: []Cell{{Index: []uint32{0, 0}, Status: "waiting"}}}
	ended := &Data{Axes: bench().Axes, Cells: []Cell{{Index: []uint32{0, 0}, Status: "canceled"},
		{Index: []uint32{0, 1}, Status: "failed"}}}
	for _, c := range []struct {
		data *Data
		q    Query
		want string
	}{
		{bench(), Query{Rows: []string{"i"}}, "the sweep has no variable i"},
		{bench(), Query{Rows: []string{"I"}, Cols: []string{"I"}}, "I is named twice"},
		{bench(), Query{Columns: []Column{{"mean", "speed"}}},
			"no job of the sweep has the metric speed"},
		{empty, Query{}, "no job of the sweep has a metric"},
		{waiting, Query{}, "no job of the sweep is done yet"},
		{ended, Query{}, "no job of the sweep has succeeded, and all have ended"},
	} {
		_, err := c.data.Pivot(c.q)
		var own *Error
		if !errors.As(err, &own) || own.Msg != c.want || own.Next == "" {
			t.Errorf("%v: %v, want %s", c.q, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"":           `"" names no metric`,
		"mean(x":     `"mean(x" is not of the form STATISTIC(METRIC)`,
		"average(x)": `"average(x)" is not of the form STATISTIC(METRIC)`,
		"mean()":     `"mean()" names no metric`,
		"a b":        `"a b" names no metric`,
	} {
		if _, err := ParseColumns(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestUnevenMachines(t *testing.T) {
	kinds := map[string]string{"a": Kind(4, 8<<30, ""), "b": Kind(4, 8<<30-1, ""), "x": "old",
		"y": "new"}
	for name, c := range map[string]struct {
		machine func(c *Cell) string
		want    string
	}{
		"even": {func(c *Cell) string { return string("xy"[c.Repeat%2]) }, ""},
		"by mode": {func(c *Cell) string { return string("xy"[c.Index[1]]) },
			"machines differ, and were shared unevenly: MODE=small_&_tidy ran to 100 % on new, " +
				"MODE=fast to 0 %; --by machine shows them apart"},
		"alike":                     {func(c *Cell) string { return string("ab"[c.Index[1]]) }, ""},
		"alike, as far as is known": {func(c *Cell) string { return string("gh"[c.Index[1]]) }, ""},
		"one isn't known any more": {func(c *Cell) string { return string("xg"[c.Index[1]]) },
			"machines differ, and were shared unevenly: MODE=small_&_tidy ran to 100 % on a " +
				"machine that has left the pool, MODE=fast to 0 %; --by machine shows them apart"},
	} {
		d := bench()
		for i := range d.Cells {
			one := &d.Cells[i]
			one.Machine = c.machine(one)
			one.Kind = kinds[one.Machine]
		}
		table, err := d.Pivot(Query{Rows: []string{"I"}, Cols: []string{"MODE"}})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, w := range table.Warnings {
			if strings.Contains(w, "machine") {
				got = w
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestPlots(t *testing.T) {
	for name, p := range map[string]Plot{
		"series":  {X: "I", Y: "throughput", Series: "MODE", Format: "svg"},
		"nominal": {X: "MODE", Y: "throughput", Series: "I", Format: "svg", Title: "<b>&"},
		"log":     {X: "I", Y: "throughput", LogX: true, LogY: true, Format: "svg"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if _, err := bench().WritePlot(&out, p); err != nil {
				t.Fatal(err)
			}
			golden(t, "plot-"+name+".svg", out.String())
		})
	}
	var out bytes.Buffer
	if _, err := bench().WritePlot(&out, Plot{X: "I", Y: "throughput", Format: "png"}); err != nil {
		t.Fatal(err)
	}
	if img, err := png.DecodeConfig(&out); err != nil || img.Width < 1000 {
		t.Errorf("the picture is %v, %v", img, err)
	}
	for want, p := range map[string]Plot{
		"a plot can't be written as \"pdf\"": {X: "I", Y: "throughput",
			Format: "pdf"},
		"the values of MODE are not all numbers: they have no logarithm": {X: "MODE",
			Y: "throughput", LogX: true, Format: "svg"},
		"no job of the sweep has the metric x": {X: "I", Y: "x",
			Format: "svg"},
		"the sweep has no variable K": {X: "K", Y: "throughput",
			Format: "svg"},
	} {
		if _, err := bench().WritePlot(&out, p); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestOneLogarithm draws a single value on logarithmic axes, which have no range of their own then.
func TestOneLogarithm(t *testing.T) {
	d := &Data{Axes: []Axis{{"I", []string{"0.25"}}},
		Cells: []Cell{{Index: []uint32{0}, Status: "done",
			Measurements: []Measurement{{"y", 0.5, ""}}}}}
	var out bytes.Buffer
	if _, err := d.WritePlot(&out,
		Plot{X: "I", Y: "y", LogX: true, LogY: true, Format: "svg"}); err != nil {
		t.Fatal(err)
	}
	// An interval that reaches below 0 ends at the edge; a mean there can't be shown.
	d.Cells = append(d.Cells,
		Cell{Index: []uint32{0}, Repeat: 1, Status: "done",
			Measurements: []Measurement{{"y", 5, ""}}})
	warnings, err := d.WritePlot(&out, Plot{X: "I", Y: "y", LogX: true, LogY: true, Format: "svg"})
	if err != nil || len(warnings) != 1 || !strings.HasPrefix(warnings[0], "intervals that reach "+
		"down to 0, of which there are 1, end at the edge") {
		t.Errorf("%v, %q", err, warnings)
	}
	d.Cells[1].Measurements[0].Value = -5
	if _, err := d.WritePlot(&out, Plot{X: "I", Y: "y", LogY: true, Format: "svg"}); err == nil ||
		err.Error() != "y is not above 0 at I=0.25: it has no logarithm" {
		t.Error(err)
	}
	d.Axes[0].Values[0] = "0"
	if _, err := d.WritePlot(&out, Plot{X: "I", Y: "y", LogX: true, Format: "svg"}); err == nil ||
		err.Error() != "I=0 has no logarithm" {
		t.Error(err)
	}
}

func BenchmarkPivot100k(b *testing.B) {
	d := &Data{Axes: []Axis{{"I", nil}, {"J", nil}}}
	for i := range 100 {
		d.Axes[0].Values = append(d.Axes[0].Values, fmt.Sprint(i))
		d.Axes[1].Values = append(d.Axes[1].Values, fmt.Sprint(i))
	}
	for i := range uint32(100_000) {
		d.Cells = append(d.Cells,
			Cell{Index: []uint32{i / 1000, i / 10 % 100}, Repeat: i % 10, Status: "done",
				Measurements: []Measurement{{"y", float64(i), ""}}})
	}
	b.ReportAllocs()
	for b.Loop() {
		t, err := d.Pivot(Query{Rows: []string{"I"}, Cols: []string{"J"}})
		if err != nil {
			b.Fatal(err)
		}
		t.Layout(" ± ")
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("a,b\n1,2\n"))
	f.Add([]byte(`{"a":[1,{"b":2}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer budget.Hold(t, 1<<20+64*len(data))()
		measurements, _, err := ParseFile(data)
		for _, m := range measurements {
			if err != nil || !IsMeasurementName(m.Name) {
				t.Errorf("%v with %v", m, err)
			}
		}
	})
}
