package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"jobserver/api"
)

// Line 19: what one client waits for while another one changes very many jobs at once.

const (
	changedJobs = 300_000
	pingEvery   = time.Millisecond
)

// measurePings is line 19.
func measurePings(ctx context.Context, w *world) (rows []row, err error) {
	err = w.withDaemon(ctx, func(d *daemon) error {
		client, err := d.Client(ctx)
		if err != nil {
			return err
		}
		defer client.Close()
		if _, _, err := d.j(ctx, "add", "elsewhere", "true", "-x", strconv.Itoa(changedJobs),
			"-q"); err != nil {
			return err
		}
		if _, _, err := d.j(ctx, "tag", "new", "night"); err != nil {
			return err
		}
		const all = "class=elsewhere"
		for _, change := range []struct {
			name, what string
			words      []string
			left       api.Counts // of jobs afterwards
		}{
			{"19a", "held", []string{"job", "hold", all, "-y"}, api.Counts{Held: changedJobs}},
			{"19b", "released", []string{"job", "unhold", all, "-y"},
				api.Counts{Waiting: changedJobs}},
			{"19c", "tagged", []string{"tag", "set", all, "night", "-y"},
				api.Counts{Waiting: changedJobs}},
			{"19d", "removed", []string{"job", "rm", "-f", all, "-y"}, api.Counts{}},
		} {
			r, err := d.pingsDuring(ctx, client, change.words)
			if err != nil {
				return err
			}
			var now api.Status
			if err := client.Call(ctx, "Ping", &api.Empty{}, &now); err != nil {
				return err
			}
			if now.Jobs != change.left {
				return fmt.Errorf("after %v there are not %+v jobs but %+v", change.words,
					change.left, now.Jobs)
			}
			r.name, r.what = change.name, "longest ping while 300,000 jobs are "+change.what
			rows = append(rows, r)
		}
		return nil
	})
	return rows, err
}

// pingsDuring pings while a command runs, and as long without it.
func (d *daemon) pingsDuring(
	ctx context.Context, client *api.Client, words []string,
) (row, error) {
	done := make(chan struct{})
	var took time.Duration
	var changed error
	go func() {
		defer close(done)
		_, took, changed = d.j(ctx, words...)
	}()
	busy, n, err := longestPing(ctx, client, done)
	<-done
	if err := errors.Join(err, changed); err != nil {
		return row{}, err
	}
	quiet := make(chan struct{})
	timer := time.AfterFunc(took, func() { close(quiet) })
	defer timer.Stop()
	still, _, err := longestPing(ctx, client, quiet)
	return row{
		ours: show(busy), theirs: show(still), ratio: float64(busy) / float64(still),
		target: "≤ 50 ms", reached: busy <= 50*time.Millisecond,
		ourCmd:  commandLine(d.StateDir, append([]string{"j"}, words...)...),
		peerCmd: "as long without it",
		note:    fmt.Sprintf("the command took %s, in which %d pings were answered", show(took), n),
	}, err
}

// longestPing asks again and again until it is over; at least once, and one that has begun is
// waited for.
func longestPing(
	ctx context.Context, client *api.Client, over <-chan struct{},
) (longest time.Duration, n int, err error) {
	for next := time.NewTicker(pingEvery); ; n++ {
		took, err := timed(func() error {
			return client.Call(ctx, "Ping", &api.Empty{}, new(api.Status))
		})
		if err != nil {
			next.Stop()
			return 0, n, err
		}
		longest = max(longest, took)
		select {
		case <-over:
			next.Stop()
			return longest, n + 1, nil
		case <-next.C:
		}
	}
}
