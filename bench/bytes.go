package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lines 10 to 12: results and logs that come back.

const (
	gib        = 1 << 30
	smallFiles = 20_000
	smallSize  = 4 << 10
	resultsJob = `echo "RESULTS: %s"`
)

// largeFile is a file of 1 GiB of noise, made when first asked for.
func (w *world) largeFile() (string, error) { return w.noise("large", gib) }

// noise is a file of n random bytes, made when first asked for.
func (w *world) noise(name string, n int64) (string, error) {
	name = w.path(name)
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	block := make([]byte, 16<<20)
	for left := n; left > 0 && err == nil; left -= int64(len(block)) {
		block = block[:min(left, int64(len(block)))]
		rand.Read(block) // it never fails
		_, err = f.Write(block)
	}
	return name, errors.Join(err, f.Sync(), f.Close())
}

// settle lets the disk finish what earlier turns left to it, and fills memory, so that no turn pays
// for another one, or for the host. It fills twice: before the sync, what was just removed is still
// ours, and cheap; while that lasts, more may be given back.
func (w *world) settle() error {
	d, err := os.Open(w.dir)
	if err != nil {
		return err
	}
	return errors.Join(w.filler.fill(), unix.Syncfs(int(d.Fd())), w.filler.fill(), d.Close())
}

// same says with cmp or diff whether two files or directories hold the same.
func same(ctx context.Context, a, b string) error {
	_, _, err := output(ctx, "diff", "-r", "-q", a, b)
	return err
}

// fetched is one turn of bringing from to a new directory: run does it and says how long it took
// and where it went. What came stays until the line has been measured, see world.
func (w *world) fetched(
	ctx context.Context, from string, run func(dest string) (time.Duration, string, error),
) func() (time.Duration, error) {
	return func() (took time.Duration, err error) {
		if err := os.MkdirAll(w.dests(), 0o755); err != nil {
			return 0, err
		}
		dest, err := os.MkdirTemp(w.dests(), "")
		if err != nil {
			return 0, err
		}
		if err := w.settle(); err != nil {
			return 0, err
		}
		took, where, err := run(dest)
		if err != nil {
			return 0, err
		}
		return took, same(ctx, from, where)
	}
}

// dests is where what was fetched stays for the time of a line.
func (w *world) dests() string { return w.path("dests") }

// results brings a job's results, as a whole command.
func (d *daemon) results(
	ctx context.Context, from string,
) func(dest string) (time.Duration, string, error) {
	return func(dest string) (time.Duration, string, error) {
		_, took, err := d.j(ctx, "add", "x", fmt.Sprintf(resultsJob, from), dest, "--flat", "-q",
			"--wait")
		if err != nil {
			return 0, "", err
		}
		all, err := d.jobs(ctx, "last")
		if err == nil &&
			(len(all) != 1 || all[0].Status != "done" || all[0].ResultsStatus != "copied") {
			err = fmt.Errorf("the results were not copied: %+v", all)
		}
		return took, filepath.Join(dest, filepath.Base(from)), err
	}
}

// peer brings them from a machine with a program: its words end with source and destination.
func peer(
	ctx context.Context, machine, from string, words ...string,
) func(dest string) (time.Duration, string, error) {
	return func(dest string) (time.Duration, string, error) {
		_, took, err := output(ctx, append(words, machine+":"+from, dest)...)
		return took, filepath.Join(dest, filepath.Base(from)), err
	}
}

// measureLargeResult is line 10.
func measureLargeResult(ctx context.Context, w *world) (rows []row, err error) {
	file, err := w.largeFile()
	if err != nil {
		return nil, err
	}
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "m1", "x", 1); err != nil {
			return err
		}
		scp := peer(ctx, "m1", file, "scp", "-q", "-F", w.peers)
		runs, err := inTurn(ctx, 3,
			w.fetched(ctx, file, d.results(ctx, file)),
			w.fetched(ctx, file, scp),
			w.fetched(ctx, file, func(dest string) (time.Duration, string, error) {
				took, to, err := scp(dest)
				if err != nil {
					return 0, "", err
				}
				more, err := timed(func() error {
					_, _, err := output(ctx, "sh", "-c",
						`sync -f "$1" && openssl dgst -sha256 "$1"`, "sh", to)
					return err
				})
				return took + more, to, err
			}),
			w.fetched(ctx, file, w.keptResult(ctx, file)))
		if err != nil {
			return err
		}
		r := row{what: "results: one file of 1 GiB", ours: megabytes(gib, runs[0].median()),
			ourCmd: `j add x 'echo "RESULTS: large"' DEST --flat -q --wait`}
		a, b := r, r
		a.name, a.theirs, a.peerCmd = "10a", megabytes(gib, runs[1].median()),
			"scp -q -F peers m1:large DEST"
		a.note = floorNote("a program that reads it through x/crypto/ssh, hashes, writes and "+
			"syncs it", runs[3], runs[1].over(runs[3]))
		b.name, b.theirs, b.peerCmd = "10b", megabytes(gib, runs[2].median()),
			"the same, then sync -f FILE && openssl dgst -sha256 FILE: ours does both"
		rows = []row{a.faster(runs[0], runs[1], 0.9), b.faster(runs[0], runs[2], 0.9)}
		return nil
	})
	return rows, errors.Join(err, os.RemoveAll(w.dests()))
}

// makeSmallFiles makes a directory of n small files, in directories of a thousand.
func (w *world) makeSmallFiles(name string, n int) (string, error) {
	dir := w.path(name)
	data := make([]byte, smallSize)
	for i := range n {
		name := filepath.Join(dir, fmt.Sprintf("part%02d/file%05d", i/1000, i))
		if i%1000 == 0 {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return "", err
			}
		}
		rand.Read(data) // it never fails
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// measureSmallResults is line 11.
func measureSmallResults(ctx context.Context, w *world) (rows []row, err error) {
	dir, err := w.makeSmallFiles("small", smallFiles)
	if err != nil {
		return nil, err
	}
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "m1", "x", 1); err != nil {
			return err
		}
		runs, err := inTurn(ctx, 5,
			w.fetched(ctx, dir, d.results(ctx, dir)),
			w.fetched(ctx, dir, peer(ctx, "m1", dir, "rsync", "-a", "-e", "ssh -F "+w.peers)))
		if err != nil {
			return err
		}
		// It takes many times as long: two turns are enough, of which the first isn't counted.
		scp, err := inTurn(ctx, 1,
			w.fetched(ctx, dir, d.results(ctx, dir)),
			w.fetched(ctx, dir, peer(ctx, "m1", dir, "scp", "-q", "-r", "-F", w.peers)))
		if err != nil {
			return err
		}
		r := row{what: "results: 20,000 files of 4 KiB",
			ourCmd: `j add x 'echo "RESULTS: small"' DEST --flat -q --wait`}
		a, b := r, r
		a.name, a.peerCmd = "11a", "rsync -a -e 'ssh -F peers' m1:small DEST"
		b.name, b.peerCmd = "11b", "scp -q -r -F peers m1:small DEST"
		rows = []row{a.faster(runs[0], runs[1], 1), b.faster(scp[0], scp[1], 5)}
		return nil
	})
	return rows, errors.Join(err, os.RemoveAll(w.dests()))
}

// measureLog is line 12.
func measureLog(ctx context.Context, w *world) (rows []row, err error) {
	file, err := w.largeFile()
	if err != nil {
		return nil, err
	}
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "m1", "x", 1); err != nil {
			return err
		}
		before, err := resident(d.PID(), "VmHWM")
		if err != nil {
			return err
		}
		ours := w.fetched(ctx, file, func(string) (time.Duration, string, error) {
			return d.log(ctx, "cat "+file)
		})
		kept := w.fetched(ctx, file, func(dest string) (time.Duration, string, error) {
			to := filepath.Join(dest, "log")
			took, err := w.catTo(ctx, "m1", to, file)
			return took, to, err
		})
		thrown := func() (time.Duration, error) {
			if err := w.settle(); err != nil {
				return 0, err
			}
			return w.catTo(ctx, "m1", os.DevNull, file)
		}
		runs, err := inTurn(ctx, 3, ours, thrown, kept, w.fetched(ctx, file, w.keptLog(ctx, file)))
		if err != nil {
			return err
		}
		after, err := resident(d.PID(), "VmHWM")
		if err != nil {
			return err
		}
		r := row{what: "a log of 1 GiB", ours: megabytes(gib, runs[0].median()),
			ourCmd: "j add x 'cat large' -q --wait"}
		a, b := r, r
		a.name, a.theirs, a.peerCmd = "12a", megabytes(gib, runs[1].median()),
			"ssh -F peers m1 cat large >/dev/null"
		b.name, b.theirs, b.peerCmd = "12b", megabytes(gib, runs[2].median()),
			"ssh -F peers m1 cat large >FILE, as ours keeps it too"
		a, b = a.faster(runs[0], runs[1], 0.7), b.faster(runs[0], runs[2], 0.7)
		a.note = fmt.Sprintf("the daemon's memory: %.0f MiB before, %.0f at the most; ", before,
			after) +
			floorNote("a program that reads `cat large | tee FILE` through x/crypto/ssh and "+
				"writes it", runs[3], runs[1].over(runs[3]))
		a.reached = a.reached && after < before+64
		rows = []row{a, b}
		return nil
	})
	return rows, errors.Join(err, os.RemoveAll(w.dests()))
}

// log runs a job that prints much, and gives its log.
func (d *daemon) log(ctx context.Context, command string) (time.Duration, string, error) {
	_, took, err := d.j(ctx, "add", "x", command, "-q", "--wait")
	if err != nil {
		return 0, "", err
	}
	all, err := d.jobs(ctx, "last")
	if err == nil && (len(all) != 1 || all[0].Status != "done" || all[0].Attempt != 1) {
		err = fmt.Errorf("the job did not end well: %+v", all)
	}
	if err != nil {
		return 0, "", err
	}
	return took, all[0].Log, nil
}

// catTo measures what a log of a plain ssh costs.
func (w *world) catTo(ctx context.Context, machine, to, file string) (time.Duration, error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "ssh", "-F", w.peers, machine, "cat "+file)
	cmd.Stdout = f
	took, err := timed(cmd.Run)
	return took, errors.Join(err, f.Close())
}
