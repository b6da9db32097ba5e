package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"jobserver/daemontest"
	"jobserver/slurm/slurmtest"
)

// Line 24: a Slurm of one node, at its best: an epilog lets it clean up after a job without
// waiting. Its array jobs, 8 at a time, are measured beside an allocation of 8 processors on the
// same node.

const slurmJobs = 200

// measureSlurm is line 24.
func measureSlurm(ctx context.Context, w *world) (rows []row, err error) {
	cluster, err := slurmtest.New(slurmtest.Nodes(1), slurmtest.CPUs(24),
		slurmtest.Partition("counted"), slurmtest.Config("Epilog=/bin/true"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	state, err := os.MkdirTemp(w.dir, "state-")
	if err != nil {
		return nil, err
	}
	d := &daemon{Daemon: &daemontest.Daemon{Binary: w.binary, StateDir: state,
		Env: append(cluster.Env(), "XDG_STATE_HOME="+w.path("slurm-home"))}}
	if err := d.Start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	// The first has its allocation from the turn on that isn't counted, the second none.
	for _, words := range [][]string{
		{"slurm:test", "x", "--idle", "1h"}, {"slurm:counted", "y", "--idle", "1s"},
	} {
		if _, _, err := d.j(ctx, append([]string{"machine", "add", "--time", "2h", "--max", "1",
			"--slots", "8", "--sbatch=--cpus-per-task=8"}, words...)...); err != nil {
			return nil, err
		}
	}
	theirs := func(n int, every time.Duration) func() (time.Duration, error) {
		return func() (time.Duration, error) { return arrayJob(ctx, cluster, n, every) }
	}
	runs, err := inTurn(ctx, 3, d.severalJobs(ctx, "x", slurmJobs),
		theirs(slurmJobs, 100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	r := row{name: "24a", what: "200 jobs on 8 processors of a Slurm",
		ours:    perSecond(slurmJobs, runs[0].median(), "jobs"),
		theirs:  perSecond(slurmJobs, runs[1].median(), "jobs"),
		ourCmd:  "j add x true -x 200 -q --wait",
		peerCmd: "sbatch --array=1-200%8 --wrap=true, squeue every 0.1 s"}
	rows = append(rows, r.faster(runs[0], runs[1], 5))
	asked, err := requests(cluster, func() (time.Duration, error) {
		took, err := d.severalJobs(ctx, "y", manyJobs)()
		return took, errors.Join(err, d.givesBack(ctx, "slurm:counted/"))
	})
	if err != nil {
		return nil, err
	}
	array, err := requests(cluster, theirs(manyJobs, 5*time.Second))
	if err != nil {
		return nil, err
	}
	return append(rows, row{name: "24b", what: "requests to the controller for 1,000 jobs",
		ours: strconv.Itoa(asked), theirs: strconv.Itoa(array),
		ratio:  float64(array) / float64(asked),
		target: "≥ 10×", reached: array >= 10*asked}), nil
}

// givesBack waits until the daemon has given back all allocations whose addresses begin so. Slurm
// isn't asked.
func (d *daemon) givesBack(ctx context.Context, begin string) error {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for range 3000 {
		out, _, err := d.j(ctx, "machine", "ls", "-q")
		if err != nil || !strings.Contains(out, begin) {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the daemon gives its allocation not back")
}

// arrayJob runs the same as an array job, and looks now and then whether its last element has
// ended: `sbatch --wait` looks ever more rarely, and would be measured instead of Slurm.
func arrayJob(
	ctx context.Context, c *slurmtest.Cluster, n int, every time.Duration,
) (time.Duration, error) {
	return timed(func() error {
		id, err := c.Run("sbatch", "--parsable", "--output=/dev/null",
			fmt.Sprintf("--array=1-%d%%8", n), "--wrap=true")
		if err != nil {
			return err
		}
		look := time.NewTicker(every)
		defer look.Stop()
		for {
			out, err := c.Run("squeue", "-h", "-j", strings.TrimSpace(id))
			if err != nil || strings.TrimSpace(out) == "" {
				return err
			}
			select {
			case <-look.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// requests is how many the controller has counted while something was done.
func requests(c *slurmtest.Cluster, do func() (time.Duration, error)) (int, error) {
	if _, err := c.Run("sdiag", "--reset"); err != nil {
		return 0, err
	}
	if _, err := do(); err != nil {
		return 0, err
	}
	out, err := c.Run("sdiag")
	if err != nil {
		return 0, err
	}
	return countRequests(out)
}

// countRequests adds up what sdiag says of the kinds of requests.
func countRequests(said string) (n int, err error) {
	_, kinds, ok := strings.Cut(said, "Remote Procedure Call statistics by message type")
	if !ok {
		return 0, fmt.Errorf("sdiag says nothing of requests: %.500s", said)
	}
	kinds, _, _ = strings.Cut(kinds, "Remote Procedure Call statistics by user")
	for line := range strings.Lines(kinds) {
		_, count, ok := strings.Cut(line, "count:")
		if !ok || strings.Contains(line, "REQUEST_STATS_INFO") {
			continue
		}
		k, err := strconv.Atoi(strings.Fields(count)[0])
		if err != nil {
			return 0, fmt.Errorf("read what sdiag says: %w", err)
		}
		n += k
	}
	return n, nil
}
