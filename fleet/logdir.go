package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"jobserver/sched"
)

// HighestLog is the highest id of a job that has a log below the log directory, 0 for none. Only
// those up to a limit count: what is beyond it is no log of ours.
func HighestLog(dir string, limit uint64) (uint64, error) {
	folders, err := LogFolders(dir)
	if err != nil {
		return 0, err
	}
	for _, folder := range slices.Backward(folders) {
		jobs, err := LoggedJobs(filepath.Join(dir, folder))
		if err != nil {
			return 0, err
		}
		for _, job := range slices.Backward(jobs) {
			if job <= limit {
				return job, nil
			}
		}
	}
	return 0, nil
}

// LogFolders lists the folders of the log directory that may hold logs, in the order of their jobs.
func LogFolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the log directory: %w", err)
	}
	var thousands []uint64
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && e.IsDir() && n < 1<<50 &&
			sched.LogFolder(1000*n) == e.Name() {
			thousands = append(thousands, n)
		}
	}
	slices.Sort(thousands)
	folders := make([]string, len(thousands))
	for i, n := range thousands {
		folders[i] = sched.LogFolder(1000 * n)
	}
	return folders, nil
}

// LoggedJobs lists the jobs that have a log in a folder of the log directory, ascending.
func LoggedJobs(folder string) ([]uint64, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var jobs []uint64
	for _, e := range entries {
		if job, ok := sched.LoggedJob(e.Name()); ok &&
			sched.LogFolder(job) == filepath.Base(folder) {
			jobs = append(jobs, job)
		}
	}
	slices.Sort(jobs)
	return slices.Compact(jobs), nil
}
