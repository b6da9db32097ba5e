//go:build linux

package daemon

import (
	"context"
	"log/slog"
	"path/filepath"

	"jobserver/fleet"
	"jobserver/sched"
)

// sweepLogs removes the logs of jobs that were forgotten: what a daemon that died had not come to
// removing, as nobody asks for it again. It goes through the log directory once, a folder at a
// time, beside everything else.
func sweepLogs(
	ctx context.Context, dir string, loop *sched.Loop, machines *fleet.Fleet, log *slog.Logger,
) {
	folders, err := fleet.LogFolders(dir)
	if err != nil {
		log.Warn("logs of forgotten jobs may stay", "err", err)
	}
	swept := 0
	for _, folder := range folders {
		jobs, err := fleet.LoggedJobs(filepath.Join(dir, folder))
		if err != nil {
			log.Warn("logs of forgotten jobs may stay", "err", err)
		}
		if len(jobs) == 0 {
			continue
		}
		var forgotten []uint64
		if err := loop.Read(ctx,
			func(st *sched.State) { forgotten = st.Forgotten(jobs) }); err != nil {
			return // the loop has stopped, or the daemon does
		}
		for _, job := range forgotten {
			machines.ForgetLogs(job)
		}
		swept += len(forgotten)
	}
	if swept > 0 {
		log.Info("logs of forgotten jobs are removed that an earlier daemon left", "jobs", swept)
	}
}
