package sched

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jobserver/sched/statepb"
	"jobserver/tests/budget"
)

func TestParseSelector(t *testing.T) {
	tests := []struct {
		word string
		want Selector
		err  string // part of the message, or of its hint
	}{
		{word: "17", want: Selector{Base: BaseID, First: 17}},
		{word: "3..9", want: Selector{Base: BaseRange, First: 3, Last: 9}},
		{word: "last", want: Selector{Base: BaseLast}},
		{word: "last~2", want: Selector{Base: BaseLast, First: 2}},
		{word: "%93", want: Selector{Base: BaseMatrix, Name: "93"}},
		{word: "%seeds:failed",
			want: Selector{Base: BaseMatrix, Name: "seeds", Statuses: []Status{Failed}}},
		{word: "@nightly", want: Selector{Base: BaseTag, Name: "nightly"}},
		{word: ":failed", want: Selector{Statuses: []Status{Failed}}},
		{word: ":lost:failed", want: Selector{Statuses: []Status{Failed, Lost}}},
		{word: ":cancelled", want: Selector{Statuses: []Status{Canceled}}},
		{word: ":uncopied", want: Selector{Uncopied: true}},
		{word: "@t:done:uncopied",
			want: Selector{Base: BaseTag, Name: "t", Statuses: []Status{Done}, Uncopied: true}},
		{word: "class=foo:waiting",
			want: Selector{Base: BaseClass, Name: "foo", Statuses: []Status{Waiting}}},
		{word: "machine=u@h:22", want: Selector{Base: BaseMachine, Name: "u@h:22"}},
		{word: "machine=u@h:22:done",
			want: Selector{Base: BaseMachine, Name: "u@h:22", Statuses: []Status{Done}}},
		{word: "machine=[::1]:22", want: Selector{Base: BaseMachine, Name: "[::1]:22"}},
		{word: "", err: "empty selector"},
		{word: "x", err: "not a number"},
		{word: "-1", err: "not a number"},
		{word: "9..3", err: "3..9"},
		{word: "3..", err: "a range has both ends"},
		{word: "3-9", err: "did you mean 3..9?"},
		{word: "3:9", err: "did you mean 3..9?"},
		{word: "3...9", err: "did you mean 3..9?"},
		{word: "3,5", err: "did you mean 3 5?"},
		{word: "[3,5-7]", err: "did you mean 3 5..7?"},
		{word: "3,x", err: "selectors look like"},
		{word: "#17", err: "did you mean 17?"},
		{word: "J17", err: "did you mean 17?"},
		{word: "[17]", err: "did you mean 17?"},
		{word: "failed", err: "did you mean :failed?"},
		{word: "FAILED", err: "did you mean :failed?"},
		{word: "state=Done", err: "did you mean status=done?"},
		{word: "state=odd", err: "selectors look like"},
		{word: ",", err: "selectors look like"},
		{word: "17:odd", err: "statuses are"},
		{word: "last~x", err: "not a number"},
		{word: "99999999999999999999", err: "too large"},
		{word: ":faild", err: "did you mean :failed?"},
		{word: "%", err: "names nothing"},
		{word: "@", err: "names nothing"},
		{word: "class=", err: "names nothing"},
	}
	for _, test := range tests {
		got, err := ParseSelector(test.word)
		if test.err != "" {
			e, ok := err.(*Error)
			if !ok || e.Kind != Invalid || !strings.Contains(e.Msg+e.Next, test.err) {
				t.Errorf("ParseSelector(%q): %v, want %q", test.word, err, test.err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(Selector{})); err != nil ||
			diff != "" {
			t.Errorf("ParseSelector(%q): %v\n%s", test.word, err, diff)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, seed := range []string{"17", "3..9", "last~2", "%93:failed", "@t", ":uncopied",
		"class=x", "machine=a:1:done", ":", "::", "..", "last~", "+1"} {
		f.Add(seed)
	}
	s := NewState()
	f.Fuzz(func(t *testing.T, word string) {
		defer budget.Hold(t, 1<<20+64*len(word))()
		sel, err := ParseSelector(word)
		if err != nil {
			if e, ok := err.(*Error); !ok || e.Kind != Invalid {
				t.Errorf("%q: %#v", word, err)
			}
			return
		}
		if sel.Base == BaseRange && sel.Last < sel.First {
			t.Errorf("%q: %+v", word, sel)
		}
		if _, err := s.Select([]string{word}); err == nil {
			t.Errorf("%q selects something of nothing", word)
		}
	})
}

// TestSelect: jobs 1 to 3 (the last one tagged t, id 3 the tag's own), a matrix 5 named m with
// cells 6 to 9.
func TestSelect(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	_, err := w.submit(JobSpec{Class: "x", Cmd: "work"}, JobSpec{Class: "y", Cmd: "work"})
	check(t, err)
	_, err = w.submit(JobSpec{Class: "x", Cmd: "work", Tag: "t", CpPath: "/r"})
	check(t, err)
	check(t,
		w.do(w.s.PlanMatrix(MatrixSpec{Name: "m", Job: JobSpec{Class: "x", Cmd: "c {A}"},
			Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2", "3", "4"}}}}, false)))
	w.ends(t, 1, exit(0))
	w.ends(t, 4, withResults("out"))
	check(t, w.report(CopyEnded{Job: 4, Error: "no"}))
	w.ends(t, 6, exit(1))
	tests := []struct {
		words string
		want  []uint64
		kind  Kind
	}{
		{"", []uint64{1, 2, 4, 6, 7, 8, 9}, ""},
		{"1", []uint64{1}, ""},
		{"3", []uint64{4}, ""},          // a tag's bare id
		{"5", []uint64{6, 7, 8, 9}, ""}, // a matrix's
		{"2..7", []uint64{2, 4, 6, 7}, ""},
		{"9 1 1..2", []uint64{1, 2, 9}, ""},
		{"last", []uint64{9}, ""},
		{"last~6", []uint64{1}, ""},
		{"last~7", nil, NotFound},
		{"%m:failed", []uint64{6}, ""},
		{"status=failed", []uint64{6}, ""},
		{"status=done,failed", []uint64{1, 4, 6}, ""},
		{"status=fialed", nil, Invalid},
		{"%m,A=2", []uint64{7}, ""},
		{"%m,A=2.0", []uint64{7}, ""},
		{"%5,A=1:failed", []uint64{6}, ""},
		{"%m,A=1:done", nil, NoMatch},
		{"%m,A=2,REPEAT=0", []uint64{7}, ""},
		{"%m,A=2,REPEAT=1", nil, NoMatch},
		{"%m,A=7", nil, NoMatch},
		{"%m,B=2", nil, Invalid},
		{"%m,A", nil, Invalid},
		{"%m,A=a:80", nil, NoMatch}, // a value may have a colon
		{"since=2000-01-01T00:00:00Z", []uint64{1, 2, 4, 6, 7, 8, 9}, ""},
		{"since=2100-01-01T00:00:00Z", []uint64{2, 7, 8, 9}, ""}, // they haven't ended
		{"since=2100-01-01T00:00:00Z :done", nil, NoMatch},
		{":done since=2000-01-01T00:00:00Z", []uint64{1, 4}, ""},
		{"since=2d", nil, Invalid},
		{"%5:waiting", []uint64{8, 9}, ""},
		{"%5:running", []uint64{7}, ""},
		{"@t", []uint64{4}, ""},
		{":done", []uint64{1, 4}, ""},
		{":done:failed", []uint64{1, 4, 6}, ""}, // either of them
		{":done:failed:uncopied", []uint64{4}, ""},
		{":uncopied", []uint64{4}, ""},
		{"class=y", []uint64{2}, ""},
		{"machine=a:done", []uint64{1, 4}, ""},
		{":lost", nil, NoMatch},
		{"1:failed", nil, NoMatch},
		{"10", nil, NotFound},
		{"0", nil, NotFound},
		{"%n", nil, NotFound},
		{"@u", nil, NotFound},
		{"class=z", nil, NotFound},
		{"machine=b", nil, NotFound},
		{"100..200", nil, NoMatch},
	}
	for _, test := range tests {
		got, err := w.s.Select(strings.Fields(test.words))
		if kindOfError(err) != test.kind || !cmp.Equal(test.want, got) {
			t.Errorf("Select(%s) = %v, %v; want %v, %s", test.words, got, err, test.want, test.kind)
		}
	}
	if fmt.Sprint(w.s.Newest(2, false)) != "[7 8 9]" || fmt.Sprint(w.s.Newest(2, true)) != "[7]" {
		t.Error(w.s.Newest(2, false), w.s.Newest(2, true))
	}
	for _, test := range []struct {
		n       int
		after   uint64
		running bool
		want    string // jobs, tags, matrices
	}{
		{2, 0, false, "[] [3] [5]"},
		{100, 0, false, "[1 2] [3] [5]"},
		{100, 1, false, "[2] [3] [5]"},
		{100, 4, false, "[] [] [5]"},
		{100, 7, false, "[] [] [5]"},
		{100, 9, false, "[] [] []"},
		{2, 0, true, "[] [] [5]"},
		{2, 7, true, "[] [] []"}, // 7 runs, and isn't after itself
	} {
		o := w.s.Overview(test.n, test.after, test.running)
		if got := fmt.Sprint(o.Jobs, o.Tags, o.Matrices); got != test.want {
			t.Errorf("Overview(%d, %d, %v) = %s, want %s", test.n, test.after, test.running, got,
				test.want)
		}
	}
}
