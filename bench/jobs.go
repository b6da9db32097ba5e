package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Lines 1 to 5: many short jobs, and one.

const manyJobs = 1000

// measureThousandSSH is line 1.
func measureThousandSSH(ctx context.Context, w *world) (rows []row, err error) {
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "m1", "x", 8); err != nil {
			return err
		}
		ssh := []string{"ssh", "-F", w.peers, "m1", "true"}
		runs, err := inTurn(ctx, 2,
			d.severalJobs(ctx, "x", manyJobs),
			w.parallel(ctx, true, "--ssh", "ssh -F "+w.peers, "-S", "8/m1", "true"),
			w.parallel(ctx, false, append([]string{"-j8"}, ssh...)...))
		if err != nil {
			return err
		}
		r := row{what: "1,000 jobs on one SSH machine, 8 slots",
			ours:   perSecond(manyJobs, runs[0].median(), "jobs"),
			ourCmd: "j add x true -x 1000 -q --wait"}
		a, b := r, r
		a.name, a.theirs = "1a", perSecond(manyJobs, runs[1].median(), "jobs")
		a.peerCmd = "seq 1000 | parallel --joblog log --results dir --ssh 'ssh -F peers' -S 8/m1 " +
			"true"
		b.name, b.theirs = "1b", perSecond(manyJobs, runs[2].median(), "jobs")
		b.peerCmd = "seq 1000 | parallel -j8 ssh -F peers m1 true"
		rows = []row{a.faster(runs[0], runs[1], 3), b.faster(runs[0], runs[2], 1.5)}
		return nil
	})
	return rows, err
}

// measureThousandLocal is line 2.
func measureThousandLocal(ctx context.Context, w *world) (rows []row, err error) {
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "local", "x", 8); err != nil {
			return err
		}
		runs, err := inTurn(ctx, 5, d.severalJobs(ctx, "x", manyJobs),
			w.parallel(ctx, true, "-j8", "true"))
		if err != nil {
			return err
		}
		r := row{name: "2", what: "1,000 jobs on a local machine, 8 slots",
			ours:    perSecond(manyJobs, runs[0].median(), "jobs"),
			theirs:  perSecond(manyJobs, runs[1].median(), "jobs"),
			ourCmd:  "j add x true -x 1000 -q --wait",
			peerCmd: "seq 1000 | parallel --joblog log --results dir -j8 true"}
		rows = []row{r.faster(runs[0], runs[1], 0.8)}
		return nil
	})
	return rows, err
}

// severalJobs submits n jobs and waits for the last result, in one process as the peers are.
func (d *daemon) severalJobs(
	ctx context.Context, class string, n int,
) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		out, took, err := d.j(ctx, "add", class, "true", "-x", strconv.Itoa(n), "-q", "--wait")
		if err != nil {
			return 0, err
		}
		ids := strings.Fields(out)
		if len(ids) != n {
			return 0, fmt.Errorf("%d jobs were submitted, not %d", len(ids), n)
		}
		return took, d.verify(ctx, n, "", ids[0]+".."+ids[len(ids)-1])
	}
}

// parallel runs a thousand jobs with GNU parallel, and checks its log of them when it keeps one.
func (w *world) parallel(
	ctx context.Context, logged bool, args ...string,
) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		dir, err := os.MkdirTemp(w.dir, "parallel-")
		if err != nil {
			return 0, err
		}
		input := filepath.Join(dir, "input")
		if err := os.WriteFile(input, []byte(strings.Repeat("1\n", manyJobs)), 0o600); err != nil {
			return 0, err
		}
		words := []string{"parallel", "--will-cite", "-a", input}
		joblog := filepath.Join(dir, "log")
		if logged {
			words = append(words, "--joblog", joblog, "--results", filepath.Join(dir, "results"))
		}
		_, took, err := output(ctx, append(words, args...)...)
		if err == nil && logged {
			err = checkJoblog(joblog, manyJobs)
		}
		return took, err
	}
}

// checkJoblog checks that parallel's log holds n jobs that ended with 0.
func checkJoblog(name string, n int) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	good := 0
	for line := range strings.Lines(string(b)) {
		if fields := strings.Split(line, "\t"); len(fields) > 6 && fields[6] == "0" { // Exitval
			good++
		}
	}
	if good != n {
		return fmt.Errorf("parallel ran %d jobs well, not %d", good, n)
	}
	return nil
}

// A doorbell is a named pipe that jobs write a line to: it tells when a job runs, without a process
// or a clock of the job's own.
type doorbell struct {
	path string
	pipe *os.File
	buf  [64]byte
}

func newDoorbell(path string) (*doorbell, error) {
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // with a writer of its own it never ends
	if err != nil {
		return nil, err
	}
	return &doorbell{path: path, pipe: f}, nil
}

// command gives what a job runs.
func (b *doorbell) command() string { return "echo >" + b.path }

// wait waits for the next ring. Rings that come together are taken one by one.
func (b *doorbell) wait() (time.Time, error) {
	if err := b.pipe.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return time.Time{}, err
	}
	_, err := b.pipe.Read(b.buf[:1])
	return time.Now(), err
}

func (b *doorbell) close() error { return errors.Join(b.pipe.Close(), os.Remove(b.path)) }

// measureSubmitToStart is line 3: from the start of `j add`, as a process, to the first thing that
// the job does.
func measureSubmitToStart(ctx context.Context, w *world) (rows []row, err error) {
	bell, err := newDoorbell(w.path("bell"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bell.close()) }()
	// rung is from the start of a command to the bell; what the command does afterwards isn't
	// counted.
	rung := func(words ...string) (time.Duration, error) {
		start := time.Now()
		ended := make(chan error, 1)
		go func() { _, _, err := output(ctx, words...); ended <- err }()
		at, err := bell.wait()
		return at.Sub(start), errors.Join(err, <-ended)
	}
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "m1", "x", 1); err != nil {
			return err
		}
		n := 0
		runs, err := inTurn(ctx, 100,
			func() (time.Duration, error) {
				took, err := rung(d.words("add", "-q", "x", bell.command())...)
				if n++; err == nil {
					_, _, err = d.j(ctx, "wait", "last") // the machine is idle again
				}
				return took, err
			},
			func() (time.Duration, error) {
				return rung("ssh", "-F", w.peers, "m1", bell.command())
			})
		if err != nil {
			return err
		}
		r := row{name: "3", what: "from submission to the job's first instruction",
			ourCmd: "j add -q x 'echo >PIPE'", peerCmd: "ssh -F peers m1 'echo >PIPE'"}
		rows = []row{r.slower(runs[0], runs[1], 2)}
		return d.verify(ctx, n, "", fmt.Sprintf("2..%d", n+1))
	})
	return rows, err
}

// measureNextStart is line 4: from one job's only instruction to the next one's, on a machine with
// one slot.
func measureNextStart(ctx context.Context, w *world) (rows []row, err error) {
	const jobs, atOnce = 300, 10
	bell, err := newDoorbell(w.path("bell"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bell.close()) }()
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "m1", "x", 1); err != nil {
			return err
		}
		var ours, theirs samples
		for turn := range jobs / atOnce {
			if err := ctx.Err(); err != nil {
				return err
			}
			out, _, err := d.j(ctx, "add", "-q", "x", bell.command(), "-x", strconv.Itoa(atOnce))
			if err != nil {
				return err
			}
			gaps, err := bell.gaps(atOnce)
			if err != nil {
				return err
			}
			ids := strings.Fields(out)
			if err := d.settled(ctx, ids[0]+".."+ids[len(ids)-1], atOnce); err != nil {
				return err
			}
			peerGaps, err := w.gapsOfSSH(ctx, bell, atOnce)
			if err != nil {
				return err
			}
			if turn > 0 {
				ours, theirs = append(ours, gaps...), append(theirs, peerGaps...)
			}
		}
		r := row{name: "4", what: "from one job's end to the next one's start",
			ourCmd:  "j add -q x 'echo >PIPE' -x 10",
			peerCmd: "ssh -F peers m1 'echo >PIPE', ten times"}
		rows = []row{r.slower(ours, theirs, 2)}
		return nil
	})
	return rows, err
}

// gaps are the times between n rings.
func (b *doorbell) gaps(n int) (samples, error) {
	var gaps samples
	var before time.Time
	for range n {
		at, err := b.wait()
		if err != nil {
			return nil, err
		}
		if !before.IsZero() {
			gaps = append(gaps, at.Sub(before))
		}
		before = at
	}
	return gaps, nil
}

func (w *world) gapsOfSSH(ctx context.Context, bell *doorbell, n int) (samples, error) {
	ended := make(chan error, 1)
	go func() {
		for range n {
			if _, _, err := output(ctx, "ssh", "-F", w.peers, "m1", bell.command()); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	gaps, err := bell.gaps(n)
	return gaps, errors.Join(err, <-ended)
}

// settled waits for jobs, and checks them.
func (d *daemon) settled(ctx context.Context, jobs string, n int) error {
	if _, _, err := d.j(ctx, "wait", jobs); err != nil {
		return err
	}
	return d.verify(ctx, n, "", jobs)
}

// measureSubmitProcess is line 5: the client as a process, beside task-spooler's.
func measureSubmitProcess(ctx context.Context, w *world) (rows []row, err error) {
	socket := w.path("tsp.socket")
	spooler := []string{"env", "TS_SOCKET=" + socket, "TMPDIR=" + w.dir, "tsp"}
	defer func() {
		_, _, killErr := output(context.WithoutCancel(ctx), append(spooler, "-K")...)
		err = errors.Join(err, killErr)
	}()
	// The environment is set for the process, so that no `env` is in its time.
	if err := os.Setenv("TS_SOCKET", socket); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Unsetenv("TS_SOCKET")) }()
	floor, err := w.buildHelper(ctx, "floor")
	if err != nil {
		return nil, err
	}
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "local", "x", 1); err != nil {
			return err
		}
		n := 0
		submit := d.submission(ctx, &n)
		runs, err := inTurn(ctx, 200, submit(d.words("add", "-q", "x", "true")...),
			func() (time.Duration, error) {
				_, took, err := output(ctx, "tsp", "true")
				if err == nil {
					_, _, err = output(ctx, "tsp", "-w")
				}
				return took, err
			},
			submit(floor, d.Socket, "x", "true"))
		if err != nil {
			return err
		}
		r := row{name: "5", what: "submit one job, as a whole process", ourCmd: "j add -q x true",
			peerCmd: "tsp true"}
		r.note = floorNote("a Go program that makes this call and nothing else", runs[2],
			runs[2].over(runs[1]))
		rows = []row{r.slower(runs[0], runs[1], 3)}
		return d.verify(ctx, n, "", fmt.Sprintf("2..%d", n+1))
	})
	return rows, err
}
