package sched

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// TestCodeNamed names code in all the places where a job can be: waiting, running, ended a moment
// or long ago, a cell with a record and without, and forgotten.
func TestCodeNamed(t *testing.T) {
	w := newWorld()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	code := func(name string) *statepb.Code {
		return &statepb.Code{Hash: name, Diff: name + "-diff"}
	}
	named := func() []string {
		t.Helper()
		all := map[string]bool{}
		for from := uint64(0); ; {
			next, err := w.s.CodeNamed(from, func(hash string) { all[hash] = true })
			must(err)
			if from = next; from == 0 {
				break
			}
		}
		return sorted(all)
	}
	want := func(names ...string) {
		t.Helper()
		var hashes []string
		for _, name := range names {
			hashes = append(hashes, name, name+"-diff")
		}
		slices.Sort(hashes)
		if diff := cmp.Diff(hashes, named()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if got := named(); len(got) != 0 {
		t.Errorf("at first there is %q", got)
	}
	must(w.pool("x", 1, "a"))
	old, err := w.submit(JobSpec{Class: "x", Cmd: "old", Code: code("old"), Repeat: 2})
	must(err)
	_, err = w.submit(JobSpec{Class: "x", Cmd: "none", Repeat: MaxPage})
	must(err)
	must(w.pool("x", 100, "b", "c"))
	for range 20 {
		must(w.ended(func(string) int32 { return 0 }))
		must(w.pass(time.Minute))
	}
	if w.s.index.place[old[0]] == 0 {
		t.Fatalf("job %d is in no block", old[0])
	}
	spec := MatrixSpec{Name: "m", Job: JobSpec{Class: "y", Cmd: "run {I}", Code: code("first")},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1", "2", "3"}}}}
	p, err := w.s.PlanMatrix(spec, false)
	must(w.do(p, err))
	_, err = w.submit(JobSpec{Class: "y", Cmd: "waits", Code: code("waits")})
	must(err)
	want("old", "first", "waits")

	// A cell that has run keeps its code when the matrix takes over another.
	must(w.pool("y", 1, "d"))
	spec.Job.Code = code("second")
	p, _, err = w.s.PlanMatrixAgain(spec, false, 0)
	must(w.do(p, err))
	want("old", "first", "second", "waits")
	for range 10 {
		must(w.ended(func(string) int32 { return 0 }))
		must(w.pass(time.Minute))
	}
	want("old", "first", "second", "waits")

	// What is forgotten names nothing.
	forget, err := w.s.PlanAtOnce(Operation{Op: OpForget, Jobs: old})
	must(err)
	must(w.do(forget, nil))
	want("first", "second", "waits")

	// What is being submitted names it before its jobs are there.
	p, err = w.s.PlanSubmission([]JobSpec{{Class: "z", Cmd: "many", Code: code("many"),
		Repeat: longOperation}}, false)
	must(w.do(p, err))
	want("first", "many", "second", "waits")
}
