package pool_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/api"
)

// Steps run in order, each with a log of its own; a machine joins when all have succeeded, and the
// failure says what was printed.
func TestSetup(t *testing.T) {
	p := newPool(t)
	p.machine("gpu1")
	p.machine("gpu2").program("compiler", "echo checking; echo cannot find the linker >&2; exit 4")
	p.machine("gpu3")
	marks := t.TempDir()
	_, _, code, err := p.Run(t.Context(), "machine", "setup", "-q", "-m", "gpu1", "gpu2", "gpu3",
		"-c", "foo", "--slots", "2", "--verify", "test -e done-{HOST}", "--",
		"cd "+marks+"; echo one", "if command -v compiler; then compiler; fi",
		"test {MACHINE} = gpu3 || touch done-{HOST}")
	if err != nil || code != 0 {
		t.Fatal(code, err)
	}
	p.Run(t.Context(), "wait", "1", "2", "3")
	if m := p.look("gpu1"); m.Class != "foo" || m.Slots != 2 {
		t.Errorf("gpu1 is %+v", m)
	}
	for job, words := range map[uint64]string{2: "step 2 of 4 exited with code 4: cannot find " +
		"the linker", 3: "step 4 of 4 exited with code 1"} {
		j := p.job(job)
		contains(t, j.Error, words)
		m := p.look(j.Machine)
		contains(t, m.LastError, words)
		if m.Class != "" || j.Status != "failed" {
			t.Errorf("%s is in class %q after job %d has %s", m.Addr, m.Class, job, j.Status)
		}
		contains(t, p.J(t, "why", fmt.Sprint(job)), words)
	}
	logs := strings.Fields(p.J(t, "log", "1"))
	if len(logs) != 4 || !strings.HasSuffix(logs[3], "1.1.3.out") {
		t.Errorf("the logs of the setup are %q", logs)
	}
	// Set up again, the whole class: it leaves the class meanwhile, and is back in it at the end.
	p.J(t, "machine", "setup", "-q", "-e", "-c", "foo", "--", "echo again")
	p.J(t, "wait", "4")
	if m := p.look("gpu1"); m.Class != "foo" || m.Slots != 2 {
		t.Errorf("after it was set up again gpu1 is %+v", m)
	}
}

// One timeout for all steps, and another try for a step.
func TestSetupTimeoutAndRetry(t *testing.T) {
	p := newPool(t)
	mark := filepath.Join(t.TempDir(), "mark")
	p.J(t, "machine", "setup", "-q", "-m", "local:slow", "-c", "foo", "--timeout", "500ms", "--",
		"true", "sleep 1000")
	p.J(t, "machine", "setup", "-q", "-m", "local:flaky", "-c", "foo", "--retries", "1", "--",
		"test -e "+mark+" || { touch "+mark+"; exit 1; }", "true")
	p.J(t, "machine", "setup", "-q", "-m", "local:bad", "-c", "foo", "--retries", "2", "--",
		"echo no >> "+mark+"; exit 1")
	for job, want := range map[string]int{"1": 128 + 15, "2": 0, "3": 1} {
		if _, _, code, err := p.Run(t.Context(), "wait", job); err != nil || code != want {
			t.Errorf("setup %s ends with %d, want %d, %v", job, code, want, err)
		}
	}
	contains(t, p.job(1).Error, "step 2 of 2 timed out")
	if out := p.J(t, "machine", "ls", "-c", "foo", "-q"); out != "local:flaky\n" {
		t.Errorf("class foo has %q", out)
	}
}

// A setup's reboot: the verification runs on the next boot.
func TestSetupReboot(t *testing.T) {
	asked := pipe(t)
	p := newPool(t)
	m := p.machine("gpu1")
	m.program("sudo", "echo sudo $* > "+asked+"; sleep 1000")
	m.program("reboot", "exit 0") // whatever happens, it is not this host's turn
	p.J(t, "machine", "setup", "-q", "-m", "gpu1", "-c", "foo", "--reboot", "--verify",
		"grep second "+m.boot, "--", "grep first "+m.boot)
	if got := read(t, asked); got != "sudo -n reboot\n" {
		t.Fatalf("it was asked for %q", got)
	}
	m.reboot("second boot")
	p.J(t, "wait", "1")
	if m := p.look("gpu1"); m.Class != "foo" {
		t.Errorf("the machine is %+v", m)
	}
	if log := p.J(t, "log", "-c", "1"); !strings.Contains(log, "second boot") {
		t.Errorf("the log is %q", log)
	}
}

// At most so many at a time; the others go on working.
func TestSetupParallel(t *testing.T) {
	gate := pipe(t)
	p := newPool(t)
	p.J(t, "machine", "add", "local:a", "local:b", "local:c", "foo")
	for _, addr := range []string{"local:a", "local:b", "local:c"} {
		p.becomes(addr, connected) // before, whoever is there first has the first turn
	}
	p.J(t, "machine", "setup", "-q", "-e", "-c", "foo", "--parallel", "1", "--",
		"echo $JOBSERVER_MACHINE > "+gate)
	p.happens("job.started", 1)
	contains(t, p.J(t, "why", "3"), "1 machines of those that are set up together")
	p.J(t, "add", "foo", "true")
	p.J(t, "wait", "4") // on one that waits for its turn
	for _, want := range []string{"local:a\n", "local:b\n", "local:c\n"} {
		if got := read(t, gate); got != want {
			t.Errorf("it was the turn of %q, want %q", got, want)
		}
	}
	p.J(t, "wait", "1", "2", "3")
	if got := p.J(t, "machine", "ls", "-c", "foo", "-q"); got != "local:a\nlocal:b\nlocal:c\n" {
		t.Errorf("class foo has %q", got)
	}
}

// A machine that expires is drained before and gone after.
func TestExpires(t *testing.T) {
	gate := pipe(t)
	p := newPool(t)
	p.J(t, "machine", "add", "local:a", "foo", "--until", "5s") // long enough for the job to start
	p.J(t, "add", "foo", "cat "+gate)
	p.await("the machine to expire", func(e *api.Event) bool { return e.Kind == "machine.expired" })
	p.J(t, "add", "foo", "true")
	if m := p.look("local:a"); !m.Draining || len(m.Running) != 1 {
		t.Errorf("the machine is %+v", m)
	}
	feed(t, gate, "")
	p.J(t, "wait", "1")
	p.await("the machine to go", func(e *api.Event) bool { return e.Kind == "machine.removed" })
	if m := p.look("local:a"); m.Addr != "" {
		t.Errorf("it is still there: %+v", m)
	}
	contains(t, p.J(t, "why", "2"), "no machine is in class foo")
}
