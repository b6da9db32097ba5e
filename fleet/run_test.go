package fleet

import (
	"os"
	"path/filepath"
	"testing"

	"jobserver/sched"
	"jobserver/sched/statepb"
)

func TestRunLocal(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	r := job("local", 1, "echo hello; echo bad >&2; echo RESULTS: a b; echo METRIC: x=1; exit 3")
	h.Start(r)
	a := h.ends(r, "hello\nRESULTS: a b\nMETRIC: x=1\n")
	if a.Cause != statepb.Cause_EXITED || a.ExitCode != 3 || a.Error != "" {
		t.Errorf("it ended with %v", a)
	}
	if got := h.log(r, true); got != "bad\n" {
		t.Errorf("stderr is %q", got)
	}
	if len(a.Results) != 1 || a.Results[0] != "a b" || len(a.Metrics) != 1 || a.Metrics[0] != "x=1" {
		t.Errorf("results %q, metrics %q", a.Results, a.Metrics)
	}
	if n := count[sched.Started](h, nil); n != 1 {
		t.Errorf("it was started %d times", n)
	}
	h.settled(&statepb.Obligation{Run: r.Ref})
	left, err := filepath.Glob(filepath.Join(h.opt.StateDir, "local", "runs", "srv", "local", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("of a settled run stays %q, %v", left, err)
	}
	if _, err := os.Stat(sched.LogPath(h.opt.LogDir, r.Ref, false)); err != nil {
		t.Error(err)
	}
}
