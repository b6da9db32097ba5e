//go:build linux

package daemon

import (
	"log/slog"
	"time"

	"jobserver/snapshot"
)

// journal is the store as the scheduler sees it.
type journal struct {
	store *snapshot.Store
	log   *slog.Logger
	took  func(seconds float64) // hears how long each commit took; nil: nobody does
}

// Commit makes records durable, all or none.
func (j journal) Commit(records [][]byte) error {
	if j.took == nil {
		return j.store.Commit(records)
	}
	began := time.Now()
	err := j.store.Commit(records)
	j.took(time.Since(began).Seconds())
	return err
}

// Full says that the disk has no room for more work.
func (j journal) Full() bool { return j.store.Full() }

// NeedsSnapshot says that a snapshot would be shorter than what has been written since the last.
func (j journal) NeedsSnapshot() bool { return j.store.NeedsCompaction() }

// SnapshotPays says that a start would take longer than a snapshot does now.
func (j journal) SnapshotPays() bool { return j.store.CompactionPays() }

// Seal closes the journal: nothing is written to it any more.
func (j journal) Seal() error { return j.store.Seal() }

// StartSnapshot begins a snapshot of the present state, and gives what writes it.
func (j journal) StartSnapshot() (func(func(func([]byte) error) error) error, error) {
	mark, err := j.store.Rotate()
	if err != nil {
		return nil, err
	}
	return func(each func(func([]byte) error) error) error {
		began := time.Now()
		if err := j.store.WriteSnapshot(mark, each); err != nil {
			return err
		}
		j.log.Info("a snapshot of the state was written and read back", "took", time.Since(began).
			Round(time.Millisecond))
		return nil
	}, nil
}
