package sched

import (
	"testing"
	"time"
)

// TestClockJumps sets the host's clock while jobs wait, run and wait
// for a retry: everything goes on, about as soon as it would have.
func TestClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"a day back": -24 * time.Hour, "a year on": 8760 * time.Hour, "a second back": -time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, d *desk) {
				p, err := d.plan(t.Context(), "", oneJob)
				check(t, err)
				failed := d.takeRun(t)
				d.jump.Add(int64(jump))
				d.Report(Ended{Ref: failed, Result: exit(1)})
				check(t, d.Read(t.Context(), func(*State) {}))
				d.jump.Add(int64(jump))
				begin := time.Now()
				for d.status(t, p.IDs[0]) == Waiting {
					time.Sleep(100 * time.Millisecond)
				}
				if took := time.Since(begin); took > maxBackoff {
					t.Errorf("the retry began after %v", took)
				}
				d.Report(Ended{Ref: d.takeRun(t), Result: exit(0)})
				if got := d.status(t, p.IDs[0]); got != Done {
					t.Errorf("the job is %v", got)
				}
			})
		})
	}
}
