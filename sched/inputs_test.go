package sched

import (
	"fmt"
	"strings"
	"testing"

	"jobserver/sched/statepb"
)

// reads reports what was read for the newest attempt of a job.
func (w *world) reads(t *testing.T, id uint64) {
	t.Helper()
	check(t, w.report(w.read(w.runOf(id))))
}

// read is the outcome of reading all inputs of a run.
func (w *world) read(r *statepb.RunRef) InputsRead {
	o := InputsRead{Ref: r}
	for _, in := range w.fleet.runs[r.Token].Inputs {
		o.Inputs = append(o.Inputs, &statepb.Input{Name: in.Name, Path: in.Path,
			Hash: fmt.Sprintf("of %s at %d", in.Path, w.now.Unix()), Bytes: 7, Files: 1})
	}
	return o
}

func (w *world) addMatrix(t *testing.T, spec MatrixSpec) *matrix {
	t.Helper()
	p, err := w.s.PlanMatrix(spec, false)
	check(t, w.do(p, err))
	return w.s.matrices[p.IDs[0]]
}

func (w *world) missing(t *testing.T, id uint64) {
	t.Helper()
	check(t, w.report(NotStarted{Ref: w.runOf(id), Reason: "its input is not there", Hold: true}))
}

// TestInputs follows jobs with inputs.
func TestInputs(t *testing.T) {
	with := func(paths ...string) JobSpec {
		var spec JobSpec
		for _, path := range paths {
			spec.Inputs = append(spec.Inputs, InputSpec{Path: path})
		}
		return spec
	}
	t.Run("read, noted and started", func(t *testing.T) {
		w := afterJobs(t)
		id := w.add(t, with("/data/{CLASS}/set"))
		run := w.fleet.runs[w.runOf(id).Token]
		if in := run.Inputs[0]; in.Path != "/data/x/set" || in.Name != "set" || in.Hash != "" {
			t.Errorf("it is to be given %v", in)
		}
		w.reads(t, id)
		if in := w.fleet.runs[w.runOf(id).Token].Inputs[0]; in.Hash == "" {
			t.Error("it is started, and nobody knows with what")
		}
		again := w.read(w.runOf(id))
		again.Inputs[0].Hash = "another"
		check(t, w.report(again)) // an answer that came twice changes nothing
		w.ends(t, id, exit(0))
		if in := last(w.s.Job(id)).Inputs[0]; in.Hash != "of /data/x/set at 1700000000" {
			t.Errorf("the record says %v", in)
		}
	})
	t.Run("a missing one is nobody's failure", func(t *testing.T) {
		w := afterJobs(t)
		spec := with("/data/set")
		id := w.add(t, spec)
		behind := w.add(t, JobSpec{After: after(fmt.Sprint(id))})
		for range 5 {
			w.missing(t, id)
			w.wants(t, id, Held)
			w.wants(t, behind, Waiting)
			if !w.s.IsBlocked(behind) || w.s.CanMove(id) || w.s.CanMove(behind) {
				t.Error("what waits for it may go on")
			}
			if why, _ := w.s.Why(id, w.now); why.Summary != "its input is not there" {
				t.Errorf("it is held since %s", why.Summary)
			}
			if why, _ := w.s.Why(behind, w.now); !strings.Contains(why.Summary, "not there") {
				t.Errorf("what waits for it: %s", why.Summary)
			}
			w.operate(t, OpUnhold, id)
			w.wants(t, id, Running)
			if w.s.IsBlocked(behind) {
				t.Error("what waits for it is blocked still")
			}
		}
		j := w.s.Job(id)
		if m, _ := w.s.Machine("a"); j.Failures != 0 || len(m.Failures) > 0 || m.Resting {
			t.Errorf("%d failures of the job, %v of the machine", j.Failures, m.Failures)
		}
		w.reads(t, id)
		w.ends(t, id, exit(0))
		w.ends(t, behind, exit(0))
	})
	t.Run("canceled while it is read", func(t *testing.T) {
		w := afterJobs(t)
		id := w.add(t, with("/data/set"))
		w.operate(t, OpCancel, id)
		w.missing(t, id)
		w.wants(t, id, Canceled)
	})
	t.Run("each cell its own, of the cell that it waits for", func(t *testing.T) {
		w := afterJobs(t)
		axes := []*statepb.Axis{{Name: "A", Values: []string{"1", "2"}}}
		train := w.addMatrix(t, MatrixSpec{Name: "train", Axes: axes,
			Job: JobSpec{Class: "x", Cmd: "t {A}", CpPath: "/r"}})
		spec := MatrixSpec{Axes: axes, Job: JobSpec{Class: "x", Cmd: "e {A}",
			After:  AfterSpec{Cells: "train"},
			Inputs: []InputSpec{{Path: "{AFTER_RESULTS}/model", Name: ""}}}}
		eval := w.addMatrix(t, spec)
		first, second := train.id(0), train.id(1)
		w.ends(t, first, withResults("model"))
		check(t, w.report(CopyEnded{Job: first, Dir: "/r/" + fmt.Sprint(first), Files: 1}))
		if in := w.fleet.runs[w.runOf(eval.id(0)).Token].Inputs[0]; in.Path !=
			fmt.Sprintf("/r/%d/model", first) {
			t.Errorf("it is given %v", in)
		}
		// One that named no results leaves nothing to be given.
		w.ends(t, second, exit(0))
		w.wants(t, eval.id(1), Held)
		if why := w.s.Job(eval.id(1)).HeldWhy; !strings.Contains(why, "left none") {
			t.Errorf("it is held since %s", why)
		}
		check(t, w.do(w.s.PlanMatrixHeld(eval.Id, true), nil))
		check(t, w.do(w.s.PlanMatrixHeld(eval.Id, false), nil))
		w.wants(t, eval.id(1), Held) // it was tried again
	})
	t.Run("a trial of a held matrix", func(t *testing.T) {
		w := afterJobs(t)
		m := w.addMatrix(t,
			MatrixSpec{Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2"}}},
				Job: JobSpec{Class: "x", Cmd: "t {A}", Hold: true,
					Inputs: []InputSpec{{Path: "/d"}}}})
		check(t, w.apply(&Change{JobHeld: &statepb.JobHeld{Job: m.id(1), Held: true, Why: "no"}}))
		check(t, w.turn())
		if j := w.s.heldCell(m); j == nil || j.Id != m.id(0) {
			t.Errorf("it is tried with %v", j)
		}
	})
}

// TestInputsRefused: what can't be an input is refused at once.
func TestInputsRefused(t *testing.T) {
	w := afterJobs(t)
	check(t, w.do(w.s.PlanVar("KEY", "hush", true, false)))
	one := w.add(t, JobSpec{})
	kept := w.add(t, JobSpec{CpPath: "/r"})
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		inputs []InputSpec
		after  []string
		want   string // "" : taken
	}{
		{[]InputSpec{{Path: "/a/b"}, {Path: "/c/b"}}, nil, "two inputs have the name b"},
		{[]InputSpec{{Path: "/a/b"}, {Path: "/c/b", Name: "c"}}, nil, ""},
		{[]InputSpec{{Path: "a"}}, nil, "not an absolute path"},
		{[]InputSpec{{Path: ""}}, nil, "not an absolute path"},
		{[]InputSpec{{Path: "/"}}, nil, "no name of its own"},
		{[]InputSpec{{Path: "/a/.."}}, nil, "no name of its own"},
		{[]InputSpec{{Path: "/a/{CLASS}"}}, nil, "no name of its own"},
		{[]InputSpec{{Path: "/a/{CLASS}", Name: "c"}}, nil, ""},
		{[]InputSpec{{Path: "{TAG}", Name: "c"}}, nil, ""},
		{[]InputSpec{{Path: "/a", Name: "b/c"}}, nil, "can't be the name"},
		{[]InputSpec{{Path: "/a", Name: ".."}}, nil, "can't be the name"},
		{[]InputSpec{{Path: "/a", Name: "b\nc"}}, nil, "can't be the name"},
		{[]InputSpec{{Path: "/a", Name: "b\xff"}}, nil, "can't be the name"},
		{[]InputSpec{{Path: "/a", Name: long}}, nil, "can't be the name"},
		{[]InputSpec{{Path: "/a", Name: AfterList}}, nil, "list of what a job has waited for"},
		{[]InputSpec{{Path: "/a/" + AfterList}}, nil, "list of what a job has waited for"},
		{[]InputSpec{{Path: "/a\xff"}}, nil, "not valid UTF-8"},
		{[]InputSpec{{Path: "/" + strings.Repeat("x/", 3000)}}, nil, "at most 4095"},
		{[]InputSpec{{Path: "/{NOPE}/a"}}, nil, "nothing defines {NOPE}"},
		{[]InputSpec{{Path: "/{KEY}/a"}}, nil, "is a secret"},
		{[]InputSpec{{Path: "{AFTER_RESULTS}/a"}}, nil, "the one job that this one waits for"},
		{[]InputSpec{{Path: "{AFTER_RESULTS}/a"}}, []string{fmt.Sprint(one)}, "keeps no results"},
		{[]InputSpec{{Path: "{AFTER_RESULTS}/a"}}, []string{fmt.Sprint(kept)}, ""},
		{[]InputSpec{{Path: "{AFTER_RESULTS}/a"}}, []string{fmt.Sprint(one), fmt.Sprint(kept)},
			"the one job"},
		{make([]InputSpec, 101), nil, "at most 100"},
	} {
		_, err := w.s.PlanJobs([]JobSpec{{Class: "x", Cmd: "true", Inputs: tt.inputs,
			After: after(tt.after...)}}, false)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil ||
			!strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%.80v: %v, want %q", tt.inputs, err, tt.want)
		}
	}
}
