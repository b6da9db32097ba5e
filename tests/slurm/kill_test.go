package slurm_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"jobserver/slurm/slurmtest"
)

// processes finds those whose command line has a text, and that belong to this pool.
func (p *pool) processes(text string) []int {
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		command, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil ||
			!strings.Contains(string(bytes.ReplaceAll(command, []byte{0}, []byte(" "))),
				text) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if bytes.Contains(env, []byte(p.Config())) {
			found = append(found, pid)
		}
	}
	return found
}

// kill kills the processes that have a text in their command lines.
func (p *pool) kill(text string) (n int) {
	p.t.Helper()
	for _, pid := range p.processes(text) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			p.t.Error(err)
		}
		n++
	}
	return n
}

func (p *pool) killKeeper() {
	p.t.Helper()
	if p.kill(" keep js-") == 0 {
		p.t.Error("there is no keeper to be killed")
	}
}

// victims may die without a job's noticing it.
func (p *pool) victims() []victim {
	restart := func(process *slurmtest.Process) func() {
		return func() {
			if err := errors.Join(process.Kill(), process.Start()); err != nil {
				p.t.Error(err)
			}
		}
	}
	return []victim{
		{"daemon", func() {
			if err := p.Daemon.Kill(); err != nil {
				p.t.Error(err)
			}
			p.begin()
		}},
		{"srun", func() { p.kill("srun --jobid=") }},
		{"agent", func() { p.kill(" agent") }},
		{"slurmd", restart(p.Nodes[0])},
		// The last: what it was told in its last seconds it may forget, allocations too.
		{"slurmctld", restart(p.Controller)},
	}
}

type victim struct {
	who  string
	kill func()
}

// TestEverythingDies: each of those that carry jobs is killed under them. Nothing is lost, nothing
// is run twice, logs are whole to the byte.
func TestEverythingDies(t *testing.T) {
	for _, proctrack := range []string{"cgroup", "linuxproc"} {
		t.Run(proctrack, func(t *testing.T) {
			t.Parallel()
			opts := []slurmtest.Option{slurmtest.Nodes(1)}
			if proctrack == "cgroup" {
				opts = append(opts, tracked(t))
			}
			p := newPool(t, opts...)
			p.j("machine", "add", "slurm:test", "c", "--time", "10m", "--max", "2", "--slots", "2",
				"--idle", "1s")
			const n = 60
			p.j("matrix", "add", "c", "echo {i} >>"+p.tell+
				"; seq 2000; sleep 0.4; seq 2000; echo over {i}",
				"", "i=1.."+strconv.Itoa(n))
			at := 0
			for _, v := range p.victims() {
				at += n / 6
				p.until(fmt.Sprintf("%d jobs have begun, to kill %s", at, v.who),
					func() bool { return len(p.lines()) >= at })
				t.Logf("%d have begun, and %s dies", len(p.lines()), v.who)
				v.kill()
			}
			p.j("wait", "%1")
			var want []string
			text := numbers(2000)
			for i := 1; i <= n; i++ {
				want = append(want, strconv.Itoa(i))
				log := p.log(fmt.Sprintf("%%1,i=%d", i))
				if log != text+text+fmt.Sprintf("over %d\n", i) {
					t.Errorf("the log of cell %d has %d bytes, and ends %q", i, len(log),
						log[max(0, len(log)-50):])
				}
			}
			p.told(want...)
			p.empty()
		})
	}
}
