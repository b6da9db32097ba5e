//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"jobserver/fleet"
	"jobserver/sched"
)

// codeGrace is how long code is kept that no job names: its job may be about to be submitted.
const codeGrace = 24 * time.Hour

// codeKeeper removes code from the state directory that no job names any more, as they were
// forgotten or never submitted: any job that is known may be run again. It looks when other code
// has come, as nothing grows otherwise.
type codeKeeper struct {
	stateDir string
	log      *slog.Logger
	now      func() time.Time
	wake     chan struct{} // has room for one

	// read looks at the state, a page of jobs at a time.
	read func(ctx context.Context, f func(st *sched.State)) error
}

func newCodeKeeper(
	stateDir string, loop *sched.Loop, now func() time.Time, log *slog.Logger,
) *codeKeeper {
	return &codeKeeper{
		stateDir: stateDir, log: log, now: now, wake: make(chan struct{}, 1), read: loop.Read,
	}
}

// came says that other code has come. It never waits.
func (k *codeKeeper) came() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run tidies up whenever code has come, until ctx ends.
func (k *codeKeeper) run(ctx context.Context) {
	for {
		select {
		case <-k.wake:
		case <-ctx.Done():
			return
		}
		if err := k.tidy(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("code that no job names stays", "err", err)
		}
	}
}

// tidy removes what is older than the grace and isn't named.
func (k *codeKeeper) tidy(ctx context.Context) error {
	surplus, err := k.aged()
	if err != nil {
		return err
	}
	for from := uint64(0); len(surplus) > 0; {
		var failed error
		err := k.read(ctx, func(st *sched.State) {
			from, failed = st.CodeNamed(from, func(hash string) {
				delete(surplus, fleet.CodeArchive(k.stateDir, hash))
				delete(surplus, fleet.CodeDiff(k.stateDir, hash))
				delete(surplus, fleet.CodeStdin(k.stateDir, hash))
			})
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		if from == 0 {
			break
		}
	}
	var errs []error
	for file := range surplus {
		if !k.isAged(file) { // somebody has asked for it since
			continue
		}
		if err := os.Remove(file); err != nil {
			errs = append(errs, err)
			continue
		}
		k.log.Info("removed code that no job uses", "file", file)
	}
	return errors.Join(errs...)
}

// aged lists the files that nobody has asked for within the grace, among them pieces of what never
// came whole.
func (k *codeKeeper) aged() (map[string]bool, error) {
	dir := filepath.Dir(fleet.CodeArchive(k.stateDir, ""))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list the code: %w", err)
	}
	aged := map[string]bool{}
	for _, e := range entries {
		if file := filepath.Join(dir, e.Name()); k.isAged(file) {
			aged[file] = true
		}
	}
	return aged, nil
}

func (k *codeKeeper) isAged(file string) bool {
	info, err := os.Stat(file)
	return err == nil && k.now().Sub(info.ModTime()) > codeGrace
}
