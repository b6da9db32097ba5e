package fleet

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/slurm"
	"jobserver/slurm/slurmtest"
)

// partition is a host whose machines are allocations of a cluster.
type partition struct {
	*host
	*slurmtest.Cluster
	t *testing.T
}

func newPartition(t *testing.T, c *slurmtest.Cluster, change ...func(*Options)) *partition {
	t.Helper()
	for _, v := range c.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	// Where steps keep their files.
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	id := fmt.Sprintf("s%d-%d", os.Getpid(), time.Now().UnixNano())
	own := func(o *Options) { o.ServerID, o.SlurmPace = id, 50*time.Millisecond }
	return &partition{newHost(t, nil, append(change, own)...), c, t}
}

// ask is the n-th allocation.
func (p *partition) ask(n uint64, args ...string) sched.Allocation {
	return sched.Allocation{ID: n, Provider: "slurm:test", Partition: "test", Time: time.Hour,
		Args: args, Nodes: 1}
}

func addrOf(n uint64) string { return fmt.Sprintf("slurm:test/%d", n) }

// runs waits until an allocation runs, and connects to it.
func (p *partition) runs(n uint64) sched.Connected {
	p.t.Helper()
	a := await(p.host, func(o sched.Allocated) bool { return o.ID == n && o.State == "RUNNING" })
	p.Connect(sched.Pool{Addr: addrOf(n), Step: &sched.Step{ID: n, Job: a.Job, Node: a.Node}})
	return await(p.host, func(o sched.Connected) bool { return o.Addr == addrOf(n) })
}

func (p *partition) gone(n uint64) sched.AllocationGone {
	p.t.Helper()
	return await(p.host, func(o sched.AllocationGone) bool { return o.ID == n })
}

// jobs are those of ours that live.
func (p *partition) jobs() []string {
	p.t.Helper()
	out, err := p.Run("squeue", "-h", "-o", "%i %j", "-t", "pending,running")
	if err != nil {
		p.t.Fatal(err)
	}
	var jobs []string
	for line := range strings.Lines(out) {
		if id, name, _ := strings.Cut(strings.TrimSpace(line), " "); name != "" {
			if _, ok := slurm.ParseName(p.opt.ServerID, name); ok {
				jobs = append(jobs, id)
			}
		}
	}
	return jobs
}

// TestAllocation: an allocation is a machine; runs in it are like any, until it is released.
func TestAllocation(t *testing.T) {
	c := slurmtest.Start(t, slurmtest.Nodes(1))
	p := newPartition(t, c)
	p.Provide(sched.Provider{Addr: "slurm:test", Partition: "test"})
	p.Allocate(p.ask(1))
	p.runs(1)
	r := job(addrOf(1), 1,
		"echo $SLURM_JOB_NAME \"<$SLURM_STEP_ID>\"; srun echo nested; env | grep -c SLURM_STEP")
	p.Start(r)
	name := slurm.Name(p.opt.ServerID, 1)
	if e := p.ends(r, name+" <>\nnested\n0\n"); e.ExitCode != 1 {
		t.Errorf("it ended as %v, and said %q", e, p.log(r, true))
	}
	p.Release(1)
	if o := p.gone(1); o.State != "CANCELLED" && o.State != "COMPLETED" {
		t.Errorf("it ended as %+v", o)
	}
	if left := p.jobs(); len(left) > 0 {
		t.Errorf("jobs %v are left", left)
	}
}
