package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// TestSlurmNights draws nights of a class that is backed by a partition, alone or beside machines:
// allocations wait, begin, lose their links, are preempted, run out of time or vanish. In the
// morning every job that could end has ended, none ran twice at a time, and nothing is left of what
// was asked for.
func TestSlurmNights(t *testing.T) {
	t.Parallel()
	for seed := range 40 {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			drawSlurmNight(t, rand.New(rand.NewPCG(uint64(seed), 11)))
		})
	}
}

// slurmNight is a night with a Slurm.
type slurmNight struct {
	*night
	rnd  *rand.Rand
	kill int // one in so many allocations ends early

	asked int
}

func drawSlurmNight(t *testing.T, rnd *rand.Rand) {
	pick := func(of ...int) int { return of[rnd.IntN(len(of))] }
	n := &slurmNight{night: newNight(t, pick(0, 0, 2), 2), rnd: rnd, kill: pick(3, 10, 1000)}
	n.fleet.hears, n.fleet.canceled = n.heard, n.canceled
	spec := ProviderSpec{Addr: gpus, Class: "x", Time: ptr(time.Duration(pick(20, 240)) *
		time.Minute), Slots: ptr(pick(1, 4)), Max: ptr(pick(1, 3, 8)), Backlog: ptr(pick(1, 3))}
	if rnd.IntN(4) == 0 {
		spec.Jobs = ptr(*spec.Slots)
	}
	must(t, n.do(n.s.PlanProvider(spec, n.now)))
	first, err := n.cells(pick(5, 60), 0)
	must(t, err)
	scale := time.Duration(pick(1, 30, 300)) * time.Second
	n.outcome = func(Run, time.Duration) (bool, time.Duration) {
		return true, time.Duration(float64(scale) * (0.5 + rnd.Float64()))
	}
	must(t, n.run())
	for _, id := range mustSelect(t, n.s) {
		st := n.s.Status(id)
		// one that was unlucky too often, or needs more than it can be given, is given up
		if st != Done && (st != Lost && st != Failed || n.kill > 100 && scale < time.Minute) {
			t.Errorf("job %d of those from %d on is %s: %s", id, first, StatusName(st),
				n.s.Job(id).Error)
		}
	}
	counts := n.s.Counts()
	t.Logf("%d done, %d failed, %d lost, %d allocations in %s", counts.By[Done], counts.By[Failed],
		counts.By[Lost], n.asked, n.now.Sub(n.began))
	for end := n.now.Add(6 * time.Hour); len(n.s.allocations) > 0 && n.now.Before(end); {
		must(t, n.advance())
	}
	if left := n.s.allAsked(); len(left) > 0 {
		t.Errorf("%v is left", left[0].Allocation)
	}
	if p := n.s.providers[gpus]; p.Resting != "" {
		t.Errorf("it rests: %s", p.Resting)
	}
}

// advance lets time pass until something happens.
func (n *slurmNight) advance() error {
	next := n.s.Wake(n.now)
	if len(n.then) > 0 && (next.IsZero() || n.began.Add(n.then[0].at).Before(next)) {
		do := n.then[0]
		n.then = n.then[1:]
		n.now = latest(n.now, n.began.Add(do.at))
		return do.do()
	}
	if next.IsZero() {
		next = n.now.Add(time.Hour)
	}
	n.now = next
	return n.turn()
}

// in plans something.
func (n *slurmNight) in(wait time.Duration, do func() error) {
	n.then = append(n.then, nightly{n.now.Add(wait).Sub(n.began), do})
	slices.SortStableFunc(n.then, func(a, b nightly) int { return int(a.at - b.at) })
}

func (n *slurmNight) upTo(d time.Duration) time.Duration {
	return time.Duration(n.rnd.Int64N(int64(d)))
}

// heard tells what Slurm does with an allocation that is asked for, or given back.
func (n *slurmNight) heard(id uint64, released bool) {
	if released {
		n.in(n.upTo(5*time.Second), func() error { return n.ends(id, "CANCELLED") })
		return
	}
	n.asked++
	job := fmt.Sprint(5000 + id)
	n.in(n.upTo(3*time.Second), func() error {
		if n.fleet.slurm[id] == nil {
			return nil
		}
		return n.report(Allocated{ID: id, Job: job, State: "PENDING", Reason: "Priority"})
	})
	n.in(3*time.Second+n.upTo(20*time.Minute), func() error { return n.starts(id, job) })
}

// canceled ends a run as its machine does.
func (n *slurmNight) canceled(r *statepb.RunRef) {
	n.in(n.upTo(5*time.Second), func() error {
		if _, there := n.fleet.runs[r.Token]; !there {
			return nil
		}
		ended := exit(0)
		ended.Cause, ended.Signal = statepb.Cause_CANCELED_BY_USER, "TERM"
		return n.report(Ended{Ref: r, Result: ended})
	})
}

// starts begins an allocation, unless it has ended, and plans its night.
func (n *slurmNight) starts(id uint64, job string) error {
	a := n.fleet.slurm[id]
	if a == nil || a.released {
		return nil
	}
	addr := pilotAddr(gpus, id)
	end := n.now.Add(a.Time)
	answers := func() error {
		if n.s.machines[addr] == nil {
			return nil
		}
		return n.report(Connected{Addr: addr, Facts: &statepb.Machine{BootId: "boot" + job,
			Os: "linux", Cores: 8}})
	}
	n.in(n.upTo(10*time.Second), answers)
	n.in(a.Time, func() error { return n.ends(id, "TIMEOUT") })
	if n.rnd.IntN(2) == 0 {
		cut := n.upTo(a.Time)
		n.in(cut, func() error { return n.report(Away{Addr: addr, Reason: "srun: error"}) })
		n.in(cut+n.upTo(10*time.Minute), answers)
	}
	if n.rnd.IntN(n.kill) == 0 {
		state := []string{"PREEMPTED", "CANCELLED", "OUT_OF_MEMORY", "UNKNOWN",
			"NODE_FAIL"}[n.rnd.IntN(5)]
		n.in(time.Minute+n.upTo(a.Time), func() error { return n.ends(id, state) })
	}
	return n.report(Allocated{ID: id, Job: job, State: "RUNNING", Node: "n" + job, End: end})
}

// ends is the end of an allocation: what ran there has no end of its own.
func (n *slurmNight) ends(id uint64, state string) error {
	if n.fleet.slurm[id] == nil {
		return nil
	}
	return n.report(AllocationGone{ID: id, State: state})
}
