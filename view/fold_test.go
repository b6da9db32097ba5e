package view

import (
	"fmt"
	"strings"
	"testing"
)

// TestFold: no line is too wide, and no text is lost.
func TestFold(t *testing.T) {
	for text, want := range map[string]string{
		"":                "",
		"1234567890":      "1234567890",
		"12345678901":     "1234567890\n  1",
		"  ab cdef ghijk": "  ab cdef\n    ghijk",
		"1 345678901234":  "1 34567890\n  1234",
		"日本語日本語日本":        "日本語日本\n  語日本",
		"          12345": "\n12345",
	} {
		if got := Fold(text, 10); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	var out strings.Builder
	f := Folder{W: &out}
	long := "  " + strings.Repeat("word ", 200)
	for _, piece := range []string{"a", "b\n", long[:99], long[99:] + "\n\nlast"} {
		if _, err := fmt.Fprint(&f, piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if strings.Join(strings.Fields(got), " ") != "ab "+strings.TrimSpace(long)+" last" ||
		!strings.HasPrefix(got, "ab\n  word ") || !strings.HasSuffix(got, "\n\nlast") {
		t.Errorf("it is %q", got)
	}
	for line := range strings.Lines(got) {
		if Width(strings.TrimSuffix(line, "\n")) > offTerminal {
			t.Errorf("%d columns: %.60q", Width(line), line)
		}
	}
}
