package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Line 17: many short jobs on this host, beside HyperQueue's own local cluster. Both keep what jobs
// print, HyperQueue in two files a job; it keeps no journal.

const shortJobs = 5000

//go:embed localcluster.py
var hyperqueueProgram string

// measureHyperQueue is line 17.
func measureHyperQueue(ctx context.Context, w *world) (rows []row, err error) {
	peer, err := w.startHyperQueue(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, peer.close()) }()
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "local", "x", 8); err != nil {
			return err
		}
		runs, err := inTurn(ctx, 2, d.severalJobs(ctx, "x", shortJobs),
			func() (time.Duration, error) { return peer.turn(w) })
		if err != nil {
			return err
		}
		r := row{name: "17", what: "5,000 jobs on a local machine, 8 slots",
			ours:    perSecond(shortJobs, runs[0].median(), "jobs"),
			theirs:  perSecond(shortJobs, runs[1].median(), "jobs"),
			ourCmd:  "j add x true -x 5000 -q --wait",
			peerCmd: "python3 bench/localcluster.py, from client.submit to client.wait_for_jobs"}
		rows = []row{r.faster(runs[0], runs[1], 1.1)}
		return nil
	})
	return rows, err
}

// A hyperqueue is a cluster that runs, and takes a turn for each line that it reads.
type hyperqueue struct {
	cmd     *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Reader
	errors  strings.Builder
}

func (w *world) startHyperQueue(ctx context.Context) (*hyperqueue, error) {
	program, server := w.path("localcluster.py"), w.path("hyperqueue")
	if err := errors.Join(os.WriteFile(program, []byte(hyperqueueProgram), 0o600),
		os.Mkdir(server, 0o700)); err != nil {
		return nil, err
	}
	h := &hyperqueue{cmd: exec.CommandContext(ctx, "hyperqueue-python", program, server,
		strconv.Itoa(shortJobs))}
	h.cmd.Stderr = &h.errors
	var err error
	if h.ask, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.answers = bufio.NewReader(out)
	return h, h.cmd.Start()
}

// turn has it run the jobs once, and checks that each has left its two files.
func (h *hyperqueue) turn(w *world) (time.Duration, error) {
	dir, err := os.MkdirTemp(w.dir, "hyperqueue-")
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintln(h.ask, dir); err != nil {
		return 0, h.ended(err)
	}
	for {
		line, err := h.answers.ReadString('\n')
		if err != nil {
			return 0, h.ended(err)
		}
		said, ok := strings.CutPrefix(line, "took ")
		if !ok {
			continue // what it says of itself
		}
		seconds, err := strconv.ParseFloat(strings.TrimSpace(said), 64)
		if err != nil {
			return 0, err
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.std*"))
		if err == nil && len(files) != 2*shortJobs {
			err = fmt.Errorf("HyperQueue left %d files, not %d", len(files), 2*shortJobs)
		}
		return time.Duration(seconds * 1e9), err
	}
}

// ended is the error of a cluster that takes no more turns, with what it printed.
func (h *hyperqueue) ended(err error) error {
	err = errors.Join(err, h.close())
	return fmt.Errorf("HyperQueue has ended: %w\n%s", err, tail(h.errors.String(), 1000))
}

// close ends it; it may have been ended before.
func (h *hyperqueue) close() error {
	cmd := h.cmd
	if h.cmd = nil; cmd == nil {
		return nil
	}
	return errors.Join(h.ask.Close(), cmd.Wait())
}
