package main

import (
	"context"
	"path/filepath"

	"jobserver/fleet"
	"jobserver/sched"
)

// sweepLogs removes the logs of jobs that were forgotten: what a daemon that died had not come to removing, as nobody asks for it
// again. It goes through the log directory once, a folder at a time, beside everything else.
func (p *daemonParts) sweepLogs(ctx context.Context) {
	log := p.log.Logger("server")
	dir := p.settings.LogDir
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
		if err := p.loop.Read(ctx, func(st *sched.State) { forgotten = st.Forgotten(jobs) }); err != nil {
			return // the loop has stopped, or the daemon does
		}
		for _, job := range forgotten {
			p.fleet.ForgetLogs(job)
		}
		swept += len(forgotten)
	}
	if swept > 0 {
		log.Info("logs of forgotten jobs are removed that an earlier daemon left", "jobs", swept)
	}
}
