// Package slurmtest runs a real Slurm for tests: munged, slurmctld and some slurmds on the loopback
// interface, each with a port of its own, as children of the test.
//
// It needs Debian's packages slurmctld, slurmd, slurm-client and munge, and root; no systemd, no
// database. A Cluster belongs to whoever started it, and Close ends it with everything that it
// runs. Its methods may be called from any goroutine, those that start, stop and end something from
// one at a time.
package slurmtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ErrNoSlurm says that Slurm isn't installed, or this user can't run it.
var ErrNoSlurm = errors.New("a cluster for tests needs root, and the packages slurmctld, slurmd, " +
	"slurm-client and munge")

// An Option of Start and New.
type Option func(*settings)

type settings struct {
	nodes       int
	cpus        int
	proctrack   string
	minJobAge   int
	slurmdLimit int
	partitions  []string
	lines       []string
	gpus        bool
}

// Nodes sets the number of nodes, n1 and so on; the default is 2.
func Nodes(n int) Option { return func(s *settings) { s.nodes = n } }

// CPUs sets the number of processors that each node says to have; the default is 8.
func CPUs(n int) Option { return func(s *settings) { s.cpus = n } }

// Cgroup has Slurm track processes by cgroups, as clusters do, so that all of a job dies with it.
// Without, the kernel's tree of processes has to do.
func Cgroup() Option { return func(s *settings) { s.proctrack = "cgroup" } }

// MinJobAge sets how many seconds the controller remembers a job that has ended; the default is
// Slurm's, 300.
func MinJobAge(seconds int) Option { return func(s *settings) { s.minJobAge = seconds } }

// SlurmdTimeout sets how many seconds a node may be silent before it is down; the default is
// Slurm's, 300.
func SlurmdTimeout(seconds int) Option { return func(s *settings) { s.slurmdLimit = seconds } }

// Partition adds a partition over all nodes. Words are those of slurm.conf: MaxTime=1, say. The
// partition "test" is always there.
func Partition(name string, words ...string) Option {
	return func(s *settings) {
		s.partitions = append(s.partitions, name+" "+strings.Join(words, " "))
	}
}

// Preemption adds a partition "urgent" whose jobs take the nodes from those of all others.
func Preemption() Option {
	return func(s *settings) {
		Partition("urgent", "PriorityTier=10", "PreemptMode=off")(s)
		Config("PreemptType=preempt/partition_prio", "PreemptMode=CANCEL")(s)
	}
}

// GPUs gives each node two devices that Slurm takes for GPUs.
func GPUs() Option { return func(s *settings) { s.gpus = true } }

// Config adds lines to slurm.conf.
func Config(lines ...string) Option {
	return func(s *settings) { s.lines = append(s.lines, lines...) }
}

// Start runs a cluster for a test, and ends it with the test. Without Slurm the test is skipped, or
// fails where CI=true is set.
func Start(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	Require(t)
	c, err := New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs of Slurm:\n%s", c.LogText())
		}
		if err := c.Close(); err != nil {
			t.Errorf("end Slurm: %v", err)
		}
	})
	return c
}

// Require skips the test where a cluster can't be run, or fails it where CI=true is set.
func Require(t testing.TB) {
	t.Helper()
	if Available() {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(ErrNoSlurm)
	}
	t.Skip(ErrNoSlurm)
}

// Available tells whether this user can run a cluster.
func Available() bool {
	if os.Getuid() != 0 {
		return false
	}
	for _, name := range []string{"munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue"} {
		if _, err := find(name); err != nil {
			return false
		}
	}
	return true
}

// HasCgroup tells whether Slurm can track processes by cgroups here: Debian's does with version 1,
// of which it needs the freezer.
func HasCgroup() bool {
	st, err := os.Stat("/sys/fs/cgroup/freezer/cgroup.procs")
	return err == nil && st.Mode().IsRegular()
}

// find finds a daemon, which may not be in PATH.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", name))
}

// configure writes the configuration.
func (c *Cluster) configure(s *settings) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("ClusterName=test")
	line("SlurmctldHost=%s(%s)", c.host, c.ip)
	line("SlurmUser=root")
	line("SlurmctldPort=%d", c.ports[0])
	line("AuthType=auth/munge")
	line("AuthInfo=socket=%s", c.path("munge/socket"))
	line("CommunicationParameters=NoInAddrAny,NoCtldInAddrAny")
	line("StateSaveLocation=%s", c.path("state"))
	line("SlurmdSpoolDir=%s", c.path("spool/%n"))
	line("SlurmctldPidFile=%s", c.path("slurmctld.pid"))
	line("SlurmdPidFile=%s", c.path("slurmd-%n.pid"))
	line("ProctrackType=proctrack/%s", s.proctrack)
	line("TaskPlugin=task/none")
	line("SelectType=select/cons_tres")
	line("SelectTypeParameters=CR_CPU")
	line("MpiDefault=none")
	line("ReturnToService=2")
	line("SlurmdParameters=config_overrides")
	line("SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1")
	line("MessageTimeout=3")
	line("KillWait=3")
	line("MinJobAge=%d", s.minJobAge)
	line("SlurmdTimeout=%d", s.slurmdLimit)
	for _, own := range s.lines {
		line("%s", own)
	}
	gres := ""
	if s.gpus {
		line("GresTypes=gpu")
		gres = " Gres=gpu:2"
	}
	for i := range s.nodes {
		line("NodeName=n%d NodeHostname=%s NodeAddr=%s Port=%d CPUs=%d RealMemory=8000%s",
			i+1, c.host, c.ip, c.ports[i+1], s.cpus, gres)
	}
	line("PartitionName=test Nodes=n[1-%d] Default=YES MaxTime=INFINITE State=UP", s.nodes)
	for _, own := range s.partitions {
		line("PartitionName=%s Nodes=n[1-%d] State=UP", own, s.nodes)
	}
	cgroup := "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n"
	devices := "Name=gpu File=/dev/zero\nName=gpu File=/dev/full\n"
	return errors.Join(
		os.WriteFile(c.path("gres.conf"), []byte(devices), 0o644),
		os.WriteFile(c.path("cgroup.conf"), []byte(cgroup), 0o644),
		os.WriteFile(c.Config(), []byte(b.String()), 0o644),
	)
}
