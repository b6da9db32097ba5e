package sched

import (
	"strings"
	"testing"
	"time"
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
		if p := w.bulk(t, OpLost, id); !strings.Contains(p.Fates[0].Note, "there are two of job "+
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
			func(t *testing.T, w *world, id uint64) { w.bulk(t, OpRestart, id) }, false, 2},
		{"it is restarted, and its machine is removed", 0, func(t *testing.T, w *world, id uint64) {
			w.bulk(t, OpRestart, id)
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
