package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCutWrites cuts the writes of a supervisor's life after every byte. What is left must say no
// more than is certain: not that the command never began once it may have, and not how it ended
// before that is all there.
func TestCutWrites(t *testing.T) {
	launching := process{PID: 1 << 30, StartTime: 7, BootID: "boot-1", At: time.Unix(1, 0)}
	started := process{PID: 1<<30 + 1, StartTime: 8, BootID: "boot-1", At: time.Unix(2, 0)}
	end := ending{Cause: Canceled, At: time.Unix(3, 0)}
	exit := Exit{Cause: Canceled, Code: -1, Signal: 15, SignalName: "SIGTERM", BootID: "boot-1"}
	file := filepath.Join(t.TempDir(), fileRun)
	content := make([]byte, slotsSize)
	for _, step := range []struct {
		slot
		lines func(*liner)
		cut   State // with its first byte, but not all
		whole State
	}{
		{slotLaunching, launching.lines, Ambiguous, Ambiguous},
		{slotStarted, started.lines, Ambiguous, Vanished},
		{slotEnding, end.lines, Vanished, Vanished},
		{slotExit, exit.lines, Vanished, Ended},
	} {
		record := formatRecord(step.name, step.lines)
		for n := 1; n <= len(record); n++ {
			copy(content[step.at:], record[:n])
			must(t, os.WriteFile(file, content, 0o600))
			v, err := look(filepath.Dir(file), "boot-1")
			must(t, err)
			want := step.cut
			if n == len(record) {
				want = step.whole
			}
			if v.state != want || (v.exit != nil) != (want == Ended) {
				t.Fatalf("%d of %d bytes of %s: state %v, want %v; exit %+v", n, len(record),
					step.name, v.state, want, v.exit)
			}
		}
	}
}

// TestKilledAtAnyMoment kills supervisors at random moments of a short run, and repeats the start.
// No command runs twice, and an exit record is that of a command that ran, with all that it
// printed.
func TestKilledAtAnyMoment(t *testing.T) {
	m := newMachine(t)
	l := m.dial()
	c, err := Connect(m.ctx(), l)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	ledger := filepath.Join(m.login, "ledger")
	states := map[State]int{}
	for range 80 {
		s := m.command("echo $JOBSERVER_RUN >>%s; echo all of it", ledger)
		result := make(chan error, 1)
		go func() {
			r, err := c.Start(m.ctx(), []Spec{s})
			if err == nil && r[0].Err() != nil && !errors.Is(r[0].Err(), ErrNotStarted) &&
				!errors.Is(r[0].Err(), ErrAmbiguous) {
				err = r[0].Err()
			}
			result <- err
		}()
		for end := time.Now().Add(
			time.Duration(rand.IntN(5000)) * time.Microsecond,
		); time.Now().Before(end); {
			continue // a moment too short for a timer
		}
		m.killSupervisors(l.cmd.Process.Pid)
		must(t, <-result)
		r := startResult(t, c, s) // as a host does that has heard nothing
		if err := r.Err(); err != nil && !errors.Is(err, ErrAmbiguous) {
			t.Fatalf("start again: %v", err)
		}
		e := follow(t, c, s.Run)
		states[e.state]++
		all, err := os.ReadFile(ledger)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		ran := strings.Count(string(all), fmt.Sprintf("%s\n", s.Run))
		if ran > 1 || e.state == Ended &&
			(ran != 1 || e.exit.Code != 0 || string(e.out) != "all of it\n") {
			t.Fatalf("%v: it ran %d times; out %q, exit %+v", e.state, ran, e.out, e.exit)
		}
		must(t, c.Forget(m.ctx(), []RunID{s.Run}, false))
	}
	t.Logf("states: %v", states)
}

// killSupervisors kills an agent's supervisors, idle ones too.
func (m *machine) killSupervisors(agent int) {
	m.t.Helper()
	all, err := allProcesses()
	must(m.t, err)
	for _, p := range all {
		if p.parent == agent {
			_ = unix.Kill(p.pid, unix.SIGKILL) // it may have ended
		}
	}
}
