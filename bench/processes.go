package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// measureProcesses is line 22: what whole processes of the client take beside a program of the same
// language that does nothing.
func measureProcesses(ctx context.Context, w *world) (rows []row, err error) {
	nothing, err := w.buildHelper(ctx, "nothing")
	if err != nil {
		return nil, err
	}
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
		runs, err := inTurn(ctx, 200,
			func() (time.Duration, error) {
				_, took, err := output(ctx, nothing)
				return took, err
			},
			func() (time.Duration, error) {
				out, took, err := d.j(ctx, "version")
				if err == nil && !strings.HasPrefix(out, "jobserver ") {
					err = fmt.Errorf("j version says %q", out)
				}
				return took, err
			},
			submit(d.words("add", "-q", "x", "true")...),
			submit(floor, d.Socket, "x", "true"))
		if err != nil {
			return err
		}
		a := row{name: "22a", what: "j version, a whole process", ourCmd: "j version",
			peerCmd: "bench/nothing, a Go program that does nothing"}
		b := row{name: "22b", what: "j add -q, a whole process", ourCmd: "j add -q x true",
			peerCmd: "the same",
			note: floorNote("a Go program that makes this call and nothing else", runs[3],
				runs[3].over(runs[0]))}
		rows = []row{a.slower(runs[1], runs[0], 2.1), b.slower(runs[2], runs[0], 3.6)}
		return d.verify(ctx, n, "", fmt.Sprintf("2..%d", n+1))
	})
	return rows, err
}

// submission makes a turn of the program that submits one job: it takes what the process does, and
// the job's end is waited for behind that. Each is counted.
func (d *daemon) submission(
	ctx context.Context, n *int,
) func(words ...string) func() (time.Duration, error) {
	return func(words ...string) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			_, took, err := output(ctx, words...)
			if *n++; err == nil {
				_, _, err = d.j(ctx, "wait", "last")
			}
			return took, err
		}
	}
}
