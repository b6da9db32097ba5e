package fleet

import (
	"strings"
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/slurm"
	"jobserver/slurm/slurmtest"
)

// TestAllocationsOverRestarts: what an earlier daemon has asked for is found, or submitted after
// all; what nobody knows is canceled, and what has been forgotten is gone.
func TestAllocationsOverRestarts(t *testing.T) {
	c := slurmtest.Start(t, slurmtest.Nodes(1), slurmtest.MinJobAge(2))
	p := newPartition(t, c)
	provider := sched.Provider{Addr: "slurm:test", Partition: "test"}
	p.Allocate(p.ask(1))
	p.Allocate(p.ask(2))
	p.runs(1)
	first := await(p.host, func(o sched.Allocated) bool { return o.ID == 1 })
	await(p.host, func(o sched.Allocated) bool { return o.ID == 2 })
	p.halt()

	// 2 isn't known any more, 3 was asked for and never submitted, 1 was submitted and not seen.
	p.run()
	for _, n := range []uint64{1, 3} {
		a := p.ask(n)
		a.Asked = time.Now()
		p.Allocate(a)
	}
	p.Provide(provider)
	if again := await(p.host,
		func(o sched.Allocated) bool { return o.ID == 1 }); again.Job != first.Job {
		t.Errorf("it was job %s, and is %s", first.Job, again.Job)
	}
	await(p.host, func(o sched.Allocated) bool { return o.ID == 3 })
	p.until("two jobs live", func() bool { return len(p.jobs()) == 2 })
	p.runs(1)
	r := job(addrOf(1), 1, "echo here")
	p.Start(r)
	p.ends(r, "here\n")
	p.halt()

	// Ended, and forgotten by the controller, while nobody was there.
	if _, err := p.Run("scancel", "--user=root"); err != nil {
		t.Fatal(err)
	}
	p.until("Slurm has forgotten all", func() bool {
		out, err := p.Run("squeue", "-h", "-t", "all")
		return err == nil && strings.TrimSpace(out) == ""
	})
	p.run()
	known := p.ask(1)
	known.Job = first.Job
	p.Allocate(known)
	p.Provide(provider)
	if o := p.gone(1); o.State != slurm.Unknown {
		t.Errorf("the forgotten one is gone as %+v", o)
	}
}

// TestAllocationAnswers: what the queue doesn't say, and says wrong, is no judgement.
func TestAllocationAnswers(t *testing.T) {
	c := slurmtest.Start(t, slurmtest.Nodes(1))
	p := newPartition(t, c)
	p.Provide(sched.Provider{Addr: "slurm:test", Partition: "test"})
	p.Allocate(p.ask(1))
	p.runs(1)
	well := func(o sched.ProviderSeen) bool { return o.Problem == "" }
	for name, script := range map[string]string{
		"nothing":           "exit 0",
		"nothing and fails": "exit 1",
		"garbage":           "head -c 10000 /dev/urandom; exit 0",
		"a banner":          `echo "jobserver-end list 0"; exit 1`,
		"hangs up":          "kill -9 $PPID",
	} {
		if err := c.Stub("squeue", script); err != nil {
			t.Fatal(err)
		}
		before := count(p.host, well)
		p.lookAtLogin("")
		await(p.host, func(o sched.ProviderSeen) bool {
			return o.Problem != "" && o.Hint+"." != ""
		})
		if err := c.Stub("squeue", ""); err != nil {
			t.Fatal(err)
		}
		p.until("Slurm answers again", func() bool { return count(p.host, well) > before })
		if n := count(p.host, func(sched.AllocationGone) bool { return true }); n > 0 {
			t.Fatalf("%s: the allocation was given up", name)
		}
		p.tell(func() { p.reports = nil })
	}
	p.refuses(t)
	if err := c.Controller.Kill(); err != nil {
		t.Fatal(err)
	}
	r := job(addrOf(1), 1, "echo while it is down")
	p.Start(r)
	p.ends(r, "while it is down\n")
	p.lookAtLogin("")
	await(p.host, func(o sched.ProviderSeen) bool { return o.Problem != "" })
	p.Release(1)
	if err := c.Controller.Start(); err != nil {
		t.Fatal(err)
	}
	p.gone(1)
	p.until("nothing lives", func() bool { return len(p.jobs()) == 0 })
}

// refuses asks for what Slurm refuses.
func (p *partition) refuses(t *testing.T) {
	bad := p.ask(5, "--constraint=other")
	if err := p.CheckProvider(t.Context(), bad); err == nil || !strings.Contains(err.Error(),
		"Invalid feature specification") {
		t.Errorf("the test of a bad one says %v", err)
	}
	if err := p.CheckProvider(t.Context(), p.ask(6)); err != nil {
		t.Errorf("the test of a good one says %v", err)
	}
	if names, err := p.Partitions(t.Context(), ""); err != nil || len(names) != 1 ||
		names[0] != "test" {
		t.Errorf("the partitions are %v, %v", names, err)
	}
	p.Allocate(bad)
	o := await(p.host, func(o sched.AllocationRefused) bool { return o.ID == 5 })
	if !strings.Contains(o.Words, "nvalid feature specification") {
		t.Errorf("it was refused with %q", o.Words)
	}
	p.Release(5)
	if o := p.gone(5); o.State != slurm.NotSubmitted {
		t.Errorf("the refused one is gone as %+v", o)
	}
	p.Allocate(p.ask(7, "--constraint=other"))
	p.Abandon(7)
	p.Release(99) // nobody's
}
