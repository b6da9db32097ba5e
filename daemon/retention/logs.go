//go:build linux

package retention

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"jobserver/fleet"
	"jobserver/joblog"
	"jobserver/sched"
)

// loggedJob are the logs of a job that nothing is written to any more.
type loggedJob struct {
	paths []string
	sizes []int64   // on the disk, of each
	bytes int64     // of all of them
	at    time.Time // when the newest was last written to
}

// tidyLogs compresses the logs that are a day old, and removes the oldest beyond what may be kept.
// A log whose job hasn't ended, or of which a machine has something still, is not looked at.
func (k *Keeper) tidyLogs(ctx context.Context) error {
	folders, err := fleet.LogFolders(k.LogDir)
	if err != nil {
		return err
	}
	var all []loggedJob
	var failed []error
	for _, folder := range folders {
		jobs, err := k.tidyFolder(ctx, filepath.Join(k.LogDir, folder))
		if err != nil {
			failed = append(failed, err) // a full disk, say: the more is to be removed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if k.KeepLogs > 0 {
			all = append(all, jobs...)
		}
	}
	return errors.Join(append(failed, k.dropLogs(ctx, all))...)
}

// dropLogs removes the oldest of the logs until they take no more than they may.
func (k *Keeper) dropLogs(ctx context.Context, all []loggedJob) error {
	var total int64
	for _, job := range all {
		total += job.bytes
	}
	if total <= k.KeepLogs || k.KeepLogs == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b loggedJob) int { return a.at.Compare(b.at) })
	var removed int
	var freed int64
	for _, job := range all {
		if total-freed <= k.KeepLogs || ctx.Err() != nil {
			break
		}
		for _, path := range job.paths {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		freed += job.bytes
		removed++
	}
	k.Log.Info("the oldest logs were removed, as --keep-logs says", "jobs", removed,
		"bytes", freed)
	return ctx.Err()
}

// tidyFolder compresses the old logs in a folder, and gives those of all jobs that rest, also
// beside an error.
func (k *Keeper) tidyFolder(ctx context.Context, folder string) ([]loggedJob, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	files := map[uint64][]fs.DirEntry{}
	for _, e := range entries {
		if joblog.IsPart(e.Name()) { // of a daemon that died
			if err := os.Remove(filepath.Join(folder, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		if job, ok := sched.LoggedJob(e.Name()); ok &&
			sched.LogFolder(job) == filepath.Base(folder) {
			files[job] = append(files[job], e)
		}
	}
	resting, err := k.resting(ctx, files)
	if err != nil {
		return nil, err
	}
	var jobs []loggedJob
	var failed error // the first: others fail for the same reason
	for _, id := range resting {
		job, old := k.lookAt(folder, files[id])
		for i, path := range old {
			if failed != nil || ctx.Err() != nil {
				break
			}
			if failed = joblog.Pack(path); failed == nil {
				failed = joblog.Replace(path)
			}
			if failed == nil {
				job.packed(old[i])
			}
		}
		jobs = append(jobs, job)
	}
	return jobs, failed
}

// packed notes that a log has become a compressed one.
func (l *loggedJob) packed(path string) {
	for i := range l.paths {
		if l.paths[i] != path {
			continue
		}
		l.paths[i] += joblog.Suffix
		l.bytes -= l.sizes[i]
		l.sizes[i] = 0
		if info, err := os.Stat(l.paths[i]); err == nil {
			l.sizes[i] = onDisk(info)
		}
		l.bytes += l.sizes[i]
	}
}

// onDisk is how many bytes a file takes on the disk.
func onDisk(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// resting are the jobs, ascending, of which nothing is left to do.
func (k *Keeper) resting(
	ctx context.Context, files map[uint64][]fs.DirEntry,
) (resting []uint64, err error) {
	var ids []uint64
	for id := range files {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for page := range slices.Chunk(ids, sched.MaxPage) {
		err := k.Loop.Read(ctx, func(st *sched.State) {
			resting = append(resting, st.Resting(page)...)
		})
		if err != nil {
			return nil, err
		}
	}
	return resting, nil
}

// lookAt looks at the logs of a job, and says which are to be compressed.
func (k *Keeper) lookAt(folder string, files []fs.DirEntry) (job loggedJob, old []string) {
	for _, e := range files {
		path := filepath.Join(folder, e.Name())
		if k.KeepLogs == 0 && joblog.Plain(path) != path {
			continue // nothing is left to do about it
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // it was removed just now
		}
		job.paths = append(job.paths, path)
		job.sizes = append(job.sizes, onDisk(info))
		job.bytes += onDisk(info)
		if info.ModTime().After(job.at) {
			job.at = info.ModTime()
		}
		if joblog.Plain(path) == path && info.Size() > 0 &&
			k.Now().Sub(info.ModTime()) >= packAge {
			old = append(old, path)
		}
	}
	return job, old
}
