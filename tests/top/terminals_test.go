package top_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// colour is one of what a screen is painted with.
var colour = regexp.MustCompile(`\x1b\[[0-9;:]*(3[0-9]|4[0-9]|9[0-7])m`)

// TestPoorTerminals: on terminals that can little, say little of themselves or are small, it shows
// what there is room for, answers keys, and leaves as it should.
func TestPoorTerminals(t *testing.T) {
	t.Parallel()
	d := night(t)
	for _, test := range []struct {
		what          string
		width, height int
		env           []string
		coloured      bool
		shows         string
	}{
		{"a terminal as others", 80, 24, nil, true, "echo held"},
		{"that wants no colours", 80, 24, []string{"NO_COLOR=1"}, false, "echo held"},
		{"that is dumb", 80, 24, []string{"TERM=dumb"}, false, "echo held"},
		{"without a name", 80, 24, []string{"TERM="}, false, "echo held"},
		{"that nobody knows", 80, 24, []string{"TERM=mine-own"}, true, "echo held"},
		{"without a locale", 80, 24, []string{"LC_ALL=C", "LANG="}, true, "echo held"},
		{"of 20 by 5", 20, 5, nil, true, "held"},
		{"of 20 by 5 that is dumb", 20, 5, []string{"TERM=dumb"}, false, "held"},
		{"of a line", 80, 1, nil, false, "? help"},
		{"of 1 by 1", 1, 1, nil, false, ""},
	} {
		term := start(t, test.width, test.height, test.env, d.Binary, "--socket", d.Socket, "top")
		term.until(test.what, func(text string) bool {
			return strings.Contains(text, test.shows) && term.output() != ""
		})
		term.types("jl2345?1")
		term.types("q")
		if code := term.ends(); code != 0 {
			t.Errorf("%s: it ended with %d\n%s", test.what, code, term.text())
		}
		if got := colour.MatchString(term.output()); got != test.coloured {
			t.Errorf("%s: colours: %v\n%q", test.what, got, term.output())
		}
	}
}

// TestResized: however the window is drawn about, the last size is the one that is painted.
func TestResized(t *testing.T) {
	t.Parallel()
	d := night(t)
	term := start(t, 80, 24, nil, d.Binary, "--socket", d.Socket, "top")
	term.sees("echo held")
	for i := range 400 {
		size := &pty.Winsize{Rows: uint16(1 + i*7%60), Cols: uint16(1 + i*13%200)}
		if i == 399 {
			size = &pty.Winsize{Rows: 24, Cols: 80}
		}
		term.mu.Lock()
		term.screen.Resize(int(size.Cols), int(size.Rows))
		term.mu.Unlock()
		if err := pty.Setsize(term.file, size); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			term.types("\t")
		}
	}
	term.types("1")
	text := term.until("one screen", func(text string) bool {
		return strings.Count(text, "[1 Jobs]") == 1 && strings.Contains(text, "echo held")
	})
	if lines := strings.Split(strings.TrimRight(text, "\n"), "\n"); len(lines) > 24 {
		t.Errorf("%d lines:\n%s", len(lines), text)
	}
	term.types("q")
	if code := term.ends(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}
