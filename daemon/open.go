//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"

	"jobserver/api"
	"jobserver/failpoint"
	"jobserver/fleet"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/snapshot"
	"jobserver/version"
)

// open takes the state directory and rebuilds the state from it.
func (d *daemon) open(log *slog.Logger) (*sched.State, error) {
	store, recovery, err := snapshot.Open(d.o.StateDir, snapshot.Options{
		AllowFail: d.o.AllowSnapFail, MinFree: d.o.stateMinFree(), Version: version.String(),
	})
	if err != nil {
		return nil, stateError(d.o.StateDir, err)
	}
	d.store, d.recovery = store, recovery
	failpoint.Hit("serve.opened")
	for _, notice := range recovery.Notices {
		log.Warn(notice)
	}
	state, err := d.replay()
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return state, nil
}

func (d *daemon) replay() (*sched.State, error) {
	// What is read leaves much garbage beside a state that only grows: collected early, it doesn't
	// double the daemon's memory.
	defer debug.SetGCPercent(debug.SetGCPercent(30))
	restorer := sched.NewRestorer()
	if err := d.recovery.Replay(restorer.Record, restorer.Change); err != nil {
		return nil, fmt.Errorf("rebuild the state from %s: %w", d.o.StateDir, err)
	}
	state, err := restorer.State()
	if err != nil {
		return nil, fmt.Errorf("rebuild the state from %s: %w", d.o.StateDir, err)
	}
	return state, d.reserveIDs(state)
}

// farID is how far the logs may be ahead of the state: each id that is reserved takes 13 bytes of
// memory.
const farID = 100_000_000

// reserveIDs lets ids go on above those that a history which couldn't be loaded has given out: logs
// and results bear them. Nobody gets an id before. A start that dies on the way leaves the mark by
// which the next one begins it anew.
func (d *daemon) reserveIDs(state *sched.State) error {
	next := state.NextID()
	highest, err := fleet.HighestLog(d.o.LogDir, next+farID)
	if err != nil {
		return err
	}
	if highest >= next && !d.recovery.Unreserved {
		d.log.Logger("server").Warn("there are logs of jobs that the state has never known; ids "+
			"go on above theirs", "next", next, "highest", highest)
	}
	if d.recovery.Unreserved {
		if err := d.recovery.Salvage(func(rec []byte) {
			highest = max(highest,
				sched.HighestID(rec))
		}); err != nil {
			return fmt.Errorf("look for the highest id in what was set aside: %w", err)
		}
		failpoint.Hit("serve.salvaged")
	}
	if highest >= next {
		if err := d.commitAlone(state,
			&sched.Change{IdsReserved: &statepb.IdsReserved{Next: highest + 1}}); err != nil {
			return err
		}
		failpoint.Hit("serve.reserved")
	}
	if d.recovery.Unreserved {
		if err := d.recovery.Reserved(); err != nil {
			return fmt.Errorf("note that the ids of what was set aside are reserved: %w", err)
		}
	}
	return nil
}

// commitAlone makes one change durable before the loop runs.
func (d *daemon) commitAlone(state *sched.State, c *sched.Change) error {
	record, err := sched.Encode(c)
	if err == nil {
		err = state.Apply(c)
	}
	if err == nil {
		err = d.store.Commit([][]byte{record})
	}
	if err != nil {
		return fmt.Errorf("reserve the ids of the history that was set aside: %w", err)
	}
	return nil
}

// stateError is why the state directory can't be used, with the next step.
func stateError(dir string, err error) error {
	var corrupt *snapshot.CorruptError
	var newer *snapshot.FormatError
	switch {
	case errors.As(err, &newer):
		return api.Errorf(api.Conflict, "the state in %s is a newer version's: %w", dir, err).
			WithHint("%s", newer.Hint())
	case errors.Is(err, snapshot.ErrLocked):
		return api.Errorf(api.Conflict, "%v", err).
			WithHint("one daemon owns a state directory: use that one, or give another with " +
				"--state-dir")
	case errors.As(err, &corrupt):
		return api.Errorf(api.Conflict, "the saved state is damaged, and was left as it is: %s: %s",
			filepath.Join(dir, corrupt.File), DamageIn(corrupt)).
			WithHint("`jobserver state check --state-dir %s` shows what else is wrong; %s", dir,
				DamageHint(dir))
	}
	return fmt.Errorf("open the state directory %s: %w", dir, err)
}
