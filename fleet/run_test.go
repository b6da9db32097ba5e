package fleet

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"jobserver/agent"
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
	if len(a.Results) != 1 || a.Results[0] != "a b" || len(a.Measurements) != 1 ||
		a.Measurements[0] != "x=1" {
		t.Errorf("results %q, measurements %q", a.Results, a.Measurements)
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

// obstruct makes whatever is asked of a run on this host fail until the result is called.
func (h *host) obstruct(r sched.Run) (clear func()) {
	h.t.Helper()
	file := filepath.Join(h.runDir(r), "run")
	loop := file + ".loop"
	if err := os.Symlink("run", loop); err != nil { // nobody can look through it, once it is there
		h.t.Fatal(err)
	}
	exchange := func() {
		h.t.Helper()
		// In one step: without the file, there would be no run.
		if err := unix.Renameat2(unix.AT_FDCWD, loop, unix.AT_FDCWD, file,
			unix.RENAME_EXCHANGE); err != nil {
			h.t.Fatal(err)
		}
	}
	exchange()
	return exchange
}

// A cancel that the machine couldn't take is given again.
func TestCancelRefused(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	g := newGate(t)
	r := job("local", 1, g.command())
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	clear := h.obstruct(r)
	h.Cancel(r.Ref)
	h.heard("an instruction was refused")
	clear()
	if a := h.ends(r, ""); a.Cause != statepb.Cause_CANCELED_BY_USER {
		t.Errorf("it ended with %v", a)
	}
	if n := h.times("an instruction was refused"); n != 1 {
		t.Errorf("the refusal was logged %d times", n)
	}
}

// A run that is canceled after a restart may be alive, as long as the machine doesn't say that
// there is none.
func TestWithdrawRefused(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	g := newGate(t)
	r := job("local", 1, g.command())
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	h.halt()
	clear := h.obstruct(r)
	h.run()
	h.connected("local")
	r.Cancel = true
	h.Start(r)
	h.heard("an instruction was refused")
	clear()
	if a := h.ends(r, ""); a.Cause != statepb.Cause_CANCELED_BY_USER {
		t.Errorf("it ended with %v", a)
	}
	if n := count[sched.NotStarted](h, nil); n != 0 {
		t.Errorf("that it was not started was reported %d times", n)
	}
}

// TestOutOfMemory: the limit that a run has come to is named, where it is known.
func TestOutOfMemory(t *testing.T) {
	for want, spec := range map[string]*sched.Run{
		"out of memory":                           nil,
		"out of memory: it had used up mem=100M":  {Memory: 100 << 20},
		"out of memory: it had used up mem=1536M": {Memory: 3 << 29},
	} {
		r := run{spec: spec}
		if got := r.complaints(&agent.Exit{OOM: true}, ""); got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
}
