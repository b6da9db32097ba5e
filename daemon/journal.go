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

func (j journal) Commit(records [][]byte) error {
	if j.took == nil {
		return j.store.Commit(records)
	}
	began := time.Now()
	err := j.store.Commit(records)
	j.took(time.Since(began).Seconds())
	return err
}

func (j journal) Full() bool          { return j.store.Full() }
func (j journal) NeedsSnapshot() bool { return j.store.NeedsCompaction() }
func (j journal) Seal() error         { return j.store.Seal() }
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
		j.log.Info("a snapshot of the state was written and read back", "took", time.Since(began).Round(time.Millisecond))
		return nil
	}, nil
}
