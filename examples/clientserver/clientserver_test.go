// Package clientserver_test runs the example as its readers do: a server and its clients on three
// machines that are real sshds, with a driver and without.
package clientserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// lab is a daemon with one machine in the class servers, and two in the class lab.
func lab(t *testing.T, serve ...string) *daemontest.Daemon {
	t.Helper()
	for _, tool := range []string{"redis-server", "redis-benchmark"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: .ci/deps installs it", tool)
		}
	}
	first := sshtest.Start(t)
	names := []string{first.Name}
	for range 2 {
		names = append(names, sshtest.Start(t, sshtest.Shared(first.Client)).Name)
	}
	t.Setenv("SSH_CONFIG", first.ConfigFile)
	t.Setenv("SERVER_HOST", "127.0.0.1")
	d := daemontest.New(t, append(serve, "--ssh-config", first.ConfigFile)...)
	d.J(t, "machine", "add", names[0], "servers")
	d.J(t, "machine", "add", names[1], names[2], "lab")
	return d
}

// TestDriver: a driver finds the machine that is held for its job as it finds the job's own.
func TestDriver(t *testing.T) {
	driver, err := filepath.Abs("driver.sh")
	if err != nil {
		t.Fatal(err)
	}
	d := lab(t, "--driver", "/bin/sh", "--driver-arg", driver)
	results := t.TempDir()
	d.J(t, "add", "lab", "{MACHINE} {SERVER} {JID}", results, "--with", "SERVER=servers",
		"--env", "REQUESTS=2000")
	d.J(t, "wait", "1")
	t.Cleanup(func() { os.Remove("/tmp/requests-1.csv") })
	measured(t, d, filepath.Join(results, "1", "requests-1.csv"))
}

// TestEach: without a driver, the job runs on each of its machines, and its ranks find each other.
func TestEach(t *testing.T) {
	d := lab(t)
	d.J(t, "machine", "mv", "-c", "servers", "lab")
	results := t.TempDir()
	d.J(t, "add", "lab", "sh $JOBSERVER_CODE/bench.sh", results, "--code", ".",
		"--machines", "3", "--each", "--env", "REQUESTS=2000", "--env", "SERVER_HOST=127.0.0.1")
	d.J(t, "wait", "1")
	for _, rank := range []string{"r1", "r2"} {
		measured(t, d, filepath.Join(results, "1", rank, "requests.csv"))
	}
	log := d.J(t, "job", "log", "-c", "1")
	for _, want := range []string{
		"r0: ", "r1: METRIC: SET_by_rank_1=", "r2: METRIC: GET_by_rank_2=",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
}

// measured checks that a client has measured something.
func measured(t *testing.T, d *daemontest.Daemon, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), "GET") {
		t.Errorf("%s: %v %s\n%s", file, err, b, d.J(t, "show", "1"))
	}
}

// TestTroubles: a job on each of three machines whose daemon dies, and dies again while the others
// are ended since one has failed; and one that loses a machine. Each rank of each attempt begins
// once, and what the job had is free in the end.
func TestTroubles(t *testing.T) {
	d := lab(t)
	d.J(t, "machine", "mv", "-c", "servers", "lab")
	began := filepath.Join(t.TempDir(), "began")
	gate := filepath.Join(t.TempDir(), "gate")
	for _, fifo := range []string{began, gate} {
		if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// each rank says that it has begun, and goes on when it is told to: rank 1 fails then
	cmd := `echo $JOBSERVER_ATTEMPT.$JOBSERVER_RANK >` + began + `
		if [ $JOBSERVER_RANK = 1 ]; then read x <` + gate + `; exit 3; fi; exec sleep 600`
	ledger, err := os.OpenFile(began, os.O_RDWR, 0) // so that nobody waits to open it
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	lines := bufio.NewScanner(ledger)
	ranks := func(attempt int) {
		t.Helper()
		var got []string
		for range 3 {
			lines.Scan()
			got = append(got, lines.Text())
		}
		slices.Sort(got)
		want := fmt.Sprintf("%[1]d.0 %[1]d.1 %[1]d.2", attempt)
		if strings.Join(got, " ") != want {
			t.Fatalf("%v have begun, want %s", got, want)
		}
	}
	again := func() {
		t.Helper()
		if err := errors.Join(d.Kill(), d.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	d.J(t, "add", "lab", cmd, "--machines", "3", "--each", "--max-failures", "1")
	ranks(1)
	again()
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	again() // while the others end, or have ended
	ranks(2)
	addr := strings.Fields(d.J(t, "machine", "ls", "-q"))[0]
	d.J(t, "machine", "rm", addr)
	d.J(t, "rm", "1", "-y")
	if _, _, code, err := d.Run(t.Context(), "wait", "1"); err != nil || code == 0 {
		t.Errorf("wait gives %d, %v", code, err)
	}
	if show := d.J(t, "show", "1", "-o", "json"); !strings.Contains(show, `"exit_code":3`) {
		t.Errorf("rank 1 of the first attempt is to have failed:\n%s", show)
	}
	d.J(t, "add", "lab", "true", "--machines", "2", "--each")
	d.J(t, "wait", "2")
}
