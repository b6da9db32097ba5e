package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/slurm"
	"jobserver/slurm/slurmtest"
	"jobserver/ssh"
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

// jobs gives those of ours that live.
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

// until waits for something of Slurm's, of which nothing tells but a look.
func (p *partition) until(what string, holds func() bool) {
	p.t.Helper()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for range 20 * 60 {
		if holds() {
			return
		}
		<-look.C
	}
	p.t.Fatalf("it never is so that %s; %s", what, p.told())
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

// once is a stub that does something else the first time.
func once(dir, first string) string {
	return "if mkdir " + dir + " 2>/dev/null; then\n" + first + "\nfi\nreal \"$@\""
}

const timedOut = `echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1`

// TestSubmittedOnce: whatever becomes of sbatch's answer, there is one allocation in the end, and
// none of them is left over.
func TestSubmittedOnce(t *testing.T) {
	c := slurmtest.Start(t, slurmtest.Nodes(1))
	for name, stub := range map[string]func(dir string) string{
		"well": func(string) string { return `real "$@"` },
		"the answer is lost": func(dir string) string {
			return once(dir, `real "$@" >/dev/null; `+timedOut)
		},
		"the answer is lost, the job comes late": func(dir string) string {
			again := dir + "/again" // it comes when another one has been asked for
			return "if [ -d " + dir + " ]; then : >" + again + "; fi\n" +
				once(dir, "cat >"+dir+"/script; (while ! [ -e "+again+" ]; do sleep 0.1; done; "+
					"real \"$@\" <"+dir+"/script >/dev/null 2>&1) >/dev/null 2>&1 & "+timedOut)
		},
		"nothing is submitted, and something said": func(dir string) string {
			return once(dir, "echo welcome; exit 0")
		},
		"the number is another's": func(dir string) string {
			return once(dir, "echo 1; exit 0")
		},
		"the number is nobody's": func(dir string) string {
			return once(dir, "echo 99999; exit 0")
		},
		"it is submitted twice": func(dir string) string {
			return "cat >" + dir + ".script; real \"$@\" <" + dir + ".script >/dev/null; " +
				"real \"$@\" <" + dir + ".script"
		},
		"a site has its say": func(dir string) string {
			return `echo "Your project has 5 hours left" >&2; real "$@"; echo "jobserver-end submit 1"`
		},
		"it dies": func(dir string) string { return once(dir, "kill -9 $$") },
		"the controller sleeps": func(dir string) string {
			return once(dir, fmt.Sprintf("kill -STOP %d; (sleep 5; kill -CONT %[1]d) "+
				">/dev/null 2>&1 &", c.Controller.PID()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPartition(t, c)
			if err := c.Stub("sbatch", stub(filepath.Join(t.TempDir(), "first"))); err != nil {
				t.Fatal(err)
			}
			p.Provide(sched.Provider{Addr: "slurm:test", Partition: "test"})
			p.Allocate(p.ask(1))
			p.runs(1)
			if strings.Contains(name, "twice") || strings.Contains(name, "late") {
				p.heard("a job that is not wanted")
			}
			p.until("one job lives", func() bool { return len(p.jobs()) == 1 })
			p.Release(1)
			p.gone(1)
			if left := p.jobs(); len(left) > 0 {
				t.Errorf("jobs %v are left", left)
			}
		})
	}
}

// TestOutOfSessions: that a shared connection carries no more is said of pilots, with their login.
func TestOutOfSessions(t *testing.T) {
	h := newHost(t, nil)
	full := fmt.Errorf("start the agent: %w", ssh.ErrTooManySessions)
	h.setStep(addrOf(1), &sched.Step{ID: 1, Login: "me@login", Job: "7"})
	for addr, err := range map[string]error{
		"box": full, addrOf(1): &ssh.DialError{Addr: "login", Err: full},
		addrOf(2): full,
	} {
		newMachine(h.Fleet, addr).unreached(err)
	}
	if o := await[sched.LoginFull](h, nil); o.Login != "me@login" {
		t.Errorf("it is said of %q", o.Login)
	}
	if n := count(h, func(sched.LoginFull) bool { return true }); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}
