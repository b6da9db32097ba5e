package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"jobserver/api"
	"jobserver/ssh/sshtest"
)

// Line 23: many jobs over very many machines, all of whose connections are cut at once when a third
// of the jobs have ended, and come back as fast as either side gets them back.

const (
	fleetSize   = 500
	fleetJobs   = 10_000
	fleetWarm   = 1000     // jobs of the turn that isn't counted
	fleetEach   = 32 << 20 // bytes of memory that a machine and its connections take, at most
	fleetMiB    = 150
	fleetFiles  = 2000
	mastersOnce = 8 // of the peers' connections that are opened at the same time
)

// measureFleet is line 23.
func measureFleet(ctx context.Context, w *world) (rows []row, err error) {
	free, err := procNumber("/proc/meminfo", "MemAvailable")
	if err != nil {
		return nil, err
	}
	names, err := w.crowd(ctx, min(w.machines, int(free<<10/fleetEach)))
	if err != nil {
		return nil, err
	}
	used := &usage{}
	// Each side has the machines for itself: it connects, works and goes; only the work counts.
	runs, err := inTurn(ctx, 1,
		growing(func(n int) (took time.Duration, err error) {
			err = w.withDaemon(ctx, func(d *daemon) (err error) {
				if err := d.connectAll(ctx, names, "x"); err != nil {
					return err
				}
				stop := used.watch(d.PID())
				defer func() { err = errors.Join(err, stop()) }()
				took, err = d.cutFleet(ctx, w, n)
				return err
			})
			return took, err
		}),
		growing(func(n int) (took time.Duration, err error) {
			peers := &masters{w: w, names: names}
			defer func() { err = errors.Join(err, peers.close()) }()
			if err := peers.open(ctx); err != nil {
				return 0, err
			}
			return peers.cutFleet(ctx, n)
		}))
	if err != nil {
		return nil, err
	}
	r := row{name: "23",
		what:   fmt.Sprintf("10,000 jobs over %d machines, all cut off at a third", len(names)),
		ours:   perSecond(fleetJobs, runs[0].median(), "jobs"),
		theirs: perSecond(fleetJobs, runs[1].median(), "jobs"),
		ourCmd: "j add x true -x 10000 -q; j wait …",
		peerCmd: "seq 10000 | parallel --joblog log --ssh 'ssh -F peers' --retries 50 -j1 " +
			"-S 1/c0,… true; its connections are opened again when they are cut",
		note: fmt.Sprintf("the daemon had %.0f MiB and %d descriptors at the most", used.memory,
			used.files),
	}
	r = r.faster(runs[0], runs[1], 3)
	r.target += fmt.Sprintf(", ≤ %d MiB, ≤ %d descriptors", fleetMiB, fleetFiles)
	r.reached = r.reached && used.memory <= fleetMiB && used.files <= fleetFiles
	return []row{r}, nil
}

// growing is a side whose first turn, which isn't counted, is a small one.
func growing(side func(jobs int) (time.Duration, error)) func() (time.Duration, error) {
	n := fleetWarm
	return func() (time.Duration, error) {
		took, err := side(n)
		n = fleetJobs
		return took, err
	}
}

// cut ends all connections to the machines at once.
func (w *world) cut() error {
	n, err := sshtest.KillSessions(w.many...)
	if err == nil && n < len(w.many) {
		err = fmt.Errorf("only %d connections were there to be cut", n)
	}
	return err
}

// cutFleet runs jobs on all machines, which are cut off at a third.
func (d *daemon) cutFleet(
	ctx context.Context, w *world, n int,
) (time.Duration, error) {
	client, err := d.Client(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	var before api.Status
	if err := client.Call(ctx, "Ping", &api.Empty{}, &before); err != nil {
		return 0, err
	}
	start := time.Now()
	out, _, err := d.j(ctx, "add", "x", "true", "-x", strconv.Itoa(n), "-q")
	if err != nil {
		return 0, err
	}
	for {
		var now api.Status
		if err := client.Call(ctx, "Ping", &api.Empty{}, &now); err != nil {
			return 0, err
		}
		if now.Jobs.Done-before.Jobs.Done >= n/3 {
			break
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
	if err := w.cut(); err != nil {
		return 0, err
	}
	ids := strings.Fields(out)
	if len(ids) != n {
		return 0, fmt.Errorf("%d jobs were submitted, not %d", len(ids), n)
	}
	all := ids[0] + ".." + ids[n-1]
	if _, _, err := d.j(ctx, "wait", all); err != nil {
		return 0, err
	}
	return time.Since(start), d.verify(ctx, n, "", all)
}

// masters are the peers' connections to all machines, open as long as they are.
type masters struct {
	w       *world
	names   []string
	mu      sync.Mutex
	running []*exec.Cmd
}

// open opens all.
func (m *masters) open(ctx context.Context) error {
	var all errgroup.Group
	all.SetLimit(mastersOnce)
	for _, name := range m.names {
		all.Go(func() error {
			master, err := m.w.openMaster(ctx, name)
			if err != nil {
				return err
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			m.running = append(m.running, master)
			return nil
		})
	}
	return all.Wait()
}

// close ends those that run, and waits for all.
func (m *masters) close() error {
	var errs []error
	for _, master := range m.running {
		if err := closeMaster(master); !errors.Is(err, os.ErrProcessDone) { // else it was cut
			errs = append(errs, err)
		}
	}
	m.running = nil
	return errors.Join(errs...)
}

// cutFleet runs jobs with parallel, which runs those again that were cut off, and opens the
// connections again.
func (m *masters) cutFleet(ctx context.Context, n int) (took time.Duration, err error) {
	dir, err := os.MkdirTemp(m.w.dir, "parallel-")
	if err != nil {
		return 0, err
	}
	input, joblog := filepath.Join(dir, "input"), filepath.Join(dir, "log")
	if err := os.WriteFile(input, []byte(strings.Repeat("1\n", n)), 0o600); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	start := time.Now()
	go func() {
		_, _, err := output(ctx, "parallel", "--will-cite", "-a", input, "--joblog", joblog,
			"--retries", "50", "--ssh", "ssh -F "+m.w.peers, "-j1", "-S",
			"1/"+strings.Join(m.names, ",1/"), "true")
		took = time.Since(start)
		ended <- err
	}()
	for {
		b, err := os.ReadFile(joblog)
		if err == nil && strings.Count(string(b), "\n") > n/3 {
			break
		}
		select {
		case err := <-ended:
			return 0, errors.Join(errors.New("parallel ended early"), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	err = m.w.cut()
	if err == nil {
		err = errors.Join(m.close(), m.open(ctx))
	}
	if err = errors.Join(err, <-ended); err != nil {
		return 0, err
	}
	return took, checkJoblog(joblog, n)
}

// usage is the most that was seen of a daemon's memory, in MiB, and of its descriptors.
type usage struct {
	memory float64
	files  int
}

// watch looks until it is stopped.
func (u *usage) watch(pid int) (stop func() error) {
	done, ended := make(chan struct{}), make(chan error, 1)
	see := func() error {
		files, err := descriptors(pid)
		if err != nil {
			return err
		}
		memory, err := resident(pid, "VmHWM")
		u.files, u.memory = max(u.files, files), max(u.memory, memory)
		return err
	}
	go func() {
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		for {
			if err := see(); err != nil {
				ended <- err
				return
			}
			select {
			case <-done:
				ended <- nil
				return
			case <-look.C:
			}
		}
	}()
	return func() error { close(done); return <-ended }
}
