//go:build linux

// Package retention keeps the state and the logs from growing for ever, as far as the user asked
// for it: jobs that ended long ago are forgotten, and may be archived; logs are compressed when
// they are a day old, and removed beyond a size. Results are never touched. Unless it is asked for,
// nothing is forgotten or removed.
package retention

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"jobserver/sched"
)

// Loop has what is needed of the scheduler's loop.
type Loop interface {
	Read(ctx context.Context, f func(st *sched.State)) error
	Do(
		ctx context.Context, id string, newWork bool,
		plan func(st *sched.State, now time.Time) (sched.Plan, error),
	) (sched.Plan, bool, error)
}

// Options say what is kept.
type Options struct {
	Loop   Loop
	Now    func() time.Time
	Log    *slog.Logger
	LogDir string // of the jobs' logs

	Keep     time.Duration // how long jobs are kept when they have ended; 0: for ever
	KeepJobs int           // how many ended ones are kept at least, and about at most; 0: all
	KeepLogs int64         // bytes that the logs of ended jobs may take; 0: any
	Archive  string        // a directory to which what is forgotten is written; "": nowhere
}

// How often is looked whether there is something to do. A job is not kept for a 24th longer than
// was asked for.
const (
	shortestPause = time.Second
	longestPause  = time.Hour
	countPause    = 10 * time.Second // between two looks at how many there are, which cost nothing
)

// packAge is the age at which a log is compressed.
const packAge = 24 * time.Hour

// Keeper does it.
type Keeper struct {
	Options
	archive archive

	mu   sync.Mutex // one at a time forgets
	ends []int64    // guarded by mu: when a job ended, by its id, in nanoseconds; 0: not known
}

// New makes a Keeper.
func New(o Options) *Keeper {
	return &Keeper{Options: o, archive: archive{dir: o.Archive}}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { k.every(ctx, longestPause, k.tidyLogs) })
	if k.Keep > 0 {
		pause := min(max(k.Keep/24, shortestPause), longestPause)
		group.Go(func() { k.every(ctx, pause, k.forgetOld) })
	}
	if k.KeepJobs > 0 {
		group.Go(func() { k.every(ctx, countPause, k.forgetMany) })
	}
	group.Wait()
}

// every does something now, and again after each pause.
func (k *Keeper) every(ctx context.Context, pause time.Duration, do func(context.Context) error) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			k.Log.Warn("what ended long ago stays for now; it is tried again", "err", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// forgetOld forgets what ended longer ago than is kept.
func (k *Keeper) forgetOld(ctx context.Context) error {
	_, err := k.prune(ctx, Request{Before: k.Now().Add(-k.Keep), Act: true})
	return err
}

// forgetMany forgets the oldest, as soon as there are more than are kept.
func (k *Keeper) forgetMany(ctx context.Context) error {
	ended := 0
	err := k.Loop.Read(ctx, func(st *sched.State) {
		counts := st.Counts()
		ended = counts.Total() - counts.Unfinished()
	})
	if err != nil || ended <= k.KeepJobs {
		return err
	}
	_, err = k.prune(ctx, Request{Before: k.Now(), Newest: k.KeepJobs, Act: true})
	return err
}
