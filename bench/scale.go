package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Lines 6 to 9, 13 and 15: what a long history and large matrices cost.

// measureMatrix is line 6. The fsyncs are counted by strace in a turn of their own, as that takes
// time.
func measureMatrix(ctx context.Context, w *world) (rows []row, err error) {
	runs := make([]string, 1000)
	for i := range runs {
		runs[i] = strconv.Itoa(i + 1)
	}
	args := []string{"matrix", "add", "elsewhere", "python train.py --run {RUN} --part {PART}",
		"results/{RUN}",
		"RUN=" + strings.Join(runs, ","), "PART=" + strings.Join(runs[:100], ","), "-q"}
	err = w.withDaemon(ctx, func(d *daemon) error {
		submitted := 0
		submit := func() (time.Duration, error) {
			_, took, err := d.j(ctx, args...)
			submitted++
			return took, err
		}
		before, err := journalBytes(d.StateDir)
		if err != nil {
			return err
		}
		if _, err := submit(); err != nil {
			return err
		}
		after, err := journalBytes(d.StateDir)
		if err != nil {
			return err
		}
		data := make([]byte, max(after-before, 4096))
		took, err := inTurn(ctx, 7, submit, func() (time.Duration, error) {
			return w.writeSynced(data)
		})
		if err != nil {
			return err
		}
		syncs, err := countSyncs(ctx, d.PID(), func() error { _, err := submit(); return err })
		if err != nil {
			return err
		}
		if err := d.hasWaiting(ctx, submitted*100_000); err != nil {
			return err
		}
		r := row{name: "6", what: "submit a matrix of 100,000 jobs, durably",
			ourCmd: "j matrix add elsewhere 'python train.py …' results/{RUN} RUN=1,…,1000 " +
				"PART=1,…,100",
			peerCmd: fmt.Sprintf("write and fdatasync of %d bytes", len(data)),
			ours:    show(took[0].median()), theirs: show(took[1].median())}
		r = r.slower(took[0], took[1], 0)
		r.target, r.reached = "≤ 2 s, ≤ 3 syncs", took[0].median() <= 2*time.Second && syncs <= 3
		r.note = fmt.Sprintf("%d syncs", syncs)
		rows = []row{r}
		return nil
	})
	return rows, err
}

// journalBytes is how much of the journal's segments is not zero: they are preallocated.
func journalBytes(state string) (n int64, err error) {
	files, err := filepath.Glob(filepath.Join(state, "wal-*"))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		n += int64(len(strings.TrimRight(string(b), "\x00")))
	}
	return n, err
}

// writeSynced writes data to a file as large as it will be, and syncs it: what a journal can't do
// faster.
func (w *world) writeSynced(data []byte) (took time.Duration, err error) {
	f, err := os.Create(w.path("written"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if err := errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, int64(len(data))),
		f.Sync()); err != nil {
		return 0, err
	}
	return timed(func() error {
		_, err := f.Write(data)
		return errors.Join(err, syscall.Fdatasync(int(f.Fd())))
	})
}

// countSyncs counts a process's calls that wait for the disk while f runs.
func countSyncs(ctx context.Context, pid int, f func() error) (n int, err error) {
	cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-e",
		"trace=fsync,fdatasync,sync_file_range,syncfs,msync", "-e", "signal=none", "-p",
		strconv.Itoa(pid))
	var trace strings.Builder
	cmd.Stderr = &trace
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// It says nothing when it has begun; the process's own status does.
	for range 500 {
		if tracer, err := procNumber(fmt.Sprintf("/proc/%d/status", pid),
			"TracerPid"); err != nil || tracer != 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	err = f()
	interrupt := cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait() // interrupted
	for line := range strings.Lines(trace.String()) {
		if strings.Contains(line, "sync") && !strings.Contains(line, "resumed") {
			n++
		}
	}
	return n, errors.Join(err, interrupt)
}

// hasWaiting checks how many jobs wait.
func (d *daemon) hasWaiting(ctx context.Context, n int) error {
	out, _, err := d.j(ctx, "status", "-o", "json")
	if err != nil {
		return err
	}
	var status []struct {
		Jobs struct{ Waiting int } `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return err
	}
	if len(status) != 1 || status[0].Jobs.Waiting != n {
		return fmt.Errorf("not %d jobs wait: %s", n, out)
	}
	return nil
}

// measureListing is line 7.
func measureListing(ctx context.Context, w *world) (rows []row, err error) {
	state, err := w.longHistory(ctx)
	if err != nil {
		return nil, err
	}
	err = w.withState(ctx, state, func(d *daemon) error {
		runs, err := inTurn(ctx, 40,
			func() (time.Duration, error) {
				out, took, err := d.j(ctx, "ls")
				if err == nil && strings.Count(out, "\n") < 40 {
					err = fmt.Errorf("the listing is short:\n%s", out)
				}
				return took, err
			},
			func() (time.Duration, error) { _, took, err := d.j(ctx, "version"); return took, err })
		if err != nil {
			return err
		}
		r := row{name: "7", what: "j ls, 1,000,000 jobs of history", ourCmd: "j ls",
			peerCmd: "j version"}
		rows = []row{r.slower(runs[0], runs[1], 3)}
		return nil
	})
	return rows, err
}

// measureStat is line 8.
func measureStat(ctx context.Context, w *world) (rows []row, err error) {
	const n = 100_000
	state, err := w.longHistory(ctx)
	if err != nil {
		return nil, err
	}
	file := w.path("stat.json")
	err = w.withState(ctx, state, func(d *daemon) error {
		first := strconv.Itoa(n + 1)
		args := []string{"stat", "--json", first + ".." + strconv.Itoa(2*n)}
		runs, err := inTurn(ctx, 3,
			func() (time.Duration, error) {
				out, took, err := d.j(ctx, args...)
				return took, errors.Join(err, os.WriteFile(file, []byte(out), 0o600))
			},
			func() (time.Duration, error) {
				out, took, err := output(ctx, "jq", "-c", ".", file)
				var all []json.RawMessage
				if err == nil {
					err = json.Unmarshal([]byte(out), &all)
				}
				if err == nil && len(all) < n-10 { // ids of matrices lie between those of jobs
					err = fmt.Errorf("%d jobs are shown, not %d", len(all), n)
				}
				return took, err
			})
		if err != nil {
			return err
		}
		r := row{name: "8", what: "data of 100,000 jobs as JSON",
			ourCmd:  commandLine(w.dir, append([]string{"j"}, args...)...),
			peerCmd: "jq -c . stat.json"}
		rows = []row{r.slower(runs[0], runs[1], 2)}
		return nil
	})
	return rows, err
}

// measureStart is line 9.
func measureStart(ctx context.Context, w *world) (rows []row, err error) {
	state, err := w.longHistory(ctx)
	if err != nil {
		return nil, err
	}
	var memory float64
	runs, err := inTurn(ctx, 5,
		func() (time.Duration, error) {
			start := time.Now()
			d, err := w.start(ctx, state)
			if err != nil {
				return 0, err
			}
			took := time.Since(start)
			err = d.hasWaiting(ctx, stillWaiting)
			most, procErr := resident(d.PID(), "VmHWM")
			memory = max(memory, most)
			return took, errors.Join(err, procErr, d.Stop())
		},
		func() (time.Duration, error) {
			files, err := filepath.Glob(filepath.Join(state, "*-*"))
			if err != nil {
				return 0, err
			}
			_, took, err := output(ctx,
				append([]string{"sh", "-c", `cat "$@" >/dev/null`, "sh"}, files...)...)
			return took, err
		})
	if err != nil {
		return nil, err
	}
	r := row{name: "9", what: "daemon start with 1,000,000 jobs, until it answers",
		ours: show(runs[0].median()), theirs: show(runs[1].median()),
		ourCmd:  "j serve, until a client's first call is answered",
		peerCmd: "cat STATE/snap-* STATE/wal-* >/dev/null"}
	r = r.slower(runs[0], runs[1], 0)
	r.target, r.reached = "≤ 3 s, ≤ 600 MiB", runs[0].median() <= 3*time.Second && memory <= 600
	r.note = fmt.Sprintf("%.0f MiB resident at the most", memory)
	return []row{r}, nil
}

// measureIdle is line 13: wake-ups and disk writes of a daemon that has nothing to do, second by
// second. Keepalives come every 15 s for each connection; the seconds in which the daemon wrote to
// nobody are those apart from them. It takes a minute, so that it has all that is done each minute,
// and the wake-ups of all its seconds are told beside the others.
func measureIdle(ctx context.Context, w *world) (rows []row, err error) {
	const seconds = 60
	state, err := w.longHistory(ctx)
	if err != nil {
		return nil, err
	}
	machines, err := w.crowd(ctx, crowdSize)
	if err != nil {
		return nil, err
	}
	err = w.withState(ctx, state, func(d *daemon) error {
		if err := d.connectAll(ctx, machines, "x"); err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Second); err != nil { // what follows a connection is over
			return err
		}
		rate, quietSeconds, all, err := idleRates(ctx, d.PID(), seconds)
		if err != nil {
			return err
		}
		rows = []row{{name: "13",
			what: fmt.Sprintf("idle, 1,000,000 jobs, %d machines connected", len(machines)),
			ours: fmt.Sprintf("%.1f wake-ups/s", rate), theirs: "–",
			target: "< 5/s, no writes", reached: rate < 5 && all.bytes == 0,
			ourCmd: "voluntary context switches of all threads, write_bytes of /proc/PID/io",
			note: fmt.Sprintf("%d bytes written to disk in %d s; %.1f wake-ups/s with "+
				"keepalives, %d s were without",
				all.bytes, seconds, float64(all.wakeUps)/seconds, quietSeconds)}}
		return nil
	})
	return rows, err
}

// idleRates watches a process second by second: it gives how often it woke in a second in which it
// wrote to nobody, in how many seconds it did not, and all that it did.
func idleRates(
	ctx context.Context, pid, seconds int,
) (rate float64, quietSeconds int64, all activity, err error) {
	first, err := look(pid)
	if err != nil {
		return 0, 0, all, err
	}
	var quiet int64
	last := first
	for range seconds {
		if err := pause(ctx, time.Second); err != nil {
			return 0, 0, all, err
		}
		now, err := look(pid)
		if err != nil {
			return 0, 0, all, err
		}
		if now.writes == last.writes {
			quiet += now.wakeUps - last.wakeUps
			quietSeconds++
		}
		last = now
	}
	if quietSeconds == 0 {
		return 0, 0, all, errors.New("there was no second without keepalives")
	}
	all = activity{last.wakeUps - first.wakeUps, last.writes - first.writes,
		last.bytes - first.bytes}
	return float64(quiet) / float64(quietSeconds), quietSeconds, all, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// crowdSize is how many machines lines 13 and 14 have.
const crowdSize = 100

// crowd starts n machines, each an sshd on an address of its own, or those that aren't there yet.
// They end with the world.
func (w *world) crowd(ctx context.Context, n int) (names []string, err error) {
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("c%d", i)
		if names = append(names, name); i < len(w.many) {
			continue
		}
		m, err := w.newMachine(name)
		if err != nil {
			return nil, err
		}
		w.many = append(w.many, m)
	}
	return names, nil
}

// connectAll adds machines and waits until each is connected and has run a job.
func (d *daemon) connectAll(ctx context.Context, machines []string, class string) error {
	if _, _, err := d.j(ctx,
		append([]string{"machine", "add", "--slots", "1"},
			append(machines, class)...)...); err != nil {
		return err
	}
	out, _, err := d.j(ctx, "add", class, "sleep 1", "-x", strconv.Itoa(len(machines)), "-q",
		"--wait")
	if err != nil {
		return err
	}
	if got := len(strings.Fields(out)); got != len(machines) {
		return fmt.Errorf("%d jobs for %d machines", got, len(machines))
	}
	for range 200 {
		out, _, err := d.j(ctx, "machine", "ls", "-o", "jsonl")
		if err != nil {
			return err
		}
		if strings.Count(out, `"connected"`) == len(machines) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("not all machines are connected")
}

// measureGrowth is line 15: jobs on a local machine, with a short and a long history.
func measureGrowth(ctx context.Context, w *world) (rows []row, err error) {
	const jobs = 500
	short, err := os.MkdirTemp(w.dir, "state-")
	if err != nil {
		return nil, err
	}
	if err := makeHistory(ctx, short, 1000); err != nil {
		return nil, err
	}
	long, err := w.longHistory(ctx)
	if err != nil {
		return nil, err
	}
	err = w.withState(ctx, short, func(few *daemon) error {
		return w.withState(ctx, long, func(many *daemon) error {
			side := func(d *daemon) (func() (time.Duration, error), error) {
				return func() (time.Duration, error) {
					before, err := processorTime(d.PID())
					if err != nil {
						return 0, err
					}
					out, _, err := d.j(ctx, "add", "x", "true", "-x", strconv.Itoa(jobs), "-q",
						"--wait")
					if err != nil {
						return 0, err
					}
					after, err := processorTime(d.PID())
					if err != nil {
						return 0, err
					}
					ids := strings.Fields(out)
					return after - before, d.verify(ctx, jobs, "", ids[0]+".."+ids[len(ids)-1])
				}, d.addMachine(ctx, "local", "x", 8)
			}
			withMany, err := side(many)
			if err != nil {
				return err
			}
			withFew, err := side(few)
			if err != nil {
				return err
			}
			runs, err := inTurn(ctx, 5, withMany, withFew)
			if err != nil {
				return err
			}
			r := row{name: "15", what: "one more job with 1,000,000 in history",
				ours: show(runs[0].median()/jobs) + " CPU", theirs: show(runs[1].median()/jobs) +
					" CPU",
				ourCmd: "j add x true -x 500 -q --wait, with 1,000,000 jobs; the daemon's " +
					"processor time", peerCmd: "the same with 1,000"}
			rows = []row{r.slower(runs[0], runs[1], 1.3)}
			return nil
		})
	})
	return rows, err
}
