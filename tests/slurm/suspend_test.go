package slurm_test

import (
	"strings"
	"testing"

	"jobserver/slurm/slurmtest"
)

// TestSuspended: an allocation that Slurm has suspended gets no job, and what runs there is shown
// to stand still, over a restart of the daemon too. When it goes on, all goes on, what was canceled
// meanwhile ends.
func TestSuspended(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(1))
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "1", "--slots", "3",
		"--idle", "1s")
	stands := p.j("add", "-q", "c", "read x <"+p.fifo()+"; echo over", "")
	unwanted := p.j("add", "-q", "c", "exec sleep 1000", "")
	p.is(stands, "running")
	p.is(unwanted, "running")
	id := p.only()
	p.slurm("scontrol", "suspend", id)
	shown := func() bool {
		return strings.Contains(p.j("machine", "ls"), "away") &&
			strings.Contains(p.j("ls", stands), "Running (suspended")
	}
	p.until("it is shown to stand still", shown)
	late := p.j("add", "-q", "c", "echo $SLURM_JOB_ID", "")
	for _, job := range []string{stands, late} {
		if why := p.j("why", job); !strings.Contains(why, "its allocation is suspended") {
			t.Errorf("why job %s stands still can't be seen: %s", job, why)
		}
	}
	p.j("job", "cancel", unwanted)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	p.begin()
	p.until("it is shown to stand still again", shown)
	if status, _ := p.status(late); status != "waiting" {
		t.Errorf("the job that came later is %s", status)
	}
	p.slurm("scontrol", "resume", id)
	p.open() // what is suspended doesn't even open it
	p.is(stands, "done")
	p.is(unwanted, "canceled")
	p.is(late, "done")
	if first, second := p.log(stands), p.log(late); first != "over\n" || second != id+"\n" {
		t.Errorf("they say %q and %q", first, second)
	}
	p.empty()
}

// slurm runs a command of Slurm's that must succeed.
func (p *pool) slurm(name string, args ...string) string {
	p.t.Helper()
	out, err := p.Cluster.Run(name, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}
