// Package slurm_test runs the whole program over a real Slurm: allocations that come, end, are
// canceled, preempted and forgotten, and everything around them that dies. docs/reliability.md
// lists what it proves.
//
// The program is built with failpoints, so that Slurm is looked at more often than a real one would
// like. TORTURE=1 makes the long versions run, for DURATION; TORTURE_SEED is the seed that a
// failure printed.
package slurm_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jobserver/daemontest"
	"jobserver/slurm/slurmtest"
)

func TestMain(m *testing.M) {
	if code, done := inNamespace(); done {
		os.Exit(code)
	}
	flag.Parse()
	// Most of the time they wait for Slurm.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// long tells whether the long versions are wanted.
func long() bool { return os.Getenv("TORTURE") == "1" }

// pool is a daemon beside a cluster.
type pool struct {
	*daemontest.Daemon
	*slurmtest.Cluster
	t    *testing.T
	dir  string
	tell string // a file to which jobs write
}

// newPool starts a cluster, and a daemon that knows nothing of it yet.
func newPool(t *testing.T, opts ...slurmtest.Option) *pool {
	t.Helper()
	return beside(t, slurmtest.Start(t, opts...))
}

// tracked has Slurm track processes as clusters do, where that is possible, and while the test has
// the groups for itself: they are named by the numbers of jobs, which all clusters count alike.
func tracked(t *testing.T) slurmtest.Option {
	t.Helper()
	if !slurmtest.HasCgroup() {
		return slurmtest.Nodes(2)
	}
	groups.Lock()
	t.Cleanup(groups.Unlock)
	return slurmtest.Cgroup()
}

var groups sync.Mutex

// beside starts a daemon beside a cluster.
func beside(t *testing.T, c *slurmtest.Cluster, args ...string) *pool {
	t.Helper()
	binary, err := daemontest.Build("failpoints")
	if err != nil {
		t.Fatal(err)
	}
	// A socket's path may have 107 bytes.
	dir, err := os.MkdirTemp("", "jobserver-slurm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &pool{t: t, Cluster: c, dir: dir, tell: filepath.Join(dir, "tell"),
		Daemon: &daemontest.Daemon{Binary: binary, StateDir: filepath.Join(dir, "state"),
			Args: args}}
	p.Daemon.Env = append(c.Env(), "JOBSERVER_INSTEAD=slurm-pace=100ms",
		"XDG_STATE_HOME="+filepath.Join(dir, "home"))
	p.begin()
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the daemon printed:\n%s", p.ConsoleText())
		}
	})
	return p
}

// begin starts the daemon.
func (p *pool) begin() {
	p.t.Helper()
	if err := p.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// j runs a command that must succeed.
func (p *pool) j(args ...string) string {
	p.t.Helper()
	return strings.TrimSpace(p.J(p.t, args...))
}

// until waits for something of which nothing tells but a look.
func (p *pool) until(what string, holds func() bool) {
	p.t.Helper()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	limit := 4 * time.Minute // far beyond what it takes, as machines may be busy
	if long() {
		limit = 20 * time.Minute
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	for !holds() {
		select {
		case <-look.C:
		case <-ctx.Done():
			queue, _ := p.Cluster.Run("squeue", "-t", "all")
			machines, _, _, _ := p.Daemon.Run(p.t.Context(), "machine", "ls", "-o", "wide")
			p.t.Fatalf("it never is so that %s\n%s\n%s", what, queue, machines)
		}
	}
}

// status is a job's, and its error.
func (p *pool) status(job string) (status, failure string) {
	p.t.Helper()
	var shown []struct {
		Status string `json:"status"`
		Error  string `json:"error"`
	}
	text := p.j("show", "-o", "json", job)
	if err := json.Unmarshal([]byte(text), &shown); err != nil || len(shown) != 1 {
		p.t.Fatalf("job %s is shown as %s, %v", job, text, err)
	}
	return shown[0].Status, shown[0].Error
}

// is waits until a job has a status.
func (p *pool) is(job, want string) {
	p.t.Helper()
	last := ""
	p.until(fmt.Sprintf("job %s is %s", job, want), func() bool {
		last, _ = p.status(job)
		return last == want
	})
}

// told waits until the jobs have written these lines to p.tell, in any order, and no others.
func (p *pool) told(want ...string) {
	p.t.Helper()
	slices.Sort(want)
	p.until(fmt.Sprintf("the jobs have said %q", want), func() bool {
		return slices.Equal(p.lines(), want)
	})
}

// lines gives those that jobs have written to p.tell.
func (p *pool) lines() []string {
	b, _ := os.ReadFile(p.tell) // what isn't there is empty
	lines := strings.Fields(string(b))
	slices.Sort(lines)
	return lines
}

// log gives what a job has printed.
func (p *pool) log(job string) string {
	p.t.Helper()
	b, err := os.ReadFile(p.j("log", job))
	if err != nil {
		p.t.Error(err)
	}
	return string(b)
}

// queue are the numbers of the jobs that squeue lists in these states.
func (p *pool) queue(states string) []string {
	p.t.Helper()
	out, err := p.Cluster.Run("squeue", "-h", "-o", "%i", "-t", states)
	if err != nil {
		return nil
	}
	return strings.Fields(out)
}

// empty waits until Slurm has nothing of ours any more.
func (p *pool) empty() {
	p.t.Helper()
	p.until("no allocation is left", func() bool {
		out, err := p.Cluster.Run("squeue", "-h", "-t", "pending,running,suspended,completing")
		return err == nil && strings.TrimSpace(out) == ""
	})
}

// pilots are the addresses of the machines that are allocations.
func (p *pool) pilots() []string {
	p.t.Helper()
	var addrs []string
	for line := range strings.Lines(p.j("machine", "ls", "-q")) {
		if addr := strings.TrimSpace(line); strings.Count(addr, "/") > 0 {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
