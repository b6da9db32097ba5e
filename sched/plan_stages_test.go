package sched

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// study is a file of three stages: train, evaluate after it, and a report of all.
func study(lr []string, cmd string) []StageSpec {
	axis := func(name string, values ...string) *statepb.Axis {
		return &statepb.Axis{Name: name, Values: values}
	}
	return []StageSpec{
		{Stage: "train", MatrixSpec: MatrixSpec{Name: "s.train", Axes: []*statepb.Axis{axis("LR",
			lr...)}, Job: JobSpec{Class: "x", Cmd: "train {LR}", CpPath: "/r"}}},
		{Stage: "evaluate", After: []int{0}, MatrixSpec: MatrixSpec{Name: "s.evaluate",
			Axes: []*statepb.Axis{axis("LR", lr...), axis("SPLIT", "dev", "test")},
			Job: JobSpec{Class: "x", Cmd: cmd,
				Inputs: []InputSpec{{Path: "{AFTER_RESULTS}/model"}}}}},
		{Stage: "report", After: []int{1}, Join: true, MatrixSpec: MatrixSpec{Name: "s.report",
			Job: JobSpec{Class: "x", Cmd: "report"}}},
	}
}

// applies submits stages, and gives their matrices.
func (w *world) applies(t *testing.T, specs []StageSpec, rerun string) ([]*matrix, []StagePlan) {
	t.Helper()
	p, plans, err := w.s.PlanStages(specs, false, rerun, 3)
	check(t, w.do(p, err))
	var ms []*matrix
	for _, one := range plans {
		ms = append(ms, w.s.matrices[one.Matrix])
	}
	return ms, plans
}

// finishes ends all that can run, until nothing does.
func (w *world) finishes(t *testing.T) {
	t.Helper()
	for len(w.running()) > 0 {
		r := w.running()[0].Ref
		if !isRead(&statepb.Attempt{Inputs: w.fleet.runs[r.Token].Inputs}) {
			w.reads(t, r.Job)
		}
		result := exit(0)
		if w.s.Job(r.Job).CpPath != "" {
			result = withResults("model")
		}
		w.ends(t, r.Job, result)
		if w.s.Status(r.Job) == Copying {
			check(t, w.report(CopyEnded{Job: r.Job, Dir: fmt.Sprintf("/r/%d", r.Job), Files: 1}))
		}
	}
}

func TestStages(t *testing.T) {
	done := func(t *testing.T, ms []*matrix, want ...int) {
		t.Helper()
		for i, m := range ms {
			if n := m.counts.By[Done]; n != want[i] || m.counts.Total() != int(m.Cells) {
				t.Errorf("%s: %d are done, want %d of %d: %v", m.Name, n, want[i], m.Cells,
					m.counts)
			}
		}
	}
	lr := []string{"0.1", "0.01"}
	t.Run("one after another", func(t *testing.T) {
		w := afterJobs(t)
		ms, _ := w.applies(t, study(lr, "eval {LR} {SPLIT}"), "")
		if n := len(w.running()); n != 2 {
			t.Errorf("%d run at first", n)
		}
		w.ends(t, ms[0].id(1), withResults("model"))
		check(t, w.report(CopyEnded{Job: ms[0].id(1), Dir: "/r/x", Files: 1}))
		w.wants(t, ms[1].id(0), Waiting)
		w.wants(t, ms[1].id(3), Running)
		w.finishes(t)
		done(t, ms, 2, 4, 1)
		if text := w.s.AfterNames(ms[1].Template.After); text[0] != "after-cell s.train" {
			t.Errorf("it runs %q", text)
		}
		// Again: nothing is missing.
		_, plans := w.applies(t, study(lr, "eval {LR} {SPLIT}"), "")
		for _, p := range plans {
			if p.Cells != 0 {
				t.Errorf("%d cells run again", p.Cells)
			}
		}
		// More values go through all stages, and only those.
		ms, plans = w.applies(t, study(append(lr, "1"), "eval {LR} {SPLIT}"), "")
		if plans[0].Cells != 1 || plans[1].Cells != 2 || plans[2].Cells != 0 {
			t.Errorf("what is missing: %+v", plans)
		}
		w.finishes(t)
		done(t, ms, 3, 6, 1)
	})
	t.Run("again, with what comes after", func(t *testing.T) {
		w := afterJobs(t)
		ms, _ := w.applies(t, study(lr, "eval {LR} {SPLIT}"), "")
		w.finishes(t)
		_, _, err := w.s.PlanStages(study(lr, "other {LR} {SPLIT}"), false, "", 0)
		if err == nil || !strings.Contains(err.Error(), "stage evaluate: matrix") ||
			!strings.Contains(err.(*Error).Next, "--rerun evaluate") {
			t.Fatalf("a changed command: %v", err)
		}
		_, plans := w.applies(t, study(lr, "other {LR} {SPLIT}"), "evaluate")
		if plans[0].Cells != 0 || plans[1].Cells != 4 || plans[2].Cells != 1 {
			t.Errorf("what runs again: %+v", plans)
		}
		if r := w.running(); len(r) != 4 || !strings.HasPrefix(string(r[0].Command), "other") {
			t.Errorf("%d run, the first %s", len(r), r[0].Command)
		}
		_, _, err = w.s.PlanStages(study(lr, "third {LR} {SPLIT}"), false, "train", 0)
		if err == nil || !strings.Contains(err.Error(), "4 jobs of matrix") {
			t.Errorf("while they run: %v", err)
		}
		w.finishes(t)
		done(t, ms, 2, 4, 1)
		// What waits is replaced: the report waits for a train that runs again.
		w.applies(t, study(lr, "other {LR} {SPLIT}"), "train")
		w.ends(t, w.running()[0].Ref.Job, exit(1))
		w.ends(t, w.running()[0].Ref.Job, exit(1))
		w.applies(t, study(lr, "fourth {LR} {SPLIT}"), "train")
		w.finishes(t)
		done(t, ms, 2, 4, 1)
		if cmd := string(w.s.Job(ms[1].counting(0)).Cmd); cmd != "fourth {LR} {SPLIT}" {
			t.Errorf("it ran %s", cmd)
		}
	})
	t.Run("refused as a whole", func(t *testing.T) {
		w := afterJobs(t)
		bad := study(lr, "eval {NOPE}")
		for name, tt := range map[string]struct {
			specs []StageSpec
			rerun string
			want  string
		}{
			"the second":          {bad, "", "stage evaluate: nothing defines {NOPE}"},
			"an unknown to rerun": {study(lr, "e"), "nope", `no stage "nope"`},
			"one after itself": {[]StageSpec{{Stage: "a", After: []int{0},
				MatrixSpec: bad[0].MatrixSpec}}, "", "before it"},
			"twice the same": {[]StageSpec{bad[0], bad[0]}, "", "no name of its own"},
		} {
			before := w.s.NextID()
			p, _, err := w.s.PlanStages(tt.specs, false, tt.rerun, 0)
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(p.Changes) > 0 ||
				w.s.NextID() != before {
				t.Errorf("%s: %v, %d changes", name, err, len(p.Changes))
			}
		}
	})
	t.Run("another matrix in its place", func(t *testing.T) {
		w := afterJobs(t)
		specs := study(lr, "eval {LR} {SPLIT}")
		alone := specs[1].MatrixSpec
		alone.Job.Inputs = nil
		w.addMatrix(t, alone)
		specs[1].Job.Inputs = nil
		if _, _, err := w.s.PlanStages(specs, false, "", 0); err == nil ||
			!strings.Contains(err.Error(), "waits for other jobs") {
			t.Errorf("it follows nothing, and is to follow a stage: %v", err)
		}
	})
}

// bigStages are two of 100,000 cells each, the second with inputs of the first.
func bigStages() []StageSpec {
	many := func(n int) (values []string) {
		for i := range n {
			values = append(values, fmt.Sprint(i))
		}
		return values
	}
	axes := []*statepb.Axis{{Name: "A", Values: many(1000)}, {Name: "B", Values: many(100)}}
	return []StageSpec{
		{Stage: "first", MatrixSpec: MatrixSpec{Name: "s.first", Axes: axes,
			Job: JobSpec{Class: "x", Cmd: "first {A} {B}", CpPath: "/r"}}},
		{Stage: "second", After: []int{0}, MatrixSpec: MatrixSpec{Name: "s.second", Axes: axes,
			Job: JobSpec{Class: "x", Cmd: "second {A} {B}",
				Inputs: []InputSpec{{Path: "{AFTER_RESULTS}/model"}}}}},
	}
}

// BenchmarkStages100k plans, encodes and applies two stages of 100,000 cells.
func BenchmarkStages100k(b *testing.B) {
	at := time.Unix(1_700_000_000, 0)
	specs := bigStages()
	b.ReportAllocs()
	for b.Loop() {
		s := cluster(b, 500, at)
		p, _, err := s.PlanStages(specs, false, "", 0)
		must(b, err)
		s.run1(b, at, p.Changes...)
	}
}
