package view

import (
	"bytes"
	"testing"
)

// TestSafeCSV: no cell is a formula to a spreadsheet when that is asked for; else all are as they
// are.
func TestSafeCSV(t *testing.T) {
	cells := map[string]string{
		"=1+2": "'=1+2", "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0", "-2+3": "'-2+3",
		"@SUM(1)": "'@SUM(1)",
		"\t=1":    "'\t=1", "\r=1": "'\r=1", "-1.5": "-1.5", "+3": "+3", "-1e-3": "-1e-3",
		"plain": "plain", "": "", "a=b": "a=b",
	}
	for cell, want := range cells {
		if got := NoFormula(cell); got != want {
			t.Errorf("%q becomes %q, want %q", cell, got, want)
		}
	}
	columns := []Column[string]{{Key: "k", Value: func(s string) string { return s }}}
	for safe, want := range map[bool]string{false: "k\n=1+2\n", true: "k\n'=1+2\n"} {
		var out bytes.Buffer
		if err := Write(&out, Options{Format: CSV, SafeCSV: safe}, columns,
			[]string{"=1+2"}); err != nil || out.String() != want {
			t.Errorf("safe %v: %q, %v", safe, out.String(), err)
		}
	}
}
