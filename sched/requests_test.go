package sched

import (
	"fmt"
	"testing"

	"jobserver/sched/statepb"
)

// TestManyRequestIDs: of more request ids than are remembered the newest are known, in a bounded
// place, and in their order after a restart.
func TestManyRequestIDs(t *testing.T) {
	r := newRequests()
	const more = 1000
	for i := range maxRequest + more {
		r.add(&statepb.RequestDone{Id: fmt.Sprint(i), Ids: []uint64{uint64(i)}})
	}
	if len(r.done) != maxRequest || len(r.order) != maxRequest {
		t.Errorf("%d ids are remembered, in %d places", len(r.done), len(r.order))
	}
	for i, known := range map[int]bool{0: false, more - 1: false, more: true,
		maxRequest + more - 1: true} {
		if d := r.done[fmt.Sprint(i)]; (d != nil) != known || known && d.Ids[0] != uint64(i) {
			t.Errorf("of request %d is known %v", i, d)
		}
	}
	again, next := newRequests(), more
	check(t, r.each(func(d *statepb.RequestDone) error {
		if d.Id != fmt.Sprint(next) {
			return fmt.Errorf("request %s comes where %d should", d.Id, next)
		}
		next++
		again.add(d)
		return nil
	}))
	again.add(&statepb.RequestDone{Id: "newest"})
	if again.done[fmt.Sprint(more)] != nil || again.done[fmt.Sprint(more+1)] == nil {
		t.Error("after a restart another one than the oldest is forgotten")
	}
}
