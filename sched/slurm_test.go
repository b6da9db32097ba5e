package sched

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

const gpus = "slurm:me@login/gpu"

// partition is a world with one provider, and what a Slurm does.
type partition struct {
	*world
	t *testing.T
}

func ptr[T any](v T) *T { return &v }

// newPartition is a world in which class x is backed by a partition.
func newPartition(t *testing.T, spec ProviderSpec) *partition {
	c := &partition{newWorld(), t}
	spec.Addr, spec.Class = gpus, "x"
	if spec.Time == nil {
		spec.Time = ptr(4 * time.Hour)
	}
	must(t, c.do(c.s.PlanProvider(spec, c.now)))
	return c
}

// jobs submits jobs of class x.
func (c *partition) jobs(n int, spec JobSpec) []uint64 {
	c.t.Helper()
	spec.Class, spec.Cmd = "x", "work"
	specs := slices.Repeat([]JobSpec{spec}, n)
	ids, err := c.submit(specs...)
	must(c.t, err)
	return ids
}

// asked lists the ids of the allocations that were asked for and weren't released.
func (c *partition) asked() (ids []uint64) {
	for _, a := range c.s.allAsked() {
		if a.Released == "" {
			ids = append(ids, a.Id)
		}
	}
	return ids
}

// pends has Slurm keep an allocation in its queue.
func (c *partition) pends(id uint64, reason string) {
	c.t.Helper()
	must(c.t, c.report(Allocated{ID: id, Job: fmt.Sprint(1000 + id), State: "PENDING",
		Reason: reason, Start: c.now.Add(time.Hour)}))
}

// starts has Slurm begin an allocation on a node of its own; its agent isn't reached yet.
func (c *partition) starts(id uint64) string {
	c.t.Helper()
	a := c.s.allocations[id]
	must(c.t, c.report(Allocated{ID: id, Job: fmt.Sprint(1000 + id), State: "RUNNING",
		Node: fmt.Sprintf("n%d", id), End: c.now.Add(time.Duration(a.Time))}))
	return a.addr()
}

// runs has Slurm begin an allocation, and its agent answer.
func (c *partition) runs(id uint64) string {
	c.t.Helper()
	addr := c.starts(id)
	must(c.t, c.connect(addr))
	return addr
}

func (c *partition) gone(id uint64, state string) {
	c.t.Helper()
	must(c.t, c.report(AllocationGone{ID: id, State: state}))
}

// begin starts all runs that were asked for.
func (c *partition) begin() {
	c.t.Helper()
	for _, r := range c.running() {
		must(c.t, c.report(Started{Ref: r.Ref, At: c.now}))
	}
}

// finish ends all runs that are under way.
func (c *partition) finish() {
	c.t.Helper()
	for _, r := range c.running() {
		must(c.t, c.report(Ended{Ref: r.Ref, Result: exit(0)}))
	}
	must(c.t, c.settle())
}

func (c *partition) status(id uint64, want Status) {
	c.t.Helper()
	if got := c.s.Status(id); got != want {
		c.t.Errorf("job %d is %s, want %s: %s", id, StatusName(got), StatusName(want),
			c.s.Job(id).GetError())
	}
}

// TestDemand: how many allocations jobs ask for.
func TestDemand(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		spec ProviderSpec
		jobs int
		job  JobSpec
		want int
		args string // of the first
		why  string // of the first job, when none is asked for
	}{
		"one job":        {jobs: 1, want: 1},
		"none":           {},
		"as many as fit": {spec: ProviderSpec{Slots: ptr(4), Backlog: ptr(9)}, jobs: 9, want: 3},
		"wide jobs": {spec: ProviderSpec{Slots: ptr(4), Backlog: ptr(9)}, jobs: 9,
			want: 9, job: JobSpec{Slots: 3}},
		"exclusive": {spec: ProviderSpec{Slots: ptr(4), Backlog: ptr(9)}, jobs: 3,
			want: 3, job: JobSpec{Exclusive: true}},
		"backlog":       {jobs: 50, want: defaultBacklog},
		"max":           {spec: ProviderSpec{Max: ptr(3), Backlog: ptr(9)}, jobs: 50, want: 3},
		"held":          {jobs: 5, job: JobSpec{Hold: true}},
		"not yet":       {jobs: 5, job: JobSpec{StartAfter: time.Unix(1_700_000_900, 0)}},
		"fits its time": {jobs: 1, job: JobSpec{Timeout: 4*time.Hour - pilotMargin}, want: 1},
		"too long": {jobs: 1, job: JobSpec{Timeout: 4*time.Hour - pilotMargin + 1},
			why: "its timeout is 3h58m30"},
		"at most": {spec: ProviderSpec{Backlog: ptr(9)}, jobs: 9, job: JobSpec{Tag: "t",
			AtMost: 2}, want: 2},
		"gpus": {jobs: 1, job: JobSpec{Needs: "gpu=2"}, want: 1, args: "--gres=gpu:2"},
		"gpus of all slots": {spec: ProviderSpec{Slots: ptr(4)}, jobs: 1,
			job: JobSpec{Needs: "gpu=2"}, want: 1, args: "--gres=gpu:8 --cpus-per-task=4"},
		"gpus that it has": {spec: ProviderSpec{Args: []string{"--gres=gpu:a100:2"}}, jobs: 2,
			job: JobSpec{Needs: "gpu=2"}, want: 2, args: "--gres=gpu:a100:2"},
		"too many gpus": {spec: ProviderSpec{Args: []string{"-G1"}}, jobs: 2,
			job: JobSpec{Needs: "gpu=2"}, why: "gpu=1"},
		"memory": {spec: ProviderSpec{Slots: ptr(2)}, jobs: 1,
			job: JobSpec{Needs: "mem=8G"}, want: 1, args: "--cpus-per-task=2 --mem=16384M"},
		"memory it has": {spec: ProviderSpec{Args: []string{"--mem=64G"}}, jobs: 1,
			job: JobSpec{Needs: "mem=8G"}, want: 1, args: "--mem=64G"},
		"cores": {jobs: 1, job: JobSpec{Needs: "cores=8"}, want: 1,
			args: "--cpus-per-task=8"},
		"cores it has": {spec: ProviderSpec{Args: []string{"-c16"}}, jobs: 1,
			job: JobSpec{Needs: "cores=8"}, want: 1, args: "-c16"},
		"other resources": {jobs: 1, job: JobSpec{Needs: "license=1"},
			why: "a resource \"license\""},
		"too wide": {jobs: 1, job: JobSpec{Slots: 2}, why: "1 slot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newPartition(t, one.spec)
			one.job.Class, one.job.Cmd = "x", "work"
			var ids []uint64
			for range one.jobs {
				p, err := c.s.PlanJobs([]JobSpec{one.job}, false)
				if err != nil && one.why != "" && strings.Contains(err.Error(), one.why) {
					return // it was refused at once
				}
				must(t, c.do(p, err))
				ids = append(ids, p.IDs...)
			}
			got := c.asked()
			if len(got) != one.want {
				t.Fatalf("%d allocations are asked for, want %d", len(got), one.want)
			}
			if one.want > 0 {
				a := c.fleet.slurm[got[0]]
				if args := strings.Join(a.Args, " "); args != one.args &&
					(one.args != "" || len(one.spec.Args) > 0) {
					t.Errorf("it is asked for with %s, want %s", args, one.args)
				}
			}
			if one.why != "" {
				r, err := c.s.Why(ids[0], c.now)
				must(t, err)
				if text := fmt.Sprint(r); !strings.Contains(text, one.why) {
					t.Errorf("why says %s, not %q", text, one.why)
				}
			}
		})
	}
}

// TestPilots: a matrix runs on pilots, which are released when they have idled.
func TestPilots(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Max: ptr(2), Slots: ptr(4)})
	ids := c.jobs(20, JobSpec{})
	asked := c.asked()
	if len(asked) != 2 {
		t.Fatalf("%v are asked for", asked)
	}
	c.pends(asked[0], "Priority")
	addr := c.runs(asked[0])
	if n := len(c.running()); n != 4 {
		t.Fatalf("%d jobs run on a pilot of 4 slots", n)
	}
	c.runs(asked[1])
	for range 5 {
		c.finish()
	}
	for _, id := range ids {
		c.status(id, Done)
	}
	must(t, c.pass(4*time.Minute))
	if got := c.asked(); len(got) != 2 {
		t.Errorf("%v are there before they have idled", got)
	}
	must(t, c.pass(2*time.Minute))
	for _, id := range asked {
		if a := c.fleet.slurm[id]; !a.released {
			t.Errorf("%d isn't released", id)
		}
		c.gone(id, "CANCELLED")
	}
	if _, there := c.s.Machine(addr); there || len(c.s.allocations) > 0 || c.fleet.pool[addr] {
		t.Error("something of it is left")
	}
	if p := c.s.providers[gpus]; p.Unanswered != 0 || p.Resting != "" {
		t.Errorf("an allocation that was released counts against its provider: %v", p.Provider)
	}
}

// TestAllocationEnds: what becomes of the jobs of an allocation that ends.
func TestAllocationEnds(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		state   string
		job     JobSpec
		after   time.Duration // that it has run
		want    Status
		attempt string // what its attempt says
	}{
		"preempted": {state: "PREEMPTED", want: Waiting,
			attempt: "the allocation ended: preempted"},
		"canceled": {state: "CANCELLED", want: Waiting,
			attempt: "the allocation ended: canceled"},
		"failed":        {state: "FAILED", want: Waiting},
		"out of memory": {state: "OUT_OF_MEMORY", want: Waiting},
		"forgotten":     {state: "UNKNOWN", want: Waiting},
		"time":          {state: "TIMEOUT", after: time.Hour, want: Waiting},
		"nearly all its time": {state: "TIMEOUT", after: 3*time.Hour + 50*time.Minute,
			want: Failed},
		"node failure":        {state: "NODE_FAIL", want: Lost},
		"node failure, retry": {state: "NODE_FAIL", job: JobSpec{MaxFailures: 1}, want: Waiting},
		"node failure, on lost": {state: "NODE_FAIL",
			job: JobSpec{MaxFailures: 1, NoRetryOn: []string{"lost"}}, want: Lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newPartition(t, ProviderSpec{})
			id := c.jobs(1, one.job)[0]
			c.runs(c.asked()[0])
			run := c.running()[0]
			must(t, c.report(Started{Ref: run.Ref, At: c.now}))
			c.now = c.now.Add(one.after) // nobody looks meanwhile
			a := c.s.allAsked()[0].Id
			must(t, c.apply(c.s.React(AllocationGone{ID: a, State: one.state}, c.now)...))
			c.status(id, one.want)
			if one.attempt != "" && last(c.s.Job(id)).Error != one.attempt {
				t.Errorf("its attempt says %q", last(c.s.Job(id)).Error)
			}
			delete(c.fleet.slurm, a)
			must(t, c.pass(time.Minute))
			if again := len(c.s.allocations) == 1; again != (one.want == Waiting) {
				t.Errorf("another allocation is asked for: %v", again)
			}
		})
	}
}

// TestVanishesThreeTimes: a job runs again as often as it may, and no more.
func TestVanishesThreeTimes(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{})
	id := c.jobs(1, JobSpec{CpPath: "/r"})[0]
	for n := range maxVanished + 1 {
		a := c.asked()[0]
		c.runs(a)
		if n%2 == 1 { // also while its results are copied
			r := exit(0)
			r.Results = []string{"out"}
			must(t, c.report(Ended{Ref: c.running()[0].Ref, Result: r}))
			c.status(id, Copying)
		}
		c.gone(a, "PREEMPTED")
		must(t, c.pass(time.Minute))
	}
	c.status(id, Lost)
	if len(c.s.allocations) != 0 || !strings.Contains(c.s.Job(id).Error, "3 times") {
		t.Errorf("%d allocations are left; %s", len(c.s.allocations), c.s.Job(id).Error)
	}
}

// TestExpires: what runs when an allocation is about to end is canceled, and runs again in one that
// has more time, if there is any.
func TestExpires(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Time: ptr(time.Hour), Slots: ptr(2)})
	short := c.jobs(1, JobSpec{})[0]
	c.runs(c.asked()[0])
	c.finish()
	c.status(short, Done)
	must(t, c.pass(4*time.Minute)) // so that it doesn't idle
	long := c.jobs(1, JobSpec{})[0]
	c.begin()
	must(t, c.pass(40*time.Minute))
	late := c.jobs(1, JobSpec{})[0]
	c.begin()
	timed := c.jobs(1, JobSpec{Timeout: 30 * time.Minute})[0]
	c.status(timed, Waiting)
	must(t, c.pass(15*time.Minute-1))
	for _, r := range c.running() {
		if r.Cancel {
			t.Errorf("job %d is canceled early", r.Ref.Job)
		}
	}
	must(t, c.pass(time.Second))
	for _, r := range c.running() {
		if !r.Cancel {
			t.Errorf("job %d isn't canceled", r.Ref.Job)
		}
		ended := exit(0)
		ended.Cause, ended.Signal = statepb.Cause_CANCELED_BY_USER, "TERM"
		must(t, c.report(Ended{Ref: r.Ref, Result: ended}))
	}
	c.status(late, Waiting)
	c.status(long, Failed)
	if text := c.s.Job(long).Error; !strings.HasPrefix(text, "needs more than --time 1h") {
		t.Error(text)
	}
	if j := c.s.Job(late); j.Vanished != 1 || j.Failures != 0 || j.Least < int64(15*time.Minute) {
		t.Errorf("%v", j)
	}
}

// TestProviderRests: what is of no use isn't asked for again and again.
func TestProviderRests(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{})
	ids := c.jobs(9, JobSpec{})
	for _, state := range []string{"FAILED", "PREEMPTED", "FAILED", "TIMEOUT", "BOOT_FAIL"} {
		a := c.asked()[0]
		c.starts(a)
		c.gone(a, state)
	}
	p := c.s.providers[gpus]
	if p.Resting == "" || p.Unanswered != 3 {
		t.Fatalf("it doesn't rest: %v", p.Provider)
	}
	before := len(c.asked())
	for _, a := range c.asked() { // one that was asked for before
		c.gone(a, "CANCELLED")
	}
	must(t, c.pass(time.Hour))
	if len(c.asked()) > 0 || before == 0 {
		t.Errorf("it asks for more, %v", c.asked())
	}
	r, err := c.s.Why(ids[0], c.now)
	must(t, err)
	if text := fmt.Sprint(r); !strings.Contains(text, "its node didn't boot") ||
		!strings.Contains(text, "machine resume -m "+gpus) {
		t.Error(text)
	}
	must(t, c.do(c.s.PlanProvidersDrained([]string{gpus}, false), nil))
	for range maxRefused {
		must(t, c.report(AllocationRefused{ID: c.asked()[0], Words: "Invalid account"}))
	}
	if p.Resting == "" || !strings.Contains(p.Resting, "Invalid account") || len(c.asked()) > 0 {
		t.Errorf("it doesn't rest: %v", p.Provider)
	}
	for _, a := range c.s.allAsked() {
		c.gone(a.Id, "NOT_SUBMITTED")
	}
	must(t, c.do(c.s.PlanProvidersDrained([]string{gpus}, false), nil))
	a := c.asked()[0]
	c.runs(a)
	if p.Unanswered != 0 || p.Refused != 0 {
		t.Errorf("%v", p.Provider)
	}
}

// TestProviderRemoved: its pilots end what they do, unless that is to be now.
func TestProviderRemoved(t *testing.T) {
	t.Parallel()
	for _, force := range []bool{false, true} {
		c := newPartition(t, ProviderSpec{Backlog: ptr(3)})
		ids := c.jobs(3, JobSpec{MaxFailures: 1})
		asked := c.asked()
		c.runs(asked[0])
		c.pends(asked[1], "Resources")
		must(t, c.do(c.s.PlanProvidersRemoved([]string{gpus}, force), nil))
		if force {
			if len(c.s.providers)+len(c.s.allocations)+len(c.s.machines)+len(c.fleet.slurm) > 0 {
				t.Error("something is left")
			}
			c.status(ids[0], Waiting)
			continue
		}
		c.status(ids[0], Running)
		for _, id := range asked[1:] {
			if !c.fleet.slurm[id].released {
				t.Errorf("%d isn't released", id)
			}
			c.gone(id, "CANCELLED")
		}
		c.finish()
		c.status(ids[0], Done)
		if !c.fleet.slurm[asked[0]].released {
			t.Error("the pilot isn't released when it has ended its job")
		}
		c.gone(asked[0], "CANCELLED")
		if len(c.s.providers) > 0 || len(c.fleet.logins) > 0 {
			t.Error("the provider is there still")
		}
	}
}

// TestOneJobEach: with --jobs 1, each job has a fresh allocation.
func TestOneJobEach(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Jobs: ptr(1), Max: ptr(1)})
	ids := c.jobs(3, JobSpec{})
	for _, id := range ids {
		a := c.asked()[0]
		c.runs(a)
		if n := len(c.running()); n != 1 {
			t.Fatalf("%d jobs run", n)
		}
		c.finish()
		c.status(id, Done)
		if !c.fleet.slurm[a].released {
			t.Error("it isn't released")
		}
		c.gone(a, "CANCELLED")
	}
	if len(c.asked()) > 0 {
		t.Error("another is asked for")
	}
}

// TestPilotSetup: the setup of a matrix runs once on each pilot; one that fails is of no use.
func TestPilotSetup(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Max: ptr(2)})
	p, err := c.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "cell {A}"},
		Axes:  []*statepb.Axis{{Name: "A", Values: []string{"1", "2", "3"}}},
		Setup: []string{"get ready"}}, false)
	must(t, c.do(p, err))
	asked := c.asked()
	addr := c.runs(asked[0])
	if len(asked) != 2 || len(c.asked()) != 2 || len(c.running()) != 1 || !c.running()[0].Setup {
		t.Fatalf("%v were asked for, %v are; %v", asked, c.asked(), c.running())
	}
	c.finish()
	if m := c.s.machines[addr]; m.Class != "x" || len(c.running()) != 1 || c.running()[0].Setup {
		t.Fatalf("it hasn't joined: %v", m.Machine)
	}
	for range maxUnanswered {
		next := c.asked()[1]
		c.runs(next)
		for _, r := range c.running() {
			if r.Setup {
				must(t, c.report(Ended{Ref: r.Ref, Result: exit(1)}))
			}
		}
		must(t, c.settle())
		if a := c.fleet.slurm[next]; !a.released {
			t.Fatal("a pilot whose setup failed isn't released")
		}
		c.gone(next, "CANCELLED")
	}
	if rec := c.s.providers[gpus]; rec.Resting == "" || !strings.Contains(rec.Resting, "setup") {
		t.Errorf("it asks again and again: %v", rec.Provider)
	}
}

// TestBrokenNode: a pilot that is set aside is released, and its node is left out.
func TestBrokenNode(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Max: ptr(2), Args: []string{"--exclude=old[1-3]"}})
	c.jobs(3, JobSpec{})
	asked := c.asked()
	bad := c.runs(asked[0])
	c.runs(asked[1])
	must(t, c.apply(moved(bad, "x"+brokenSuffix, "9 jobs failed here")))
	for _, r := range c.running() {
		if r.Ref.Machine == bad {
			must(t, c.report(Ended{Ref: r.Ref, Result: exit(1)}))
		}
	}
	must(t, c.settle())
	if !c.fleet.slurm[asked[0]].released {
		t.Fatal("it isn't released")
	}
	c.gone(asked[0], "CANCELLED")
	next := c.fleet.slurm[c.asked()[1]]
	want := []string{fmt.Sprintf("n%d", asked[0]), "old[1-3]"}
	if !slices.Equal(next.Exclude, want) || len(next.Args) > 0 {
		t.Errorf("the next excludes %v, want %v", next.Exclude, want)
	}
}

// TestFate: a run on a pilot that was told to end is lost for the allocation's reason.
func TestFate(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{})
	id := c.jobs(1, JobSpec{})[0]
	a := c.asked()[0]
	c.runs(a)
	ref := c.running()[0].Ref
	lost := RunLost{Ref: ref, Reason: "its supervisor was told to end"}
	must(t, c.apply(c.s.React(lost, c.now)...))
	must(t, c.turn())
	c.status(id, Running)
	delete(c.fleet.runs, ref.Token)
	c.gone(a, "PREEMPTED")
	if got := last(c.s.Job(id)).Error; got != "the allocation ended: preempted" {
		t.Error(got)
	}
	a = 0
	must(t, c.pass(time.Minute))
	c.runs(c.asked()[0])
	ref = c.running()[0].Ref // this time the allocation goes on
	lost.Ref = ref
	must(t, c.apply(c.s.React(lost, c.now)...))
	delete(c.fleet.runs, ref.Token)
	must(t, c.pass(fateWait+time.Second))
	c.status(id, Lost)
}

// TestResumeAllocations: a daemon that is started asks for what is there, first of all.
func TestResumeAllocations(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Backlog: ptr(3)})
	c.jobs(3, JobSpec{})
	asked := c.asked()
	addr := c.runs(asked[0])
	c.pends(asked[1], "Priority")
	s, err := restored(nil, c.journal)
	must(t, err)
	f := newMemory()
	s.Resume(f)
	must(t, s.check())
	for i, want := range []string{"1004", "1005", ""} {
		if a := f.slurm[asked[i]]; a == nil || a.Job != want || a.Asked.IsZero() {
			t.Errorf("allocation %d: %+v", asked[i], a)
		}
	}
	if !f.logins[gpus] || !f.pool[addr] || len(f.runs) != 1 {
		t.Errorf("%v, %v, %v", f.logins, f.pool, f.runs)
	}
}

// TestLoginFull: how many pilots a shared connection carries is what it carried when it took no
// more, until it is seen to carry more.
func TestLoginFull(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Backlog: ptr(9)})
	c.jobs(4, JobSpec{})
	ids := c.asked()
	carries := func(want int) {
		t.Helper()
		if p, _ := c.s.Provider(gpus); p.Carries != want {
			t.Errorf("it carries %d, want %d", p.Carries, want)
		}
	}
	must(t, c.report(LoginFull{Login: "me@login"}))
	carries(0) // nothing was connected
	c.runs(ids[0])
	c.runs(ids[1])
	last := c.starts(ids[2])
	must(t, c.report(LoginFull{Login: "other"}))
	carries(0)
	must(t, c.report(LoginFull{Login: "me@login"}))
	carries(2)
	must(t, c.connect(last))
	carries(0)
	must(t, c.report(LoginFull{Login: "me@login"}))
	carries(3)
	must(t, c.do(c.s.PlanProvidersDrained([]string{gpus}, true), nil))
	must(t, c.do(c.s.PlanProvidersDrained([]string{gpus}, false), nil))
	carries(0)
}
