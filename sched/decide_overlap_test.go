package sched

import (
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// TestNoOverlap gives up an attempt in each way that there is: the next one begins when nothing of
// it lives any more, or when nobody can know, and then this is said.
func TestNoOverlap(t *testing.T) {
	remove := func(force bool) func(*testing.T, *world, uint64) {
		return func(t *testing.T, w *world, _ uint64) {
			p := w.s.PlanRemove([]string{"a"}, force)
			check(t, w.do(p, nil))
		}
	}
	lost := func(died bool) func(*testing.T, *world, uint64) {
		return func(t *testing.T, w *world, id uint64) {
			check(t, w.report(RunLost{Ref: w.runOf(id), Reason: "its directory is not on the " +
				"machine any more", Died: died}))
		}
	}
	away := func(then func(*testing.T, *world, uint64)) func(*testing.T, *world, uint64) {
		return func(t *testing.T, w *world, id uint64) {
			check(t, w.report(Away{Addr: "a", Reason: "cut"}))
			then(t, w, id)
		}
	}
	byHand := func(t *testing.T, w *world, id uint64) {
		if p := w.operate(t, OpLost, id); !strings.Contains(p.Fates[0].Note,
			"there are two of job "+
				"1 until that machine is reached") {
			t.Errorf("it doesn't warn: %+v", p.Fates)
		}
	}
	tests := []struct {
		name    string
		retries int
		giveUp  func(*testing.T, *world, uint64)
		unknown bool // nobody can know what lives
		next    uint64
	}{
		{"its machine is removed", 1, remove(false), false, 1},
		{"its directory is removed", 1, lost(false), false, 1},
		{"its supervisor died", 1, lost(true), false, 1},
		{"its machine, which is away, is removed", 1, away(remove(false)), true, 1},
		{"it is lost by hand", 0, away(byHand), true, 1},
		{"it is restarted while it runs", 0,
			func(t *testing.T, w *world, id uint64) { w.operate(t, OpRestart, id) }, false, 2},
		{"it is restarted, and its machine is removed", 0, func(t *testing.T, w *world, id uint64) {
			w.operate(t, OpRestart, id)
			check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
		}, false, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 1, "a"))
			_, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: test.retries})
			check(t, err)
			check(t, w.pool("x", 1, "b"))
			first := w.runOf(1)
			test.giveUp(t, w, 1)
			check(t, w.pass(unreachedFor-time.Second))
			w.wants(t, test.next, Waiting)
			if why := w.why(t, test.next); !strings.Contains(why, "attempt 1 of job 1 on a has "+
				"ended") {
				t.Errorf("it isn't said what it waits for: %s", why)
			}
			if test.unknown {
				check(t, w.pass(time.Second))
				w.wants(t, test.next, Running)
				e := w.events[len(w.events)-1]
				if !e.Warn || !strings.Contains(e.Text, "attempt 1 of job 1 on a may live still") {
					t.Errorf("it isn't said that there may be two: %s", e.Text)
				}
				return
			}
			check(t, w.pass(time.Hour))
			w.wants(t, test.next, Waiting)
			if w.fleet.runs[first.Token].Ref != nil { // it is canceled, and ends
				check(t, w.report(Ended{Ref: first, Result: exit(1)}))
			}
			check(t, w.settle())
			w.wants(t, test.next, Running)
		})
	}
}

// TestNoOverlapAfterRestart: what may live still is known to a daemon that was started again.
func TestNoOverlapAfterRestart(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: 1})
	check(t, err)
	check(t, w.report(RunLost{Ref: w.runOf(ids[0]), Reason: "its directory is not on the machine " +
		"any more"}))
	check(t, w.pass(time.Minute))
	records, err := frozen(w.s)
	check(t, err)
	w.s, err = restored(records, nil)
	check(t, err)
	w.fleet = newMemory()
	w.s.Resume(w.fleet)
	check(t, w.connect("a", "b"))
	check(t, w.pass(time.Minute))
	w.wants(t, ids[0], Waiting)
	check(t, w.settle())
	w.wants(t, ids[0], Running)
}

// TestRemoveWarns: who removes a machine that can't be reached hears which jobs may run twice.
func TestRemoveWarns(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 2, "a"))
	_, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: 1},
		JobSpec{Class: "x", Cmd: "no retry"})
	check(t, err)
	if p := w.s.PlanRemove([]string{"a"}, false); p.Warnings != nil {
		t.Errorf("it is connected, and ends what runs: %q", p.Warnings)
	}
	forced := w.s.PlanRemove([]string{"a"}, true)
	check(t, w.report(Away{Addr: "a", Reason: "cut"}))
	for _, p := range []Plan{forced, w.s.PlanRemove([]string{"a"}, false)} {
		if len(p.Warnings) != 1 || !strings.HasPrefix(p.Warnings[0], "job 1: it is tried again: "+
			"should its attempt still live on a") {
			t.Errorf("%q", p.Warnings)
		}
	}
}

// TestNoOverlapInALine: job 1 was given up on machine a, where it may live on. What runs it again,
// whichever way, waits for that, and begins when it has ended.
func TestNoOverlapInALine(t *testing.T) {
	t.Parallel()
	lost := func(t *testing.T, w *world, id uint64) {
		check(t, w.report(RunLost{Ref: w.runOf(id), Reason: "its directory is gone"}))
	}
	end := func(t *testing.T, w *world) {
		for _, r := range w.running() {
			check(t, w.report(Ended{Ref: r.Ref, Result: exit(1)}))
		}
		check(t, w.settle())
	}
	tests := []struct {
		name    string
		retries int
		// giveUp gives job 1 up, and end ends it; nil: as usual
		giveUp func(*testing.T, *world)
		end    func(*testing.T, *world)
		next   uint64
	}{
		{"restarted while it runs, and that once more", 0, func(t *testing.T, w *world) {
			w.operate(t, OpRestart, 1)
			w.operate(t, OpRestart, 2)
			w.operate(t, OpRestart, 3)
		}, nil, 4},
		{"restarted when lost, and that once more", 0, func(t *testing.T, w *world) {
			lost(t, w, 1)
			w.operate(t, OpRestart, 1)
			w.operate(t, OpRestart, 2)
		}, nil, 3},
		{"the one between is forgotten", 0, func(t *testing.T, w *world) {
			lost(t, w, 1)
			w.operate(t, OpRestart, 1)
			w.operate(t, OpRestart, 2)
			w.operate(t, OpForget, 1, 2)
		}, nil, 3},
		{"its restart is lost and forgotten, and it is restarted", 0,
			func(t *testing.T, w *world) {
				check(t, w.report(Ended{Ref: w.runOf(1), Result: exit(1)}))
				w.operate(t, OpRestart, 1)
				check(t, w.settle())
				lost(t, w, 2)
				w.operate(t, OpForget, 2)
				w.operate(t, OpRestart, 1)
			}, nil, 3},
		{"its machine is back while it waits for room", 1, func(t *testing.T, w *world) {
			lost(t, w, 1)
			check(t, w.do(w.s.PlanDrain([]string{"b"}, true), nil))
			check(t, w.report(Away{Addr: "a", Reason: "cut"}))
			check(t, w.pass(unreachedFor))
			check(t, w.connect("a"))
			check(t, w.do(w.s.PlanDrain([]string{"b"}, false), nil))
		}, nil, 1},
		{"of another attempt nobody can know", -1, func(t *testing.T, w *world) {
			check(t, w.do(w.s.PlanDrain([]string{"b"}, true), nil))
			check(t, w.pool("x", 1, "c"))
			check(t, w.do(w.s.PlanDrain([]string{"a"}, true), nil))
			check(t, w.report(Away{Addr: "a", Reason: "cut"}))
			check(t, w.report(RunLost{Ref: w.runOf(1), Reason: "it is lost"}))
			check(t, w.pass(unreachedFor)) // it goes to c
			lost(t, w, 1)
			check(t, w.do(w.s.PlanDrain([]string{"b"}, false), nil))
		}, func(t *testing.T, w *world) {
			for token, r := range w.fleet.settles {
				if r.Run.Machine == "c" {
					check(t, w.report(Settled{Ref: w.fleet.settles[token].Run}))
				}
			}
		}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			check(t, w.pool("x", 1, "a"))
			_, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: test.retries})
			check(t, err)
			check(t, w.pool("x", 1, "b"))
			test.giveUp(t, w)
			for _, after := range []time.Duration{time.Minute, time.Hour} {
				check(t, w.pass(after))
				w.wants(t, test.next, Waiting)
				if why := w.why(t, test.next); !strings.Contains(why, "has ended") {
					t.Errorf("it isn't said what it waits for: %s", why)
				}
			}
			if test.end == nil {
				test.end = end
			}
			test.end(t, w)
			check(t, w.pass(time.Hour))
			w.wants(t, test.next, Running)
		})
	}
}

// TestNoOverlapInACell: a cell that was run again, and is run again as the matrix is submitted once
// more, waits for what lives of a job of it that is forgotten.
func TestNoOverlapInACell(t *testing.T) {
	t.Parallel()
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b"))
	spec := MatrixSpec{Name: "m", Job: JobSpec{Class: "x", Cmd: "cell {I}"},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1", "2"}}}}
	p, err := w.s.PlanMatrix(spec, false)
	check(t, w.do(p, err)) // of jobs 2 and 3
	w.ends(t, 3, exit(0))
	w.ends(t, 2, exit(1))
	w.operate(t, OpRestart, 2)
	w.wants(t, 4, Running)
	check(t, w.report(RunLost{Ref: w.runOf(4), Reason: "its directory is gone"}))
	w.operate(t, OpForget, 2, 4)
	p, g, err := w.s.PlanMatrixAgain(spec, false, 10)
	check(t, w.do(p, err))
	check(t, w.pass(time.Hour))
	w.wants(t, g.AgainJobs[0], Waiting)
	check(t, w.settle())
	w.wants(t, g.AgainJobs[0], Running)
}

// TestNoOverlapOfClones: a clone of a cell, and a job that runs that clone again, wait for what may
// live of the cell.
func TestNoOverlapOfClones(t *testing.T) {
	t.Parallel()
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b"))
	p, err := w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "cell"},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1"}}}}, false)
	check(t, w.do(p, err)) // of job 2
	check(t, w.report(RunLost{Ref: w.runOf(2), Reason: "its directory is gone"}))
	clone := w.operate(t, OpClone, 2).Fates[0].New[0]
	w.wants(t, clone, Waiting)
	again := w.operate(t, OpRestart, clone).Fates[0].New[0]
	w.operate(t, OpForget, 2, clone)
	check(t, w.pass(time.Hour))
	w.wants(t, again, Waiting)
	check(t, w.settle())
	w.wants(t, again, Running)
}

// TestNoOverlapOfDrivers: a driver runs on the host, which is always in reach, however long its
// machine has been away.
func TestNoOverlapOfDrivers(t *testing.T) {
	t.Parallel()
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b"))
	p, err := w.s.PlanJobs([]JobSpec{{Class: "x", Cmd: "drive", MaxFailures: 1}}, true)
	check(t, w.do(p, err))
	check(t, w.report(Away{Addr: "a", Reason: "cut"}))
	check(t, w.report(RunLost{Ref: w.runOf(1), Reason: "its directory is gone"}))
	check(t, w.pass(time.Hour))
	w.wants(t, 1, Waiting)
	if why := w.why(t, 1); !strings.Contains(why, "attempt 1 of job 1 on this host has ended") {
		t.Errorf("it isn't said what it waits for: %s", why)
	}
	check(t, w.report(Settled{Ref: w.s.Obligations()[0].Run}))
	w.wants(t, 1, Running)
}
