package sched

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"jobserver/sched/statepb"
)

// LogPath is where the log of a run is kept on the host, below the log directory: a folder per
// thousand jobs, then <jid>.<attempt>.out or .err; the later steps of a setup have their number in
// between, and the ranks of a job that runs on several machines r0, r1 … dir is clean.
func LogPath(dir string, r *statepb.RunRef, stderr bool) string {
	// A listing has several for each job: no formatting.
	b := append(make([]byte, 0, len(dir)+48), dir...)
	b = append(b, filepath.Separator)
	b = append(b, LogFolder(r.Job)...)
	b = append(b, filepath.Separator)
	b = append(strconv.AppendUint(b, r.Job, 10), '.')
	b = strconv.AppendInt(b, int64(r.Attempt), 10)
	if r.Step > 0 {
		b = strconv.AppendInt(append(b, '.'), int64(r.Step), 10)
	}
	if r.Rank > 0 {
		b = strconv.AppendInt(append(b, ".r"...), int64(r.Rank-1), 10)
	}
	if stderr {
		return string(append(b, ".err"...))
	}
	return string(append(b, ".out"...))
}

// WeavePath is where it is kept in which order the bytes of a run's two logs came, beside them.
func WeavePath(dir string, r *statepb.RunRef) string {
	return strings.TrimSuffix(LogPath(dir, r, false), ".out") + ".weave"
}

// LogGlob matches the log files of all attempts of a job.
func LogGlob(dir string, job uint64) string {
	return filepath.Join(dir, LogFolder(job), fmt.Sprintf("%d.*", job))
}

// LoggedJob is the job that a file in a folder of the log directory is a log of, or says the order
// of, by the file's name. It may have been compressed since.
func LoggedJob(name string) (job uint64, ok bool) {
	number, rest, _ := strings.Cut(name, ".")
	for _, compressed := range []string{".zst", ".gz"} {
		rest = strings.TrimSuffix(rest, compressed)
	}
	if !strings.HasSuffix(rest, ".out") && !strings.HasSuffix(rest, ".err") &&
		!strings.HasSuffix(rest, ".weave") {
		return 0, false
	}
	job, err := strconv.ParseUint(number, 10, 64)
	return job, err == nil && job > 0 && number[0] != '0' && number[0] != '+'
}

// LogFolder is the folder of a job's logs, below the log directory.
func LogFolder(job uint64) string {
	number := strconv.FormatUint(job/1000, 10)
	return "000000"[min(len(number), 6):] + number
}

// IsLocal says that the address is this host itself: `local` or `local:NAME`.
func IsLocal(addr string) bool { return addr == "local" || strings.HasPrefix(addr, "local:") }
