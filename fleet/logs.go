package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"jobserver/sched"
)

// logKeeper makes the logs of ended runs durable, all that have ended within a second with one
// sync, and removes those of forgotten jobs.
type logKeeper struct {
	dir   string
	every time.Duration
	log   *slog.Logger
	wake  chan struct{} // has room for one

	mu     sync.Mutex
	ended  []func(error) // guarded by mu: who waits for the next sync
	doomed []uint64      // guarded by mu: jobs whose logs go
}

func newLogKeeper(dir string, every time.Duration, log *slog.Logger) *logKeeper {
	return &logKeeper{dir: dir, every: every, log: log, wake: make(chan struct{}, 1)}
}

// add calls durable once everything that is in the log directory now has been synced.
func (k *logKeeper) add(durable func(error)) {
	k.mu.Lock()
	k.ended = append(k.ended, durable)
	k.mu.Unlock()
	k.nudge()
}

// forget removes the logs of a job.
func (k *logKeeper) forget(job uint64) {
	k.mu.Lock()
	k.doomed = append(k.doomed, job)
	k.mu.Unlock()
	k.nudge()
}

func (k *logKeeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends. It sleeps while there is nothing to do; after the first call it waits
// for others to come. Logs of forgotten jobs are removed in the end too, as nobody asks for that
// again.
func (k *logKeeper) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-k.wake:
		case <-ctx.Done():
		}
		timer.Reset(k.every)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		last := ctx.Err() != nil
		k.mu.Lock()
		ended, doomed := k.ended, k.doomed
		k.ended, k.doomed = nil, nil
		k.mu.Unlock()
		if len(ended) > 0 && !last {
			k.sync(ended)
		}
		k.remove(doomed)
		if last {
			return
		}
	}
}

func (k *logKeeper) sync(ended []func(error)) {
	err := syncFS(k.dir)
	if err != nil {
		k.log.Error("the logs of ended runs can't be made durable", "dir", k.dir, "runs",
			len(ended), "err", err)
	}
	for _, durable := range ended {
		durable(err)
	}
}

// syncFS makes everything on dir's file system durable.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	return nil
}

// remove deletes the logs of jobs; each folder is read once, however many of its jobs go.
func (k *logKeeper) remove(jobs []uint64) {
	folders := map[string]map[uint64]bool{}
	for _, job := range jobs {
		folder := filepath.Dir(sched.LogGlob(k.dir, job))
		if folders[folder] == nil {
			folders[folder] = map[uint64]bool{}
		}
		folders[folder][job] = true
	}
	for folder, doomed := range folders {
		files, err := os.ReadDir(folder)
		if err != nil && !os.IsNotExist(err) {
			k.log.Warn("logs of forgotten jobs stay", "err", err)
		}
		for _, file := range files {
			number, _, _ := strings.Cut(file.Name(), ".")
			job, err := strconv.ParseUint(number, 10, 64)
			if err != nil || !doomed[job] {
				continue
			}
			if err := os.Remove(filepath.Join(folder, file.Name())); err != nil &&
				!os.IsNotExist(err) {
				k.log.Warn("the log of a forgotten job stays", "err", err)
			}
		}
	}
}
