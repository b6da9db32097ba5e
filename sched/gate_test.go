package sched

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// afterJobs is a world with one machine of many slots, and what waits there.
func afterJobs(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	check(t, w.pool("x", 50, "a"))
	return w
}

func after(words ...string) AfterSpec { return AfterSpec{Done: words} }

// TestAfter: when jobs that wait for others start, and what becomes of them when they can't.
func TestAfter(t *testing.T) {
	failed := func(t *testing.T, w *world, id uint64) { w.ends(t, id, exit(1)) }
	done := func(t *testing.T, w *world, id uint64) { w.ends(t, id, exit(0)) }
	canceled := func(t *testing.T, w *world, id uint64) {
		w.operate(t, OpCancel, id)
		w.ends(t, id, &statepb.Attempt{Cause: statepb.Cause_CANCELED_BY_USER})
	}
	any := func(words ...string) AfterSpec { return AfterSpec{Ended: words} }
	onFailure := func(words ...string) AfterSpec { return AfterSpec{Failed: words} }
	type step = func(*testing.T, *world, uint64)
	tests := []struct {
		name    string
		after   func(words ...string) AfterSpec
		first   step
		want    Status
		blocked bool
	}{
		{"after one that is done", after, done, Running, false},
		{"after one that failed", after, failed, Waiting, true},
		{"after one that was canceled", after, canceled, Waiting, true},
		{"after any, done", any, done, Running, false},
		{"after any, failed", any, failed, Running, false},
		{"after any, canceled", any, canceled, Running, false},
		{"after a failure, done", onFailure, done, Canceled, false},
		{"after a failure, failed", onFailure, failed, Running, false},
		{"after a failure, canceled", onFailure, canceled, Running, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := afterJobs(t)
			first := w.add(t, JobSpec{})
			second := w.add(t, JobSpec{After: tt.after(fmt.Sprint(first))})
			w.wants(t, second, Waiting)
			tt.first(t, w, first)
			w.wants(t, second, tt.want)
			if w.s.IsBlocked(second) != tt.blocked {
				t.Errorf("blocked: %v", !tt.blocked)
			}
			told := 0
			for _, e := range w.events {
				if e.Kind == EventJobBlocked {
					told++
				}
			}
			if told != b2i(tt.blocked) {
				t.Errorf("%d events tell that it is blocked", told)
			}
			if tt.want == Canceled && !w.s.Job(second).Unneeded {
				t.Error("it was needed")
			}
			if tt.blocked {
				w.operate(t, OpRestart, first)
				w.ends(t, w.s.NextID()-1, exit(0))
				w.wants(t, second, Running)
			}
		})
	}
}

// TestAfterLives follows what is easily got wrong about waiting for others.
func TestAfterLives(t *testing.T) {
	t.Run("results on the host", func(t *testing.T) {
		w := afterJobs(t)
		first := w.add(t, JobSpec{CpPath: "/r"})
		second := w.add(t, JobSpec{After: after(fmt.Sprint(first))})
		w.ends(t, first, withResults("out"))
		w.wants(t, second, Waiting)
		check(t, w.report(CopyEnded{Job: first, Error: "disk"}))
		r, err := w.s.Why(second, w.now)
		check(t, err)
		if !w.s.IsBlocked(second) || !strings.Contains(r.Hint, "job recopy") {
			t.Error(r)
		}
		w.operate(t, OpRecopy, first)
		if w.s.IsBlocked(second) {
			t.Error("it is blocked while results are on their way")
		}
		check(t, w.report(CopyEnded{Job: first, Dir: "/r/1"}))
		w.wants(t, second, Running)
	})
	t.Run("a chain is blocked, also through after-any, and told of once", func(t *testing.T) {
		w := afterJobs(t)
		a := w.add(t, JobSpec{})
		b := w.add(t, JobSpec{After: after(fmt.Sprint(a))})
		c := w.add(t, JobSpec{After: AfterSpec{Ended: []string{fmt.Sprint(b)}}})
		d := w.add(t, JobSpec{After: after(fmt.Sprint(c))})
		w.ends(t, a, exit(1))
		for _, id := range []uint64{b, c, d} {
			if !w.s.IsBlocked(id) {
				t.Errorf("job %d isn't blocked", id)
			}
		}
		told := 0
		for _, e := range w.events {
			if e.Kind == EventJobBlocked {
				told++
				if e.Job != b {
					t.Errorf("told of job %d", e.Job)
				}
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
		w.operate(t, OpUnhold, b)
		w.wants(t, b, Running)
		w.ends(t, b, exit(1))
		w.wants(t, c, Running)
	})
	t.Run("canceled when it can't be met", func(t *testing.T) {
		w := afterJobs(t)
		a := w.add(t, JobSpec{})
		b := w.add(t, JobSpec{After: AfterSpec{Done: []string{fmt.Sprint(a)}, Unmet: "cancel"}})
		c := w.add(t, JobSpec{After: AfterSpec{Done: []string{fmt.Sprint(b)}, Unmet: "cancel"}})
		w.ends(t, a, exit(1))
		w.wants(t, b, Canceled)
		w.wants(t, c, Canceled)
		if w.s.Job(b).Unneeded {
			t.Error("it was needed")
		}
	})
	t.Run("forgotten as it last was", func(t *testing.T) {
		w := afterJobs(t)
		a, b := w.add(t, JobSpec{}), w.add(t, JobSpec{})
		c := w.add(t, JobSpec{After: after(fmt.Sprint(a), fmt.Sprint(b))})
		w.ends(t, a, exit(0))
		w.operate(t, OpForget, a)
		w.wants(t, c, Waiting)
		w.ends(t, b, exit(0))
		w.wants(t, c, Running)
	})
	t.Run(
		"the newest restart counts, and when that is forgotten the one before",
		func(t *testing.T) {
			w := afterJobs(t)
			a := w.add(t, JobSpec{})
			b := w.add(t, JobSpec{After: after(fmt.Sprint(a))})
			w.ends(t, a, exit(1))
			again := w.operate(t, OpRestart, a).Fates[0].New[0]
			third := w.operate(t, OpRestart, again).Fates[0].New[0]
			if w.s.IsBlocked(b) {
				t.Error("blocked while a restart runs")
			}
			w.ends(t, again, exit(0)) // it had exited before the cancel came
			w.ends(t, third, exit(1))
			if !w.s.IsBlocked(b) {
				t.Error("an older restart counts")
			}
			w.operate(t, OpForget, third)
			w.wants(t, b, Running)
		},
	)
	t.Run("a matrix as a whole, with cells that it gains later", func(t *testing.T) {
		w := afterJobs(t)
		spec := MatrixSpec{
			Name: "m",
			Job:  JobSpec{Class: "x", Cmd: "work {A}"},
			Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2"}}},
		}
		p, err := w.s.PlanMatrix(spec, false)
		check(t, w.do(p, err))
		first := p.IDs[1]
		job := w.add(t, JobSpec{After: after("%m")})
		w.ends(t, first, exit(0))
		spec.Axes = []*statepb.Axis{{Name: "A", Values: []string{"1", "2", "3"}}}
		p, _, err = w.s.PlanMatrixAgain(spec, false, 0)
		check(t, w.do(p, err))
		w.ends(t, first+1, exit(0))
		w.wants(t, job, Waiting)
		w.ends(t, p.IDs[1], exit(1))
		if !w.s.IsBlocked(job) {
			t.Error("it isn't blocked")
		}
		again, err := planRestart(w.s, w.s.MatrixNamed("m"), []Status{Failed}, nil)
		check(t, w.do(again, err))
		w.ends(t, again.IDs[0], exit(0))
		w.wants(t, job, Running)
	})
	t.Run("a job that ran a cell again is forgotten", func(t *testing.T) {
		w := afterJobs(t)
		p, err := w.s.PlanMatrix(MatrixSpec{
			Job:  JobSpec{Class: "x", Cmd: "cell"},
			Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2"}}},
		}, false)
		check(t, w.do(p, err))
		first := p.IDs[1]
		w.ends(t, first, exit(0))
		again := w.operate(t, OpRestart, first).Fates[0].New[0]
		job := w.add(t, JobSpec{After: after(fmt.Sprint(again))})
		w.ends(t, again, exit(1))
		if !w.s.IsBlocked(job) {
			t.Error("it isn't blocked")
		}
		w.operate(t, OpForget, again)
		w.wants(t, job, Running)
	})
	t.Run("a job that ran a cell again is forgotten with its matrix", func(t *testing.T) {
		w := afterJobs(t)
		p, err := w.s.PlanMatrix(MatrixSpec{
			Job:  JobSpec{Class: "x", Cmd: "cell"},
			Axes: []*statepb.Axis{{Name: "A", Values: []string{"1"}}},
		}, false)
		check(t, w.do(p, err))
		cell := p.IDs[1]
		again := w.operate(t, OpRestart, cell).Fates[0].New[0]
		job := w.add(t, JobSpec{After: after(fmt.Sprint(again))})
		w.operate(t, OpHold, job)
		w.ends(t, cell, exit(1))
		w.ends(t, again, exit(0))
		forget, err := w.s.PlanAtOnce(w.s.ForgetMatrix(p.IDs[0]))
		check(t, w.do(forget, err))
		check(t, w.s.checkGates())
		w.operate(t, OpUnhold, job)
		w.wants(t, job, Running)
		w.ends(t, job, exit(0))
		check(t, w.s.checkGates())
		if n := len(w.s.gates.watch) + len(w.s.gates.last); n > 0 {
			t.Errorf("%d jobs are watched for nobody", n)
		}
	})
	t.Run("a clone of a cell is a job of its own", func(t *testing.T) {
		w := afterJobs(t)
		p, err := w.s.PlanMatrix(MatrixSpec{
			Job:  JobSpec{Class: "x", Cmd: "cell"},
			Axes: []*statepb.Axis{{Name: "A", Values: []string{"1"}}},
		}, false)
		check(t, w.do(p, err))
		cell := p.IDs[1]
		clone := w.operate(t, OpClone, cell).Fates[0].New[0]
		afterCell := w.add(t, JobSpec{After: after(fmt.Sprint(cell))})
		afterClone := w.add(t, JobSpec{After: after(fmt.Sprint(clone))})
		w.ends(t, cell, exit(1))
		for id, want := range map[uint64]bool{afterCell: true, afterClone: false} {
			if w.s.IsBlocked(id) != want {
				t.Errorf("job %d is blocked: %v", id, !want)
			}
		}
		forget, err := w.s.PlanAtOnce(w.s.ForgetMatrix(p.IDs[0]))
		check(t, w.do(forget, err))
		check(t, w.s.checkGates())
		again := w.operate(t, OpRestart, clone).Fates[0].New[0]
		check(t, w.settle())
		w.ends(t, clone, &statepb.Attempt{Cause: statepb.Cause_CANCELED_BY_USER})
		w.wants(t, afterClone, Waiting)
		w.ends(t, again, exit(0))
		w.wants(t, afterClone, Running)
		w.wants(t, afterCell, Waiting)
		check(t, w.s.checkGates())
	})
	t.Run("a cell that waits in vain is held and released", func(t *testing.T) {
		w := afterJobs(t)
		spec := MatrixSpec{
			Job:  JobSpec{Class: "x", Cmd: "cell"},
			Axes: []*statepb.Axis{{Name: "A", Values: []string{"1"}}},
		}
		p, err := w.s.PlanMatrix(spec, false)
		check(t, w.do(p, err))
		w.ends(t, p.IDs[1], exit(1))
		spec.Job.After.Cells = fmt.Sprint(p.IDs[0])
		p, err = w.s.PlanMatrix(spec, false)
		check(t, w.do(p, err))
		job := w.add(t, JobSpec{After: after(fmt.Sprint(p.IDs[1]))})
		for _, held := range []bool{true, false} {
			check(t, w.do(w.s.PlanMatrixHeld(p.IDs[0], held), nil))
			if w.s.IsBlocked(job) == held {
				t.Errorf("while the matrix is held (%v) it is blocked: %v", held, !held)
			}
			check(t, w.s.checkGates())
		}
	})
	t.Run("cells that are freed, or wait for jobs of their own", func(t *testing.T) {
		w := afterJobs(t)
		failed := w.add(t, JobSpec{})
		w.ends(t, failed, exit(1))
		held := w.add(t, JobSpec{Hold: true})
		spec := MatrixSpec{
			Job:  JobSpec{Class: "x", Cmd: "cell", After: after(fmt.Sprint(failed))},
			Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2"}}},
		}
		p, err := w.s.PlanMatrix(spec, false)
		check(t, w.do(p, err))
		first := p.IDs[1]
		job := w.add(t, JobSpec{After: after(fmt.Sprintf("%%%d", p.IDs[0]))})
		blocked := func(step string, want bool) {
			t.Helper()
			check(t, w.s.checkGates())
			if w.s.IsBlocked(job) != want {
				t.Errorf("%s: it is blocked: %v", step, !want)
			}
		}
		set := func(id, other uint64) {
			t.Helper()
			spec := after(fmt.Sprint(other))
			p, err := w.s.PlanSet([]uint64{id}, SetSpec{After: &spec})
			check(t, w.do(p, err))
		}
		blocked("both cells are", true)
		set(first, held)
		blocked("one is", true)
		set(first+1, held)
		blocked("none is", false)
		set(first, failed)
		blocked("one is again", true)
		w.operate(t, OpUnhold, first)
		blocked("that one is freed", false)
		w.ends(t, first, exit(0))
		w.operate(t, OpUnhold, first+1)
		w.ends(t, first+1, exit(0))
		w.wants(t, job, Running)
	})
	t.Run("retries are judged too", func(t *testing.T) {
		w := afterJobs(t)
		a := w.add(t, JobSpec{})
		b := w.add(t, JobSpec{MaxFailures: -1, After: after(fmt.Sprint(a))})
		w.ends(t, a, exit(0))
		w.operate(t, OpRestart, a)
		w.ends(t, b, exit(1))
		check(t, w.pass(time.Minute))
		w.wants(t, b, Waiting)
		w.ends(t, w.s.NextID()-1, exit(0))
		check(t, w.pass(time.Minute))
		w.wants(t, b, Running)
	})
}

// TestAfterCell: each cell waits for those that are like it.
func TestAfterCell(t *testing.T) {
	axis := func(name string, values ...string) *statepb.Axis {
		return &statepb.Axis{Name: name, Values: values}
	}
	lrs, splits := axis("LR", "0.1", "0.01"), axis("SPLIT", "dev", "test")
	tests := []struct {
		name                 string
		first, second        []*statepb.Axis
		repeats, ownRepeats  int
		end                  int // the cell of the first that ends well
		started, stillWaits  []int
		refused              string
		secondCells          [][]uint32
		alsoEnd, thenStarted int
	}{
		{
			name:       "a cell for each of the split",
			first:      []*statepb.Axis{lrs},
			second:     []*statepb.Axis{lrs, splits},
			end:        1,
			started:    []int{2, 3},
			stillWaits: []int{0, 1},
		},
		{
			name:        "several match: all of them",
			first:       []*statepb.Axis{lrs, splits},
			second:      []*statepb.Axis{lrs},
			end:         0,
			stillWaits:  []int{0, 1},
			alsoEnd:     1,
			thenStarted: 0,
		},
		{
			name:       "repeats match",
			first:      []*statepb.Axis{lrs},
			second:     []*statepb.Axis{lrs},
			repeats:    3,
			ownRepeats: 3,
			end:        4,
			started:    []int{4},
			stillWaits: []int{0, 1, 2, 3, 5},
		},
		{
			name:       "without repeats a cell serves all",
			first:      []*statepb.Axis{lrs},
			second:     []*statepb.Axis{lrs},
			ownRepeats: 2,
			end:        1,
			started:    []int{2, 3},
			stillWaits: []int{0, 1},
		},
		{
			name:        "only the first has repeats: all are waited for",
			first:       []*statepb.Axis{lrs},
			second:      []*statepb.Axis{lrs},
			repeats:     2,
			end:         0,
			stillWaits:  []int{0, 1},
			alsoEnd:     1,
			thenStarted: 0,
		},
		{
			name:       "another order of values",
			first:      []*statepb.Axis{lrs},
			second:     []*statepb.Axis{axis("LR", "0.01", "0.1")},
			end:        0,
			started:    []int{1},
			stillWaits: []int{0},
		},
		{
			name:    "no variable in common",
			first:   []*statepb.Axis{lrs},
			second:  []*statepb.Axis{splits},
			refused: "no variable in common",
		},
		{
			name:        "repeats in common alone",
			first:       []*statepb.Axis{lrs},
			second:      []*statepb.Axis{splits},
			repeats:     2,
			ownRepeats:  2,
			end:         0,
			stillWaits:  []int{0, 1, 2, 3},
			alsoEnd:     2,
			thenStarted: 0,
		},
		{
			name:    "a value that the first hasn't",
			first:   []*statepb.Axis{lrs},
			second:  []*statepb.Axis{axis("LR", "0.1", "1")},
			refused: "LR=1",
		},
		{
			name:        "chosen cells",
			first:       []*statepb.Axis{lrs, splits},
			second:      []*statepb.Axis{lrs, splits},
			end:         3,
			secondCells: [][]uint32{{1, 1, 0}, {0, 0, 0}},
			started:     []int{0},
			stillWaits:  []int{1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := afterJobs(t)
			p, err := w.s.PlanMatrix(
				MatrixSpec{
					Job:  JobSpec{Class: "x", Cmd: "first", Repeat: tt.repeats},
					Axes: tt.first,
				},
				false,
			)
			check(t, w.do(p, err))
			first := p.IDs[1]
			p, err = w.s.PlanMatrix(MatrixSpec{
				Job: JobSpec{
					Class:  "x",
					Cmd:    "second",
					Repeat: tt.ownRepeats,
					After:  AfterSpec{Cells: fmt.Sprint(p.IDs[0])},
				},
				Axes:  tt.second,
				Cells: tt.secondCells,
			}, false)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) ||
					!strings.Contains(err.(*Error).Hint(), "--after %1") {
					t.Errorf("%v", err)
				}
				return
			}
			check(t, w.do(p, err))
			second := p.IDs[1]
			w.ends(t, first+uint64(tt.end), exit(0))
			for _, c := range tt.started {
				w.wants(t, second+uint64(c), Running)
			}
			for _, c := range tt.stillWaits {
				w.wants(t, second+uint64(c), Waiting)
			}
			if len(tt.started) == 0 {
				w.ends(t, first+uint64(tt.alsoEnd), exit(0))
				w.wants(t, second+uint64(tt.thenStarted), Running)
			}
		})
	}
	t.Run("a failed cell blocks those like it, and is told of once", func(t *testing.T) {
		w := afterJobs(t)
		p, err := w.s.PlanMatrix(
			MatrixSpec{Job: JobSpec{Class: "x", Cmd: "first"}, Axes: []*statepb.Axis{lrs}},
			false,
		)
		check(t, w.do(p, err))
		first, matrix := p.IDs[1], p.IDs[0]
		p, err = w.s.PlanMatrix(
			MatrixSpec{
				Job: JobSpec{
					Class: "x",
					Cmd:   "second",
					After: AfterSpec{Cells: fmt.Sprint(matrix)},
				},
				Axes: []*statepb.Axis{lrs, splits},
			},
			false,
		)
		check(t, w.do(p, err))
		second := p.IDs[1]
		report := w.add(t, JobSpec{After: after(fmt.Sprintf("%%%d", p.IDs[0]))})
		w.ends(t, first, exit(1))
		if !w.s.IsBlocked(second) || !w.s.IsBlocked(second+1) || w.s.IsBlocked(second+2) ||
			!w.s.IsBlocked(report) {
			t.Error("other cells are blocked")
		}
		told := 0
		for _, e := range w.events {
			told += b2i(e.Kind == EventJobBlocked)
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
		r, err := w.s.Why(second+1, w.now)
		check(t, err)
		if !strings.Contains(r.Summary, fmt.Sprintf("job %d of matrix %d failed", first, matrix)) ||
			!strings.Contains(r.Hint, fmt.Sprintf("job restart %d", first)) {
			t.Error(r)
		}
		again, err := planRestart(w.s, matrix, []Status{Failed}, nil)
		check(t, w.do(again, err))
		if w.s.IsBlocked(second) || w.s.IsBlocked(report) {
			t.Error("still blocked")
		}
		w.ends(t, again.IDs[0], exit(0))
		w.wants(t, second, Running)
		w.wants(t, second+1, Running)
	})
}
