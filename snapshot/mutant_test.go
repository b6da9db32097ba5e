package snapshot

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// needless are the syncs without which nothing can be lost, with the reason why
// they are there. A sync is named by what the client does, the operation before
// it, and itself.
var needless = map[string]string{
	"start:  → syncdir .": "a first start finds nothing that could be in " +
		"memory only",
	"start: write .reserve → sync .reserve": "the reserve is not data",
	"close: write wal → sync wal":           "a sealing batch says nothing that would be missed",
	"compact: syncdir . → syncdir .": "when there are just three snapshots, none was " +
		"removed before",
}

var digits = regexp.MustCompile(`[-0-9]+`)

// syncs names the syncs of a life as it goes, and asks about each.
func syncs(m *memFS, c *client, drop func(name string) bool) {
	step, last := 0, ""
	before, after := m.before, m.after
	normal := func(op string) string { return digits.ReplaceAllString(op, "") }
	m.before = func(op string) error {
		if step != c.steps {
			step, last = c.steps, ""
		}
		return before(op)
	}
	m.after = func(op string) {
		last = normal(op)
		if after != nil {
			after(op)
		}
	}
	m.drop = func(op string) bool {
		name := fmt.Sprintf("%s: %s → %s", c.step, last, normal(op))
		if !drop(name) {
			return false
		}
		last = normal(op)
		return true
	}
}

// TestLeftOutSync: without any of its syncs, the code loses something, and the
// simulator sees it. That is what makes TestPowerCut worth believing.
func TestLeftOutSync(t *testing.T) {
	t.Parallel()
	var names []string
	sim := newSimulation(0, 1, 0)
	err := sim.run(-1, func(m *memFS, c *client) {
		m.after = nil
		syncs(m, c, func(name string) bool { names = append(names, name); return false })
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	fine := seen{}
	for _, name := range slices.Compact(names) {
		_, expected := needless[name]
		found := leaveOut(name, sim.operations, fine)
		t.Logf("%s: %v", name, found)
		if (found == nil) != expected {
			t.Errorf("without %q: expected to be needless is %v, found: %v", name, expected, found)
		}
	}
}

// leaveOut lives lives without a sync until one shows the loss.
func leaveOut(name string, operations int, fine seen) error {
	mutate := func(m *memFS, c *client) {
		syncs(m, c, func(n string) bool { return n == name })
	}
	kills := []int{-1, -1, -1}
	if strings.HasPrefix(name, "open") {
		for k := range operations {
			kills = append(kills, k)
		}
	}
	for i, kill := range kills {
		sim := newSimulation(uint64(i), 5, 0)
		sim.seen = fine
		if err := sim.run(kill, mutate); err != nil {
			return err
		}
		if len(sim.faults) > 0 {
			return sim.faults[0]
		}
	}
	return nil
}

// TestEarlyAcknowledgement: a reply before the sync is seen as a loss.
func TestEarlyAcknowledgement(t *testing.T) {
	t.Parallel()
	sim := newSimulation(1, 12, 0)
	if err := sim.run(-1, func(_ *memFS, c *client) { c.early = true }); err != nil {
		t.Fatal(err)
	}
	if len(sim.faults) == 0 {
		t.Error("records that were acknowledged before they were synced were never missed")
	}
}
