package sched

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// TestGangsAreNodes: a job on several machines gets one allocation of as many nodes, which nothing
// else is given to, and knows these by their names.
func TestGangsAreNodes(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Slots: ptr(4), Backlog: ptr(9)})
	small := c.jobs(1, JobSpec{})[0]
	gang := c.jobs(2, JobSpec{Machines: 3, Needs: "gpu=1,mem=1G", Slots: 2})
	ids := c.asked()
	if len(ids) != 3 {
		t.Fatalf("the allocations are %v", ids)
	}
	a := c.s.allocations[ids[1]].fleets(time.Time{})
	if want := "--gres=gpu:1 --cpus-per-task=2 --mem=1024M"; a.Nodes != 3 ||
		strings.Join(a.Args, " ") != want {
		t.Errorf("%d nodes are asked for with %q", a.Nodes, a.Args)
	}
	whole := func(id uint64) {
		t.Helper()
		must(t, c.report(Allocated{ID: id, Job: fmt.Sprint(1000 + id), State: "RUNNING",
			Node: "n7", Nodes: []string{"n7", "n8", "n9"}, End: c.now.Add(4 * time.Hour)}))
		must(t, c.connect(c.s.allocations[id].addr()))
	}
	whole(ids[1])
	c.status(small, Waiting)
	c.status(gang[0], Running)
	at := last(c.s.Job(gang[0]))
	if at.Machine != c.s.allocations[ids[1]].addr() || len(at.Ranks) > 0 ||
		!slices.Contains(gangEnv(c.s.Job(gang[0]).Needs, at), "JOBSERVER_MACHINES=n7,n8,n9") {
		t.Errorf("it was given %v", at)
	}
	must(t, c.s.check())
	c.finish()
	c.status(gang[1], Running) // the same nodes, which are free
	c.gone(ids[1], "PREEMPTED")
	c.status(gang[1], Waiting)
	must(t, c.pass(time.Minute))
	whole(ids[2])
	c.status(gang[1], Running)
	c.finish()
	c.status(gang[1], Done)
	c.status(small, Waiting)
	c.runs(ids[0])
	c.status(small, Running)
	if why := c.s.neverHas(nil, c.s.pilot(c.s.allocations[ids[2]])); !strings.Contains(why,
		"3 nodes, for jobs with --machines 3") {
		t.Errorf("why others don't get it: %q", why)
	}
}

// TestExclusive: a job that wants its machine for itself is asked an allocation for that is given
// back after it; one that is there and idle does as well.
func TestExclusive(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Slots: ptr(4), Backlog: ptr(9)})
	own := c.jobs(1, JobSpec{Exclusive: true})[0]
	others := c.jobs(2, JobSpec{})
	ids := c.asked()
	if len(ids) != 2 {
		t.Fatalf("the allocations are %v", ids)
	}
	c.runs(ids[0])
	c.status(own, Running)
	c.finish()
	c.status(own, Done)
	if a := c.s.allocations[ids[0]]; !strings.Contains(a.Released, "its 1 job") {
		t.Errorf("it isn't given back: %v", a.Allocation)
	}
	c.runs(ids[1])
	c.status(others[1], Running)
	c.finish()
	again := c.jobs(1, JobSpec{Exclusive: true})[0]
	c.status(again, Running)
	c.finish()
	if a := c.s.allocations[ids[1]]; a.Released != "" {
		t.Errorf("it is given back: %v", a.Allocation)
	}
}

// TestGangsBesidePilots: machines that are no allocations do as they always do, beside a partition
// too, and an allocation of one node is never one of several machines.
func TestGangsBesidePilots(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{})
	must(t, c.pool("x", 1, "a", "b"))
	c.jobs(4, JobSpec{})
	c.runs(c.asked()[0])
	ids, err := c.submit(JobSpec{Class: "x", Cmd: "work", Machines: 2, Each: true})
	must(t, err)
	for range 3 {
		c.finish()
	}
	c.status(ids[0], Done)
	for _, r := range ranksOf(last(c.s.Job(ids[0]))) {
		if IsSlurm(r.Machine) {
			t.Errorf("it had %s", r.Machine)
		}
	}
}

// TestGangsRefused: what no allocation can be is refused when it is submitted, with what to do, in
// each form in which a job can be.
func TestGangsRefused(t *testing.T) {
	t.Parallel()
	shapes := map[string]struct {
		job  JobSpec
		hint string // "" : it is taken
	}{
		"machines":      {JobSpec{Machines: 3}, ""},
		"each":          {JobSpec{Machines: 3, Each: true}, "srun --ntasks-per-node=1"},
		"with":          {JobSpec{With: []string{"SERVER=y"}}, "--machines 2"},
		"machines with": {JobSpec{Machines: 3, With: []string{"SERVER=y*2"}}, "--machines 5"},
		"too much":      {JobSpec{Machines: 3, Needs: "gpu=4"}, "ask for less"},
		"too wide":      {JobSpec{Machines: 3, Slots: 3}, "ask for less"},
	}
	for _, beside := range []int{0, 5} { // machines of the same class
		for name, one := range shapes {
			t.Run(fmt.Sprintf("%s beside %d machines", name, beside), func(t *testing.T) {
				c := newPartition(t, ProviderSpec{Slots: ptr(2), Args: []string{"--gres=gpu:2"}})
				must(t, c.pool("y", 1, "z1", "z2"))
				for i := range beside {
					must(t, c.pool("x", 1, fmt.Sprint("a", i)))
				}
				spec := one.job
				spec.Class, spec.Cmd = "x", "work"
				_, err := c.s.PlanJobs([]JobSpec{spec}, false)
				taken := one.hint == "" || beside > 0 && spec.Needs == "" && spec.Slots == 0
				judge := func(how string, err error) {
					t.Helper()
					var e *Error
					if taken != (err == nil) || !taken && (!errors.As(err, &e) ||
						!strings.Contains(e.Next, one.hint)) {
						t.Errorf("%s: %+v", how, err)
					}
				}
				judge("add", err)
				axes := []*statepb.Axis{{Name: "I", Values: []string{"1"}}}
				_, err = c.s.PlanMatrix(MatrixSpec{Job: spec, Axes: axes}, false)
				judge("matrix add", err)
				spec.Class = "nobody" // from which it comes
				ids, err := c.submit(spec)
				must(t, err)
				_, err = c.s.PlanSet(ids, SetSpec{Class: ptr("x")})
				judge("job set", err)
				_, err = c.s.PlanSet(ids, SetSpec{Class: ptr("x"), Next: true})
				judge("job mv", err)
			})
		}
	}
}
