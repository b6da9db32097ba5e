package sched

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// TestForgotten: only jobs that have run, were forgotten and are settled may lose their logs, also
// after a restart.
func TestForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld()
	check(t, w.pool("x", 4, "a"))
	check(t, w.do(w.s.PlanTag("tag"))) // 1
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "goes"}, JobSpec{Class: "x", Cmd: "stays"},
		JobSpec{Class: "x", Cmd: "is owed"}, JobSpec{Class: "none", Cmd: "never ran"})
	check(t, err)
	for _, id := range ids[:3] {
		r := w.runOf(id)
		check(t, w.report(Ended{Ref: r, Result: exit(0)}))
		if id != ids[2] {
			check(t, w.report(Settled{Ref: r}))
		}
	}
	for _, i := range []int{0, 2, 3} {
		w.operate(t, OpForget, ids[i])
	}
	check(t, w.apply(&Change{IdsReserved: &statepb.IdsReserved{Next: 100}}))
	snapshot, err := frozen(w.s)
	check(t, err)
	again, err := restored(snapshot, nil)
	check(t, err)
	for _, s := range []*State{w.s, again} {
		if diff := cmp.Diff([]uint64{ids[0]},
			s.Forgotten([]uint64{1, 2, 3, 4, 5, 50, 99, 100, 1000})); diff != "" {
			t.Error(diff)
		}
	}
}
