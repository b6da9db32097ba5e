package sched

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// TestRetryOn: which failures are tried again.
func TestRetryOn(t *testing.T) {
	code := func(n int32) *statepb.Attempt {
		return &statepb.Attempt{Cause: statepb.Cause_EXITED, ExitCode: n}
	}
	killed := &statepb.Attempt{Cause: statepb.Cause_EXITED, Signal: "KILL"}
	noMemory := &statepb.Attempt{Cause: statepb.Cause_EXITED, Signal: "KILL", Error: OutOfMemory}
	late := &statepb.Attempt{Cause: statepb.Cause_TIMED_OUT, Signal: "TERM"}
	tests := []struct {
		on, no string
		a      *statepb.Attempt
		again  bool
	}{
		{"", "", code(1), true},
		{"exit=75", "", code(75), true},
		{"exit=75", "", code(1), false},
		{"exit=75,timeout", "", late, true},
		{"exit=75", "", late, false},
		{"signal=9", "", killed, true},
		{"signal=KILL", "", killed, true},
		{"signal=SIGKILL", "", killed, true},
		{"oom", "", noMemory, true},
		{"oom", "", killed, false},
		{"", "oom", noMemory, false},
		{"", "exit=1", code(1), false},
		{"", "exit=1", code(2), true},
		{"exit=1", "exit=1", code(1), false},
	}
	split := func(text string) []string {
		if text == "" {
			return nil
		}
		return strings.Split(text, ",")
	}
	for _, tt := range tests {
		on, err := parseFailures(split(tt.on))
		check(t, err)
		no, err := parseFailures(split(tt.no))
		check(t, err)
		if got := triesAgain(&statepb.Job{RetryOn: on, NoRetryOn: no}, tt.a); got != tt.again {
			t.Errorf("on %q, not on %q: %v after %v", tt.on, tt.no, got, tt.a)
		}
	}
	for _, bad := range []string{"exit", "exit=0", "exit=256", "signal=", "signal=NONE",
		"signal=999", "timeout=3", "whatever", ""} {
		if _, err := parseFailures([]string{bad}); err == nil || err.(*Error).Hint() == "" {
			t.Errorf("%q gives %v", bad, err)
		}
	}
}

// TestStartAfter: a job starts when its time has come, once, also when the clock is set.
func TestStartAfter(t *testing.T) {
	for _, jump := range []time.Duration{0, -time.Hour, 24 * time.Hour} {
		w := afterJobs(t)
		id := w.add(t, JobSpec{StartAfter: w.now.Add(2 * time.Hour)})
		w.wants(t, id, Waiting)
		check(t, w.pass(time.Hour))
		w.wants(t, id, Waiting)
		w.now = w.now.Add(jump)
		check(t, w.turn())
		check(t, w.pass(3*time.Hour))
		w.wants(t, id, Running)
		w.now = w.now.Add(-5 * time.Hour)
		check(t, w.turn())
		w.ends(t, id, exit(0))
		w.wants(t, id, Done)
	}
	w := afterJobs(t)
	p, err := w.s.PlanMatrix(
		MatrixSpec{Job: JobSpec{Class: "x", Cmd: "cell", StartAfter: w.now.Add(time.Hour)},
			Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2"}}}},
		false,
	)
	check(t, w.do(p, err))
	w.wants(t, p.IDs[1], Waiting)
	check(t, w.pass(time.Hour))
	w.wants(t, p.IDs[1]+1, Running)
}

// TestAtMost: no more of a matrix or a tag hold slots than may; a change of the limit kills
// nothing.
func TestAtMost(t *testing.T) {
	w := afterJobs(t)
	p, err := w.s.PlanMatrix(
		MatrixSpec{Job: JobSpec{Class: "x", Cmd: "cell", CpPath: "/r", AtMost: 2},
			Axes: []*statepb.Axis{{Name: "A", Values: strings.Split("1 2 3 4 5 6", " ")}}},
		false,
	)
	check(t, w.do(p, err))
	id, first := p.IDs[0], p.IDs[1]
	running := func(want int) {
		t.Helper()
		if n := w.s.counts.By[Running]; n != want {
			t.Errorf("%d run, want %d", n, want)
		}
	}
	running(2)
	w.ends(t, first, withResults("out")) // a copy holds its slot
	running(1)
	check(t, w.report(CopyWaits{Job: first, Reason: "the disk is full"})) // one that waits doesn't
	running(2)
	limit := 1
	plan, err := w.s.PlanMatrixSet(id, SetSpec{AtMost: &limit})
	check(t, w.do(plan, err))
	running(2)
	w.ends(t, first+1, exit(0))
	running(1)
	limit = 0
	plan, err = w.s.PlanMatrixSet(id, SetSpec{AtMost: &limit})
	check(t, w.do(plan, err))
	running(4)
}

// TestMaxFails: what hasn't begun is held, or canceled, when too many have failed; released by hand
// it goes on until as many more have.
func TestMaxFails(t *testing.T) {
	for _, cancel := range []bool{false, true} {
		w := afterJobs(t)
		p, err := w.s.PlanMatrix(
			MatrixSpec{
				Job:        JobSpec{Class: "x", Cmd: "cell", AtMost: 1},
				MaxFails:   2,
				CancelRest: cancel,
				Axes: []*statepb.Axis{
					{Name: "A", Values: strings.Split("1 2 3 4 5 6 7 8", " ")},
				},
			},
			false,
		)
		check(t, w.do(p, err))
		first := p.IDs[1]
		w.ends(t, first, exit(1))
		w.wants(t, first+1, Running)
		w.ends(t, first+1, exit(1))
		if cancel {
			w.wants(t, first+5, Canceled)
			continue
		}
		w.wants(t, first+5, Held)
		check(
			t,
			w.pass(24*time.Hour),
		) // nobody tries it by itself: it is held for what the user asked for
		running := w.s.counts.By[Running]
		check(t, w.do(w.s.PlanMatrixHeld(p.IDs[0], false), nil))
		if running != 0 || w.s.counts.By[Running] != 1 {
			t.Errorf("%d ran while it was held, %d after that", running, w.s.counts.By[Running])
		}
		for range 2 {
			for _, r := range w.running() {
				w.ends(t, r.Ref.Job, exit(1))
			}
		}
		w.wants(t, first+5, Held)
	}
}

// TestMaxFailsOfTag: likewise of the jobs of a tag, of which those that come later are held, too.
func TestMaxFailsOfTag(t *testing.T) {
	for _, cancel := range []bool{false, true} {
		w := afterJobs(t)
		add := func(maxFails, jobs int) uint64 {
			t.Helper()
			ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Tag: "t", AtMost: 1,
				MaxFails: maxFails, CancelRest: cancel, Repeat: jobs})
			check(t, err)
			return ids[0]
		}
		first := add(2, 5)
		w.ends(t, first, exit(1))
		w.wants(t, first+1, Running)
		w.ends(t, first+1, exit(1))
		if cancel {
			w.wants(t, first+2, Canceled)
			w.wants(t, add(2, 1), Canceled)
			continue
		}
		w.wants(t, first+2, Held)
		late := add(2, 1)
		w.wants(t, late, Held)
		if got := w.why(t, late); !strings.Contains(got, "2 jobs of its tag t have failed") {
			t.Error(got)
		}
		snapshot, err := frozen(w.s)
		check(t, err)
		back, err := restored(snapshot, nil)
		check(t, err)
		if _, n, out := back.TagLimits(w.s.tagNames["t"]); n != 2 || !out {
			t.Errorf("after a restart %d may fail, and that they have is %v", n, out)
		}
		p, err := w.s.PlanAtOnce(Operation{Op: OpUnhold, Jobs: []uint64{first + 2, first + 3}})
		check(t, w.do(p, err))
		w.wants(t, first+2, Running)
		w.wants(t, late, Held)
		w.ends(t, first+2, exit(1))
		w.wants(t, first+3, Running)
		w.ends(t, first+3, exit(0))
		last := add(3, 3) // another limit counts anew from what was released
		w.wants(t, last, Running)
		w.ends(t, last, exit(1))
		w.ends(t, last+1, exit(1))
		w.wants(t, last+2, Held)
	}
	w := afterJobs(t)
	if _, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFails: 2}); err == nil ||
		!strings.Contains(err.Error(), "of which jobs") {
		t.Error(err)
	}
}

// PlanSet plans the change of a few jobs.
func (s *State) PlanSet(ids []uint64, spec SetSpec) (Plan, error) {
	return s.PlanAtOnce(Operation{Op: OpSet, Jobs: ids, Set: spec})
}

// TestSet: what can be changed of which jobs.
func TestSet(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	first, second, third := w.add(t, JobSpec{}), w.add(t, JobSpec{Priority: 3}), w.add(t, JobSpec{})
	p, err := w.s.PlanSet([]uint64{third}, SetSpec{Next: true})
	check(t, w.do(p, err))
	w.ends(t, first, exit(0))
	w.wants(t, third, Running)
	class := "y"
	p, err = w.s.PlanSet([]uint64{second}, SetSpec{Class: &class})
	check(t, w.do(p, err))
	w.ends(t, third, exit(0))
	w.wants(t, second, Waiting)
	check(t, w.pool("y", 1, "b"))
	w.wants(t, second, Running)
	cmd := "other"
	if _, err := w.s.PlanSet([]uint64{second}, SetSpec{Cmd: &cmd}); err == nil {
		t.Error("the command of a running job was changed")
	}
	hour := time.Hour
	p, err = w.s.PlanSet([]uint64{second}, SetSpec{Timeout: &hour})
	check(t, w.do(p, err))
	if a := last(w.s.Job(second)); a.Timeout != int64(hour) {
		t.Error(a)
	}
	a := w.add(t, JobSpec{Hold: true})
	b := w.add(t, JobSpec{After: after(fmt.Sprint(a))})
	for _, circle := range []SetSpec{{After: &AfterSpec{Done: []string{fmt.Sprint(b)}}},
		{After: &AfterSpec{Ended: []string{fmt.Sprint(a)}}}} {
		if _, err := w.s.PlanSet([]uint64{a}, circle); err == nil {
			t.Error("a circle was made")
		}
	}
}
