package fleet

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// breakLog has a run's log take nothing until the result is called: /dev/full stands for a full
// disk, it has no bytes and takes none.
func (h *host) breakLog(r sched.Run) (mend func()) {
	h.t.Helper()
	path := sched.LogPath(h.opt.LogDir, r.Ref, false)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", path); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		h.t.Helper()
		if err := os.Remove(path); err != nil {
			h.t.Fatal(err)
		}
	}
}

// While the host's disk is full, the machine keeps the log; nothing of it is lost.
func TestHostDiskFull(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	r := job("local", 1, "echo first; echo second")
	mend := h.breakLog(r)
	h.Start(r)
	await[sched.Started](h, nil)
	h.heard("logs can't be written")
	other := job("local", 2, "echo hello") // with a log that can be written
	h.Start(other)
	h.ends(other, "hello\n")
	if n := h.times("logs are written again"); n != 0 {
		t.Errorf("the end of the trouble was announced %d times before", n)
	}
	mend()
	h.ends(r, "first\nsecond\n")
	h.heard("logs are written again")
	if n := h.times("logs can't be written"); n != 1 {
		t.Errorf("the trouble was announced %d times", n)
	}
}

// A run that is dropped is not in trouble any more.
func TestDropWhileDiskFull(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	r := job("local", 1, "echo hello")
	h.breakLog(r)
	h.Start(r)
	h.heard("logs can't be written")
	h.Drop(r.Ref)
	h.heard("logs are written again")
}

// What is in a log's file may not be what the run writes: as after a power cut that left garbage,
// or in a directory that served another daemon.
func TestLogVerified(t *testing.T) {
	for name, left := range map[string]string{"other": "HELL", "longer": "HELLO, WORLD"} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, nil)
			h.connected("local")
			r := job("local", 1, "echo hello")
			path := sched.LogPath(h.opt.LogDir, r.Ref, false)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(left), 0o600); err != nil {
				t.Fatal(err)
			}
			h.Start(r)
			if a := h.ends(r, "hello\n"); a.Error != "" {
				t.Errorf("it ended with %v", a)
			}
		})
	}
}

// What the agent can't tell of a run at one time, it is asked again.
func TestFollowFails(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	g := newGate(t)
	r := job("local", 1, g.command()+"; echo end")
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	marks := filepath.Join(h.runDir(r), "marks")
	if err := os.Symlink("marks", marks); err != nil { // nobody can look through it
		t.Fatal(err)
	}
	g.open(t)
	h.heard("can't be followed")
	if err := os.Remove(marks); err != nil {
		t.Fatal(err)
	}
	if a := h.ends(r, "end\n"); a.Error != "" {
		t.Errorf("it ended with %v", a)
	}
	if n := h.times("can't be followed"); n != 1 {
		t.Errorf("the failure was logged %d times", n)
	}
	h.settled(&statepb.Obligation{Run: r.Ref})
}

func TestVerify(t *testing.T) {
	r := &run{}
	r.out.size, r.out.all = 5, 17
	tests := map[string]agent.Exit{
		"":                                    {OutLen: 5, OutCRC: 17},
		"the output has 5 bytes here":         {OutLen: 6, OutCRC: 17},
		"the checksum of the output":          {OutLen: 5, OutCRC: 18},
		"the error output has 0 bytes here":   {OutLen: 5, OutCRC: 17, ErrLen: 1},
		"the checksum of the error output is": {OutLen: 5, OutCRC: 17, ErrCRC: 1},
	}
	for want, exit := range tests {
		if got := r.verify(&exit); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("of %+v is said %q, want %q", exit, got, want)
		}
	}
}

// An obligation that is found after a restart first completes the log.
func TestSettleAfterRestart(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	r := job("local", 1, "echo hello")
	h.Start(r)
	h.ends(r, "hello\n")
	h.halt()
	if err := os.Truncate(sched.LogPath(h.opt.LogDir, r.Ref, false), 2); err != nil { // a power cut
		t.Fatal(err)
	}
	h.run()
	h.connected("local")
	h.settled(&statepb.Obligation{Run: r.Ref})
	if got := h.log(r, false); got != "hello\n" {
		t.Errorf("the log is %q", got)
	}
	if n := count[sched.Ended](h, nil); n != 0 {
		t.Errorf("its end was reported %d times", n)
	}
}

func TestSettleCancels(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	g := newGate(t)
	r := job("local", 1, g.command())
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	h.Drop(r.Ref)
	h.settled(&statepb.Obligation{Run: r.Ref, Cancel: true})
	if n := count[sched.Ended](h, nil); n != 0 {
		t.Errorf("a dropped run's end was reported %d times", n)
	}
	never := job("local", 2, "")
	h.settled(&statepb.Obligation{Run: never.Ref, Cancel: true})
}

func TestCanceledBeforeStart(t *testing.T) {
	h := newHost(t, nil)
	r := job("local", 1, "echo never")
	r.Cancel = true
	h.Start(r)
	got := await[sched.NotStarted](h, nil)
	if !strings.Contains(got.Reason, "canceled") {
		t.Errorf("the reason is %q", got.Reason)
	}
	h.settled(&statepb.Obligation{Run: r.Ref})
}

func TestRetime(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	g := newGate(t)
	r := job("local", 1, g.command())
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	h.Retime(r.Ref, 1)
	if a := h.ends(r, ""); a.Cause != statepb.Cause_TIMED_OUT {
		t.Errorf("it ended with %v", a)
	}
}

func TestCopyWaitsForSpace(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"out": "1"})
	h := newHost(t, nil, func(o *Options) { o.MinFree = math.MaxInt64 })
	h.connected("local")
	c := results("local", 1, filepath.Join(to, "1"), filepath.Join(from, "out"))
	h.Copy(c)
	waits := await[sched.CopyWaits](h, nil)
	if !strings.Contains(waits.Reason, "free") {
		t.Errorf("the reason is %q", waits.Reason)
	}
	h.StopCopy(1)
	if got := await[sched.CopyEnded](h, nil); !strings.Contains(got.Error, "stopped") {
		t.Errorf("it ended with %+v", got)
	}
	if all := tree(t, to); len(all) > 0 {
		t.Errorf("a stopped copy leaves %v", all)
	}
	h.halt()
	h.opt.MinFree = 0
	h.run()
	h.connected("local")
	if got := h.copied(c); got.Error != "" {
		t.Errorf("it ended with %+v", got)
	}
}

func TestForgetLogs(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	for i := range 2 {
		r := job("local", uint64(i+1), "echo hello")
		h.Start(r)
		h.ends(r, "hello\n")
	}
	h.ForgetLogs(1)
	h.halt()
	all, err := filepath.Glob(sched.LogGlob(h.opt.LogDir, 1))
	if err != nil || len(all) > 0 {
		t.Errorf("%q stays, %v", all, err)
	}
	if all, err = filepath.Glob(sched.LogGlob(h.opt.LogDir, 2)); err != nil || len(all) != 1 {
		t.Errorf("of another job stays %q, %v", all, err)
	}
}
