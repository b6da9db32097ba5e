//go:build linux

package daemon

import (
	"context"
	"log/slog"

	"jobserver/fleet"
	"jobserver/sched"
)

// sweepCopies removes what copies have left that a daemon which died had begun, and that nobody
// goes on with: parts beside destinations, and notes of them. Those of jobs whose results are still
// on their way are gone on with.
func sweepCopies(ctx context.Context, loop *sched.Loop, machines *fleet.Fleet, log *slog.Logger) {
	jobs, err := machines.LeftCopies()
	if err != nil {
		log.Warn("what copies have left may stay", "err", err)
	}
	var left []uint64
	err = loop.Read(ctx, func(st *sched.State) {
		for _, job := range jobs {
			if !st.Copies(job) {
				left = append(left, job)
			}
		}
	})
	if err != nil || len(left) == 0 {
		return // the loop has stopped, or there is nothing
	}
	if err := machines.RemoveLeft(left); err != nil {
		log.Warn("what copies have left stays", "err", err)
	}
	log.Info("removed what copies have left that an earlier daemon had begun", "jobs", len(left))
}
