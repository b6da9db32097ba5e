package slurmtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A Process is one of the cluster's daemons.
type Process struct {
	name    string
	words   []string
	env     []string
	log     string
	cmd     *exec.Cmd
	stopped bool
	ended   chan struct{} // closed when cmd has ended
}

func (c *Cluster) process(name string, words ...string) *Process {
	label := name
	if len(words) > 2 && words[1] == "-N" {
		label += " " + words[2]
	}
	return &Process{name: label, words: append([]string{}, words...),
		log: c.path("log/" + label), env: append(os.Environ(), "SLURM_CONF="+c.Config())}
}

// Start starts it; it must not run.
func (p *Process) Start() error {
	program, err := find(filepath.Base(firstWord(p.name)))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, p.words...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, log, log
	// An interrupt from the terminal isn't for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.stopped = cmd, ended, false
	go func() {
		_ = cmd.Wait() // how it ends says nothing that its log doesn't
		close(ended)
	}()
	return nil
}

func firstWord(s string) string {
	for i := range s {
		if s[i] == ' ' {
			return s[:i]
		}
	}
	return s
}

func (p *Process) runs() bool {
	if p == nil || p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return !p.stopped
	}
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends it at once, with SIGKILL.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	return nil
}

// Stop has it stand still, with SIGSTOP: whoever asks it something gets no answer.
func (p *Process) Stop() error {
	p.stopped = true
	return p.cmd.Process.Signal(syscall.SIGSTOP)
}

// Continue lets it go on.
func (p *Process) Continue() error {
	p.stopped = false
	return p.cmd.Process.Signal(syscall.SIGCONT)
}

// orderly is how long it may take to end in order. slurmctld sometimes never does, with threads
// that wait for one another, and what a test has shown by then is none the worse for that.
const orderly = 20 * time.Second

// end ends it in order, or at once when that takes too long, and waits for it.
func (p *Process) end() error {
	if p == nil || p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	timer := time.NewTimer(orderly)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		return p.Kill()
	}
}

// sweep ends what is left of the cluster and its jobs: all that has its configuration in the
// environment, but for us and what isn't of a job.
func (c *Cluster) sweep() error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for range 500 {
		left, err := c.left()
		if err != nil || len(left) == 0 {
			return err
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		<-look.C
	}
	return errors.New("some processes of the cluster's jobs don't end")
}

// left lists the processes of slurmstepd and of jobs.
func (c *Cluster) left() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var left []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !bytes.Contains(env, []byte("SLURM_CONF="+c.Config()+"\x00")) {
			continue
		}
		command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if bytes.Contains(env, []byte("SLURM_JOB_ID=")) ||
			bytes.HasPrefix(command, []byte("slurmstepd")) {
			left = append(left, pid)
		}
	}
	return left, nil
}
