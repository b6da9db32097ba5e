package top

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/api"
	"jobserver/live"
	"jobserver/tests/budget"
	"jobserver/view"
)

func TestLogLine(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"plain", "plain"}, {"with a return\r", "with a return"}, {"10%\r55%\r100%", "100%"},
		{"\x1b[1;32mgreen\x1b[0m", "green"}, {"\x1b]8;;https://x\x1b\\link\x1b]8;;\x07", "link"},
		{"\x1b]52;c;eA==\x07bell", "bell"},
		{"\x1bP1$r\x1b\\after", "after"}, {"a\tb", "a    b"}, {"broken \x1b", "broken "},
		{"broken \x1b[1", "broken "}, {"broken \x1b]0;t", "broken "},
		{"\x1b[2J\x1b[Hhome", "home"}, {"ümlaut ▶", "ümlaut ▶"},
	} {
		if got := logLine(test.line); got != test.want {
			t.Errorf("%q: %q, want %q", test.line, got, test.want)
		}
	}
}

// FuzzLogLine holds that nothing that controls a terminal is left of a line.
func FuzzLogLine(f *testing.F) {
	f.Add("\x1b[31mx\x1b]52;c;AA\x07\r\x9b1m")
	f.Fuzz(func(t *testing.T, line string) {
		defer budget.Hold(t, 1<<20+64*len(line))()
		for _, r := range logLine(line) {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
				t.Fatalf("%q has %q", line, r)
			}
		}
	})
}

// TestGrid holds that each cell has one place, and says where the first ones are.
func TestGrid(t *testing.T) {
	axis := func(n int) api.Axis { return api.Axis{Count: n} }
	for _, test := range []struct {
		name          string
		m             api.Matrix
		width         int
		columns, rows int
		row           []int // the cells of the first
	}{
		{"the longest axis across", api.Matrix{Vars: []api.Axis{axis(5), axis(2)}, Cells: 10}, 78,
			5, 2, []int{0, 2, 4, 6, 8}},
		{"repeats are one", api.Matrix{Vars: []api.Axis{axis(2)}, Repeats: 3, Cells: 6}, 78, 3, 2,
			[]int{0, 1, 2}},
		{"the longest that has room", api.Matrix{Vars: []api.Axis{axis(90), axis(3)}, Cells: 270},
			80, 3, 90, []int{0, 1, 2}},
		{"cells from a list",
			api.Matrix{Vars: []api.Axis{axis(5), axis(2)}, Cells: 7, Listed: true}, 4, 4, 2,
			[]int{0, 1, 2, 3}},
		{"one cell", api.Matrix{Cells: 1}, 78, 1, 1, []int{0}},
	} {
		columns, rows, at := grid(&test.m, test.width)
		var row []int
		seen := map[int]bool{}
		for y := range rows {
			for x := range columns {
				if y == 0 {
					row = append(row, at(x, y))
				}
				if cell := at(x, y); cell < test.m.Cells {
					seen[cell] = true
				}
			}
		}
		if columns != test.columns || rows != test.rows || len(seen) != test.m.Cells {
			t.Errorf("%s: %d × %d, %d cells", test.name, columns, rows, len(seen))
		}
		if diff := cmp.Diff(test.row, row); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// TestPaintFits paints screens of all sizes: never more lines than there are, none wider.
func TestPaintFits(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := newScreen(
		Options{Name: "a host with a long name", Now: func() time.Time { return now }, Color: true},
	)
	s.live = live.State{
		Version: 1,
		Online:  true,
		Status:  api.Status{Jobs: api.Counts{Running: 12, Done: 1_000_312, Failed: 3}},
	}
	s.panes[paneJobs].(*jobs).list = []api.Job{
		{
			JID:     1_100_001,
			Status:  "running",
			Cmd:     strings.Repeat("long ", 50),
			Machine: "user@machine.example.org",
		},
	}
	s.panes[paneTimeline].(*times).reply = &api.TimelineReply{
		Ready:   1,
		Columns: 60,
		Rows:    []api.TimelineRow{{Machine: "red", Done: make([]byte, 60)}},
	}
	for height := range 30 {
		for _, width := range []int{1, 5, 20, 39, 80, 200} {
			for pane := range paneCount {
				for _, more := range []func(){
					func() {}, func() {
						s.job, s.what, s.lines_ = 17, "l", []string{strings.Repeat("x", 300), "y"}
					},
					func() {
						s.question = &question{change: change{kind: "job", op: "cancel",
							what: "job 1"}}
					}, func() { s.help = true },
				} {
					s.pane, s.width, s.height, s.job, s.question, s.help = pane, width, height, 0,
						nil, false
					if s.panes[paneTimeline].(*times).reply.Columns = max(
						width-s.panes[paneTimeline].(*times).labelWidth(width)-4,
						10,
					); true {
						more()
					}
					text := s.paint()
					lines := strings.Split(text, "\n")
					if height > 0 && len(lines) > height {
						t.Fatalf("%d × %d, pane %d: %d lines", width, height, pane, len(lines))
					}
					for _, line := range lines {
						if w := view.Width(withoutEscapes(line)); w > width && width >= 20 {
							t.Fatalf(
								"%d × %d, pane %d: a line of %d: %q",
								width,
								height,
								pane,
								w,
								line,
							)
						}
					}
				}
			}
		}
	}
}
