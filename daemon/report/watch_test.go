package report

import (
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/sched/statepb"
)

// TestAnnouncedOnce: a link that comes and goes makes no news of what has stayed as it was.
func TestAnnouncedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := NewWatcher(WatchOptions{
		Silent: time.Minute, MinFree: 1000, LogDir: dir, StateDir: dir,
	})
	began := time.Unix(1_700_000_000, 0)
	run := &statepb.RunRef{Machine: "a", Job: 1, Attempt: 1}
	look := func(link sched.Link, after time.Duration, free int64, runs ...observedRun) (silent,
		low int) {
		for i := range runs {
			runs[i].connected = link == sched.LinkConnected
		}
		m := sched.MachineView{Machine: &statepb.Machine{Addr: "a"}, Link: link}
		m.Vitals.FreeBytes = free
		s := &observed{machines: []sched.MachineView{m}, runs: runs}
		return len(w.lookSilent(s, began.Add(after))), len(w.lookDisks(s))
	}
	r := observedRun{ref: run, since: began}
	for i, step := range []struct {
		link        sched.Link
		after       time.Duration
		free        int64
		runs        []observedRun
		silent, low int
	}{
		{sched.LinkConnected, 30 * time.Second, 5000, []observedRun{r}, 0, 0},
		{sched.LinkConnected, time.Hour, 500, []observedRun{r}, 1, 1},
		{sched.LinkAway, 2 * time.Hour, 500, []observedRun{r}, 0, 0},
		{sched.LinkConnected, 3 * time.Hour, 500, []observedRun{r}, 0, 0},
		{sched.LinkConnected, 4 * time.Hour, 0, []observedRun{r}, 0, 0}, // not measured yet
		{sched.LinkConnected, 5 * time.Hour, 500, []observedRun{r}, 0, 0},
		{sched.LinkConnected, 6 * time.Hour, 5000, nil, 0, 0}, // otherwise meanwhile
		{sched.LinkConnected, 7 * time.Hour, 500, []observedRun{r}, 1, 1},
	} {
		if silent, low := look(step.link, step.after, step.free,
			step.runs...); silent != step.silent || low != step.low {
			t.Errorf("look %d: %d news of silence and %d of disks, want %d and %d", i, silent, low,
				step.silent, step.low)
		}
	}
}
