package snapshot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// goldenDir holds state directories as released versions wrote them. Those of
// old formats are never made again.
const goldenDir = "../testdata/state"

// golden are the directories of the format as it is now, and how each was made.
// With UPDATE_GOLDEN=1 the test makes those that are missing.
var golden = map[string]struct {
	make    func(c *client) error
	records int // what they hold: record(0) and so on
	notices int
}{
	// Started and closed.
	"v1-empty": {func(c *client) error { return c.close() }, 0, 0},
	// Snapshots, segments before and after them, closed.
	"v1-closed": {func(c *client) error {
		return errors.Join(c.commit(3), c.compact(), c.compact(), c.commit(10), c.seal(),
			c.compact(),
			c.compact(), c.commit(1), c.commit(30), c.close())
	}, 52, 0},
	// No snapshot yet; killed, with its last batch, of two records, torn.
	"v1-torn": {func(c *client) error {
		if err := errors.Join(c.commit(4), c.commit(2)); err != nil {
			return err
		}
		_, err := c.store.file.WriteAt(make([]byte, 16), c.store.off-16)
		return errors.Join(err, c.store.file.Close(), c.store.lock.Close())
	}, 4, 2},
	// As that, and started again.
	"v1-torn-then-on": {func(c *client) error {
		if err := errors.Join(c.commit(4), c.commit(2)); err != nil {
			return err
		}
		_, err := c.store.file.WriteAt(make([]byte, 16), c.store.off-16)
		err = errors.Join(err, c.store.file.Close(), c.store.lock.Close())
		c.acked = 4
		return errors.Join(err, c.open(), c.commit(1), c.close())
	}, 5, 0},
}

func makeGolden(t *testing.T, dir string, fn func(*client) error) {
	t.Helper()
	c := &client{ledger: newLedger(), opt: Options{FS: OS(dir), Reserve: -1, grow: 256, Now: noon}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	if err := fn(c); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
}

func TestGolden(t *testing.T) {
	for name, g := range golden {
		t.Run(name, func(t *testing.T) {
			from := filepath.Join(goldenDir, name)
			if _, err := os.Stat(from); os.IsNotExist(err) && os.Getenv("UPDATE_GOLDEN") == "1" {
				makeGolden(t, from, g.make)
			}
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			report, err := Check(dir)
			if err != nil || report.Err != nil {
				t.Errorf("check: %v, %v", report.Err, err)
			}
			s, r, err := Open(dir, Options{Reserve: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var want [][]byte
			for i := range g.records {
				want = append(want, record(i))
			}
			got, err := contentsOf(r)
			if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%d records instead of %d, or others; %v", len(got), len(want), err)
			}
			if len(r.Notices) != g.notices || r.Fresh {
				t.Errorf("fresh %v, notices %q", r.Fresh, r.Notices)
			}
		})
	}
	dirs, err := os.ReadDir(goldenDir)
	if err != nil || len(dirs) < len(golden) {
		t.Errorf("%d directories, %v", len(dirs), err)
	}
}
