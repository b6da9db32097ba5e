package hostile_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"jobserver/agent/agenttest"
)

// TestManifestBombs has a machine list results without end, in one way after another, for jobs that
// all end at the same time: none of it adds up in the daemon's memory, and others' jobs end well.
func TestManifestBombs(t *testing.T) {
	t.Parallel()
	h := newHostile(t, 1)
	h.submit("good", 20)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for round := range 1 {
		for kind, name := range agenttest.Names {
			began := time.Now()
			h.set(fmt.Sprint("names ", kind))
			h.submit("bad", 3) // one more than are copied at a time
			if out, errs, code, err := h.Run(ctx, "wait", "class=bad"); err != nil || code > 2 {
				t.Fatalf("%s: code %d, %v\n%s%s", name, code, err, out, errs)
			}
			t.Logf("round %d, %s: %d MiB, %v", round, name, resident(t, h.PID())>>20,
				time.Since(began))
		}
	}
	h.set("honest")
	if out, errs, code, err := h.Run(ctx, "wait", "class=good"); err != nil || code != 0 {
		t.Errorf("the honest machines' jobs: code %d, %v\n%s%s", code, err, out, errs)
	}
	if n := resident(t, h.PID()); n > maxResident {
		t.Errorf("the daemon took %d MiB", n>>20)
	}
}
