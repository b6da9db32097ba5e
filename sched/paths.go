package sched

import (
	"fmt"
	"path/filepath"
	"strings"

	"jobserver/sched/statepb"
)

// LogPath is where the log of a run is kept on the host, below the log directory: a folder per thousand
// jobs, then <jid>.<attempt>.out or .err; the later steps of a setup have their number in between.
func LogPath(dir string, r *statepb.RunRef, stderr bool) string {
	name := fmt.Sprintf("%d.%d", r.Job, r.Attempt)
	if r.Step > 0 {
		name += fmt.Sprintf(".%d", r.Step)
	}
	if stderr {
		return filepath.Join(dir, logFolder(r.Job), name+".err")
	}
	return filepath.Join(dir, logFolder(r.Job), name+".out")
}

// LogGlob matches the log files of all attempts of a job.
func LogGlob(dir string, job uint64) string {
	return filepath.Join(dir, logFolder(job), fmt.Sprintf("%d.*", job))
}

func logFolder(job uint64) string { return fmt.Sprintf("%06d", job/1000) }

// IsLocal says that the address is this host itself: `local` or `local:NAME`.
func IsLocal(addr string) bool { return addr == "local" || strings.HasPrefix(addr, "local:") }
