package view

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

var update = flag.Bool("update", false, "write what is printed now to testdata")

// sample is a row such as the listings have, with its own JSON.
type sample struct {
	JID     int     `json:"jid"`
	Status  string  `json:"status"`
	Class   string  `json:"class"`
	Cmd     string  `json:"cmd"`
	Machine string  `json:"machine,omitempty"`
	Output  string  `json:"results_dir,omitempty"`
	Seconds float64 `json:"duration_seconds,omitempty"`
}

var sampleColumns = []Column[sample]{
	{Title: "Job", Key: "jid", IsID: true, Right: true, Cell: Text(func(s sample) string {
		return strconv.Itoa(s.JID)
	})},
	{Title: "Status", Key: "status", Cell: Styled(func(s sample) string {
		return s.Status + " (3m12s)"
	}, func(s sample) Style { return StatusStyle(s.Status, s.Output != "") }),
		Value: func(s sample) string { return s.Status }},
	{Title: "Class", Key: "class", Give: 2, Max: 12, Cell: Text(func(s sample) string {
		return s.Class
	})},
	{Title: "Command", Key: "cmd", Middle: true, Min: 16, Give: 3,
		Cell: Text(func(s sample) string {
			return s.Cmd
		})},
	{Title: "Machine", Key: "machine", Give: 4, Cell: Text(func(s sample) string {
		return s.Machine
	})},
	{Title: "Output", Key: "results_dir", Middle: true, Give: 5, Cell: Text(func(s sample) string {
		return s.Output
	})},
	{Title: "Jobs", Key: "counts", Give: 6, OnlyWide: true, Cell: func(s sample) []Span {
		return Counts{Done: s.JID, Failed: 4}.Short()
	}},
	{Key: "duration_seconds", Value: func(s sample) string { return fmt.Sprint(s.Seconds) }},
}

var samples = []sample{
	{1, "done", "small", "true", "local", "", 192},
	{2, "done", "bare-metal-with-a-long-name",
		"./run.sh --threads 8 --workload ycsb-a --duration 300 --seed 42 > out.txt",
		"user@c220g5-110417.wisc.example.org:22", "/home/me/results/ycsb/2/", 0.5},
	{30, "failed", "small", "printf 'a\nb' && echo \"\x1b]0;pwned\a\" <in >out, then " +
		"日本語のコマンドはどう見えますか", "user@gpu3", "", 0},
	{99999, "waiting", "small", "sleep 1", "", "", 0},
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestTables(t *testing.T) {
	for _, width := range []int{20, 60, 80, 120, 200, 0} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			var out bytes.Buffer
			opt := Options{Format: Table, Screen: Screen{Terminal: width > 0, Width: width}}
			if err := Write(&out, opt, sampleColumns, samples); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				line = strings.TrimSuffix(line, "\n")
				if width > 0 && Width(line) > width {
					t.Errorf("%d columns in %q", Width(line), line)
				}
				if strings.HasSuffix(line, " ") {
					t.Errorf("blanks at the end of %q", line)
				}
			}
			checkGolden(t, fmt.Sprintf("table-%d.txt", width), out.Bytes())
		})
	}
}

// Columns that say nothing leave first, whatever they are.
func TestEmptyColumnsLeave(t *testing.T) {
	columns := []Column[int]{
		{Title: "Machine", Cell: Text(func(int) string { return "gpu1" })},
		{Title: "Running", Give: 1, Cell: Text(func(int) string { return "" })},
		{Title: "Why", Give: 2, Cell: Text(func(int) string { return "away" })},
	}
	for width, want := range map[int]string{
		40: "Machine  Running  Why\ngpu1              away\n",
		20: "Machine  Why\ngpu1     away\n",
		10: "Machine\ngpu1\n",
	} {
		var out bytes.Buffer
		if err := Write(&out, Options{Format: Table, Screen: Screen{Terminal: true, Width: width}},
			columns, []int{0}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", width, diff)
		}
	}
}

// Where nothing is shortened, the columns stand in their order all the same, and align.
func TestLongCells(t *testing.T) {
	long := strings.Repeat("long ", 10)
	text := func(title string, cells ...string) Column[int] {
		return Column[int]{Title: title, Cell: Text(func(row int) string { return cells[row] })}
	}
	columns := []Column[int]{text("A", long, "a"), text("B", "b", "b"),
		text("C", "c", long+long+"c"), text("D", "d", "d")}
	aligned := "A" + strings.Repeat(" ", 51) + "B  C" + strings.Repeat(" ", 102) + "D\n" +
		long + "  b  c" + strings.Repeat(" ", 102) + "d\na" + strings.Repeat(" ", 51) + "b  " +
		long + long + "c  d\n"
	tests := []struct {
		name   string
		format Format
		width  int
		want   string
	}{
		{"a pipe", Table, 0, aligned},
		{"a wide terminal", Wide, 180, aligned},
		{"a narrow terminal", Wide, 80, "A  " + long + "\nB  b\nC  c\nD  d\n\nA  a\nB  b\nC  " +
			long + long + "c\nD  d\n"},
	}
	for _, test := range tests {
		var out bytes.Buffer
		opt := Options{Format: test.format,
			Screen: Screen{Terminal: test.width > 0, Width: test.width}}
		if err := Write(&out, opt, columns, []int{0, 1}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, format := range Formats() {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			opt := Options{Format: Format(format),
				Screen: Screen{Terminal: true, Width: 80, Color: true}}
			p, err := NewPrinter(&out, opt, sampleColumns)
			if err != nil {
				t.Fatal(err)
			}
			for _, page := range [][]sample{samples[:1], nil, samples[1:]} {
				if err := p.Print(page...); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			checkGolden(t, "all."+format, out.Bytes())
		})
	}
	if _, err := NewPrinter(&bytes.Buffer{}, Options{Format: "xml"}, sampleColumns); err == nil ||
		!strings.Contains(err.Error(), "jsonl") {
		t.Errorf("an unknown format: %v", err)
	}
}

func TestEmptyListings(t *testing.T) {
	want := map[string]string{
		"table": "Job  Status  Class  Command  Machine  Output\n",
		"wide":  "Job  Status  Class  Command  Machine  Output  Jobs\n",
		"json":  "[]\n",
		"jsonl": "",
		"csv":   "jid,status,class,cmd,machine,results_dir,counts,duration_seconds\n",
		"id":    "",
	}
	for _, format := range Formats() {
		var out bytes.Buffer
		if err := Write(&out, Options{Format: Format(format)}, sampleColumns, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[format], out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
		out.Reset()
		if err := Write(&out, Options{Format: Format(format), NoHeader: true}, sampleColumns,
			nil); err != nil {
			t.Fatal(err)
		}
		if format != "json" && out.Len() > 0 {
			t.Errorf("%s without a header: %q", format, out.String())
		}
	}
}

func TestStructuredFormatsOnATerminal(t *testing.T) {
	row := sample{JID: 7, Cmd: "a\u009b31m\u202e\U000e0041\x7f\x1b\nb"}
	tests := []struct {
		format   Format
		terminal bool
		want     string
	}{
		{JSONL, true,
			`{"jid":7,"status":"","class":"","cmd":"a\u009b31m\u202e\udb40\udc41\u007f\u001b\nb"}` +
				"\n"},
		{JSONL, false, `{"jid":7,"status":"","class":"","cmd":"a` +
			"\u009b31m\u202e\U000e0041\x7f" + `\u001b\nb"}` + "\n"},
		{CSV, true, `7,,,a\u009b31m\u202e\U000e0041␡␛␊b,,,7D 4F,0` + "\n"},
		{CSV, false, `7,,,"a` + "\u009b31m\u202e\U000e0041\x7f\x1b\nb" + `",,,7D 4F,0` + "\n"},
	}
	for _, test := range tests {
		var out bytes.Buffer
		opt := Options{Format: test.format, NoHeader: true, Screen: Screen{Terminal: test.terminal}}
		if err := Write(&out, opt, sampleColumns, []sample{row}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, out.String()); diff != "" {
			t.Errorf("%s, %v (-want +got):\n%s", test.format, test.terminal, diff)
		}
		if test.format == JSONL {
			var back sample
			if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != row {
				t.Errorf("%s reads as %+v, %v", out.String(), back, err)
			}
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWriteErrorsAreTold(t *testing.T) {
	for _, format := range Formats() {
		if err := Write(brokenWriter{}, Options{Format: Format(format)}, sampleColumns,
			samples); err == nil {
			t.Errorf("%s: no error", format)
		}
	}
}

func TestWriteObject(t *testing.T) {
	var out bytes.Buffer
	if err := WriteObject(&out, JSON, samples[0]); err != nil {
		t.Fatal(err)
	}
	if err := WriteObject(&out, JSONL, map[string]string{"cmd": "a <b> & c"}); err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "object.json", out.Bytes())
}

func FuzzTable(f *testing.F) {
	f.Add("cmd", "class", 10, 3, 2, false)
	f.Add("日本語", "\x1b[31m", 7, 0, 9, true)
	f.Add("e\u0301\u0600", "🇩🇪", 1, 5, 0, true)
	f.Fuzz(func(t *testing.T, a, b string, width, least, limit int, right bool) {
		defer budget.Hold(t, 1<<20+64*(len(a)+len(b)))()
		width = 1 + max(0, width%200)
		columns := []Column[string]{
			{Title: "A" + b, Cell: Text(func(s string) string {
				return s
			}), Middle: true, Min: least % 50, Give: 1, Right: right},
			{Title: "B", Cell: func(s string) []Span {
				return []Span{{a, Red}, {"/", Plain}, {b, Blue}}
			}, Max: limit % 50, Give: limit % 3},
			{Title: "C", Cell: Text(func(string) string { return b })},
		}
		var out bytes.Buffer
		opt := Options{Format: Table, Screen: Screen{Terminal: true, Width: width}}
		if err := Write(&out, opt, columns, []string{a, b}); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(out.String(), "\n"); lines != 3 {
			t.Errorf("%d lines in %q", lines, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if w := Width(strings.TrimSuffix(line, "\n")); w > width {
				t.Errorf("%q has %d columns, not %d", line, w, width)
			}
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	rows := make([]sample, 1000)
	for i := range rows {
		rows[i] = samples[1]
	}
	b.ReportAllocs()
	for b.Loop() {
		var out bytes.Buffer
		if err := Write(&out, Options{Format: JSON}, sampleColumns, rows); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(out.Len()))
	}
}
