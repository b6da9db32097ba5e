package sched

import (
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// TestSlotFollowsProcesses: a run that was given up holds its slot as long as anything of it may
// live, and no longer: not for a directory that can't be removed, and not for one of a run that
// nobody knows.
func TestSlotFollowsProcesses(t *testing.T) {
	facts := &statepb.Machine{BootId: "1"}
	stranger := &statepb.RunRef{Machine: "a", Job: 9999, Token: "whose?"}
	connected := func(over bool) Connected {
		return Connected{
			Addr: "a", Facts: facts, Runs: []*statepb.RunRef{stranger},
			Over: map[string]bool{stranger.Token: over},
		}
	}
	lose := func(w *world) *statepb.RunRef {
		r := w.running()[0].Ref
		check(t, w.report(RunLost{Ref: r, Reason: "its supervisor died"}))
		return r
	}
	for name, c := range map[string]struct {
		hold func(w *world) *statepb.RunRef // something that holds the slot
		free func(w *world, r *statepb.RunRef)
		says string // what why says meanwhile; "": it isn't asked
	}{
		"nothing of it lives": {lose, func(w *world, r *statepb.RunRef) {
			check(t, w.report(Stopped{Ref: r}))
		}, "1 run that is being ended"},
		"its directory can't be removed": {lose, func(w *world, r *statepb.RunRef) {
			check(t, w.report(Stopped{Ref: r, Unremoved: "permission denied"}))
		}, "1 run that is being ended"},
		"it was removed": {lose, func(w *world, r *statepb.RunRef) {
			check(t, w.report(Settled{Ref: r}))
		}, ""},
		"an orphan ends": {func(w *world) *statepb.RunRef {
			w.ends(t, w.running()[0].Ref.Job, exit(1))
			check(t, w.report(connected(false)))
			return nil
		}, func(w *world, _ *statepb.RunRef) { check(t, w.report(connected(true))) },
			"1 run that nothing knows"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 1, "a"))
			_, err := w.submit(JobSpec{Class: "x", Cmd: "first"})
			check(t, err)
			r := c.hold(w)
			next, err := w.submit(JobSpec{Class: "x", Cmd: "next"})
			check(t, err)
			if n := len(w.running()); n != 0 {
				t.Fatalf("%d runs beside what may live", n)
			}
			why, err := w.s.Why(next[0], w.now)
			check(t, err)
			if text := why.Summary + strings.Join(
				why.Details,
				"\n",
			); !strings.Contains(
				text,
				c.says,
			) {
				t.Errorf("why says %q, not %q", text, c.says)
			}
			c.free(w, r)
			if n := len(w.running()); n != 1 {
				t.Errorf("%d runs when nothing of the other lives", n)
			}
		})
	}
}

// TestUnremoved: a directory that can't be removed is listed with its reason, also after a restart,
// until it is gone or dropped.
func TestUnremoved(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	_, err := w.submit(JobSpec{Class: "x", Cmd: "work"}, JobSpec{Class: "x", Cmd: "work"})
	check(t, err)
	var refs []*statepb.RunRef
	for range 2 {
		r := w.running()[0].Ref
		w.ends(t, r.Job, exit(1))
		check(t, w.report(Stopped{Ref: r, Unremoved: "permission denied"}))
		refs = append(refs, r)
	}
	records, err := frozen(w.s)
	check(t, err)
	again, err := restored(records, nil)
	check(t, err)
	check(t, again.check())
	for _, s := range []*State{w.s, again} {
		m, _ := s.Machine("a")
		if len(m.Unremoved) != 2 || m.Unremoved[0].Unremoved != "permission denied" ||
			m.Ending != 0 {
			t.Errorf("the machine has to remove %v, to end %d", m.Unremoved, m.Ending)
		}
		if o := s.Owing()["a"]; o != (Owing{Unremoved: 2}) {
			t.Errorf("it owes %v", o)
		}
	}
	check(t, w.report(Settled{Ref: refs[0]}))
	p, dropped := w.s.PlanDropOwed([]string{"a"})
	if len(dropped) != 1 || dropped[0].Run.Token != refs[1].Token {
		t.Errorf("dropped would be %v", dropped)
	}
	check(t, w.do(p, nil))
	if m, _ := w.s.Machine("a"); len(m.Unremoved) != 0 || len(w.s.Obligations()) != 0 {
		t.Errorf("after it was dropped the machine owes %v", w.s.Obligations())
	}
	if w.fleet.settles[refs[1].Token] != nil {
		t.Error("the fleet still has to remove what was dropped")
	}
}

// TestOwedByTheGone: what a machine owes that has left the pool is dropped in the end, and the
// machine let go of.
func TestOwedByTheGone(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b"))
	_, err := w.submit(JobSpec{Class: "x", Cmd: "work"}, JobSpec{Class: "x", Cmd: "work"})
	check(t, err)
	check(t, w.report(Away{Addr: "a", Reason: "gone"}))
	check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
	check(t, w.pass(owedFor-time.Second))
	if len(w.s.Obligations()) != 1 || !w.fleet.pool["a"] {
		t.Errorf("it is dropped too early: %v", w.s.Obligations())
	}
	check(t, w.pass(2*time.Second))
	if len(w.s.Obligations()) != 0 || w.fleet.pool["a"] {
		t.Errorf("it is not dropped: %v", w.s.Obligations())
	}
	if e := w.events[len(w.events)-1]; e.Kind != "machine.dropped" || e.Machine != "a" {
		t.Errorf("the last event is %v", e)
	}
}

// TestLostResults: results that wait for a machine which never comes back can be given up.
func TestLostResults(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", CpPath: "/r"})
	check(t, err)
	done := exit(0)
	done.Results = []string{"out"}
	w.ends(t, ids[0], done)
	lose := Operation{Op: OpLost, Jobs: ids}
	if p, err := w.s.PlanAtOnce(lose); err == nil && len(p.Changes) > 0 {
		t.Error("a copy that goes on is lost")
	}
	check(
		t,
		w.report(
			Away{Addr: "a", Reason: "gone"},
			CopyWaits{Job: ids[0], Reason: "the machine is away"},
		),
	)
	p, err := w.s.PlanAtOnce(lose)
	check(t, w.do(p, err))
	if j := w.s.Job(ids[0]); j.Status != Done || j.Results != statepb.Results_RESULTS_FAILED {
		t.Errorf("it is %s, its results %s", StatusName(j.Status), j.Results)
	}
	if len(w.fleet.stops) != 1 {
		t.Error("the copy isn't stopped")
	}
}

// TestLostUnanswered: a machine that is connected but says nothing of a run doesn't hold its job
// for ever.
func TestLostUnanswered(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 2, "a"))
	ids, err := w.submit(
		JobSpec{Class: "x", Cmd: "never answered"},
		JobSpec{Class: "x", Cmd: "runs"},
	)
	check(t, err)
	check(t, w.report(Started{Ref: w.runOf(ids[1])}))
	check(t, w.pass(2*answerTime))
	p, err := w.s.PlanAtOnce(Operation{Op: OpLost, Jobs: ids})
	check(t, w.do(p, err))
	if a, b := w.s.Status(ids[0]), w.s.Status(ids[1]); a != Lost || b != Running {
		t.Errorf(
			"the one that was never answered is %s, the other %s",
			StatusName(a),
			StatusName(b),
		)
	}
}
