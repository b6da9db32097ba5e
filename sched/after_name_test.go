package sched

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"jobserver/sched/statepb"
)

// TestAfterNames: a command knows the one job that it waited for, and where its results are.
func TestAfterNames(t *testing.T) {
	w := afterJobs(t)
	first := w.add(t, JobSpec{CpPath: "/r"})
	bare := w.add(t, JobSpec{})
	submit := func(cmd string, after AfterSpec) (uint64, error) {
		ids, err := w.submit(JobSpec{Class: "x", Cmd: cmd, After: after})
		if err != nil {
			return 0, err
		}
		return ids[0], nil
	}
	id, err := submit("use {AFTER} {AFTER_RESULTS}/model", after(fmt.Sprint(first)))
	check(t, err)
	w.ends(t, first, withResults("out"))
	check(t, w.report(CopyEnded{Job: first, Dir: "/r/1"}))
	r := w.fleet.runs[w.runOf(id).Token]
	if want := fmt.Sprintf("use %d /r/1/model", first); string(r.Command) != want {
		t.Errorf("it runs %s, want %s", r.Command, want)
	}
	if !slices.Contains(r.Env, "JOBSERVER_AFTER_RESULTS=/r/1") {
		t.Error(r.Env)
	}
	for _, tt := range []struct {
		cmd   string
		after AfterSpec
		want  string
	}{
		{"use {AFTER}", AfterSpec{}, "of the one job"},
		{"use {AFTER}", after(fmt.Sprint(first), fmt.Sprint(bare)), "of the one job"},
		{"use {AFTER_RESULTS}", after(fmt.Sprint(bare)), "keeps no results"},
	} {
		if _, err := submit(
			tt.cmd,
			tt.after,
		); err == nil ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q gives %v, want %q", tt.cmd, err, tt.want)
		}
	}

	axis := func(name string, values ...string) *statepb.Axis {
		return &statepb.Axis{Name: name, Values: values}
	}
	lrs, splits := axis("LR", "1", "2"), axis("SPLIT", "dev", "test")
	matrix := func(cmd, cells string, axes ...*statepb.Axis) ([]uint64, error) {
		p, err := w.s.PlanMatrix(MatrixSpec{Axes: axes, Job: JobSpec{
			Class: "x", Cmd: cmd, CpPath: "/m/{JID}", After: AfterSpec{Cells: cells},
		}}, false)
		if err != nil {
			return nil, err
		}
		return p.IDs, w.do(p, nil)
	}
	train, err := matrix("train {LR}", "", lrs)
	check(t, err)
	eval, err := matrix("eval {LR} {SPLIT} {AFTER_RESULTS}", fmt.Sprint(train[0]), lrs, splits)
	check(t, err)
	w.ends(t, train[1]+1, withResults("out"))
	check(t, w.report(CopyEnded{Job: train[1] + 1, Dir: "/m/x"}))
	if got := string(w.fleet.runs[w.runOf(eval[1]+3).Token].Command); got != "eval 2 test /m/x" {
		t.Error(got)
	}
	priority := 3
	p, err := w.s.PlanSet(
		[]uint64{eval[1]},
		SetSpec{Priority: &priority},
	) // a cell that waits for a cell
	check(t, w.do(p, err))
	if _, err := matrix("sum {LR} {AFTER}", fmt.Sprint(eval[0]), lrs); err == nil ||
		!strings.Contains(err.Error(), "some cells wait for 2 cells") {
		t.Error(err)
	}
}
