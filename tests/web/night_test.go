package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromedp/chromedp"

	"jobserver/daemontest"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/snapshot"
)

// A night that is over in a moment: the real scheduler and the real journal, whose clock is that of
// a bubble, over machines that only say how their jobs end.

const (
	nightHours = 8
	sweepCells = 660
	blockCells = 48
	// from when on blue fails everything, and violet is away
	blueFails, violetGoes = 2 * time.Hour, 4 * time.Hour
)

// nightFleet runs jobs as the night wants it.
type nightFleet struct {
	report func(sched.Outcome)
	now    func() time.Time
	began  time.Time
	block  uint64 // the first job of the matrix of which a block of cells fails
}

func (f *nightFleet) Connect(m sched.Pool) {
	f.report(sched.Connected{Addr: m.Addr, Facts: &statepb.Machine{
		BootId: "night", Root: "/home/user", Os: "linux", Arch: "amd64", Cores: 8,
	}})
}

func (f *nightFleet) Start(r sched.Run) {
	began := f.now()
	f.report(sched.Started{Ref: r.Ref, At: began})
	took, code := 9*time.Minute+time.Duration(r.Ref.Job%7)*time.Minute, int32(0)
	if cell := r.Ref.Job - f.block; r.Ref.Job >= f.block && cell < blockCells {
		if took = time.Duration(40+cell) * time.Second; cell/2 >= 11 && cell/2 < 17 {
			took, code = 3*time.Second, 1
		}
	}
	switch at := began.Sub(f.began); {
	case r.Ref.Machine == "local:blue" && at >= blueFails:
		took, code = 2*time.Second, 1
	case r.Ref.Machine == "violet" && at+took >= violetGoes:
		return // it is heard of no more
	}
	time.AfterFunc(took, func() {
		f.report(sched.Ended{Ref: r.Ref, Result: &statepb.Attempt{
			Cause: statepb.Cause_EXITED, ExitCode: code, MachineStartedAt: began.UnixNano(),
			MachineEndedAt: f.now().UnixNano(), Duration: int64(took),
		}})
	})
}

func (f *nightFleet) Drop(*statepb.RunRef)                  {}
func (f *nightFleet) Settle(o *statepb.Obligation)          { f.report(sched.Settled{Ref: o.Run}) }
func (f *nightFleet) Disconnect(string)                     {}
func (f *nightFleet) Cancel(*statepb.RunRef)                {}
func (f *nightFleet) Retime(*statepb.RunRef, time.Duration) {}
func (f *nightFleet) Pause(*statepb.RunRef, bool)           {}
func (f *nightFleet) Signal(*statepb.RunRef, int)           {}
func (f *nightFleet) Copy(sched.Copy)                       {}
func (f *nightFleet) StopCopy(uint64)                       {}
func (f *nightFleet) ForgetLogs(uint64)                     {}
func (f *nightFleet) Provide(sched.Provider)                {}
func (f *nightFleet) Withdraw(string)                       {}
func (f *nightFleet) Allocate(sched.Allocation)             {}
func (f *nightFleet) Release(uint64)                        {}
func (f *nightFleet) Abandon(uint64)                        {}

// nightJournal is the store as the scheduler sees it; a night needs no snapshot.
type nightJournal struct{ *snapshot.Store }

func (nightJournal) NeedsSnapshot() bool { return false }
func (nightJournal) SnapshotPays() bool  { return false }
func (nightJournal) StartSnapshot() (func(func(func([]byte) error) error) error, error) {
	return nil, fmt.Errorf("nobody asks for a snapshot")
}

// lastNight writes the state of a pool after a night that ended before now: blue has failed from
// some time on and was set aside, violet is away with what runs there, a block of cells has failed
// wherever it ran, and two thirds of a sweep are done.
func lastNight(t *testing.T, dir string, now time.Time) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, recovery, err := snapshot.Open(dir, snapshot.Options{})
		must(t, err)
		none := func([]byte) error { return nil }
		must(t, recovery.Replay(none, none))
		began := now.Add(-nightHours*time.Hour - 20*time.Minute)
		shift := time.Until(began)
		clock := func() time.Time { return time.Now().Add(shift) }
		fleet := &nightFleet{now: clock, began: began}
		tokens := 0
		loop := sched.NewLoop(sched.NewState(), nightJournal{store}, fleet, sched.LoopOptions{
			Now: clock, Token: func() string { tokens++; return fmt.Sprintf("%024x", tokens) },
		})
		fleet.report = loop.Report
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- loop.Run(ctx) }()
		passes(t, loop, fleet)
		stop()
		must(t, <-ended)
		must(t, store.Close())
	})
}

// passes lets the night pass.
func passes(t *testing.T, loop *sched.Loop, fleet *nightFleet) {
	do := func(plan func(s *sched.State, now time.Time) (sched.Plan, error)) sched.Plan {
		t.Helper()
		p, _, err := loop.Do(t.Context(), "", false, plan)
		must(t, err)
		return p
	}
	pool := []string{"local:red", "local:green", "local:blue", "violet"}
	specs := make([]sched.MachineSpec, len(pool))
	for i, addr := range pool {
		specs[i] = sched.MachineSpec{Addr: addr, Class: "bench", Slots: 4}
	}
	do(func(s *sched.State, now time.Time) (sched.Plan, error) {
		return s.PlanMachines(specs, now)
	})
	numbers := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint(i+1))
		}
		return list
	}
	matrix := func(name, cmd string, failures int, axes ...*statepb.Axis) sched.Plan {
		return do(func(s *sched.State, _ time.Time) (sched.Plan, error) {
			return s.PlanMatrix(sched.MatrixSpec{Name: name, Axes: axes, Job: sched.JobSpec{
				Class: "bench", Cmd: cmd, MaxFailures: failures,
			}}, false)
		})
	}
	block := matrix("block", "./solve --size {I} --scale {SCALE}", 0,
		&statepb.Axis{Name: "I", Values: numbers(blockCells / 2)},
		&statepb.Axis{Name: "SCALE", Values: []string{"small", "large"}})
	fleet.block = block.IDs[0] + 1
	matrix("sweep", "sleep 600; echo {N} {RATE}", 3,
		&statepb.Axis{Name: "N", Values: numbers(sweepCells / 3)},
		&statepb.Axis{Name: "RATE", Values: []string{"0.1", "0.2", "0.3"}})
	time.Sleep(violetGoes)
	loop.Report(sched.Away{Addr: "violet", Reason: "violet: connect: no route to host"})
	time.Sleep((nightHours - 4) * time.Hour)
	do(func(s *sched.State, _ time.Time) (sched.Plan, error) {
		return s.PlanDrain(pool[:2], true), nil
	})
	time.Sleep(20 * time.Minute)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// morning is a site after last night.
func morning(t *testing.T) *site {
	t.Helper()
	config := filepath.Join(t.TempDir(), "ssh_config")
	must(t, os.WriteFile(config, []byte("Host violet\n\tHostName 127.0.0.1\n\tPort 1\n"), 0o600))
	d := daemontest.New(t, "--ssh-config", config)
	must(t, d.Stop())
	must(t, os.RemoveAll(d.StateDir))
	must(t, os.Mkdir(d.StateDir, 0o700))
	lastNight(t, d.StateDir, time.Now())
	must(t, d.Start(t.Context()))
	s := &site{Daemon: d, t: t}
	s.serve()
	s.J(t, "machine", "resume", "-m", "local:red", "-m", "local:green")
	return s
}

// TestTheMorningAfter: what happened in the night, why, and what to do, is on the first page and a
// click away.
func TestTheMorningAfter(t *testing.T) {
	t.Parallel()
	s := morning(t)
	tab := newBrowser(t).tab()
	tab.looks(1280, 900, false)
	tab.open(s, "/")
	for _, text := range []string{
		"violet has been away", "jobs run there; they go on",
		"local:blue is set aside", "jobserver machine",
		"12 jobs failed", "sweep",
	} {
		tab.sees(text)
	}
	tab.do(chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll("button")]
		.find((b) => b.textContent.startsWith("What made")).click()`))
	tab.sees("12 jobs")
	tab.sees("exited with code 1")
	tab.shot("night-pool")
	for _, v := range []struct{ name, path, shows string }{
		{"timeline", "/timeline?hours=24", "attempts"},
		{"block", "/matrices/block", "Across"},
		{"sweep", "/matrices/sweep", "of 660 cells"},
		{"blue", "/machines/local%3Ablue", "Set aside from class bench"},
		{"machines", "/machines", "set aside"},
	} {
		tab.open(s, v.path)
		tab.sees(v.shows)
		tab.until(`!document.body.innerText.includes("Loading…")`)
		tab.shot("night-" + v.name)
	}
	tab.quiet()
}
