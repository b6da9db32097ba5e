package agent

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestBeginningAndEnd: of a log that is longer than it may be, the beginning and the end are kept,
// and what is left of whole lines; it is never longer, and all that isn't there is counted.
func TestBeginningAndEnd(t *testing.T) {
	lines := func(n int) string {
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, "line %06d\n", i)
		}
		return all.String() // 12 bytes each
	}
	for name, test := range map[string]struct {
		limit int64
		text  string
		gap   bool // and lines before and after it
		whole bool
	}{
		"no limit":              {0, lines(1000), false, true},
		"less":                  {20_000, lines(1000), false, true},
		"into what is for both": {12_500, lines(1000), false, true},
		"more":                  {8_000, lines(1000), true, false},
		"much more":             {8_000, lines(100_000), true, false},
		"of a large one":        {1 << 20, lines(200_000), true, false},
		"a small log":           {1_000, lines(1000), false, false},
		"one long line":         {8_000, strings.Repeat("x", 50_000), true, false},
		"empty":                 {8_000, "", false, true},
	} {
		for _, piece := range []int{1, 7, 1000, 100_000, 10_000_000} {
			file := &memory{room: 1 << 30}
			var said int64
			s := stream{max: test.limit, said: func(n int64) { said = n },
				create: func() (io.WriteCloser, error) { return file, nil }}
			if piece == 1 && len(test.text) > 100_000 {
				continue
			}
			for rest := test.text; rest != ""; rest = rest[min(piece, len(rest)):] {
				s.take([]byte(rest[:min(piece, len(rest))]))
			}
			s.end()
			got := file.String()
			what := fmt.Sprintf("%s, in pieces of %d", name, piece)
			head, end, gap := strings.Cut(got, "\n[jobserver: ")
			note, end, _ := strings.Cut(end, "]\n")
			if gap != test.gap || test.whole != (got == test.text) ||
				test.limit > 0 && int64(len(got)) > test.limit {
				t.Errorf("%s: %d bytes of %d, gap %v", what, len(got), len(test.text), gap)
			}
			if s.written != int64(len(got)) || s.crc != checksum([]byte(got)) ||
				s.dropped < said || !strings.HasPrefix(test.text, head) {
				t.Errorf("%s: %d written, %d dropped, %d said", what, s.written, s.dropped, said)
			}
			if int64(len(head)+len(end)) != int64(len(test.text))-s.dropped {
				t.Errorf("%s: %d and %d bytes of %d, %d dropped", what, len(head), len(end),
					len(test.text), s.dropped)
			}
			if !gap {
				continue
			}
			var left int64
			fmt.Sscanf(note, "%d bytes", &left)
			if left != s.dropped || !strings.HasSuffix(test.text, end) || end == "" ||
				strings.Contains(test.text, "\n") && !strings.HasPrefix(end, "line ") {
				t.Errorf("%s: %q, %d dropped; then %.30q", what, note, s.dropped, end)
			}
		}
	}
}

// TestEndOnFullDisk: what the disk doesn't take of a log's end is counted as well.
func TestEndOnFullDisk(t *testing.T) {
	file := &memory{room: 6_100}
	s := stream{max: 8_000, create: func() (io.WriteCloser, error) { return file, nil }}
	s.take([]byte(strings.Repeat("x", 20_000)))
	s.end()
	if s.written != 6_100 || s.err == nil || s.dropped < 20_000-6_100 || s.dropped > 20_000-6_000 {
		t.Errorf("%d written, %d dropped, %v", s.written, s.dropped, s.err)
	}
}
