package report

import (
	"testing"
	"time"

	"jobserver/notify"
	"jobserver/sched"
)

// TestToldOfRemovedMachine: who asked to hear of a job hears that the removal of its machine ended
// it; a matrix whose job waits again for that reason has not failed.
func TestToldOfRemovedMachine(t *testing.T) {
	t.Parallel()
	n := &Notifications{failed: map[uint64]bool{}}
	ended := sched.Event{Kind: "job.canceled", Job: 7, Status: sched.Canceled, Ended: true,
		Notify: true, Uprooted: true}
	if told := n.ofEvent(&ended); len(told) != 1 || told[0].Kind != notify.Fail || !told[0].Asked {
		t.Errorf("of a job that is over: %+v", told)
	}
	ended.Uprooted = false
	if told := n.ofEvent(&ended); len(told) != 0 {
		t.Errorf("of a job that the user canceled: %+v", told)
	}
	again := sched.Event{Kind: "job.retried", Job: 7, Matrix: 1, Status: sched.Waiting, Ended: true,
		Uprooted: true}
	if told := n.ofEvent(&again); len(told) != 0 {
		t.Errorf("of a job that waits again: %+v", told)
	}
	again.Uprooted = false
	if told := n.ofEvent(&again); len(told) != 1 || told[0].Kind != notify.MatrixFail {
		t.Errorf("of a job that failed: %+v", told)
	}
}

// TestDispatchedAreLetGo: what ends without having started isn't remembered as about to start.
func TestDispatchedAreLetGo(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{}, sched.NewState())
	for _, last := range []sched.Event{
		{Kind: "job.started", Job: 7, Attempt: 1},
		{Kind: "job.canceled", Job: 7, Attempt: 1, Ended: true, Uprooted: true},
		{Kind: "job.forgotten", Job: 7},
	} {
		m.count(&sched.Event{Kind: "job.running", Job: 7, Attempt: 1})
		if m.count(&last); len(m.dispatched) != 0 {
			t.Errorf("after %s: %v", last.Kind, m.dispatched)
		}
	}
}

// TestAccused: that a machine fails is told once an hour, not with every few bad commands.
func TestAccused(t *testing.T) {
	t.Parallel()
	n, at := &Notifications{}, time.Unix(1_700_000_000, 0)
	tell := func(kind, machine string, after time.Duration) int {
		return len(n.ofEvent(&sched.Event{Kind: kind, Machine: machine, At: at.Add(after),
			Text: "it fails", Warn: true}))
	}
	for _, one := range []struct {
		kind, machine string
		after         time.Duration
		want          int
	}{
		{sched.EventMachineSuspect, "a", 0, 1},
		{sched.EventMachineSuspect, "a", time.Minute, 0},
		{sched.EventMachineResting, "b", time.Minute, 1},
		{sched.EventMachineBroken, "a", 2 * time.Minute, 1},
		{sched.EventMachineSuspect, "a", time.Hour, 1},
	} {
		if got := tell(one.kind, one.machine, one.after); got != one.want {
			t.Errorf("%s of %s after %v is told %d times", one.kind, one.machine, one.after, got)
		}
	}
}
