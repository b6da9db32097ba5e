package sched

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// ends reports the end of a job's run.
func (w *world) ends(t *testing.T, job uint64, result *statepb.Attempt) {
	t.Helper()
	check(t, w.report(Ended{Ref: w.runOf(job), Result: result}))
}

func (w *world) operate(t *testing.T, op Op, jobs ...uint64) Plan {
	t.Helper()
	p, err := w.s.PlanAtOnce(Operation{Op: op, Jobs: jobs, Retry: true, Tag: "t"})
	check(t, w.do(p, err))
	return p
}

func (w *world) wants(t *testing.T, job uint64, want Status) {
	t.Helper()
	if got := w.s.Status(job); got != want {
		t.Fatalf("job %d is %s, want %s", job, StatusName(got), StatusName(want))
	}
}

func withResults(paths ...string) *statepb.Attempt {
	r := exit(0)
	r.Results = paths
	return r
}

// TestLives follows one job through the turns that are easily got wrong. Machines a and b have one
// slot each.
func TestLives(t *testing.T) {
	tests := []struct {
		name string
		spec JobSpec
		life func(t *testing.T, w *world, id uint64)
		want Status
	}{
		{"canceled while it runs", JobSpec{MaxFailures: -1},
			func(t *testing.T, w *world, id uint64) {
				w.operate(t, OpCancel, id)
				w.wants(t, id, Running)
				if r := w.running()[0]; !r.Cancel {
					t.Error("the run isn't canceled")
				}
				w.ends(t, id,
					&statepb.Attempt{Cause: statepb.Cause_CANCELED_BY_USER, Signal: "TERM"})
			}, Canceled},
		{"exited before the cancel came", JobSpec{}, func(t *testing.T, w *world, id uint64) {
			w.operate(t, OpCancel, id)
			w.ends(t, id, exit(0))
		}, Done},
		{"failed before the cancel came: cancel beats retry", JobSpec{MaxFailures: -1},
			func(t *testing.T, w *world, id uint64) {
				w.operate(t, OpCancel, id)
				w.ends(t, id, exit(1))
			}, Failed},
		{"not started while it is canceled", JobSpec{MaxFailures: -1},
			func(t *testing.T, w *world, id uint64) {
				w.operate(t, OpCancel, id)
				check(t, w.report(NotStarted{Ref: w.runOf(id), Reason: "no space"}))
			}, Canceled},
		{"lost while it is canceled", JobSpec{MaxFailures: -1},
			func(t *testing.T, w *world, id uint64) {
				w.operate(t, OpCancel, id)
				check(t, w.report(RunLost{Ref: w.runOf(id), Reason: "another boot"}))
			}, Canceled},
		{"canceled, then its machine is removed", JobSpec{MaxFailures: -1},
			func(t *testing.T, w *world, id uint64) {
				w.operate(t, OpCancel, id)
				check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
			}, Canceled},
		{"its machine is removed", JobSpec{}, func(t *testing.T, w *world, id uint64) {
			check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
		}, Canceled},
		{"its machine is removed, and it retries", JobSpec{MaxFailures: 1},
			func(t *testing.T, w *world, id uint64) {
				check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
				w.wants(t, id, Waiting) // for the end of what it has there
				check(t, w.settle())
				if w.runOf(id).Machine != "b" || w.s.Job(id).Failures != 0 {
					t.Error(w.s.Job(id))
				}
				w.ends(t, id, exit(1)) // its one failure
				check(t, w.pass(time.Minute))
				w.ends(t, id, exit(0))
			}, Done},
		{"lost", JobSpec{}, func(t *testing.T, w *world, id uint64) {
			check(t, w.report(RunLost{Ref: w.runOf(id), Reason: "another boot"}))
		}, Lost},
		{"lost, and it retries", JobSpec{MaxFailures: 1}, func(t *testing.T, w *world, id uint64) {
			check(t, w.report(RunLost{Ref: w.runOf(id), Reason: "another boot"}))
			check(t, w.pass(time.Second))
			w.wants(t, id, Waiting) // nobody has looked whether anything of it lives
			check(t, w.settle())
		}, Running},
		{"the user says that it is lost", JobSpec{}, func(t *testing.T, w *world, id uint64) {
			if p := w.operate(t, OpLost, id); p.Fates[0].Changed {
				t.Error("lost, though its machine is connected")
			}
			r := w.runOf(id)
			check(t, w.report(Away{Addr: "a"}))
			w.operate(t, OpLost, id)
			w.wants(t, id, Waiting)
			check(t, w.report(Ended{Ref: r, Result: exit(0)})) // it comes back after all: too late
			if o := w.s.Obligations(); len(o) != 1 || !o[0].Cancel {
				t.Errorf("owed: %v", o)
			}
			check(t, w.pass(time.Minute))
			if w.runOf(id).Machine != "b" {
				t.Error("it didn't go elsewhere")
			}
		}, Running},
		{"canceled while its results are copied", JobSpec{CpPath: "/r"},
			func(t *testing.T, w *world, id uint64) {
				w.ends(t, id, withResults("out"))
				w.operate(t, OpCancel, id)
				w.wants(t, id, Copying)
				if len(w.fleet.stops) != 1 {
					t.Error("the copy isn't stopped")
				}
				check(t, w.report(CopyEnded{Job: id, Error: "stopped"}))
				if j := w.s.Job(id); j.Results != statepb.Results_RESULTS_FAILED || j.Canceling {
					t.Error(j)
				}
			}, Done},
		{"a line that was meant to name results", JobSpec{CpPath: "/r"},
			func(t *testing.T, w *world, id uint64) {
				result := exit(0)
				result.Overlooked = "INFO RESULTS: out"
				w.ends(t, id, result)
				w.wants(t, id, Copying)
				check(t, w.report(CopyEnded{Job: id, Error: "a line names something"}))
				if len(w.s.Obligations()) != 0 {
					t.Error("what it named is removed")
				}
			}, Done},
		{"its results are called by a secret", JobSpec{CpPath: "/r"},
			func(t *testing.T, w *world, id uint64) {
				check(t, w.do(w.s.PlanVar("KEY", "hunter2", true, false)))
				w.ends(t, id, withResults("/a/hunter2/b"))
				if got := w.s.Job(id).Attempts[0].Results[0]; got != "/a/hunter2/b" {
					t.Errorf("before they are copied it is %s", got)
				}
				check(t, w.report(CopyEnded{Job: id, Dir: "/r/1", Files: 1}))
				if got := w.s.Job(id).Attempts[0].Results[0]; got != "/a/(secret)/b" {
					t.Errorf("then it is %s", got)
				}
			}, Done},
		{"such a line without a place for results", JobSpec{},
			func(t *testing.T, w *world, id uint64) {
				result := exit(0)
				result.Overlooked = "INFO RESULTS: out"
				w.ends(t, id, result)
			}, Done},
		{"its machine is removed while its results wait to be copied", JobSpec{CpPath: "/r"},
			func(t *testing.T, w *world, id uint64) {
				w.ends(t, id, withResults("out"))
				check(t, w.report(CopyWaits{Job: id, Reason: "the disk is full"}))
				check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
				if p := w.operate(t, OpRecopy, id); p.Fates[0].Changed {
					t.Error("copied again from a machine that is gone")
				}
				check(t, w.pool("x", 1, "a"))
				w.operate(t, OpRecopy, id)
				w.wants(t, id, Copying)
				check(t, w.report(CopyEnded{Job: id, Dir: "/r/1", Files: 1}))
				if j := w.s.Job(id); j.Results != statepb.Results_RESULTS_COPIED ||
					len(w.s.Obligations()) != 1 {
					t.Error(j, w.s.Obligations())
				}
			}, Done},
		{"forgotten while it runs", JobSpec{}, func(t *testing.T, w *world, id uint64) {
			w.operate(t, OpForget, id)
			w.wants(t, id, Running)
			w.ends(t, id, &statepb.Attempt{Cause: statepb.Cause_CANCELED_BY_USER})
			if _, err := w.s.Select([]string{"1"}); kindOfError(err) != NotFound {
				t.Error(err)
			}
		}, 0},
		{"forgotten with results that failed to copy", JobSpec{CpPath: "/r"},
			func(t *testing.T, w *world, id uint64) {
				w.ends(t, id, withResults("out"))
				check(t, w.report(CopyEnded{Job: id, Error: "no"}))
				w.operate(t, OpForget, id)
				if len(w.fleet.settles) != 1 {
					t.Error("what was kept for another copy stays for ever")
				}
			}, 0},
		{"tagged in history", JobSpec{}, func(t *testing.T, w *world, id uint64) {
			w.ends(t, id, exit(0))
			w.operate(t, OpTag, id)
			if got := mustSelect(t, w.s, "@t:done"); !cmp.Equal(got, []uint64{id}) {
				t.Error(got)
			}
		}, Done},
		{"held between two attempts", JobSpec{MaxFailures: 1},
			func(t *testing.T, w *world, id uint64) {
				w.ends(t, id, exit(1))
				w.operate(t, OpHold, id)
				check(t, w.pass(time.Hour))
				w.wants(t, id, Held)
				w.operate(t, OpUnhold, id)
			}, Running},
		{"news of another life", JobSpec{MaxFailures: 1}, func(t *testing.T, w *world, id uint64) {
			old := w.runOf(id)
			w.ends(t, id, exit(1))
			check(t, w.pass(time.Second))
			check(t,
				w.report(Ended{Ref: old, Result: exit(0)}, RunLost{Ref: old}, NotStarted{Ref: old},
					Started{Ref: old}))
			if a := last(w.s.Job(id)); a.Number != 2 || a.StartedAt != 0 {
				t.Error(a)
			}
		}, Running},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 1, "a"))
			test.spec.Class, test.spec.Cmd = "x", "work"
			ids, err := w.submit(test.spec)
			check(t, err)
			check(t, w.pool("x", 1, "b"))
			test.life(t, w, ids[0])
			w.wants(t, ids[0], test.want)
			s, err := restored(nil, w.journal)
			check(t, err)
			if diff := cmp.Diff(dump(w.s), dump(s)); diff != "" {
				t.Errorf("the journal makes another state:\n%s", diff)
			}
		})
	}
}

// TestAddedAgain adds a machine of the pool again: what isn't named stays as it is.
func TestAddedAgain(t *testing.T) {
	w := newWorld()
	end := w.now.Add(time.Hour)
	add := func(spec MachineSpec, slots int, until time.Time) {
		t.Helper()
		spec.Addr, spec.Class = "a", "x"
		check(t, w.do(w.s.PlanMachines([]MachineSpec{spec}, w.now)))
		if m, _ := w.s.Machine("a"); int(m.Slots) != slots || !Time(m.Until).Equal(until) ||
			m.Draining || m.Removing {
			t.Errorf("%v", m.Machine)
		}
	}
	add(MachineSpec{}, 1, time.Time{})
	add(MachineSpec{Slots: 3}, 3, time.Time{})
	add(MachineSpec{Until: end}, 3, end)
	check(t, w.do(w.s.PlanDrain([]string{"a"}, true), nil))
	add(MachineSpec{}, 3, end)
	add(MachineSpec{Slots: 1}, 1, end)
	check(t, w.connect("a"))
	_, err := w.submit(JobSpec{Class: "x", Cmd: "work"})
	check(t, err)
	check(t, w.pass(time.Hour)) // it waits for its job, then it goes
	add(MachineSpec{}, 1, time.Time{})
}

// TestSlotsFewer: slots that are taken away from under running jobs aren't filled again, and
// orphans and runs that are still to be ended hold theirs.
func TestSlotsFewer(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 4, "a"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Repeat: 10})
	check(t, err)
	check(t, w.do(w.s.PlanMachines([]MachineSpec{{Addr: "a", Class: "x", Slots: 2}}, w.now)))
	for i, want := range []int{3, 2, 2, 2} { // runs after each end
		w.ends(t, ids[i], exit(0))
		if got := len(w.running()); got != want {
			t.Errorf("%d runs after %d ends, want %d", got, i+1, want)
		}
	}
	check(t,
		w.report(Connected{Addr: "a", Facts: &statepb.Machine{BootId: "1"},
			Runs: []*statepb.RunRef{{Machine: "a", Job: 9999, Token: "whose?"}}}))
	w.ends(t, w.running()[0].Ref.Job, exit(0))
	if got := len(w.running()); got != 1 {
		t.Errorf("%d runs beside an orphan, in 2 slots", got)
	}
	check(t, w.connect("a"))
	if got := len(w.running()); got != 2 {
		t.Errorf("%d runs when the orphan is gone", got)
	}
}

// TestMachineComesBackOwing: a machine that was removed and added
// again gets no job for the slot in which a run is still to be ended.
func TestMachineComesBackOwing(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	_, err := w.submit(JobSpec{Class: "x", Cmd: "work"}, JobSpec{Class: "x", Cmd: "next"})
	check(t, err)
	owed := w.running()[0].Ref
	check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
	if !w.fleet.pool["a"] {
		t.Error("the link is given up while something is owed")
	}
	check(t, w.pool("x", 1, "a"))
	if n := len(w.running()); n != 0 {
		t.Errorf("%d runs beside one that is being ended", n)
	}
	check(t, w.report(Settled{Ref: owed}))
	if n := len(w.running()); n != 1 {
		t.Errorf("%d runs when it has ended", n)
	}
	check(t, w.do(w.s.PlanRemove([]string{"a"}, true), nil))
	if w.fleet.pool["a"] || len(w.s.Obligations()) != 0 {
		t.Error("removed by force, and still linked")
	}
}

// TestUntil: before its end a machine gets only what is over by
// then, after it nothing, and goes when nothing is on it any more.
func TestUntil(t *testing.T) {
	w := newWorld()
	check(t,
		w.do(w.s.PlanMachines([]MachineSpec{{Addr: "a", Class: "x", Slots: 2,
			Until: w.now.Add(time.Hour)}}, w.now)))
	check(t, w.connect("a"))
	ids, err := w.submit(
		JobSpec{Class: "x", Cmd: "long", Timeout: 2 * time.Hour},
		JobSpec{Class: "x", Cmd: "short", Timeout: time.Minute},
		JobSpec{Class: "x", Cmd: "any", CpPath: "/r"}, JobSpec{Class: "x", Cmd: "later"})
	check(t, err)
	w.wants(t, ids[0], Waiting)
	w.wants(t, ids[1], Running)
	w.wants(t, ids[2], Running)
	check(t, w.pass(time.Hour))
	w.ends(t, ids[1], exit(0))
	w.wants(t, ids[3], Waiting)
	w.ends(t, ids[2], withResults("out"))
	check(t, w.report(CopyWaits{Job: ids[2], Reason: "the disk is full"}))
	if w.s.machines["a"] == nil {
		t.Fatal("gone before its results were copied")
	}
	check(t, w.report(CopyEnded{Job: ids[2], Dir: "/r/1"}))
	if w.s.machines["a"] != nil {
		t.Error("still there")
	}
}

// TestMatrixLife: cells that are run again, held with their matrix, and forgotten.
func TestMatrixLife(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 3, "a"))
	p, err := w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "cell {A}", MaxFailures: 1},
		Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2", "3", "4"}}}}, false)
	check(t, w.do(p, err))
	id, first := p.IDs[0], p.IDs[1]
	w.ends(t, first, exit(1))
	check(t, w.do(w.s.PlanMatrixHeld(id, true), nil))
	w.wants(t, first, Held)
	w.wants(t, first+3, Running) // it was next
	w.ends(t, first+1, exit(1))  // a retry of a held matrix is held
	w.wants(t, first+1, Held)
	w.ends(t, first+2, exit(0))
	w.ends(t, first+3, exit(0))
	again, err := planRestart(w.s, id, []Status{Failed, Lost, Canceled, Done}, nil)
	check(t, w.do(again, err))
	newer := again.IDs[0]
	w.wants(t, newer, Held)
	check(t, w.do(w.s.PlanMatrixHeld(id, false), nil))
	check(t, w.pass(time.Minute))
	w.ends(t, newer, exit(0))
	if _, c := w.s.Matrix(id); c.Total() != 4 || c.By[Done] != 1 {
		t.Errorf("%+v", c)
	}
	if got := mustSelect(t, w.s, "%"+"1:done"); !cmp.Equal(got, []uint64{newer}) {
		t.Error(got)
	}
	w.operate(t, OpForget, newer) // the one before counts again
	if _, c := w.s.Matrix(id); c.Total() != 4 || c.By[Done] != 1 {
		t.Errorf("%+v", c)
	}
	forget, err := w.s.PlanAtOnce(w.s.ForgetMatrix(id))
	check(t, w.do(forget, err))
	for _, r := range w.running() {
		check(t,
			w.report(Ended{Ref: r.Ref,
				Result: &statepb.Attempt{Cause: statepb.Cause_CANCELED_BY_USER}}))
	}
	if len(w.s.Matrices()) != 0 || w.s.JobCount() != 0 {
		t.Errorf("left: matrices %v, %d jobs", w.s.Matrices(), w.s.JobCount())
	}
}
