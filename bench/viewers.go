package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"jobserver/api"
	"jobserver/live"
)

// What those cost who look at the daemon while it has a million jobs: pages and screens ask through
// one follower, as `jobserver web` does.

const viewers = 10

// measureViewers is line 21.
func measureViewers(ctx context.Context, w *world) (rows []row, err error) {
	state, err := w.longHistory(ctx)
	if err != nil {
		return nil, err
	}
	err = w.withState(ctx, state, func(d *daemon) error {
		client, err := d.Client(ctx)
		if err != nil {
			return err
		}
		defer client.Close()
		for _, measure := range []func(context.Context, *daemon, *api.Client) (row, error){
			measureWatched, measureFirstPage, measureTimeline, measureBusy,
		} {
			r, err := measure(ctx, d, client)
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	return rows, err
}

// watch lets so many viewers look, as a page does: the newest jobs and the machines, again when
// something has changed or every has passed. stop ends them.
func watch(ctx context.Context, client *api.Client, every time.Duration) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	follower := live.New(client, live.Options{})
	var running sync.WaitGroup
	stop = func() {
		cancel()
		running.Wait()
	}
	running.Go(func() { follower.Run(ctx) })
	if _, _, err := follower.Next(ctx, 0); err != nil {
		stop()
		return nil, err
	}
	for range viewers {
		running.Go(func() {
			for ctx.Err() == nil {
				_, _ = live.Ask[api.ListJobsReply](
					ctx,
					follower,
					"ListJobs",
					&api.ListJobsArgs{Newest: true, Light: true, Limit: 200},
				)
				_, _ = live.Ask[api.ListMachinesReply](
					ctx,
					follower,
					"ListMachines",
					&api.ListMachinesArgs{},
				)
				_ = pause(ctx, every)
			}
		})
	}
	return stop, nil
}

// measureWatched looks what ten viewers of a quiet daemon take of its processor: each has the
// newest jobs and the machines before it, and asks for these each 5 s.
func measureWatched(ctx context.Context, d *daemon, client *api.Client) (row, error) {
	const seconds = 20
	stop, err := watch(ctx, client, 5*time.Second)
	if err != nil {
		return row{}, err
	}
	defer stop()
	if err := pause(ctx, 3*time.Second); err != nil { // the first look is over
		return row{}, err
	}
	before, err := processorTime(d.PID())
	if err != nil {
		return row{}, err
	}
	if err := pause(ctx, seconds*time.Second); err != nil {
		return row{}, err
	}
	after, err := processorTime(d.PID())
	if err != nil {
		return row{}, err
	}
	perSecond := (after - before).Seconds() * 1000 / seconds
	return row{
		name:    "21a",
		what:    fmt.Sprintf("%d viewers of 1,000,000 jobs, nothing happens", viewers),
		theirs:  "–",
		ours:    fmt.Sprintf("%.2f ms/s", perSecond),
		target:  "≤ 1 ms/s",
		reached: perSecond <= 1,
		ourCmd:  "processor time of the daemon, of which a second each",
	}, nil
}

// measureFirstPage compares a page from the newest down with one from the oldest up, which counts
// all.
func measureFirstPage(ctx context.Context, _ *daemon, client *api.Client) (row, error) {
	const turns = 20
	ask := func(args *api.ListJobsArgs) (time.Duration, error) {
		return timed(func() error {
			for range turns {
				if err := client.Call(ctx, "ListJobs", args, new(api.ListJobsReply)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	old, err := ask(&api.ListJobsArgs{Selectors: []string{":done"}, Limit: 100})
	if err != nil {
		return row{}, err
	}
	took, err := ask(
		&api.ListJobsArgs{Selectors: []string{":done"}, Limit: 100, Newest: true, Light: true},
	)
	if err != nil {
		return row{}, err
	}
	ratio := float64(old) / float64(took)
	return row{
		name:  "21b",
		what:  "a first page of 100 done jobs of 1,000,000",
		ratio: ratio,
		ours: fmt.Sprintf(
			"%.2f ms",
			took.Seconds()*1000/turns,
		),
		theirs:  fmt.Sprintf("%.2f ms", old.Seconds()*1000/turns),
		target:  "≥ 10×",
		reached: ratio >= 10,
		ourCmd:  "ListJobs from the newest down",
		peerCmd: "ListJobs from the oldest up",
	}, nil
}

// measureTimeline draws all attempts there are, and says how long the answer is as the page gets
// it.
func measureTimeline(ctx context.Context, _ *daemon, client *api.Client) (row, error) {
	args := &api.TimelineArgs{Columns: 1200, Wait: time.Minute}
	var reply api.TimelineReply
	built, err := timed(func() error { return client.Call(ctx, "Timeline", args, &reply) })
	if err != nil {
		return row{}, err
	}
	took, err := timed(func() error { return client.Call(ctx, "Timeline", args, &reply) })
	if err != nil {
		return row{}, err
	}
	if reply.Ready < 1 || reply.Total < million {
		return row{}, fmt.Errorf(
			"the timeline has %d attempts, and is %.0f %% made",
			reply.Total,
			100*reply.Ready,
		)
	}
	text, err := json.Marshal(reply)
	if err != nil {
		return row{}, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(text); err != nil {
		return row{}, err
	}
	if err := z.Close(); err != nil {
		return row{}, err
	}
	return row{
		name: "21c",
		what: fmt.Sprintf(
			"machines against time: %d attempts, %d machines, %d columns",
			reply.Total,
			len(reply.Rows),
			reply.Columns,
		),
		ours:    fmt.Sprintf("%.0f ms, %d kB", took.Seconds()*1000, packed.Len()/1000),
		theirs:  "–",
		target:  "≤ 60 ms, ≤ 100 kB",
		reached: took <= 60*time.Millisecond && packed.Len() <= 100_000,
		ourCmd:  "Timeline, compressed with gzip",
		note:    fmt.Sprintf("the first time, with its index, %.1f s", built.Seconds()),
	}, nil
}

// measureBusy compares how fast jobs go through one machine while ten viewers look, and while none
// does, with what the daemon's processor had to do for each.
func measureBusy(ctx context.Context, d *daemon, client *api.Client) (row, error) {
	const jobs = 4000
	if err := d.addMachine(ctx, "local:busy", "busy", 8); err != nil {
		return row{}, err
	}
	var spent [2]time.Duration // of the daemon's processor, in the turns that count
	turns := [2]int{}
	side := func(i int) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			if i == 1 {
				stop, err := watch(ctx, client, 500*time.Millisecond)
				if err != nil {
					return 0, err
				}
				defer stop()
			}
			before, err := processorTime(d.PID())
			if err != nil {
				return 0, err
			}
			took, err := timed(func() error {
				_, _, err := d.j(ctx, "matrix", "add", "busy", "true", "",
					fmt.Sprintf("N=1..%d", jobs))
				if err == nil {
					_, _, err = d.j(ctx, "wait", "class=busy")
				}
				return err
			})
			if err != nil {
				return 0, err
			}
			after, err := processorTime(d.PID())
			if turns[i]++; turns[i] > 1 {
				spent[i] += after - before
			}
			return took, err
		}
	}
	runs, err := inTurn(ctx, 3, side(0), side(1))
	if err != nil {
		return row{}, err
	}
	total := func(all samples) (sum time.Duration) {
		for _, took := range all {
			sum += took
		}
		return sum
	}
	more := (spent[1].Seconds()/total(runs[1]).Seconds() -
		spent[0].Seconds()/total(runs[0]).Seconds()) * 1000
	r := row{
		name: "21d",
		what: fmt.Sprintf("%d jobs through 8 slots while %d viewers look", jobs, viewers),
		ours: fmt.Sprintf("%s; %+.0f ms/s of the daemon's processor",
			show(runs[1].median()), more),
		theirs:  show(runs[0].median()) + " without viewers",
		ourCmd:  "matrix add busy true N=1..4000; wait class=busy, ten viewers",
		peerCmd: "the same without viewers",
	}
	r = r.slower(runs[1], runs[0], 1.05)
	r.target = "≤ 1.05×, ≤ +20 ms/s"
	r.reached = r.reached && more <= 20
	return r, nil
}
