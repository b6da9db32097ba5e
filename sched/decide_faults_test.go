package sched

import (
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

// numbers are the values of an axis: 0, 1, 2 …
func numbers(n int) (values []string) {
	for i := range n {
		values = append(values, fmt.Sprint(i))
	}
	return values
}

// word carries out a word of a script: MACHINE+ and MACHINE- for the end of the run there, with
// success or not, and a duration that passes.
func (w *world) word(word string) error {
	if d, err := time.ParseDuration(word); err == nil {
		return w.pass(d)
	} else if addr, ok := strings.CutSuffix(word, "+"); ok {
		return w.on(addr, exit(0))
	}
	return w.on(strings.TrimSuffix(word, "-"), exit(1))
}

// TestFaults says what becomes of machines, matrices and jobs after failures.
func TestFaults(t *testing.T) {
	matrix := func(n, retries int) func(*world) error {
		return func(w *world) error {
			return w.do(w.s.PlanMatrix(MatrixSpec{
				Job:  JobSpec{Class: "x", Cmd: "cell {A}", MaxFailures: retries},
				Axes: []*statepb.Axis{{Name: "A", Values: numbers(n)}},
			}, false))
		}
	}
	jobs := func(n, retries int, cmd string) func(*world) error {
		return func(w *world) error {
			var specs []JobSpec
			for i := range n {
				specs = append(specs,
					JobSpec{Class: "x", Cmd: strings.ReplaceAll(cmd, "N", fmt.Sprint(i)),
						MaxFailures: retries})
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
		// the classes of machines that aren't in x, those that rest, matrices that are held
		want []string
	}{
		{"three failures are nothing", "a b", jobs(9, 0, "same"), "a- a- a-", nil},
		{"four are suspect", "a b", jobs(9, 0, "same"), "a- a- a- a-", []string{"a is suspect"}},
		{"in a row", "a b", jobs(9, 0, "same"), "a- a- a- a+ a-", nil},
		{"of different jobs", "a", jobs(1, 9, "same"), "a- 1s a- 2s a- 4s a- 8s a-", nil},
		{"it is tried at once", "a b", jobs(9, 0, "same"), "a- a- a- a- a-",
			[]string{"a is suspect", "a rests"}},
		{"and again after a minute", "a b", jobs(9, 0, "same"), "a- a- a- a- a- 1m a-",
			[]string{"a is suspect", "a rests"}},
		{"then after two", "a b", jobs(9, 0, "same"), "a- a- a- a- a- 1m a- 1m",
			[]string{"a is suspect", "a rests"}},
		{"it rests no longer", "a b", jobs(9, 0, "same"), "a- a- a- a- a- 1m a- 2m",
			[]string{"a is suspect"}},
		{"a success clears it", "a b", jobs(9, 0, "same"), "a- a- a- a- a- 1m a+", nil},
		{"and doubles the need", "a b", jobs(20, 0, "same"), "a- a- a- a- a+ a- a- a- a- a- a- a-",
			nil},
		{"of its work alone", "a b", jobs(20, 0, "do N"), "a- a- a- a- a+ a- a- a- a-",
			[]string{"a is suspect"}},
		{"the other has succeeded before", "a b", jobs(12, 0, "same"),
			"b+ a- a- a- a- a- 1m a- 2m a- b+", []string{"a is suspect", "a rests"}},
		{"it had begun before", "a b", jobs(12, 0, "same"), "a- a- a- a- b+ a- 1m a-",
			[]string{"a is suspect", "a rests"}},
		{"a witness, but no trial since", "a b", jobs(12, 0, "same"),
			"a- a- a- a- b+ a- 1m b+ a- b+", []string{"a is suspect", "a rests"}},
		{"a witness, and a trial since", "a b", jobs(12, 0, "same"), "a- a- a- a- b+ a- b+ 1m a-",
			[]string{"a in x-broken"}},
		{"a witness of another command", "a b", jobs(20, 0, "do N"),
			"a- a- a- a- b+ a- b+ 1m a- b+ 2m a- b+", []string{"a is suspect", "a rests"}},
		{"the witness is set aside", "a b", jobs(20, 0, "same"), "a- a- a- a- b+ a- b+ 1m a- 15m",
			[]string{"a in x-broken"}},
		{"the only one of its class", "a", jobs(9, 0, "do N"), "a- a- a- a-", nil},
		{"never rests", "a", jobs(20, 0, "do N"), "a- a- a- a- a- a- a- a- a-", nil},
		{"a broken matrix", "a b", matrix(20, 0), "a- b- a- b- a- b-", []string{"matrix held"}},
		{"a broken matrix, one after the other", "a b", matrix(20, 0), "a- a- a- a- a- b-",
			[]string{"a is suspect", "a rests"}},
		{"until the far cell fails on another", "a b", matrix(20, 0), "a- a- a- a- a- b- b-",
			[]string{"matrix held"}},
		{"a broken matrix on the only machine", "a", matrix(20, 0), "a- a- a- a- a-",
			[]string{"matrix held"}},
		{"its far cell succeeds", "a", matrix(20, 0), "a- a- a- a- a+ a- a- a- a-", nil},
		{"bad commands on all", "a b", jobs(20, 0, "do N"), "a- a- a- a- b- b- b- b-", nil},
		{"a matrix that is held is tried", "a", matrix(20, 0), "a- a- a- a- a- 10m a+", nil},
		{"and fails", "a", matrix(20, 0), "a- a- a- a- a- 10m a-", []string{"matrix held"}},
		{"it waits longer then", "a", matrix(20, 0), "a- a- a- a- a- 10m a- 20m a+", nil},
		{"a job of which it was the fault", "a b", jobs(9, 1, "do N"), "a- a- a- a- 1s b+ b-",
			[]string{"a is suspect"}},
		{"a bad job counts against nobody", "a b", jobs(4, 1, "do N"),
			"a- b- 1s b- a- 1s a- b- 1s b- a-", nil},
		{"a bad job goes around", "a b c", jobs(1, 9, "bad"), "a- 1s b- 2s c- 4s", nil},
		{"it comes back", "a b", jobs(30, 3, "same"),
			"a- a- a- a- b+ a- b+ 1m a- b+ b+ b+ b+ b+ b+ 15m a+", nil},
		{"it doesn't", "a b", jobs(30, 3, "same"),
			"a- a- a- a- b+ a- b+ 1m a- b+ b+ b+ b+ b+ b+ 15m a-", []string{"a in x-broken"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 1, strings.Fields(test.machines)...))
			check(t, test.submit(w))
			for _, word := range strings.Fields(test.script) {
				check(t, w.word(word))
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
		if w.s.machines[addr].suspect() {
			out = append(out, addr+" is suspect")
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

// TestFailuresAfterHold lets jobs of a matrix fail on machines when it is held already.
func TestFailuresAfterHold(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", firstNeed, "a", "b", "c"))
	check(t, w.do(w.s.PlanMatrix(MatrixSpec{
		Job:  JobSpec{Class: "x", Cmd: "cell {A}"},
		Axes: []*statepb.Axis{{Name: "A", Values: numbers(60)}},
	}, false)))
	for len(w.running()) > 0 {
		for _, r := range w.running() {
			check(t, w.report(Ended{Ref: r.Ref, Result: exit(1)}))
		}
	}
	if diff := cmp.Diff([]string{"matrix held"}, w.standing()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if c := w.s.Counts(); c.By[Held] == 0 {
		t.Errorf("all cells failed: %+v", c)
	}
}

// TestRestEndsWithCopy: a suspect that is tried with one job is clear when that has succeeded,
// though its results are still to be copied.
func TestRestEndsWithCopy(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 2, "a", "b"))
	for i := range 14 {
		_, err := w.submit(JobSpec{Class: "x", Cmd: fmt.Sprint("do ", i), CpPath: "/r"})
		check(t, err)
	}
	for range firstNeed {
		check(t, w.on("a", exit(1)))
	}
	check(t, w.on("a", exit(1))) // it began before
	if jobs := len(w.running()); jobs != 3 {
		t.Fatalf("%d jobs run, not one as a trial and two on the other", jobs)
	}
	check(t, w.on("a", exit(1)))
	if got := w.standing(); !slices.Equal(got, []string{"a is suspect", "a rests"}) {
		t.Fatal(got)
	}
	check(t, w.pass(firstRest))
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

// TestMatrixOfFailuresHolds: unlimited retries of a matrix that can't succeed end, and unhold lets
// it go on.
func TestMatrixOfFailuresHolds(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b", "c"))
	check(t, w.do(w.s.PlanMatrix(MatrixSpec{
		Job:  JobSpec{Class: "x", Cmd: "cell {A}", MaxFailures: -1},
		Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2", "3", "4", "5", "6"}}},
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

// TestNight runs 500 jobs on six machines over a night, of which one fails at once and one after a
// while, each job with three retries: every job that can succeed does, both machines are set aside,
// and no good one is.
func TestNight(t *testing.T) {
	for seed := range uint64(2) {
		for _, kind := range []string{"matrix", "one command", "many commands"} {
			t.Run(fmt.Sprintf("%s, seed %d", kind, seed), func(t *testing.T) {
				oneNight(t, kind, seed)
			})
		}
	}
}

func oneNight(t *testing.T, kind string, seed uint64) {
	n, rnd := newNight(t, 6, 1), rand.New(rand.NewPCG(seed, 1))
	const jobs = 500
	switch kind {
	case "matrix":
		_, err := n.cells(jobs, 3)
		check(t, err)
	default:
		var specs []JobSpec
		for i := range jobs {
			cmd := "same"
			if kind == "many commands" {
				cmd = fmt.Sprintf("work %d", i%50)
			}
			specs = append(specs, JobSpec{Class: "x", Cmd: cmd, MaxFailures: 3})
		}
		_, err := n.submit(specs...)
		check(t, err)
	}
	bad := func(job uint64) bool { return job%97 == 0 } // a few can't succeed anywhere
	n.outcome = func(r Run, _ time.Duration) (bool, time.Duration) {
		ok, took := !bad(r.Ref.Job), time.Duration(60+rnd.IntN(600))*time.Second
		switch r.Ref.Machine {
		case "m000":
			return false, 10 * time.Millisecond
		case "m001":
			return false, took / 3
		}
		return ok, took
	}
	check(t, n.run())
	failed := 0
	for _, id := range mustSelect(t, n.s) {
		switch st := n.s.Status(id); {
		case st == Failed && !bad(id):
			t.Errorf("job %d failed, though it could have succeeded:\n%v", id, n.s.Job(id).Attempts)
		case st == Failed:
			failed++
		case st != Done:
			t.Errorf("job %d is %s", id, StatusName(st))
		}
	}
	if failed == 0 {
		t.Error("no job failed that can't succeed")
	}
	if diff := cmp.Diff([]string{"m000", "m001"}, n.aside()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func mustSelect(t *testing.T, s *State, words ...string) []uint64 {
	t.Helper()
	ids, err := s.Select(words)
	check(t, err)
	return ids
}

// TestRetryBesideIdleMachine: a retry waits at most five minutes for a better machine than one that
// is idle, though the better one is busy for long, or its slot is held by a run that nothing knows.
func TestRetryBesideIdleMachine(t *testing.T) {
	busy := func(w *world) error {
		_, err := w.submit(JobSpec{Class: "x", Cmd: "long"})
		return err
	}
	held := func(w *world) error {
		return w.report(Connected{
			Addr:  "a",
			Facts: &statepb.Machine{BootId: "boot1", Os: "linux", Arch: "amd64", Cores: 4},
			Runs:  []*statepb.RunRef{{Machine: "a", Job: 999, Attempt: 1, Token: "old"}},
		})
	}
	for name, blocks := range map[string]func(*world) error{"busy": busy, "held by what nothing " +
		"knows": held} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 1, "a", "b"))
			check(t, blocks(w))
			ids, err := w.submit(JobSpec{Class: "x", Cmd: "fails once", MaxFailures: 5})
			check(t, err)
			failedOn := w.runOf(ids[0]).Machine
			check(t, w.on(failedOn, exit(1)))
			check(t, w.pass(avoidFor-time.Second))
			if w.s.Status(ids[0]) != Waiting {
				t.Errorf("it didn't wait for the other machine")
			}
			if why := w.why(t, ids[0]); !strings.Contains(why, "takes any") {
				t.Errorf("it isn't said how long it waits: %s", why)
			}
			check(t, w.pass(time.Second))
			if r := w.runOf(ids[0]); r == nil || r.Machine != failedOn {
				t.Errorf("after %v it is %s", avoidFor, StatusName(w.s.Status(ids[0])))
			}
		})
	}
}
