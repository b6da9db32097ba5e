package view

import (
	"strings"
	"testing"
)

// TestOffTerminal: whatever stands in a listing, a line of a file or a pipe can be read.
func TestOffTerminal(t *testing.T) {
	type row struct{ id, text, more string }
	columns := []Column[row]{
		{Title: "Job", IsID: true, Cell: Text(func(r row) string { return r.id })},
		{Title: "Command", Middle: true, Min: 20, Give: 1, Cell: Text(func(r row) string {
			return r.text
		})},
		{Title: "Output", Give: 4, Cell: Text(func(r row) string { return r.more })},
		{Title: "Vars", OnlyWide: true, Cell: Text(func(r row) string { return r.text })},
	}
	rows := []row{
		{"1", "short", ""},
		{"22", strings.Repeat("a long command ", 300), "and what came of it"},
		{"333", strings.Repeat("宽", 5000), strings.Repeat("x", 5000)},
		{"4444", "line one\nline two\tand a tab\x1b[31m", "Ready"},
	}
	for _, format := range []Format{Table, Wide} {
		var out strings.Builder
		if err := Write(&out, Options{Format: format}, columns, rows); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if Width(line) > offTerminal || strings.TrimRight(line, " ") != line {
				t.Errorf("%s: a line of %d columns: %.60q", format, Width(line), line)
			}
		}
		if strings.Count(out.String(), "\n") != len(rows)+1 {
			t.Errorf("%s: a row takes several lines:\n%s", format, out.String())
		}
	}
}

func TestFirstLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"true":                  "true",
		"true\n":                "true",
		"\n\n  true  ":          "true",
		"one\ntwo":              "one …",
		"one \r\ntwo\r\nthree":  "one …",
		"# why\nset -e\nmake x": "# why …",
	} {
		if got := FirstLine(text); got != want {
			t.Errorf("FirstLine(%q) = %q, want %q", text, got, want)
		}
	}
}
