package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPrepare: what keeps a run from starting is found before it is started, and what was made
// ready is nothing that runs: it starts once, or is forgotten.
func TestPrepare(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	prepare := func(s Spec) StartResult {
		t.Helper()
		results, err := c.Prepare(m.ctx(), []Spec{s})
		must(t, err)
		return results[0]
	}
	spec := m.command("echo once")
	for range 2 { // its answer may be lost
		if r := prepare(spec); r.Status != StartOK || !r.StartedAt.IsZero() {
			t.Fatalf("prepare: %+v", r)
		}
	}
	reply, err := c.Poll(m.ctx(), PollRequest{Run: spec.Run}, func(Stream, []byte) error {
		return nil
	})
	must(t, err)
	if reply.State != None {
		t.Errorf("a run that is ready is %s", reply.State)
	}
	if got := follow(t, c, start(t, c, spec)); string(got.out) != "once\n" {
		t.Errorf("it printed %q", got.out)
	}
	if r := prepare(spec); r.Status != StartOK {
		t.Errorf("one that has run: %+v", r)
	}
	unused := m.command("true")
	if r := prepare(unused); r.Status != StartOK {
		t.Errorf("prepare: %+v", r)
	}
	must(t, c.Forget(m.ctx(), []RunID{unused.Run}, true))
	if _, err := os.Stat(m.dir(unused.Run)); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}

	// where its directory can't be made
	other := m.command("true")
	other.Run.Machine = "other"
	inTheWay := filepath.Dir(m.dir(other.Run))
	must(t, os.WriteFile(inTheWay, nil, 0o600))
	if r := prepare(other); r.Status != StartFailed || !strings.Contains(r.Reason, "director") {
		t.Errorf("without a directory: %+v", r)
	}
	must(t, os.Remove(inTheWay))
	if r := prepare(with(m.command("true"), func(s *Spec) { s.BootID = "before" })); r.Status !=
		StartOtherBoot {
		t.Errorf("of another boot: %+v", r)
	}
	if r := prepare(m.command("a\x00b")); r.Status != StartImpossible {
		t.Errorf("a zero byte: %+v", r)
	}
}
