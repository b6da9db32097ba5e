package grid

import "testing"

// TestFunctionRange: how a range of Python's is written here, and what is none.
func TestFunctionRange(t *testing.T) {
	for text, want := range map[string]string{
		"range(10)":      "0..9",
		"range(0,10)":    "0..9",
		"range(2, 9, 3)": "2..8+3",
		"range(0)":       "0..0",
		"range(a,b)":     "",
		"range(1,2,3,4)": "",
		"arrange(1,2)":   "",

		"arange(0,4)":          "0..3",
		"np.arange(2, 9, 3)":   "2..8+3",
		"linspace(0,1,5)":      "0..1/5",
		"np.linspace(-1, 1,9)": "-1..1/9",
		"linspace(0,1)":        "",
		"1,2":                  "",
		"range":                "",
	} {
		if got := functionRange(text); got != want {
			t.Errorf("%q is written %q, want %q", text, got, want)
		}
	}
}

// TestOtherList: how several values are written here, and what are none.
func TestOtherList(t *testing.T) {
	for text, want := range map[string]string{
		"[1,2]":          "1,2",
		"[1, 2, 3]":      "1,2,3",
		"(a,b)":          "a,b",
		"choice(1,2)":    "1,2",
		"choice(1, 2)":   "1,2",
		"[1]":            "",
		"[1,2],[3,4]":    "",
		"[[1,2],[3,4]]":  "",
		"{\"a\": 1,2}":   "",
		"[\"a\", \"b\"]": "",
		"choice(1,2":     "",
		"1,2":            "",
		"":               "",
		"f(1,2)":         "",
	} {
		if got := otherList(text); got != want {
			t.Errorf("%q is written %q, want %q", text, got, want)
		}
	}
}

// TestOtherRange: how a range of other programs' is written here, and what is none.
func TestOtherRange(t *testing.T) {
	for text, want := range map[string]string{
		"1-4":         "1..4",
		"1:4":         "1..4",
		"0:10:2":      "0..10+2",
		"0:1:0.1":     "0..1+0.1",
		"-1:1:0.5":    "-1..1+0.5",
		"0..10:2":     "0..10+2",
		"[1..4]":      "1..4",
		"[0..10+5]":   "0..10+5",
		"[a..b]":      "",
		"[1]":         "",
		"10:30:00":    "", // a time of day
		"2026-12-01":  "",
		"1-4-2":       "",
		"localhost:1": "",
		"0.1:0.5":     "",
		"1.2.3":       "",
		"":            "",
	} {
		if got := otherRange(text); got != want {
			t.Errorf("%q is written %q, want %q", text, got, want)
		}
	}
}
