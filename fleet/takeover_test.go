package fleet

import (
	"os/exec"
	"path/filepath"
	"testing"

	"jobserver/agent"
	"jobserver/sched"
)

// TestTakenOver has another connection take the machine over: the next start comes over one that
// has it again, and only once.
func TestTakenOver(t *testing.T) {
	h := newHost(t, nil)
	h.Connect(sched.Pool{Addr: "local"})
	h.connected("local")
	root := filepath.Join(h.opt.StateDir, "local")
	cmd := exec.Command(program, "agent", "--root", root)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	other, err := agent.Connect(t.Context(), pipes{out, in})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.TakeOver(t.Context(), h.opt.ServerID, machineID("local")); err != nil {
		t.Fatal(err)
	}
	r := job("local", 1, "echo once")
	h.Start(r)
	h.ends(r, "once\n")
	await[sched.Away](h, nil)
}
