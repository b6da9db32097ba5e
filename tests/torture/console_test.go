package torture_test

import (
	"bufio"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"jobserver/daemontest"
)

// TestConsoleGoesAway: the daemon lives on when nobody reads any more what it prints.
func TestConsoleGoesAway(t *testing.T) {
	t.Parallel()
	binary, err := daemontest.Build("failpoints")
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	cmd := exec.Command(binary, "serve", "--state-dir", state)
	console, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	for lines := bufio.NewScanner(console); lines.Scan(); {
		if strings.Contains(lines.Text(), "the daemon is ready") {
			break
		}
	}
	if err := console.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"machine add local x", "add x true --wait", "machine rm local",
		"ping"} {
		words := append([]string{"--socket", state + "/socket"}, strings.Fields(args)...)
		if out, err := exec.CommandContext(t.Context(), binary,
			words...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon: %v", err)
	}
}
