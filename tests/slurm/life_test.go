package slurm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"jobserver/slurm/slurmtest"
)

// TestMatrix: two allocations carry 200 jobs, each once, and are given back.
func TestMatrix(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(2))
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "2", "--slots", "4",
		"--idle",
		"1s")
	results := filepath.Join(p.dir, "results")
	p.j("matrix", "add", "c", `cd $JOBSERVER_SCRATCH; echo {i} >>`+p.tell+
		`; echo out {i}; mkdir d; echo {i} >d/r; echo RESULTS: $PWD/d`,
		results+"/{i}", "i=1..200")
	var want []string
	for i := range 200 {
		want = append(want, strconv.Itoa(i+1))
	}
	p.j("wait", "%1")
	p.told(want...)
	for i := range 200 {
		found, _ := filepath.Glob(filepath.Join(results, strconv.Itoa(i+1), "*", "d", "r"))
		if len(found) != 1 {
			t.Fatalf("the results of cell %d are %q", i+1, found)
		}
		if b, err := os.ReadFile(found[0]); err != nil ||
			strings.TrimSpace(string(b)) != strconv.Itoa(i+1) {
			t.Errorf("the results of cell %d are %q, %v", i+1, b, err)
		}
		if log := p.log(fmt.Sprintf("%%1,i=%d", i+1)); !strings.HasPrefix(log,
			fmt.Sprintf("out %d\n", i+1)) {
			t.Errorf("the log of cell %d is %q", i+1, log)
		}
	}
	p.empty()
	if all := p.queue("all"); len(all) == 0 || len(all) > 2 {
		t.Errorf("there were allocations %v", all)
	}
	p.until("no pilot is left", func() bool { return len(p.pilots()) == 0 })
}

// TestDaemonDiesAsking: one that dies before, or after it has submitted an allocation, has one in
// the end.
func TestDaemonDiesAsking(t *testing.T) {
	t.Parallel()
	c := slurmtest.Start(t, slurmtest.Nodes(1))
	for _, place := range []string{"slurm.asked", "slurm.submitted"} {
		t.Run(place, func(t *testing.T) {
			p := beside(t, c)
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			env := p.Daemon.Env
			p.Daemon.Env = append(env[:len(env):len(env)], "JOBSERVER_FAILPOINT="+place+":1")
			p.begin()
			p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--idle", "1s")
			before := len(p.queue("all"))
			// It may die before it has answered.
			_, _, _, err := p.Daemon.Run(t.Context(), "add", "-q", "c", "echo x >>"+p.tell, "")
			if err != nil {
				t.Fatal(err)
			}
			<-p.Ended()
			p.Daemon.Env = env
			p.begin()
			p.is(p.j("ls", "-q"), "done")
			p.told("x")
			p.empty()
			if n := len(p.queue("all")) - before; n != 1 {
				t.Errorf("there were %d allocations", n)
			}
		})
	}
}

// TestAllocationEnds: what ran there runs again, with the right reason, and three times at most.
func TestAllocationEnds(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(1), slurmtest.CPUs(1), slurmtest.Preemption())
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "1", "--idle", "1s")
	job := p.j("add", "-q", "c", "echo x >>"+p.tell+"; exec sleep 1000", "")
	run := 0
	again := func(why string, end func()) {
		t.Helper()
		run++
		p.until(fmt.Sprintf("run %d has begun", run), func() bool { return len(p.lines()) == run })
		end()
		p.until("it is lost: "+why, func() bool {
			_, failure := p.status(job)
			return strings.Contains(failure, "the allocation ended: "+why)
		})
	}
	command := func(name string, args ...string) func() {
		return func() {
			if _, err := p.Cluster.Run(name, args...); err != nil {
				t.Error(err)
			}
		}
	}
	again("canceled", command("scancel", "--user=root"))
	again("preempted",
		command("sbatch", "--partition=urgent", "--output=/dev/null", "--wrap=sleep 1"))
	again("what runs it failed", func() { p.killKeeper() })
	again("canceled", command("scancel", "--user=root"))
	p.until("it is given up", func() bool {
		status, _ := p.status(job)
		return status == "lost"
	})
	if n := len(p.lines()); n != 4 {
		t.Errorf("it was run %d times", n)
	}
	p.empty()
}

// TestDaemonIsAway: what ended and was forgotten meanwhile is settled.
func TestDaemonIsAway(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(1), slurmtest.MinJobAge(2))
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "1", "--idle", "1s")
	job := p.j("add", "-q", "c", "echo x >>"+p.tell+"; test $(wc -l <"+p.tell+") = 2 || sleep 1000",
		"")
	p.told("x")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Cluster.Run("scancel", "--user=root"); err != nil {
		t.Fatal(err)
	}
	p.until("Slurm has forgotten it", func() bool { return len(p.queue("all")) == 0 })
	p.begin()
	p.is(job, "done")
	p.told("x", "x")
	p.empty()
	p.until("no pilot is left", func() bool { return len(p.pilots()) == 0 })
}

// TestNodeFails: nobody knows whether what ran there runs on, so it isn't run again unless that is
// asked for.
func TestNodeFails(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(1), slurmtest.SlurmdTimeout(5))
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "1", "--slots", "2",
		"--idle",
		"1s")
	once := p.j("add", "-q", "c", "echo once >>"+p.tell+"; exec sleep 1000", "")
	again := p.j("add", "-q", "--retry", "c", "echo again >>"+p.tell+"; test $(grep -c again "+
		p.tell+
		") = 2 || exec sleep 1000", "")
	p.told("once", "again")
	if err := p.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	p.is(once, "lost")
	if _, failure := p.status(once); !strings.Contains(failure, "its node failed") {
		t.Errorf("it is lost: %s", failure)
	}
	if err := p.Nodes[0].Start(); err != nil {
		t.Fatal(err)
	}
	p.is(again, "done")
	p.told("once", "again", "again")
	p.empty()
}
