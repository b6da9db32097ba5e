package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"time"

	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/snapshot"
)

// A state directory with a long history is made by the real scheduler with the real journal, over
// machines that only say that their jobs have run. What a daemon finds there is what it would have
// written itself.

const (
	million = 1_000_000
	// of the history, the newest, are jobs of their own; the others are cells of matrices
	singles      = 100_000
	stillWaiting = 100_000 // of a class without machines
	fakeMachines = 500
	fakeSlots    = 8
)

// fakeFleet runs every job at once.
type fakeFleet struct {
	report func(sched.Outcome)
	random *rand.Rand
}

func (f *fakeFleet) Connect(m sched.Pool) {
	f.report(sched.Connected{Addr: m.Addr, Facts: &statepb.Machine{
		BootId: "8f0c3b5e-1d6a-4c52-9d49-0d5a3b7f2f11", Root: "/home/user/.local/state/jobserver",
		Os: "linux", Arch: "amd64", Cores: 8, Memory: 32 << 30,
	}})
}

func (f *fakeFleet) Start(r sched.Run) {
	now := time.Now()
	took := time.Duration(f.random.Int64N(int64(time.Hour)))
	f.report(sched.Started{Ref: r.Ref, At: now})
	f.report(sched.Ended{Ref: r.Ref, Result: &statepb.Attempt{
		Cause: statepb.Cause_EXITED, MachineStartedAt: now.UnixNano(),
		MachineEndedAt: now.Add(took).UnixNano(), Duration: int64(took),
		UserCpu: f.random.Int64N(int64(took)), SystemCpu: f.random.Int64N(1e9),
		MaxRss: f.random.Int64N(1 << 30),
		OutLen: f.random.Int64N(1 << 20), OutCrc: f.random.Uint32(),
	}})
}

func (f *fakeFleet) Settle(o *statepb.Obligation) { f.report(sched.Settled{Ref: o.Run}) }

func (f *fakeFleet) Disconnect(string)                     {}
func (f *fakeFleet) Cancel(*statepb.RunRef)                {}
func (f *fakeFleet) Retime(*statepb.RunRef, time.Duration) {}
func (f *fakeFleet) Pause(*statepb.RunRef, bool)           {}
func (f *fakeFleet) Signal(*statepb.RunRef, int)           {}
func (f *fakeFleet) Copy(sched.Copy)                       {}
func (f *fakeFleet) StopCopy(uint64)                       {}
func (f *fakeFleet) Drop(*statepb.RunRef)                  {}
func (f *fakeFleet) ForgetLogs(uint64)                     {}
func (f *fakeFleet) Provide(sched.Provider)                {}
func (f *fakeFleet) Withdraw(string)                       {}
func (f *fakeFleet) Allocate(sched.Allocation)             {}
func (f *fakeFleet) Release(uint64)                        {}
func (f *fakeFleet) Abandon(uint64)                        {}

// storeJournal is the store as the scheduler sees it.
type storeJournal struct{ *snapshot.Store }

func (j storeJournal) NeedsSnapshot() bool { return j.NeedsCompaction() }
func (j storeJournal) SnapshotPays() bool  { return false }
func (j storeJournal) StartSnapshot() (func(func(func([]byte) error) error) error, error) {
	mark, err := j.Rotate()
	if err != nil {
		return nil, err
	}
	return func(each func(func([]byte) error) error) error {
		return j.WriteSnapshot(mark, each)
	}, nil
}

// makeHistory writes a state directory with n jobs that have ended, of which the newest are no
// matrix's.
func makeHistory(ctx context.Context, dir string, n int) (err error) {
	store, recovery, err := snapshot.Open(dir, snapshot.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := recovery.Replay(func([]byte) error { return nil },
		func([]byte) error { return nil }); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	fleet := &fakeFleet{random: random}
	loop := sched.NewLoop(sched.NewState(), storeJournal{store}, fleet, sched.LoopOptions{
		Now: time.Now,
		Token: func() string {
			var b [12]byte
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			return hex.EncodeToString(b[:])
		},
	})
	fleet.report = loop.Report
	looping, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(looping) }()
	err = fill(ctx, loop, n)
	stop()
	return errors.Join(err, <-ended)
}

// fill submits everything, waits until it has run, and takes the machines out of the pool.
func fill(ctx context.Context, loop *sched.Loop, n int) error {
	do := func(plan func(s *sched.State, now time.Time) (sched.Plan, error)) error {
		_, _, err := loop.Do(ctx, "", false, plan)
		return err
	}
	machines := make([]sched.MachineSpec, fakeMachines)
	addrs := make([]string, fakeMachines)
	for i := range machines {
		addrs[i] = fmt.Sprintf("user@node%03d.cluster.example", i)
		machines[i] = sched.MachineSpec{Addr: addrs[i], Class: "cluster", Slots: fakeSlots}
	}
	if err := do(func(s *sched.State, now time.Time) (sched.Plan,
		error) {
		return s.PlanMachines(machines, now)
	}); err != nil {
		return err
	}
	alone := min(singles, n/10)
	for left := n - alone; left > 0; left -= stillWaiting {
		if err := do(planMatrix("cluster", min(left, stillWaiting))); err != nil {
			return err
		}
	}
	job := sched.JobSpec{Class: "cluster", Cmd: "./simulate --model large --steps 100000",
		Dir: "/home/user", Repeat: alone}
	if err := do(func(s *sched.State, _ time.Time) (sched.Plan,
		error) {
		return s.PlanJobs([]sched.JobSpec{job}, false)
	}); err != nil {
		return err
	}
	if err := do(planMatrix("elsewhere", stillWaiting)); err != nil {
		return err
	}
	for cursor := uint64(0); ; {
		var counts sched.Counts
		if err := loop.Read(ctx, func(s *sched.State) { counts = s.Counts() }); err != nil {
			return err
		}
		if counts.By[sched.Done] == n {
			break
		}
		_, next, _, err := loop.Events().After(ctx, cursor, 1000)
		if err != nil {
			return err
		}
		cursor = next
	}
	return do(func(s *sched.State, _ time.Time) (sched.Plan,
		error) {
		return s.PlanRemove(addrs, true), nil
	})
}

// planMatrix is a matrix of n cells, over two variables.
func planMatrix(class string, n int) func(*sched.State, time.Time) (sched.Plan, error) {
	return func(s *sched.State, _ time.Time) (sched.Plan, error) {
		seeds := make([]string, max(n/10, 1))
		for i := range seeds {
			seeds[i] = strconv.Itoa(i + 1)
		}
		rates := []string{"0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"}
		return s.PlanMatrix(sched.MatrixSpec{
			Job: sched.JobSpec{Class: class, Cmd: "python train.py --run {RUN} --rate {RATE}",
				CpPath: "", Dir: "/home/user", MaxFailures: 3},
			Axes: []*statepb.Axis{{Name: "RUN", Values: seeds},
				{Name: "RATE", Values: rates[:n/len(seeds)]}},
		}, false)
	}
}

// longHistory is a copy of the state directory with a million jobs.
func (w *world) longHistory(ctx context.Context) (string, error) {
	if _, err := os.Stat(w.history); errors.Is(err, os.ErrNotExist) {
		making := w.history + ".part"
		took, err := timed(func() error { return makeHistory(ctx, making, million) })
		if err != nil {
			return "", fmt.Errorf("make a history of a million jobs: %w", err)
		}
		if err := os.Rename(making, w.history); err != nil {
			return "", err
		}
		fmt.Fprintf(os.Stderr, "  a history of a million jobs was made in %s\n", show(took))
	}
	dir, err := os.MkdirTemp(w.dir, "state-")
	if err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", w.history+
		"/.", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy the history: %w: %s", err, out)
	}
	return dir, nil
}
