package sched

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// TestNeeded: what is old is forgotten, unless something still needs it.
func TestNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld()
	check(t, w.pool("x", 20, "a"))
	ended := func(spec JobSpec, results ...string) uint64 {
		ids, err := w.submit(spec)
		check(t, err)
		result := exit(0)
		result.Results = append(result.Results, results...)
		r := w.runOf(ids[0])
		check(t, w.report(Ended{Ref: r, Result: result}))
		if len(results) == 0 {
			check(t, w.report(Settled{Ref: r}))
		}
		return ids[0]
	}
	spec := JobSpec{Class: "x", Cmd: "c"}
	free := ended(spec)
	awaited := ended(spec)
	_, err := w.submit(JobSpec{Class: "none", Cmd: "d", After: AfterSpec{Done: []string{"2"}}})
	check(t, err)
	running, err := w.submit(spec)
	check(t, err)
	owed, err := w.submit(spec)
	check(t, err)
	check(t, w.report(Ended{Ref: w.runOf(owed[0]), Result: exit(1)}))
	withResults := JobSpec{Class: "x", Cmd: "c", CpPath: "/r"}
	uncopied := ended(withResults, "/there")
	check(t, w.report(CopyEnded{Job: uncopied, Error: "no room"}))
	waiting, err := w.submit(JobSpec{Class: "none", Cmd: "e"})
	check(t, err)

	want := map[uint64]string{
		free:       "",
		awaited:    "others wait for it, or for its matrix",
		running[0]: "it is running",
		owed[0]:    "",
		uncopied: "its results could not be copied: `jobserver job recopy 6` tries again, " +
			"`jobserver job rm -f 6` gives them up",
		waiting[0]: "it is waiting",
		999:        "it is forgotten already",
	}
	var ids []uint64
	for id := range want {
		ids = append(ids, id)
	}
	got := map[uint64]string{}
	for i, why := range w.s.Needed(ids) {
		got[ids[i]] = why
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]uint64{free, awaited},
		w.s.Resting([]uint64{1, 2, 3, 4, 5, 6, 7})); diff != "" {
		t.Error(diff)
	}

	end := w.s.EndOf(free)
	check(t, w.do(w.s.PlanPrune([]uint64{free}, end), nil))
	if w.s.Status(free) == 0 {
		t.Error("what ended at the time itself, not before, was forgotten")
	}
	check(t, w.do(w.s.PlanPrune(ids, end.Add(time.Hour)), nil))
	for id := range want {
		if gone := w.s.Status(id) == 0; gone != (id == free || id == owed[0] || id == 999) {
			t.Errorf("job %d is gone: %v", id, gone)
		}
	}
	if !w.s.EndOf(running[0]).IsZero() || len(w.s.EndedIn(0, 100)) != 2 {
		t.Errorf("ended: %v", w.s.EndedIn(0, 100))
	}
}

// TestNeededCells: a cell is needed while its matrix isn't over, or another one follows it.
func TestNeededCells(t *testing.T) {
	t.Parallel()
	w := newWorld()
	check(t, w.pool("x", 2, "a"))
	p, err := w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "{I}"},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1", "2"}}}}, false)
	check(t, w.do(p, err))
	matrix := p.IDs[0]
	cells := w.s.Cells(matrix)
	end := func(id uint64) {
		r := w.runOf(id)
		check(t, w.report(Ended{Ref: r, Result: exit(0)}))
		check(t, w.report(Settled{Ref: r}))
	}
	end(cells[0])
	if why := w.s.Needed(cells[:1]); why[0] != "matrix 1 has jobs that haven't ended" {
		t.Error(why)
	}
	end(cells[1])
	if why := w.s.Needed(cells); why[0]+why[1] != "" || w.s.MatrixJobs(matrix) != 2 {
		t.Error(why, w.s.MatrixJobs(matrix))
	}
	check(t, w.do(w.s.PlanPrune(cells, time.Unix(1<<40, 0)), nil))
	if m, _ := w.s.Matrix(matrix); m != nil || w.s.MatrixJobs(matrix) != 0 {
		t.Error("the matrix is there still")
	}
}
