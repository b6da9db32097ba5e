package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// ledger is what a client knows: which records were handed in, which were
// acknowledged. Record i has one possible content, so that what comes back can
// be compared.
type ledger struct {
	submitted int
	acked     int
	bounds    map[int]bool // numbers of records after which a batch ends
	snapped   uint64       // number of the newest snapshot that was acknowledged
}

func newLedger() *ledger { return &ledger{bounds: map[int]bool{0: true}} }

func (l *ledger) clone() *ledger {
	c := &ledger{l.submitted, l.acked, map[int]bool{}, l.snapped}
	for n := range l.bounds {
		c.bounds[n] = true
	}
	return c
}

// record is the i-th record. Some hold what a batch begins with.
func record(i int) []byte {
	rec := fmt.Appendf(nil, "%d:", i)
	if i%5 == 0 {
		rec = append(rec, "JBATJBLKJBAT"...)
	}
	return append(rec, bytes.Repeat([]byte{byte('a' + i%26)}, i*37%90)...)
}

// take hands in n more records.
func (l *ledger) take(n int) [][]byte {
	recs := make([][]byte, n)
	for i := range recs {
		recs[i] = record(l.submitted + i)
	}
	l.submitted += n
	l.bounds[l.submitted] = true
	return recs
}

// check compares what was recovered with what may be: all that was
// acknowledged, nothing that was not handed in, in order, in whole batches.
func (l *ledger) check(recs [][]byte) error {
	n := len(recs)
	switch {
	case n < l.acked:
		return fmt.Errorf("lost: %d of %d acknowledged records", l.acked-n, l.acked)
	case n > l.submitted:
		return fmt.Errorf("invented: %d records, %d were handed in", n, l.submitted)
	case !l.bounds[n]:
		return fmt.Errorf("a part of a batch: %d records", n)
	}
	for i, rec := range recs {
		if !bytes.Equal(rec, record(i)) {
			return fmt.Errorf("record %d is %q", i, rec)
		}
	}
	return nil
}

// client runs a daemon's life on a file system and keeps the ledger.
type client struct {
	*ledger
	opt   Options
	store *Store
	step  string // what it is doing
	steps int    // so far
	early bool   // acknowledges before the sync: a mutant
}

// open opens the state and reads it. Since every snapshot of the tests holds
// all records before it, snapshot and journal together give the sequence.
func (c *client) open() error {
	s, r, err := Open("", c.opt)
	if err != nil {
		return err
	}
	recs, err := contentsOf(r)
	if err := errors.Join(err, c.check(recs), c.checkSnapshots(r)); err != nil {
		return errors.Join(err, s.file.Close(), s.lock.Close())
	}
	c.submitted, c.acked, c.store = len(recs), len(recs), s
	return nil
}

// checkSnapshots: no crash damages a snapshot, loses an acknowledged one, or
// leaves one without the segments that go on from it.
func (c *client) checkSnapshots(r *Recovery) error {
	if r.Fresh {
		return nil
	}
	if len(r.c.damaged) > 0 || r.c.snapshot < c.snapped {
		return fmt.Errorf("snapshot %d is used, %d was written, %d are damaged", r.c.snapshot,
			c.snapped, r.c.damaged)
	}
	inv, err := takeInventory(c.opt.FS)
	if err != nil {
		return err
	}
	for _, n := range inv.snapshots {
		for ; n <= r.c.spans[0].segment; n++ {
			if !slices.Contains(inv.segments, n) {
				err = errors.Join(err,
					fmt.Errorf("%v are kept without segment %d", inv.snapshots, n))
			}
		}
	}
	return err
}

func contentsOf(r *Recovery) (recs [][]byte, err error) {
	keep := func(rec []byte) error { recs = append(recs, bytes.Clone(rec)); return nil }
	err = r.Replay(keep, keep)
	return recs, err
}

func (c *client) commit(n int) error {
	recs := c.take(n)
	if c.early {
		c.acked = c.submitted
	}
	if err := c.store.Commit(recs); err != nil {
		return err
	}
	c.acked = c.submitted
	return nil
}

// compact takes a snapshot while commits go on.
func (c *client) compact() error {
	m, err := c.store.Rotate()
	if err != nil {
		return err
	}
	have := c.submitted
	err = c.store.WriteSnapshot(m, func(yield func([]byte) error) error {
		for i := range have {
			if i == have/2 {
				if err := c.commit(2); err != nil {
					return err
				}
			}
			if err := yield(record(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		c.snapped = m.segment
	}
	return err
}

func (c *client) seal() error  { return c.store.Seal() }
func (c *client) close() error { return c.store.Close() }

func commits(n int) func(*client) error {
	return func(c *client) error { return c.commit(n) }
}

// do takes a step.
func (c *client) do(step string, fn func(*client) error) error {
	c.step = step
	c.steps++
	return fn(c)
}

// life is a short story with everything in it: batches small and large, a
// seal, restarts with and without Close, compactions until old files go. It ends
// at the first error after which a daemon has to stop.
func (c *client) life() error {
	for _, step := range []struct {
		name string
		do   func(*client) error
	}{
		{"start", (*client).open},
		{"commit", commits(1)},
		{"commit", commits(3)},
		{"seal", (*client).seal},
		{"commit", commits(2)},
		{"compact", (*client).compact},
		{"commit", commits(12)},
		{"close", (*client).close},
		{"open", (*client).open},
		{"compact", (*client).compact},
		{"commit", commits(1)},
		{"open", (*client).open}, // it was killed
		{"open", (*client).open}, // and again, before it committed anything
		{"commit", commits(2)},
		{"compact", (*client).compact},
		{"compact", (*client).compact},
		{"compact", (*client).compact},
		{"commit", commits(1)},
		{"close", (*client).close},
	} {
		err := c.do(step.name, step.do)
		harmless := step.name == "compact" && !errors.Is(err, ErrPoisoned) &&
			!errors.Is(err, errKilled)
		if err != nil && !harmless {
			return err
		}
	}
	return nil
}

// errKilled comes from a killed daemon's operations, so that it does none.
var errKilled = errors.New("killed")

// simulation examines power cuts after every operation of a life.
type simulation struct {
	rng    *rand.Rand
	states int // to try at each moment
	nested int // one in so many states is cut again during its recovery; 0: none
	grow   int64
	seen   seen

	tried      int // different states
	operations int // of the last life
	faults     []error
}

// options are Options with small sizes, so that few sectors make a batch.
func (sim *simulation) options(fsys FS) Options {
	return Options{FS: fsys, Reserve: 64, CompactAt: 1 << 10, grow: sim.grow}
}

// run lives one life, in which the daemon is killed before the operation of
// that number, unless it is negative, and started again; mutate may change the
// file system's behaviour.
func (sim *simulation) run(kill int, mutate func(*memFS, *client)) error {
	m := newMemFS([]int{8, 64, 512}[sim.rng.IntN(3)])
	c := &client{ledger: newLedger(), opt: sim.options(m)}
	m.after = func(op string) { sim.cut(m, c.ledger, c.step+", "+op, 0) }
	n := 0
	m.before = func(op string) error {
		if n++; kill >= 0 && n > kill {
			return errKilled
		}
		return nil
	}
	if mutate != nil {
		mutate(m, c)
	}
	err := c.life()
	sim.operations = n
	if kill < 0 || !errors.Is(err, errKilled) {
		return err
	}
	kill = -1
	if err := c.do("open", (*client).open); err != nil {
		return fmt.Errorf("restart after a kill: %w", err)
	}
	return c.do("commit", commits(1))
}

// cut tries power cuts at this moment.
func (sim *simulation) cut(m *memFS, l *ledger, when string, depth int) {
	m.crashes(sim.states, sim.rng, func(left *memFS) {
		if len(sim.faults) > 0 {
			return
		}
		again := sim.nested > 0 && depth == 0 && sim.rng.IntN(sim.nested) == 0
		key := keyOf(left, l)
		if sim.seen[key] && !again {
			return
		}
		sim.tried++
		if err := sim.restart(left, l.clone(), again); err != nil {
			sim.faults = append(sim.faults, fmt.Errorf("power cut after %q: %w", when, err))
			return
		}
		sim.seen[key] = true
	})
}

// seen are the states that a restart has been right with. The same operation
// changes nothing about what many power cuts leave, and a restart does the same
// with the same: most of all states need not be tried again. Simulations may
// share what they have seen.
type seen map[uint64]bool

var hashSeed = maphash.MakeSeed()

// keyOf is a hash of what is on a disk, and of what has to be found there.
func keyOf(left *memFS, l *ledger) uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, dir := range slices.Sorted(maps.Keys(left.disk)) {
		for _, name := range slices.Sorted(maps.Keys(left.disk[dir])) {
			content := left.disk[dir][name].disk
			fmt.Fprintf(&h, "%s/%s %d ", dir, name, len(content))
			h.Write(content)
		}
	}
	fmt.Fprint(&h, l.submitted, l.acked, l.snapped, slices.Sorted(maps.Keys(l.bounds)))
	return h.Sum64()
}

// restart is what happens after a power cut: the state is opened, checked, and
// used; and opened and checked again. The power may be cut again meanwhile.
func (sim *simulation) restart(left *memFS, l *ledger, again bool) error {
	c := &client{ledger: l, opt: sim.options(left)}
	if again {
		left.after = func(op string) { sim.cut(left, c.ledger, "restart, "+op, 1) }
	}
	if err := c.open(); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	if err := c.commit(1); err != nil {
		return fmt.Errorf("commit after restart: %w", err)
	}
	if err := c.open(); err != nil {
		return fmt.Errorf("second restart: %w", err)
	}
	return nil
}

func newSimulation(seed uint64, states, nested int) *simulation {
	rng := rand.New(rand.NewPCG(seed, 0))
	return &simulation{rng: rng, states: states, nested: nested, grow: 256, seen: seen{}}
}

// TestPowerCut: whatever a power cut leaves, a restart needs no help, has all
// that was acknowledged, and invents nothing.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		sim := newSimulation(seed, 20, 150)
		if err := sim.run(-1, nil); err != nil {
			t.Fatal(err)
		}
		for _, err := range sim.faults {
			t.Errorf("seed %d: %v", seed, err)
		}
		t.Logf("seed %d: %d operations, %d states", seed, sim.operations, sim.tried)
	}
}

// TestKillThenPowerCut: a daemon that was killed leaves in memory what was
// never synced. The next one must not build on it.
func TestKillThenPowerCut(t *testing.T) {
	t.Parallel()
	whole := newSimulation(7, 4, 0)
	if err := whole.run(-1, nil); err != nil {
		t.Fatal(err)
	}
	for kill := whole.rng.IntN(5); kill < whole.operations; kill += 1 + whole.rng.IntN(12) {
		sim := newSimulation(uint64(kill), 2, 0)
		sim.seen = whole.seen
		if err := sim.run(kill, nil); err != nil {
			t.Errorf("kill %d: %v", kill, err)
		}
		for _, err := range sim.faults {
			t.Errorf("kill %d: %v", kill, err)
		}
	}
}
