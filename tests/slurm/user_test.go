package slurm_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"jobserver/slurm/slurmtest"
)

// TestOneOfMany: what users do with jobs works in an allocation as on any machine.
func TestOneOfMany(t *testing.T) {
	t.Parallel()
	p := newPool(t, slurmtest.Partition("short", "MaxTime=2"),
		slurmtest.Config("EnforcePartLimits=ALL"))
	p.refused("no such partition", "Invalid partition", "slurm:other", "--time", "1h")
	p.refused("resources", "Invalid generic resource", "slurm:test", "--time", "1h",
		"--sbatch=--gres=gpu:1")
	p.refused("time limit", "time limit is invalid", "slurm:short", "--time", "1h")
	p.refused("no time limit", "--time", "slurm:test")
	p.refused("a name of one's own", "found by the names", "slurm:test", "--time", "1h",
		"--sbatch=--job-name=x")

	p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "1", "--slots", "4",
		"--idle",
		"4s", "--sbatch=--comment=mine")
	t.Run("too long", func(t *testing.T) {
		job := p.j("add", "-q", "--timeout", "1h", "c", "true", "")
		if why := p.j("job", "why", job); !strings.Contains(why, "10m") {
			t.Errorf("why it waits: %s", why)
		}
		if all := p.queue("all"); len(all) > 0 {
			t.Errorf("allocations %v were asked for it", all)
		}
		p.j("job", "cancel", job)
	})
	t.Run("environment", func(t *testing.T) {
		job := p.j("add", "-q", "c", `env | grep -E "^SLURM_(STEP|SRUN|LAUNCH)|KEEPER" ; `+
			`srun sh -c 'echo $SLURM_JOB_ID'; echo $SLURM_JOB_ID`, "")
		p.is(job, "done")
		if log := p.log(job); log != strings.Repeat(p.only()+"\n", 2) {
			t.Errorf("it says %q", log)
		}
	})
	t.Run("secret", func(t *testing.T) {
		secret := exec.CommandContext(t.Context(), p.Binary, "--socket", p.Socket, "var",
			"set", "--secret", "KEY")
		secret.Stdin = strings.NewReader("hush-hush-hush\n")
		if out, err := secret.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		job := p.j("add", "-q", "c", `: {KEY}; test ${#JOBSERVER_KEY} = 14 && echo x >>`+p.tell+
			`; read x <`+p.fifo(), "")
		p.told("x")
		shown, err := p.Cluster.Run("scontrol", "show", "job", "--details", p.only())
		if err != nil || strings.Contains(shown, "hush") ||
			!strings.Contains(shown, "Comment=mine") {
			t.Errorf("Slurm shows %s, %v", shown, err)
		}
		if len(p.processes("hush-hush")) > 0 {
			t.Error("it is in the arguments of a process")
		}
		if out, err := exec.Command("grep", "-rl", "hush-hush", p.dir+"/home",
			p.Config()+"/../state", p.Config()+"/../spool").CombinedOutput(); err == nil {
			t.Errorf("it is in files: %s", out)
		}
		p.open()
		p.is(job, "done")
	})
	t.Run("cancel and timeout", func(t *testing.T) {
		canceled := p.j("add", "-q", "c", "exec sleep 1000", "")
		late := p.j("add", "-q", "--timeout", "1s", "c", "exec sleep 1000", "")
		limited := p.j("add", "-q", "c", "exec sleep 1000", "") // while it runs
		p.is(canceled, "running")
		p.j("job", "cancel", canceled)
		p.is(canceled, "canceled")
		p.is(limited, "running")
		p.j("job", "settimeout", "1s", limited)
		for _, job := range []string{late, limited} {
			p.is(job, "failed")
			if why := p.j("job", "why", job); !strings.Contains(why, "timed out") {
				t.Errorf("why it failed: %s", why)
			}
		}
	})
	t.Run("suspended", func(t *testing.T) {
		job := p.j("add", "-q", "c", "read x <"+p.fifo()+"; echo over", "")
		p.is(job, "running")
		for _, verb := range []string{"suspend", "resume"} {
			if _, err := p.Cluster.Run("scontrol", verb, p.only()); err != nil {
				t.Fatal(err)
			}
		}
		p.open()
		p.is(job, "done")
		if log := p.log(job); log != "over\n" {
			t.Errorf("it says %q", log)
		}
	})
	t.Run("requeue", func(t *testing.T) {
		if out, err := p.Cluster.Run("scontrol", "requeue", p.only()); err == nil {
			t.Errorf("it is queued again: %s", out)
		}
	})
	p.j("machine", "drain", "slurm:test")
	p.empty()
	p.j("machine", "rm", "slurm:test")
	p.until("no machine is left", func() bool { return p.j("machine", "ls", "-q") == "" })
	if all := p.queue("all"); len(all) != 1 {
		t.Errorf("there were allocations %v", all)
	}
}

// only is the number of the one allocation that there is.
func (p *pool) only() string {
	p.t.Helper()
	all := p.queue("running,suspended")
	if len(all) != 1 {
		p.t.Fatalf("the allocations are %v", all)
	}
	return all[0]
}

// refused adds a partition in a way that can't be.
func (p *pool) refused(what, words string, args ...string) {
	p.t.Helper()
	args = append([]string{"machine", "add", args[0], "c"}, args[1:]...)
	_, stderr, code, err := p.Daemon.Run(p.t.Context(), args...)
	if err != nil || code == 0 || !strings.Contains(stderr, words) {
		p.t.Errorf("%s: exit code %d, %v: %s", what, code, err, stderr)
	}
}

// fifo makes a gate at which a job waits until it is opened.
func (p *pool) fifo() string {
	p.t.Helper()
	path := p.dir + "/gate"
	_ = os.Remove(path) // the one before
	if out, err := exec.Command("mkfifo", path).CombinedOutput(); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	return path
}

func (p *pool) open() {
	p.t.Helper()
	if err := os.WriteFile(p.dir+"/gate", []byte("x\n"), 0); err != nil {
		p.t.Fatal(err)
	}
}
