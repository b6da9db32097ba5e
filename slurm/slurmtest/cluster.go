package slurmtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// patience is how long anything of Slurm's may take, on machines that are loaded.
const patience = time.Minute

// A Cluster is a Slurm that runs.
type Cluster struct {
	Controller *Process   // slurmctld
	Nodes      []*Process // slurmd of n1, n2, …
	// Bin is a directory for programs that stand before Slurm's in PATH: see Stub.
	Bin string

	dir   string
	host  string // as slurmd knows it
	ip    string
	ports []int // the controller's, then the nodes'
	munge *Process
	close sync.Once
	ended error
}

// New runs a cluster until Close.
func New(opts ...Option) (*Cluster, error) {
	s := &settings{nodes: 2, cpus: 8, proctrack: "linuxproc", minJobAge: 300, slurmdLimit: 300}
	for _, o := range opts {
		o(s)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	host, _, _ = strings.Cut(host, ".")
	// munge's socket needs a short name, and munge a directory into which only we can write.
	dir, err := os.MkdirTemp("/tmp", "sl")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, host: host, ip: "127.0.0.1", Bin: filepath.Join(dir, "bin")}
	if err := c.start(s); err != nil {
		return nil, errors.Join(fmt.Errorf("start Slurm: %w\n%s", err, c.LogText()), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(s *settings) error {
	if err := c.prepare(s); err != nil {
		return err
	}
	c.munge = c.process("munged", "--foreground", "--force", "--key-file="+c.path("munge/key"),
		"--socket="+c.path("munge/socket"), "--pid-file="+c.path("munge/pid"),
		"--log-file="+c.path("munge/log"), "--seed-file="+c.path("munge/seed"))
	if err := c.munge.Start(); err != nil {
		return err
	}
	if err := c.await(c.munge, func() bool {
		conn, err := net.Dial("unix", c.path("munge/socket"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}); err != nil {
		return err
	}
	c.Controller = c.process("slurmctld", "-D", "-i", "-f", c.Config())
	if err := c.Controller.Start(); err != nil {
		return err
	}
	c.Controller.words = []string{"-D", "-f", c.Config()} // with what it has saved
	for i := range s.nodes {
		node := c.process("slurmd", "-D", "-N", fmt.Sprintf("n%d", i+1), "-f", c.Config())
		c.Nodes = append(c.Nodes, node)
		if err := node.Start(); err != nil {
			return err
		}
	}
	return c.await(c.Controller, func() bool {
		out, err := c.Run("sinfo", "-h", "-t", "idle", "-o", "%D")
		return err == nil && strings.TrimSpace(out) == fmt.Sprint(s.nodes)
	})
}

// prepare makes the directories, and finds ports that are free.
func (c *Cluster) prepare(s *settings) error {
	if err := os.Chmod(c.dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"state", "spool", "log", "munge", "bin"} {
		if err := os.Mkdir(c.path(name), 0o755); err != nil {
			return err
		}
	}
	key := make([]byte, 128)
	rand.Read(key) // never fails
	if err := os.WriteFile(c.path("munge/key"), key, 0o600); err != nil {
		return err
	}
	for range s.nodes + 1 {
		port, err := freePort(c.ip)
		if err != nil {
			return err
		}
		c.ports = append(c.ports, port)
	}
	return c.configure(s)
}

// given are the ports that this process has given to clusters.
var given sync.Map

// freePort finds a port for a daemon of Slurm's, which binds it a while later. Those that the
// kernel gives to connections (ip_local_port_range, from 32768 on) may be taken by then.
func freePort(ip string) (int, error) {
	for range 100 {
		port := 10_000 + mathrand.IntN(22_000)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no port is free for Slurm")
}

// await waits until something holds, as long as the process lives.
func (c *Cluster) await(p *Process, holds func() bool) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-p.ended:
			return fmt.Errorf("%s has ended", p.name)
		case <-limit.C:
			return fmt.Errorf("%s isn't ready after %v", p.name, patience)
		}
	}
	return nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// Config is the file slurm.conf.
func (c *Cluster) Config() string { return c.path("slurm.conf") }

// Env are the variables with which Slurm's commands find the cluster, and the stubs before them.
func (c *Cluster) Env() []string {
	return []string{"SLURM_CONF=" + c.Config(), "PATH=" + c.Bin + ":" + os.Getenv("PATH")}
}

// Run runs one of Slurm's commands, no stub, and gives all that it prints.
func (c *Cluster) Run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	program, err := c.real(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+c.Config())
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// real finds a command of Slurm's itself, though the stubs may stand first in our own PATH.
func (c *Cluster) real(name string) (string, error) {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir != c.Bin {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// Stub puts a script before a command of Slurm's: `real` stands for the command itself in it. An
// empty script takes it away.
func (c *Cluster) Stub(name, script string) error {
	path := filepath.Join(c.Bin, name)
	if script == "" {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	real, err := c.real(name)
	if err != nil {
		return err
	}
	text := "#!/bin/sh\nreal() { " + real + " \"$@\"; }\n" + script + "\n"
	if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// LogText gives what the daemons have logged.
func (c *Cluster) LogText() string {
	var b strings.Builder
	for _, p := range append([]*Process{c.munge, c.Controller}, c.Nodes...) {
		if p == nil {
			continue
		}
		text, _ := os.ReadFile(p.log) // what isn't there says nothing
		fmt.Fprintf(&b, "== %s\n%s\n", p.name, text[max(0, len(text)-4000):])
	}
	return b.String()
}

// Close ends all jobs and the cluster, and removes its files. It may be called more than once.
func (c *Cluster) Close() error {
	c.close.Do(func() { c.ended = c.end() })
	return c.ended
}

func (c *Cluster) end() error {
	var errs []error
	// Jobs first: what runs them outlives slurmd. A cluster that is broken is only swept.
	if c.Controller.runs() {
		if _, err := c.Run("scancel", "--user=root"); err == nil {
			_ = c.await(c.Controller, func() bool {
				out, err := c.Run("squeue", "-h")
				return err != nil || strings.TrimSpace(out) == ""
			})
		}
	}
	for _, p := range append(c.Nodes, c.Controller, c.munge) {
		errs = append(errs, p.end())
	}
	errs = append(errs, c.sweep())
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}
