package slurm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/slurm/slurmtest"
)

// TestGPUs: jobs that need GPUs get an allocation with as many as they use together, and each has
// one of its own; what a node will never have is asked for by nobody.
func TestGPUs(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(1), slurmtest.GPUs())
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--slots", "2", "--idle", "1s")
	gate := filepath.Join(p.dir, "open")
	jobs := strings.Fields(p.j("add", "-q", "-x", "2", "--needs", "gpu=1", "c",
		"echo $CUDA_VISIBLE_DEVICES {GPU} >>"+p.tell+"; until [ -e "+gate+" ]; do sleep 0.1; done"))
	p.told("0", "0", "1", "1") // while both run
	if asked := p.slurm("squeue", "-h", "-o", "%b"); strings.TrimSpace(asked) != "gres:gpu:2" {
		t.Errorf("the allocation is for %q", asked)
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs {
		p.is(job, "done")
	}
	p.empty()
	p.refused("more than a node has", "Requested node configuration is not available",
		"slurm:test", "--time", "10m", "--sbatch=--gres=gpu:3")
	p.j("machine", "add", "slurm:test", "c", "--sbatch=--gres=gpu:1", "--slots", "1")
	_, stderr, code, err := p.Daemon.Run(t.Context(), "add", "--needs", "gpu=2", "c", "true", "")
	if err != nil || code == 0 || !strings.Contains(stderr, "has gpu=1") {
		t.Errorf("two GPUs of one: exit code %d, %v: %s", code, err, stderr)
	}
	if all := p.queue("all"); len(all) != 1 {
		t.Errorf("there were allocations %v", all)
	}
}

// TestSeveralNodes: a job on several machines gets one allocation of as many nodes, knows them by
// their names and reaches all of them; jobs on one machine have others, and one that wants to be
// alone has an allocation of its own.
func TestSeveralNodes(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(3))
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--idle", "1s", "--backlog", "9")
	_, stderr, code, err := p.Daemon.Run(t.Context(), "add", "--machines", "3", "--each", "c",
		"true", "")
	if err != nil || code == 0 || !strings.Contains(stderr, "srun --ntasks-per-node=1") {
		t.Errorf("--each: exit code %d, %v: %s", code, err, stderr)
	}
	gang := p.j("add", "-q", "--machines", "3", "--exclusive", "c",
		"echo {MACHINES} $JOBSERVER_MACHINES $SLURM_JOB_NUM_NODES; "+
			"srun --ntasks-per-node=1 sh -c 'echo $SLURM_PROCID $SLURMD_NODENAME' | sort", "")
	one := p.j("add", "-q", "c", "echo $SLURM_JOB_NUM_NODES {MACHINE}", "")
	p.is(gang, "done")
	if log := p.log(gang); log != "n1,n2,n3 n1,n2,n3 3\n0 n1\n1 n2\n2 n3\n" {
		t.Errorf("it says %q", log)
	}
	p.is(one, "done")
	if log := p.log(one); !strings.HasPrefix(log, "1 slurm:test/") {
		t.Errorf("the other says %q", log)
	}
	p.empty()
	if all := p.queue("all"); len(all) != 2 {
		t.Errorf("there were allocations %v", all)
	}
}
