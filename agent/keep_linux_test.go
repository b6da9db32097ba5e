package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// allocation is a machine whose agents are steps: its script becomes the keeper when an agent shows
// it the program.
type allocation struct {
	*machine
	name   string
	script *exec.Cmd
}

func newAllocation(t *testing.T, name string, args ...string) *allocation {
	t.Helper()
	a := &allocation{machine: newMachine(t), name: fmt.Sprintf("%s-%d", name, os.Getpid())}
	a.exe = filepath.Join(t.TempDir(), "bin", "jobserver-0")
	must(t, os.Mkdir(filepath.Dir(a.exe), 0o700))
	copyProgram(t, a.exe)
	a.env = append(a.env, envKeeper+"="+a.name, "SLURM_STEP_ID=0", "WHOSE=step")
	a.script = exec.Command("/bin/sh", "-c",
		`while [ ! -x "$0" ]; do sleep 0.02; done; exec "$0" keep `+
			strings.Join(args, " ")+` "$1"`,
		filepath.Join(filepath.Dir(filepath.Dir(a.exe)), dirKeep, a.name),
		a.name)
	a.script.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "WHOSE=allocation",
		"SLURM_CPUS_ON_NODE=1", "SLURM_MEM_PER_NODE=64", "CUDA_VISIBLE_DEVICES=2,GPU-x")
	a.script.Stderr = os.Stderr
	must(t, a.script.Start())
	t.Cleanup(func() {
		_ = a.script.Process.Kill() // it has ended in most tests
		_ = a.script.Wait()
		// The machine's end looks with an agent of its own what is left.
		a.env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	})
	return a
}

// copyProgram copies this program, for all to execute. Another process does it: a file that is open
// for writing in a child that one of our own threads is about to make can't be executed.
func copyProgram(t testing.TB, to string) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	must(t, exec.Command("install", "-m", "0755", exe, to).Run())
}

// ends waits for the keeper's end.
func (a *allocation) ends() {
	a.t.Helper()
	if err := a.script.Wait(); err != nil {
		a.t.Errorf("the keeper: %v", err)
	}
}

// gone waits until nothing lives of a process.
func gone(t *testing.T, pid int) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for range 12_000 {
		if stat, ok := readStat(pid); !ok || stat.dead() {
			return
		}
		<-look.C
	}
	t.Fatalf("process %d lives", pid)
}

// TestKeeper: runs of an allocation are the keeper's, with its environment, and outlive the step.
func TestKeeper(t *testing.T) {
	t.Parallel()
	a := newAllocation(t, "keeper")
	l := a.dial()
	c, err := Connect(a.ctx(), l)
	must(t, err)
	if f := c.Machine(); f.Cores != 1 || f.MemoryBytes != 64<<20 || len(f.GPUs) != 2 ||
		f.GPUs[0].ID != "2" || f.GPUs[1].ID != "GPU-x" {
		t.Errorf("the allocation has %+v", f)
	}
	gate := filepath.Join(t.TempDir(), "gate")
	must(t, syscall.Mkfifo(gate, 0o600))
	id := start(t, c,
		a.command(`echo $WHOSE "<$SLURM_STEP_ID$JOBSERVER_KEEPER>" $PPID; read x <%s; echo over`,
			gate))
	e := awaitOutput(t, c, id, "\n")
	var whose, step string
	var supervisor int
	if _, err := fmt.Sscan(string(e.out), &whose, &step, &supervisor); err != nil ||
		whose != "allocation" || step != "<>" {
		t.Errorf("the run says %q, %v", e.out, err)
	}
	if stat, ok := readStat(supervisor); !ok || stat.parent != a.script.Process.Pid {
		t.Errorf("the supervisor is a child of %d, not of the keeper", stat.parent)
	}
	must(t, l.cmd.Process.Kill())
	c.Close()
	c = a.connect()
	must(t, os.WriteFile(gate, []byte("\n"), 0))
	if e := follow(t, c, id); e.exit == nil || e.exit.Cause != Exited ||
		!strings.HasSuffix(string(e.out), "over\n") {
		t.Errorf("the run ended as %+v, with %q", e.exit, e.out)
	}
	if left, err := os.ReadDir(filepath.Join(filepath.Dir(filepath.Dir(a.exe)),
		dirKeep)); err != nil ||
		len(left) > 0 {
		t.Errorf("left of the introduction: %v, %v", left, err)
	}
}

// TestKeeperIsToldToEnd: what runs is recorded as shut down before the keeper ends.
func TestKeeperIsToldToEnd(t *testing.T) {
	t.Parallel()
	a := newAllocation(t, "told")
	c := a.connect()
	id := start(t, c, a.command("echo on; exec sleep 1000"))
	awaitOutput(t, c, id, "on")
	must(t, a.script.Process.Signal(syscall.SIGTERM))
	a.ends()
	if e := follow(t, c, id); e.exit == nil || e.exit.Cause != ShutDown {
		t.Errorf("the run ended as %+v", e.exit)
	}
	late := a.command("true")
	if r := startResult(t, c, late); r.Status != StartFailed {
		t.Errorf("without a keeper a run was started: %+v", r)
	}
	must(t, c.Forget(a.ctx(), []RunID{late.Run}, true))
}

// TestKeeperDies: nothing of its runs outlives it.
func TestKeeperDies(t *testing.T) {
	t.Parallel()
	a := newAllocation(t, "dies")
	c := a.connect()
	id := start(t, c, a.command("setsid sleep 1000 & echo $$ $!; wait"))
	e := awaitOutput(t, c, id, "\n")
	var shell, child int
	_, err := fmt.Sscan(string(e.out), &shell, &child)
	must(t, err)
	must(t, a.script.Process.Kill())
	_ = a.script.Wait() // killed
	gone(t, shell)
	gone(t, child)
}

// TestKeeperEndsByItself: only when nothing runs and nobody is there.
func TestKeeperEndsByItself(t *testing.T) {
	t.Parallel()
	a := newAllocation(t, "alone", "--idle", "50ms")
	c := a.connect()
	gate := filepath.Join(t.TempDir(), "gate")
	must(t, syscall.Mkfifo(gate, 0o600))
	id := start(t, c, a.command("echo on; read x <%s", gate))
	awaitOutput(t, c, id, "on")
	c.Close() // the run goes on
	c = a.connect()
	must(t, os.WriteFile(gate, []byte("\n"), 0))
	if e := follow(t, c, id); e.exit == nil || e.exit.Cause != Exited {
		t.Errorf("the run ended as %+v", e.exit)
	}
	pid, ended := a.script.Process.Pid, make(chan struct{})
	go func() {
		a.ends()
		close(ended)
	}()
	select {
	case <-ended:
		t.Error("the keeper ended while an agent was there")
	case <-time.After(200 * time.Millisecond):
	}
	c.Close()
	<-ended
	gone(t, pid)
}

// TestKeeperOnce: an allocation that was started again keeps nothing.
func TestKeeperOnce(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		code int
	}{
		{[]string{"keep", "js-a-1"}, "SLURM_RESTART_COUNT=1", 0},
		{[]string{"keep"}, "", 2},
		{[]string{"keep", "../x"}, "", 2},
		{[]string{"keep", "a", "b"}, "", 2},
	} {
		cmd := exec.Command("/proc/self/exe", c.args...)
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", c.env)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("%v: %v\n%s", c.args, err, out)
		}
	}
}

// TestKeeperIsOurs: an abstract name is open to all users of a machine; neither end speaks with
// another's process.
func TestKeeperIsOurs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("only root can be two users")
		return
	}
	t.Parallel()
	a := newAllocation(t, "ours")
	c := a.connect()
	defer c.Close()
	if said := a.asNobody("ask", keeperAddr(a.name).Name); !strings.Contains(said, "refused") {
		t.Errorf("another user asked the keeper: %q", said)
	}
	taken := keeperAddr("taken-" + a.name).Name
	cmd := a.nobody("listen", taken)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the other user: %q, %v", line, err)
	}
	if _, _, err := dialKeeper("taken-"+a.name, askPresence); err == nil ||
		!strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("another user's keeper was taken for ours: %v", err)
	}
	must(t, in.Close())
	_ = cmd.Wait()
}

// nobody is a helper of another user.
func (a *allocation) nobody(args ...string) *exec.Cmd {
	dir := a.t.TempDir()
	for at := dir; len(at) > len(os.TempDir()); at = filepath.Dir(at) {
		must(a.t, os.Chmod(at, 0o755))
	}
	exe := filepath.Join(dir, "helper")
	copyProgram(a.t, exe)
	cmd := exec.Command(exe, append([]string{"helper"}, args...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

func (a *allocation) asNobody(args ...string) string {
	out, err := a.nobody(args...).CombinedOutput()
	must(a.t, err)
	return string(out)
}

// otherUser is the part of another user in TestKeeperIsOurs.
func otherUser(args []string) int {
	addr := &net.UnixAddr{Net: "unix", Name: args[1]}
	if args[0] == "listen" {
		l, err := net.ListenUnix("unix", addr)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer l.Close()
		fmt.Println("listening")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	conn, err := net.DialUnix("unix", nil, addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer conn.Close()
	_, _ = conn.Write([]byte{askSupervisor})
	if n, err := conn.Read(make([]byte, 1)); n == 0 && err != nil {
		fmt.Println("refused")
	}
	return 0
}
