package sched

import (
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// TestVerdictsAreSaid brings machines and a matrix under each verdict: wherever somebody looks, it
// says what it is, which command ends it, and when it is tried again by itself.
func TestVerdictsAreSaid(t *testing.T) {
	// accused is a pool of which a is suspect and b runs something long.
	accused := func(t *testing.T, retries int) *world {
		w := newWorld()
		check(t, w.pool("x", 1, "a", "b"))
		for range 20 {
			_, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: retries})
			check(t, err)
		}
		for range firstNeed {
			check(t, w.on("a", exit(1)))
		}
		return w
	}
	tests := []struct {
		name  string
		bring func(t *testing.T) *world
		again time.Duration // until it is tried by itself
		undo  string
		kind  string // of its event
		text  string
	}{
		{"suspect", func(t *testing.T) *world {
			return accused(t, 0)
		}, 0, "machine resume -m a", "machine.suspect", "suspect, as 4 jobs in a row failed there"},
		{"suspect, and rests", func(t *testing.T) *world {
			w := accused(t, 0)
			check(t, w.on("a", exit(1)))
			return w
		}, time.Minute, "machine resume -m a", "machine.suspect", "tried with one job at"},
		{"set aside", func(t *testing.T) *world {
			w := accused(t, 3)
			for _, word := range strings.Fields("b+ a- b+ 1m a- b+ b+ b+ b+ b+ b+") {
				check(t, w.word(word))
			}
			return w
		}, 15 * time.Minute, "machine resume -m a", "machine.broken",
			"set aside from class x: 6 jobs in a row failed here"},
		{"can't start anything", func(t *testing.T) *world {
			w := newWorld()
			check(t, w.pool("x", 1, "a"))
			ids, err := w.submit(JobSpec{Class: "x", Cmd: "work"},
				JobSpec{Class: "x", Cmd: "other"})
			check(t, err)
			check(t, w.report(NotStarted{Ref: w.runOf(ids[0]), Reason: "no space left on device"}))
			return w
		}, time.Minute, "machine resume -m a", "machine.resting", "no space left on device"},
		{"held", func(t *testing.T) *world {
			w := newWorld()
			check(t, w.pool("x", 1, "a"))
			check(t, w.do(w.s.PlanMatrix(MatrixSpec{
				Job:  JobSpec{Class: "x", Cmd: "cell {A}"},
				Axes: []*statepb.Axis{{Name: "A", Values: numbers(20)}},
			}, false)))
			for range firstNeed + 1 {
				check(t, w.on("a", exit(1)))
			}
			return w
		}, 10 * time.Minute, "matrix unhold 1", "matrix.held",
			"4 of its jobs failed in a row, on a, and so did job"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := test.bring(t)
			again := ""
			if test.again > 0 {
				again = w.now.Add(test.again).Format(time.TimeOnly)
			}
			says := func(where, text string) {
				t.Helper()
				if strings.Contains(text, "no verdict") || !strings.Contains(text, test.undo) ||
					!strings.Contains(text, again) {
					t.Errorf("%s doesn't say how %q ends, or that it is tried at %q: %s", where,
						test.undo, again, text)
				}
			}
			verdicts := w.s.Verdicts(w.now)
			if len(verdicts) != 1 || !strings.Contains(verdicts[0].Text, test.text) {
				t.Fatalf("%+v", verdicts)
			}
			v := verdicts[0]
			says("the overview", v.Text+" "+v.Undo)
			if test.again > 0 && !v.Again.Equal(w.now.Add(test.again)) {
				t.Errorf("it is tried again at %v, not at %v", v.Again, w.now.Add(test.again))
			}
			if v.Machine != "" {
				view, _ := w.s.Machine(v.Machine)
				says("the machine", view.Hint)
			}
			told := false
			for _, e := range w.events {
				if e.Kind == test.kind && e.Warn {
					told = true
					if !strings.Contains(e.Text, test.undo) {
						t.Errorf("the event doesn't say what ends it: %s", e.Text)
					}
				}
			}
			if !told {
				t.Errorf("no event %s", test.kind)
			}
			waits := slices.DeleteFunc(mustSelect(t, w.s, ":waiting", ":held"),
				func(id uint64) bool {
					return w.s.Job(id).NotBefore != 0
				})
			says("a job that waits", w.why(t, waits[0]))
			if v.Machine == "" {
				check(t, w.do(w.s.PlanMatrixHeld(v.Matrix, false), nil))
			} else {
				check(t, w.do(w.s.PlanDrain([]string{v.Machine}, false), nil))
			}
			if left := w.s.Verdicts(w.now); len(left) > 0 || w.standing() != nil {
				t.Errorf("`%s` leaves %+v, %v", v.Undo, left, w.standing())
			}
		})
	}
}

// TestSubmitToBlockedClass warns whoever submits to a class of which every machine is under a
// verdict, and only then.
func TestSubmitToBlockedClass(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work"}, JobSpec{Class: "x", Cmd: "other"})
	check(t, err)
	warnings := func() []string {
		p, err := w.s.PlanJobs([]JobSpec{{Class: "x", Cmd: "more"},
			{Class: "x", Cmd: "still more"}}, false)
		check(t, err)
		return p.Warnings
	}
	check(t, w.report(NotStarted{Ref: w.runOf(ids[0]), Reason: "no space"}))
	if got := warnings(); got != nil {
		t.Errorf("another machine is free, and it warns: %q", got)
	}
	check(t, w.report(NotStarted{Ref: w.runOf(ids[1]), Reason: "no space"}))
	if got := warnings(); len(got) != 2 ||
		!strings.Contains(got[0], "`jobserver machine resume -m a` ends that") {
		t.Errorf("%q", got)
	}
	check(t, w.pass(time.Minute))
	if got := warnings(); got != nil {
		t.Errorf("they are tried again, and it warns: %q", got)
	}
}
