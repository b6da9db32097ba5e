package pool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"jobserver/api"
)

// TestOwedByTheGone: what a machine owes that was removed while it was away is shown, and forgotten
// with the path when that is asked for; then nothing is known of it.
func TestOwedByTheGone(t *testing.T) {
	gate := pipe(t)
	p := newPool(t)
	m := p.machine("gpu1")
	p.J(t, "machine", "add", "gpu1", "foo")
	p.J(t, "add", "foo", "cat "+gate)
	p.happens("job.started", 1)
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.KillSessions(); err != nil {
		t.Fatal(err)
	}
	p.becomes("gpu1", func(m api.Machine) bool { return m.State == "away" })
	p.J(t, "machine", "rm", "gpu1")
	contains(
		t,
		p.J(t, "status"),
		"1 run to end on gpu1, which has left the pool",
		"machine clean --drop -m gpu1",
	)
	out, notes, code, err := p.Run(t.Context(), "machine", "clean", "--drop", "gpu1")
	if err != nil || code != 0 {
		t.Fatalf("code %d, %v: %s", code, err, notes)
	}
	contains(t, out+notes, "/runs/", "1.1.0-", "may still be going on")
	if text := p.J(t, "status"); strings.Contains(text, "gpu1") {
		t.Errorf("it is known still:\n%s", text)
	}
	contains(t, p.J(t, "events", "--no-wait"), "machine.dropped")
}

// pin makes the directory of a machine's only run one that can't be removed, as one is in which
// another user has left files, until free is called. others says that the machine can start other
// runs meanwhile.
func (m *machine) pin() (free func(), others bool) {
	m.t.Helper()
	runs := filepath.Join(m.Home, ".local/state/jobserver/runs/*/*")
	found, err := filepath.Glob(filepath.Join(runs, "1.1.0-*"))
	if err != nil || len(found) != 1 {
		m.t.Fatalf("the runs are %v, %v", found, err)
	}
	undo := func() error { return os.Chmod(filepath.Dir(found[0]), 0o700) }
	if others = os.Getuid() == 0; others { // who may write everywhere, but remove no mount
		scratch := filepath.Join(found[0], "scratch")
		if err := unix.Mount(scratch, scratch, "", unix.MS_BIND, ""); err != nil {
			m.t.Fatal(err)
		}
		undo = func() error {
			left, err := filepath.Glob(filepath.Join(runs, "*1.1.0-*", "scratch"))
			for _, dir := range left {
				err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
			}
			return err
		}
	} else if err := os.Chmod(filepath.Dir(found[0]), 0o500); err != nil {
		m.t.Fatal(err)
	}
	var once sync.Once
	free = func() {
		once.Do(func() {
			if err := undo(); err != nil {
				m.t.Error(err)
			}
		})
	}
	m.t.Cleanup(free)
	return free, others
}

// TestUnremovable: a directory that the machine can't remove holds no slot, is shown wherever one
// may look, and is tried again.
func TestUnremovable(t *testing.T) {
	gate := pipe(t)
	p := newPool(t)
	m := p.machine("gpu1")
	p.J(t, "machine", "add", "gpu1", "foo")
	p.J(t, "add", "foo", "cat "+gate)
	p.happens("job.started", 1)
	free, others := m.pin()
	feed(t, gate, "\n")
	p.happens("job.done", 1)
	p.becomes("gpu1", func(m api.Machine) bool { return len(m.Unremoved) == 1 })
	contains(t, p.J(t, "machine", "ls"), "1 directory to remove")
	contains(t, p.J(t, "status"), "1 directory to remove on gpu1")
	contains(t, p.J(t, "why", "1"), "holds no slot", "machine clean -m gpu1")
	if others {
		p.J(t, "add", "foo", "true")
		p.happens("job.done", 2)
	}
	_, notes, _, err := p.Run(t.Context(), "machine", "clean", "gpu1")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, notes, "1 run can't be removed", "--drop")
	free()
	p.J(t, "machine", "clean", "gpu1")
	p.becomes("gpu1", func(m api.Machine) bool { return len(m.Unremoved) == 0 })
}
