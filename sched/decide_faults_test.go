package sched

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// on reports the end of the run that a machine has under way, of the lowest job if it has more.
func (w *world) on(addr string, result *statepb.Attempt) error {
	for _, r := range w.running() {
		if r.Ref.Machine == addr {
			return w.report(Ended{Ref: r.Ref, Result: result})
		}
	}
	return fmt.Errorf("nothing runs on %s", addr)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFaults says what becomes of machines, matrices and jobs after failures. A script's words are MACHINE+
// and MACHINE- for the end of the run there, with success or not, and a duration that passes.
func TestFaults(t *testing.T) {
	matrix := func(n, retries int) func(*world) error {
		return func(w *world) error {
			var values []string
			for i := range n {
				values = append(values, fmt.Sprint(i))
			}
			return w.do(w.s.PlanMatrix(MatrixSpec{
				Job: JobSpec{Class: "x", Cmd: "cell {A}", MaxFailures: retries}, Axes: []*statepb.Axis{{Name: "A", Values: values}},
			}, false))
		}
	}
	jobs := func(n, retries int, cmd string) func(*world) error {
		return func(w *world) error {
			var specs []JobSpec
			for i := range n {
				specs = append(specs, JobSpec{Class: "x", Cmd: strings.ReplaceAll(cmd, "N", fmt.Sprint(i)), MaxFailures: retries})
			}
			_, err := w.submit(specs...)
			return err
		}
	}
	tests := []struct {
		name     string
		machines string
		submit   func(*world) error
		script   string
		want     []string // the classes of machines that aren't in x, those that rest, matrices that are held
	}{
		{"three failures are nothing", "a b", jobs(9, 0, "same"), "a- a- a-", nil},
		{"four are suspect", "a b", jobs(9, 0, "same"), "a- a- a- a-", []string{"a rests"}},
		{"in a row", "a b", jobs(9, 0, "same"), "a- a- a- a+ a-", nil},
		{"the other succeeded before", "a b", jobs(9, 0, "same"), "b+ a- a- a- a-", []string{"a in x-broken"}},
		{"the other succeeds later", "a b", jobs(9, 0, "same"), "a- a- a- a- b+", []string{"a in x-broken"}},
		{"with another command", "a b", jobs(9, 0, "do N"), "b+ a- a- a- a- b+", []string{"a rests"}},
		{"with the same matrix", "a b", matrix(9, 0), "b+ a- a- a- a-", []string{"a in x-broken"}},
		{"the only one of its class", "a", jobs(9, 0, "do N"), "a- a- a- a-", []string{"a in x-broken"}},
		{"a broken matrix", "a b", matrix(20, 0), "a- b- a- b- a- b- a- b-", []string{"matrix held"}},
		{"a broken matrix, one after the other", "a b", matrix(20, 0), "a- a- a- a- b- b- b- b-", []string{"matrix held"}},
		{"bad commands on all", "a b", jobs(20, 0, "do N"), "a- a- a- a- b- b- b- b-", nil},
		{"two of three fail alike", "a b c", matrix(20, 0), "a- a- a- a- b- b- b- b-", []string{"matrix held"}},
		{"the third fails with it later", "a b c", matrix(30, 0), "a- a- a- c- c- c- b- b- b- b- a- c-", []string{"matrix held"}},
		{"the third has failed with it before", "a b c", func(w *world) error { return errors.Join(matrix(30, 0)(w), jobs(9, 0, "do N")(w)) },
			"a- a- a- c- c- c- b- b- b- b- a- c- c-", []string{"matrix held"}},
		{"two of six wait for the others", "a b c d e f", matrix(50, 0), "a- a- a- a- b- b- b- b-", []string{"a rests", "b rests"}},
		{"who are right", "a b c d e f", matrix(50, 0), "a- a- a- a- b- b- b- b- c+", []string{"a in x-broken", "b in x-broken"}},
		{"a rest ends", "a b", jobs(9, 0, "do N"), "a- a- a- a- 10m", nil},
		{"with one job", "a b", jobs(9, 0, "do N"), "a- a- a- a- 10m a-", []string{"a rests"}},
		{"that tells", "a b", jobs(9, 0, "do N"), "a- a- a- a- 10m a+ a-", nil},
		{"a job of which it was the fault", "a b", jobs(9, 1, "do N"), "a- a- a- a- 1s b+ b-", nil},
		{"bad jobs follow", "a b", jobs(4, 1, "do N"), "a- b- 1s b- a- 1s a- b- 1s b- a-", nil},
		{"a bad value is tried elsewhere", "a b c d e f", matrix(50, 1), "b+ a- a- a- a-", []string{"a rests"}},
		{"and succeeds there", "a b c d e f", matrix(50, 1), "b+ a- a- a- a- 1s b+ b+", []string{"a in x-broken"}},
		{"and fails there", "a b c d e f", matrix(50, 3), "b+ a- a- a- a- 2s b+ c+ d+ e+ b- c- d- e-", []string{"a rests"}},
		{"a bad job goes around", "a b c", jobs(1, 9, "bad"), "a- 1s b- 2s c- 4s a- 8s b- 16s", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 1, strings.Fields(test.machines)...))
			check(t, test.submit(w))
			for _, word := range strings.Fields(test.script) {
				if d, err := time.ParseDuration(word); err == nil {
					check(t, w.pass(d))
				} else if addr, ok := strings.CutSuffix(word, "+"); ok {
					check(t, w.on(addr, exit(0)))
				} else {
					check(t, w.on(strings.TrimSuffix(word, "-"), exit(1)))
				}
			}
			if diff := cmp.Diff(test.want, w.standing()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// standing lists what is out of order.
func (w *world) standing() []string {
	var out []string
	for _, addr := range sorted(w.s.machines) {
		m, _ := w.s.Machine(addr)
		if m.Class != "x" {
			out = append(out, addr+" in "+m.Class)
		}
		if m.Resting {
			out = append(out, addr+" rests")
		}
	}
	for _, id := range w.s.Matrices() {
		if m, _ := w.s.Matrix(id); m.Held {
			out = append(out, "matrix held")
		}
	}
	return out
}

// TestFailuresAfterHold lets several jobs of a matrix fail on a machine when it is held already.
func TestFailuresAfterHold(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", failuresInRow, "a", "b", "c"))
	check(t, w.do(w.s.PlanMatrix(MatrixSpec{
		Job: JobSpec{Class: "x", Cmd: "cell {A}"}, Axes: []*statepb.Axis{{Name: "A", Values: strings.Split("123456789abcdefghijk", "")}},
	}, false)))
	for _, addr := range []string{"a", "b", "c"} {
		for range failuresInRow {
			check(t, w.on(addr, exit(1)))
		}
	}
	if diff := cmp.Diff([]string{"matrix held"}, w.standing()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestRestHints says how to end a rest wherever somebody sees it.
func TestRestHints(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	check(t, w.pool("x", 1, "b"))
	check(t, w.do(w.s.PlanDrain([]string{"b"}, true), nil))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Repeat: failuresInRow + 1})
	check(t, err)
	for range failuresInRow {
		check(t, w.on("a", exit(1)))
	}
	m, _ := w.s.Machine("a")
	for _, hint := range []string{m.Hint, w.why(t, ids[failuresInRow])} {
		if !strings.Contains(hint, "`jobserver machine resume -m a`") {
			t.Errorf("no hint in %q", hint)
		}
	}
}

// TestRestEndsWithCopy: a suspect that is tried with one job is clear when that has succeeded, though its results are still to be copied.
func TestRestEndsWithCopy(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 2, "a", "b"))
	for i := range 12 {
		_, err := w.submit(JobSpec{Class: "x", Cmd: fmt.Sprint("do ", i), CpPath: "/r"})
		check(t, err)
	}
	for range failuresInRow {
		check(t, w.on("a", exit(1)))
	}
	check(t, w.on("a", exit(1))) // it began before
	if got := w.standing(); !slices.Equal(got, []string{"a rests"}) {
		t.Fatal(got)
	}
	check(t, w.pass(rest))
	result := exit(0)
	result.Results = []string{"out"}
	check(t, w.on("a", result))
	if got := w.standing(); got != nil {
		t.Error(got)
	}
	if jobs := len(w.running()); jobs != 3 {
		t.Errorf("%d jobs run, not one beside the copy and two on the other", jobs)
	}
}

// TestCopiesNeverCount lets the results of many jobs fail to copy: the machine keeps its standing.
func TestCopiesNeverCount(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", CpPath: "/r", Repeat: 10})
	check(t, err)
	for _, id := range ids {
		result := exit(0)
		result.Results = []string{"out"}
		check(t, w.report(Ended{Ref: w.runOf(id), Result: result}))
		if got := w.s.Status(id); got != Copying {
			t.Fatalf("job %d is %s", id, StatusName(got))
		}
		check(t, w.report(CopyEnded{Job: id, Error: "no such file"}))
	}
	if got := w.standing(); got != nil {
		t.Error(got)
	}
	if c := w.s.Counts(); c.By[Done] != 10 || c.Uncopied != 10 {
		t.Errorf("%+v", c)
	}
}

// TestMatrixOfFailuresHolds: unlimited retries of a matrix that can't succeed end, and unhold lets it go on.
func TestMatrixOfFailuresHolds(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b", "c"))
	check(t, w.do(w.s.PlanMatrix(MatrixSpec{
		Job: JobSpec{Class: "x", Cmd: "cell {A}", MaxFailures: -1}, Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2", "3", "4", "5", "6"}}},
	}, false)))
	fail := func() (runs int) {
		for len(w.running()) > 0 {
			for _, r := range w.running() {
				check(t, w.report(Ended{Ref: r.Ref, Result: exit(1)}))
				runs++
			}
			check(t, w.pass(time.Minute))
		}
		return runs
	}
	if runs := fail(); runs > 40 {
		t.Errorf("it is held after %d runs", runs)
	}
	id := w.s.Matrices()[0]
	if m, counts := w.s.Matrix(id); !m.Held || counts.By[Held] != 6 {
		t.Fatalf("held: %v, %+v", m.Held, counts)
	}
	if diff := cmp.Diff([]string{"matrix held"}, w.standing()); diff != "" {
		t.Error(diff)
	}
	check(t, w.do(w.s.PlanMatrixHeld(id, false), nil))
	check(t, w.pass(time.Minute))
	if len(w.running()) != 3 {
		t.Errorf("%d runs after it was released", len(w.running()))
	}
}

// TestNight runs 500 jobs on six machines over a night, of which one fails at once and one after a while, each
// job with three retries: every job that can succeed does, both machines are set aside, and no good one is.
func TestNight(t *testing.T) {
	for seed := range uint64(2) {
		for _, kind := range []string{"matrix", "one command", "many commands"} {
			t.Run(fmt.Sprintf("%s, seed %d", kind, seed), func(t *testing.T) { night(t, kind, seed) })
		}
	}
}

func night(t *testing.T, kind string, seed uint64) {
	w, rnd := newWorld(), rand.New(rand.NewPCG(seed, 1))
	w.every = 100
	check(t, w.pool("x", 1, "a", "b", "c", "d", "e", "f"))
	const jobs = 500
	switch kind {
	case "matrix":
		var values []string
		for i := range jobs {
			values = append(values, fmt.Sprint(i))
		}
		check(t, w.do(w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "cell {A}", MaxFailures: 3}, Axes: []*statepb.Axis{{Name: "A", Values: values}}}, false)))
	default:
		var specs []JobSpec
		for i := range jobs {
			cmd := "same"
			if kind == "many commands" {
				cmd = fmt.Sprintf("work %d", i%50)
			}
			specs = append(specs, JobSpec{Class: "x", Cmd: cmd, MaxFailures: 3})
		}
		_, err := w.submit(specs...)
		check(t, err)
	}
	bad := func(job uint64) bool { return job%97 == 0 } // a few can't succeed anywhere
	type end struct {
		at  time.Time
		ref *statepb.RunRef
		ok  bool
	}
	ends := map[string]end{}
	for c := w.s.Counts(); c.Unfinished() > 0; c = w.s.Counts() {
		for _, r := range w.running() {
			if _, known := ends[r.Ref.Token]; known {
				continue
			}
			e := end{ref: r.Ref, ok: !bad(r.Ref.Job)}
			took := time.Duration(60+rnd.IntN(600)) * time.Second
			switch r.Ref.Machine {
			case "a":
				e.ok, took = false, 10*time.Millisecond
			case "b":
				e.ok = false
				took /= 3
			}
			e.at = w.now.Add(took)
			ends[r.Ref.Token] = e
		}
		var next *end
		for _, token := range sorted(ends) {
			if e := ends[token]; next == nil || e.at.Before(next.at) {
				next = &e
			}
		}
		wake := w.s.Wake(w.now)
		switch {
		case next == nil && wake.IsZero():
			t.Fatalf("nothing goes on: %+v, %v", w.s.Counts(), w.standing())
		case next == nil || !wake.IsZero() && wake.Before(next.at):
			w.now = wake
			check(t, w.turn())
		default:
			w.now = next.at
			delete(ends, next.ref.Token)
			code := int32(1)
			if next.ok {
				code = 0
			}
			check(t, w.report(Ended{Ref: next.ref, Result: exit(code)}))
		}
	}
	failed := 0
	for _, id := range mustSelect(t, w.s) {
		switch st := w.s.Status(id); {
		case st == Failed && !bad(id):
			t.Errorf("job %d failed, though it could have succeeded:\n%v", id, w.s.Job(id).Attempts)
		case st == Failed:
			failed++
		case st != Done:
			t.Errorf("job %d is %s", id, StatusName(st))
		}
	}
	if failed == 0 {
		t.Error("no job failed that can't succeed")
	}
	if diff := cmp.Diff([]string{"a in x-broken", "b in x-broken"}, w.standing()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func mustSelect(t *testing.T, s *State, words ...string) []uint64 {
	t.Helper()
	ids, err := s.Select(words)
	check(t, err)
	return ids
}
