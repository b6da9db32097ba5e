package snapshot

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// failure makes the operation of one number fail, and watches what the store
// does afterwards.
type failure struct {
	at    int
	err   error
	n     int
	op    string   // that failed
	ops   []string // all
	after []string // writes and syncs of the journal since then
}

func (f *failure) before(op string) error {
	f.n++
	f.ops = append(f.ops, op)
	if f.n-1 == f.at {
		f.op = op
		return f.err
	}
	if f.n > f.at && (strings.HasPrefix(op, "sync wal") || strings.HasPrefix(op, "write wal") ||
		strings.HasPrefix(op, "extend wal")) {
		f.after = append(f.after, op)
	}
	return nil
}

// TestFailedOperation: whichever operation fails, and however, nothing is
// acknowledged after a commit failed, nothing is tried again, and a restart is
// right, after the process's end as well as after a power cut.
func TestFailedOperation(t *testing.T) {
	t.Parallel()
	probe := &failure{at: -1}
	sim := newSimulation(3, 3, 0)
	if err := sim.run(-1,
		func(m *memFS, _ *client) { m.after, m.before = nil, probe.before }); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []struct {
		name string
		err  error
		of   string // operations that fail so
	}{
		{"EIO", syscall.EIO, ""},
		{"ENOSPC", syscall.ENOSPC, "create write extend rename mkdir sync"},
		{"short", shortWrite{syscall.ENOSPC}, "write extend"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			for at, op := range probe.ops {
				if verb, _, _ := strings.Cut(op, " "); !strings.Contains(kind.of, verb) &&
					kind.of != "" {
					continue
				}
				f := &failure{at: at, err: kind.err}
				if err := sim.fail(f, false); err != nil {
					t.Errorf("operation %d, %s: %v", at, f.op, err)
				}
			}
		})
	}
}

// fail lives a life with one failure, and restarts it.
func (sim *simulation) fail(f *failure, keepCache bool) error {
	m := newMemFS(64)
	m.keep = keepCache
	c := &client{ledger: newLedger(), opt: sim.options(m)}
	m.before = f.before
	err := c.life()
	m.before = nil
	if strings.HasPrefix(f.op, "read snap") {
		c.snapped = 0 // one that can't be read is set aside
	}
	if errors.Is(err, ErrPoisoned) && c.step != "close" {
		tries := len(f.after)
		if again := c.commit(1); again != c.store.err || !errors.Is(again, ErrPoisoned) {
			return fmt.Errorf("after %v, a commit gave %v", err, again)
		}
		c.submitted-- // it was refused before anything was written
		if err := c.store.Seal(); !errors.Is(err, ErrPoisoned) {
			return fmt.Errorf("a seal gave %v", err)
		}
		if _, err := c.store.Rotate(); !errors.Is(err, ErrPoisoned) {
			return fmt.Errorf("a rotation gave %v", err)
		}
		if tries > 0 || len(f.after) > 0 {
			return fmt.Errorf("the journal was touched again: %q", f.after)
		}
	}
	sim.faults = nil
	sim.cut(m, c.ledger, f.op, 0) // the failure and the power cut
	if len(sim.faults) > 0 {
		return sim.faults[0]
	}
	m.after = func(op string) { sim.cut(m, c.ledger, "restart, "+op, 0) }
	if err := errors.Join(c.do("open", (*client).open), c.do("commit", commits(1))); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	return errors.Join(sim.faults...)
}

// TestForgottenSync: after a sync that failed, memory shows what the disk does
// not have, and no later sync writes it. A restart that believed memory would
// build on it, and the simulator sees that.
func TestForgottenSync(t *testing.T) {
	t.Parallel()
	sim := newSimulation(5, 6, 0)
	var found error
	for at := 0; at < 400 && found == nil; at++ {
		f := &failure{at: at, err: syscall.EIO}
		if err := sim.fail(f, true); err != nil && strings.HasPrefix(f.op, "sync wal") {
			found = err
		}
	}
	if found == nil {
		t.Error("nothing was lost, though the cache was believed")
	}
}
