package top

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/api"
	"jobserver/stats"
)

// screenOf is one that lists jobs 3, 2 and 1.
func screenOf(words ...string) *screen {
	s := newScreen(Options{Now: func() time.Time { return time.Unix(1_700_000_000, 0) }})
	list := s.panes[paneJobs].(*jobs)
	list.words = words
	list.list = []api.Job{{JID: 3, Machine: "red"}, {JID: 2}, {JID: 1}}
	list.set(0)
	return s
}

// TestMarks: a change is about the current job, what is marked, or all that the selector matches.
func TestMarks(t *testing.T) {
	for _, test := range []struct {
		keys, what string
		names      []string
	}{
		{"c", "job 3", []string{"3"}},
		{"space c", "job 3", []string{"3"}},
		{"space space c", "2 marked jobs", []string{"2", "3"}},
		{"space k space c", "job 2", []string{"2"}},
		{"* c", "all that match :waiting", []string{":waiting"}},
		{"* * c", "job 3", []string{"3"}},
		{"* space c", "job 3", []string{"3"}},
		{"space esc c", "job 2", []string{"2"}},
		{"G c", "job 1", []string{"1"}},
	} {
		s := screenOf(":waiting")
		for key := range strings.FieldsSeq(test.keys) {
			s.key(key)
		}
		if s.question == nil || s.question.what != test.what {
			t.Errorf("%s: %+v", test.keys, s.question)
			continue
		}
		if diff := cmp.Diff(test.names, s.question.names); diff != "" {
			t.Errorf("%s: %s", test.keys, diff)
		}
	}
	s := screenOf()
	s.key("*")
	marked := s.panes[paneJobs].(*jobs).text()
	if marked != "" || !strings.Contains(s.said, "selector first") {
		t.Errorf("all jobs there are: %q", s.said)
	}
}

// TestGoTo: a number is a job, a word the beginning of a pane's title.
func TestGoTo(t *testing.T) {
	for _, test := range []struct {
		text string
		pane int
		job  uint64
		said string
	}{
		{"17", paneJobs, 17, ""},
		{"time", paneTimeline, 0, ""},
		{"Machines", paneMachines, 0, ""},
		{"", paneEvents, 0, `"" is neither a job's id nor a pane`},
		{"0", paneEvents, 0, `"0" is neither a job's id nor a pane`},
		{"nowhere", paneEvents, 0, `"nowhere" is neither a job's id nor a pane`},
		{"99999999999999999999", paneEvents, 0,
			`"99999999999999999999" is neither a job's id nor a pane`},
	} {
		s := screenOf()
		s.pane = paneEvents
		s.goTo(test.text)
		if s.pane != test.pane || s.job != test.job || s.said != test.said {
			t.Errorf("%q: pane %d, job %d, %q", test.text, s.pane, s.job, s.said)
		}
	}
	s := screenOf()
	if s.key("t"); s.pane != paneTimeline || s.panes[paneTimeline].(*times).wanted != "red" {
		t.Error("t shows pane", s.pane)
	}
	s = screenOf()
	s.key("j")
	if s.key("t"); s.pane != paneJobs || s.said == "" {
		t.Error("a job that is on no machine has a time", s.pane)
	}
}

// TestValues draws values without colours as digits, and with them two rows a line.
func TestValues(t *testing.T) {
	m := &api.Matrix{ID: 1, Vars: []api.Axis{{Count: 3}, {Count: 2}}, Cells: 6}
	c := &cells{shown: "loss", unit: "nats", metrics: []string{"loss"},
		status: []byte{api.MapDone, api.MapDone, api.MapDone, api.MapDone, api.MapFailed,
			api.MapWaiting},
		values: []float64{1, 2, 3, 4, math.NaN(), math.NaN()}}
	s := newScreen(Options{})
	s.width = 60
	want := []string{"── loss of matrix 1 ── 1 … 4 nats ", "  06✗", "  39·"}
	if diff := cmp.Diff(want, c.lines(s, m, 60, 9)); diff != "" {
		t.Error(diff)
	}
	s.Color = true
	lines := c.lines(s, m, 60, 9)
	if len(lines) != 2 || strings.Count(lines[1], "▀") != 2 ||
		strings.Count(lines[1], ";48;5;") != 2 {
		t.Errorf("%q", lines)
	}
	c.table = &stats.Matrix{}
	var shown []string
	for range 3 {
		c.next()
		shown = append(shown, c.shown)
	}
	if diff := cmp.Diff([]string{asTable, "", "loss"}, shown); diff != "" {
		t.Error(diff)
	}
}

// TestAway: a machine that was away has its line, unless it was busy.
func TestAway(t *testing.T) {
	from := time.Unix(1_700_000_000, 0)
	r := &api.TimelineReply{Columns: 10, From: from, To: from.Add(100 * time.Second),
		Rows: []api.TimelineRow{{Machine: "red", Done: []byte{15, 15, 0, 15, 0, 0, 0, 0, 0, 0}}},
		Absent: []api.Absence{{Machine: "red", From: from.Add(25 * time.Second),
			To: from.Add(45 * time.Second)}, {Machine: "red", From: from.Add(81 * time.Second)},
			{Machine: "blue", From: from}},
	}
	text := ""
	for _, span := range rowSpans(r, 0) {
		text += span.Text
	}
	if text != "██╌█╌···╌╌" {
		t.Error(text)
	}
}
