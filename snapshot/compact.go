package snapshot

import (
	"errors"
	"fmt"
	"io"
)

// keepSnapshots is how many snapshots are kept, with all segments since the
// oldest of them. The beginning, from which the first segment goes on, counts.
const keepSnapshots = 3

// WriteSnapshot writes the state at a mark: each calls yield with its records,
// in the order in which Replay is to give them back. It may run in another
// goroutine than the one that commits, one at a time. The snapshot is durable
// and was read back when it returns nil; then it has also removed what is older
// than the third newest. An error leaves the journal as usable as before.
func (s *Store) WriteSnapshot(m Mark, each func(yield func(rec []byte) error) error) (err error) {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	defer func() { s.failed.Store(err != nil) }()
	name := snapshotName(m.segment)
	if err := s.writeSnapshot(name, m, each); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	size, err := s.readBack(name, m)
	if err != nil {
		// It must not pass for one of the three that can be relied on.
		return fmt.Errorf("read %s back: %w", name,
			errors.Join(err, s.fs.Remove(name), s.fs.SyncDir(".")))
	}
	s.snapSize.Store(size)
	if err := s.prune(); err != nil {
		return fmt.Errorf("remove old snapshots: %w", err)
	}
	return nil
}

func (s *Store) writeSnapshot(
	name string, m Mark, each func(yield func(rec []byte) error) error,
) error {
	p, err := s.fs.Replace(name)
	if err != nil {
		return err
	}
	defer p.Cleanup()
	w, err := newSnapshotWriter(p,
		header{magic: snapshotMagic, store: s.server, number: m.segment, at: m.at})
	if err != nil {
		return err
	}
	if err := each(w.add); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	if err := p.Commit(); err != nil {
		return err
	}
	return s.fs.SyncDir(".")
}

// readBack reads a snapshot from the disk, all of it, as a start would.
func (s *Store) readBack(name string, m Mark) (size int64, err error) {
	f, err := s.fs.Open(name, false)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	f.DropCache()
	if err := replaySnapshot(s.fs, m.segment, s.server, nil); err != nil {
		return 0, err
	}
	return f.Size()
}

// verifySnapshot reads a snapshot from end to end, without decompressing it.
func verifySnapshot(fsys FS, number uint64, store storeID) (at position, size int64, err error) {
	r, err := openSnapshot(fsys, number, store)
	if err != nil {
		return position{}, 0, err
	}
	defer r.Close()
	var b block
	for err == nil {
		b, err = r.next(b.buf)
	}
	if err != io.EOF {
		return position{}, 0, err
	}
	return r.head.at, r.size, nil
}

// prune removes the snapshots before the third newest, and then the segments
// before that one: in this order, so that a snapshot never lacks the segments
// that go on from it. What comes back because the last removals were not synced
// goes the next time.
func (s *Store) prune() error {
	inv, err := takeInventory(s.fs)
	if err != nil {
		return err
	}
	old := len(inv.snapshots) - keepSnapshots
	if old < 0 {
		return nil
	}
	for _, n := range inv.snapshots[:old] {
		if err := s.fs.Remove(snapshotName(n)); err != nil {
			return err
		}
	}
	if err := s.fs.SyncDir("."); err != nil {
		return err
	}
	for _, n := range inv.segments {
		if n >= inv.snapshots[old] {
			break
		}
		if err := s.fs.Remove(segmentName(n)); err != nil {
			return err
		}
	}
	return nil
}
