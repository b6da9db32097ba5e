package slurm_test

import (
	"strings"
	"testing"

	"jobserver/slurm/slurmtest"
)

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
