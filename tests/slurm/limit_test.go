package slurm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"jobserver/slurm/slurmtest"
)

// ends has Slurm end an allocation after a while.
func (p *pool) ends(id string, after time.Duration) {
	p.t.Helper()
	if _, err := p.Cluster.Run("scontrol", "update", "JobId="+id, "EndTime="+
		time.Now().Add(after).Format("2006-01-02T15:04:05")); err != nil {
		p.t.Fatal(err)
	}
}

// TestLimitComes: before an allocation ends, nothing is begun in it, what runs is ended so that its
// log is here, and runs again in another one; results of what has ended are here, however large
// they are.
func TestLimitComes(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(1), slurmtest.CPUs(2))
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "1", "--slots", "2",
		"--idle", "1s")
	lasting := p.j("add", "-q", "c", "echo x >>"+p.tell+"; echo $SLURM_JOB_ID; "+
		"test $(wc -l <"+p.tell+") = 2 || exec sleep 1000", "")
	p.told("x")
	first := p.only()
	size := int64(32 << 20)
	if long() {
		size = 100 << 20
	}
	results := filepath.Join(p.dir, "results")
	produce := func(n int64) string {
		return p.j("add", "-q", "c", fmt.Sprintf("cd $JOBSERVER_SCRATCH; head -c %d /dev/zero "+
			">zero; echo RESULTS: $PWD/zero", n), results+"/"+strconv.FormatInt(n, 10))
	}
	large := produce(size)
	p.is(large, "done")
	small := produce(1 << 20)
	p.until("its results are on their way", func() bool {
		status, _ := p.status(small)
		return status == "copying" || status == "done"
	})
	p.ends(first, 58*time.Second) // when what runs has been ended, and nothing is begun any more
	p.until("it is lost", func() bool {
		_, failure := p.status(lasting)
		return strings.Contains(failure, "the allocation ended: its time was over")
	})
	late := p.j("add", "-q", "c", "echo $SLURM_JOB_ID", "")
	for _, id := range []string{small, lasting, late} {
		p.is(id, "done")
	}
	for _, n := range []int64{size, 1 << 20} {
		found, _ := filepath.Glob(filepath.Join(results, strconv.FormatInt(n, 10), "*", "zero"))
		if len(found) != 1 {
			t.Errorf("the results of %d bytes are %q", n, found)
			continue
		}
		if st, err := os.Stat(found[0]); err != nil || st.Size() != n {
			t.Errorf("the results of %d bytes are %v, %v", n, st, err)
		}
	}
	for _, id := range []string{lasting, late} {
		if log := strings.TrimSpace(p.log(id)); log == first || log == "" {
			t.Errorf("job %s has run to its end in allocation %q, of which the first is %s", id,
				log, first)
		}
	}
	if log := p.j("log", "--attempt", "1", "--cat", lasting); log != first {
		t.Errorf("its first log is %q", log)
	}
	p.told("x", "x")
	p.empty()
}

// TestLimitReached: what Slurm ends at the limit, as nobody was there to end it before, runs again.
func TestLimitReached(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(1), slurmtest.CPUs(1))
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "1", "--idle", "1s")
	job := p.j("add", "-q", "c", "echo x >>"+p.tell+"; test $(wc -l <"+p.tell+
		") = 2 || exec sleep 1000", "")
	p.told("x")
	first := p.only()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	p.ends(first, 2*time.Second)
	p.until("its time is over", func() bool {
		out, err := p.Cluster.Run("squeue", "-h", "-t", "all", "-j", first, "-o", "%T")
		return err == nil && strings.TrimSpace(out) == "TIMEOUT"
	})
	p.begin()
	p.until("it is lost", func() bool {
		_, failure := p.status(job)
		return strings.Contains(failure, "the allocation ended: its time limit was reached")
	})
	p.is(job, "done")
	p.told("x", "x")
	p.empty()
}

// TestNewPilots: what an allocation needs before it can run jobs is done once in each: the setup of
// its class, and the code that jobs are pinned to.
func TestNewPilots(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Nodes(1), slurmtest.CPUs(4))
	code, ran := filepath.Join(p.dir, "code"), filepath.Join(p.dir, "ran")
	if err := os.Mkdir(code, 0o755); err != nil {
		t.Fatal(err)
	}
	work := "#!/bin/sh\necho pinned $1\necho $SLURM_JOB_ID >>" + ran + "\n"
	if err := os.WriteFile(filepath.Join(code, "work"), []byte(work), 0o755); err != nil {
		t.Fatal(err)
	}
	experiment := filepath.Join(p.dir, "x.yaml")
	if err := os.WriteFile(experiment, []byte("name: x\nclass: c\ncode: "+code+
		"\nsetup:\n- echo $SLURM_JOB_ID >>"+p.tell+"\ncommand: $JOBSERVER_CODE/work {I}\n"+
		"variables: {I: [1, 2, 3, 4, 5, 6]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "2", "--slots", "1",
		"--idle", "1s", "--jobs", "2")
	p.j("matrix", "apply", experiment)
	p.j("wait", "%1")
	for i := 1; i <= 6; i++ {
		if log := p.log(fmt.Sprintf("%%1,I=%d", i)); log != fmt.Sprintf("pinned %d\n", i) {
			t.Errorf("the log of cell %d is %q", i, log)
		}
	}
	p.empty()
	used, err := os.ReadFile(ran)
	if err != nil {
		t.Fatal(err)
	}
	setUp := p.lines() // perhaps also one that came late, for which no job was left
	once := slices.Compact(slices.Clone(setUp))
	all := strings.Fields(string(used))
	slices.Sort(all)
	if all = slices.Compact(all); len(all) < 3 || len(once) < len(setUp) {
		t.Errorf("jobs ran in allocations %v, and these were set up: %v", all, setUp)
	}
	for _, id := range all {
		if !slices.Contains(setUp, id) {
			t.Errorf("a job ran in %s, which was not set up", id)
		}
	}
}
