package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"jobserver/api"
)

// What those cost who look at the daemon while it has a million jobs: ten browsers at one
// `jobserver web`, each with another view.

const viewers = 10

// measureViewers is line 21.
func measureViewers(ctx context.Context, w *world) (rows []row, err error) {
	state, err := w.longHistory(ctx)
	if err != nil {
		return nil, err
	}
	measures := []func(context.Context, *daemon, *api.Client) ([]row, error){
		measureFirstPage, measureTimeline, measureWatched, measureBusy,
	}
	err = w.withState(ctx, state, func(d *daemon) error {
		if err := d.findMetrics(); err != nil {
			return err
		}
		client, err := d.Client(ctx)
		if err != nil {
			return err
		}
		defer client.Close()
		for _, measure := range measures {
			more, err := measure(ctx, d, client)
			if err != nil {
				return err
			}
			rows = append(rows, more...)
		}
		return nil
	}, "--metrics", "127.0.0.1:0")
	return rows, err
}

// viewed are the views of ten viewers: one of them looks at the newest job that has ended, one at
// the matrix whose 100,000 cells wait.
func viewed(ctx context.Context, client *api.Client) (views [viewers][]asked, err error) {
	var jobs api.ListJobsReply
	err = client.Call(ctx, "ListJobs",
		&api.ListJobsArgs{Newest: true, Selectors: []string{":done"}, Limit: 1}, &jobs)
	if err != nil {
		return views, err
	}
	var matrices api.ListMatricesReply
	err = client.Call(ctx, "ListMatrices", &api.ListMatricesArgs{Light: true}, &matrices)
	if err != nil {
		return views, err
	}
	last := matrices.Matrices[len(matrices.Matrices)-1]
	if last.Cells != stillWaiting {
		return views, fmt.Errorf("matrix %d has %d cells", last.ID, last.Cells)
	}
	return pageViews(jobs.Jobs[0].JID, last.ID, time.Now()), nil
}

// measureWatched looks what ten viewers of a quiet daemon take of its processor, and what the
// process that serves them takes of memory.
func measureWatched(ctx context.Context, d *daemon, client *api.Client) (rows []row, err error) {
	const seconds = 20
	views, err := viewed(ctx, client)
	if err != nil {
		return nil, err
	}
	p, err := d.openPage(ctx)
	if err != nil {
		return nil, err
	}
	stop := p.watch(ctx, views, false)
	defer func() { err = errors.Join(err, stop(), p.close()) }()
	if err := pause(ctx, 8*time.Second); err != nil { // the first look is over
		return nil, err
	}
	before, err := processorTime(d.PID())
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, seconds*time.Second); err != nil {
		return nil, err
	}
	after, err := processorTime(d.PID())
	if err != nil {
		return nil, err
	}
	most, err := resident(p.cmd.Process.Pid, "VmHWM")
	if err != nil {
		return nil, err
	}
	perSecond := (after - before).Seconds() * 1000 / seconds
	return []row{{
		name:    "21a",
		what:    fmt.Sprintf("%d viewers of 1,000,000 jobs, nothing happens", viewers),
		theirs:  "–",
		ours:    fmt.Sprintf("%.2f ms/s", perSecond),
		target:  "≤ 1 ms/s",
		reached: perSecond <= 1,
		ourCmd:  "processor time of the daemon, of which a second each",
	}, {
		name:    "21e",
		what:    fmt.Sprintf("memory of `jobserver web` with %d viewers", viewers),
		theirs:  "–",
		ours:    fmt.Sprintf("%.0f MiB", most),
		target:  "≤ 40 MiB",
		reached: most <= 40,
		ourCmd:  "VmHWM of the process",
	}}, nil
}

// measureFirstPage compares a page from the newest down with one for which all matches are found.
func measureFirstPage(ctx context.Context, _ *daemon, client *api.Client) ([]row, error) {
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
	old, err := ask(&api.ListJobsArgs{Selectors: []string{":done"}, Last: 100})
	if err != nil {
		return nil, err
	}
	took, err := ask(
		&api.ListJobsArgs{Selectors: []string{":done"}, Limit: 100, Newest: true, Light: true},
	)
	if err != nil {
		return nil, err
	}
	ratio := float64(old) / float64(took)
	return []row{{
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
		peerCmd: "ListJobs of the last 100, for which all are found",
	}}, nil
}

// measureTimeline draws all attempts there are, and says how long the answer is as the page gets
// it.
func measureTimeline(ctx context.Context, _ *daemon, client *api.Client) ([]row, error) {
	args := &api.TimelineArgs{Columns: 1200, Wait: time.Minute}
	var reply api.TimelineReply
	built, err := timed(func() error { return client.Call(ctx, "Timeline", args, &reply) })
	if err != nil {
		return nil, err
	}
	took, err := timed(func() error { return client.Call(ctx, "Timeline", args, &reply) })
	if err != nil {
		return nil, err
	}
	if reply.Ready < 1 || reply.Total < million {
		return nil, fmt.Errorf(
			"the timeline has %d attempts, and is %.0f %% made",
			reply.Total,
			100*reply.Ready,
		)
	}
	// A part of it, as after a zoom.
	part := &api.TimelineArgs{Columns: 1200, Wait: time.Minute, Spans: 3000,
		From: reply.From, To: reply.From.Add(reply.To.Sub(reply.From) / 20)}
	zoomed, err := timed(func() error {
		return client.Call(ctx, "Timeline", part, new(api.TimelineReply))
	})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(reply)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return []row{{
		name: "21c",
		what: fmt.Sprintf(
			"machines against time: %d attempts, %d machines, %d columns",
			reply.Total,
			len(reply.Rows),
			reply.Columns,
		),
		ours: fmt.Sprintf("%.0f ms, %d kB; a twentieth of the time: %.0f ms",
			took.Seconds()*1000, packed.Len()/1000, zoomed.Seconds()*1000),
		theirs: "–",
		target: "≤ 60 ms, ≤ 100 kB; ≤ 30 ms",
		reached: took <= 60*time.Millisecond && packed.Len() <= 100_000 &&
			zoomed <= 30*time.Millisecond,
		ourCmd: "Timeline, compressed with gzip",
		note:   fmt.Sprintf("the first time, with its index, %.1f s", built.Seconds()),
	}}, nil
}

// measureBusy compares how fast jobs go through one machine while ten viewers look, and while none
// does, with what the daemon's processor had to do for each, and how long its scheduler was at one
// thing.
func measureBusy(ctx context.Context, d *daemon, client *api.Client) (rows []row, err error) {
	const jobs = 4000
	if err := d.addMachine(ctx, "local:busy", "busy", 8); err != nil {
		return nil, err
	}
	views, err := viewed(ctx, client)
	if err != nil {
		return nil, err
	}
	p, err := d.openPage(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	var spent [2]time.Duration // of the daemon's processor, in the turns that count
	var long [2]stretches
	turns := [2]int{}
	side := func(i int) func() (time.Duration, error) {
		return func() (took time.Duration, err error) {
			if i == 1 {
				stop := p.watch(ctx, views, true)
				defer func() { err = errors.Join(err, stop()) }()
			}
			before, err := processorTime(d.PID())
			if err != nil {
				return 0, err
			}
			stretched, err := d.stretches(ctx)
			if err != nil {
				return 0, err
			}
			if took, err = timed(func() error { return d.through(ctx, "busy", jobs) }); err != nil {
				return 0, err
			}
			after, err := processorTime(d.PID())
			if err != nil {
				return 0, err
			}
			more, err := d.stretches(ctx)
			if err != nil {
				return 0, err
			}
			if turns[i]++; turns[i] > 1 {
				spent[i] += after - before
				long[i] = long[i].plus(more.since(stretched))
			}
			return took, nil
		}
	}
	runs, err := inTurn(ctx, 3, side(0), side(1))
	if err != nil {
		return nil, err
	}
	more := (spent[1].Seconds()/runs[1].sum().Seconds() -
		spent[0].Seconds()/runs[0].sum().Seconds()) * 1000
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
	return []row{r, {
		name:    "21f",
		what:    "longest piece of the scheduler's loop meanwhile",
		ours:    long[1].text(),
		theirs:  long[0].text() + " without viewers",
		target:  "≤ 2 ms",
		reached: long[1].above("0.002") == 0,
		ourCmd:  "jobserver_loop_stretch_seconds of serve --metrics",
	}}, nil
}

// through runs so many jobs of a class.
func (d *daemon) through(ctx context.Context, class string, jobs int) error {
	_, _, err := d.j(ctx, "matrix", "add", class, "true", "", fmt.Sprintf("N=1..%d", jobs))
	if err == nil {
		_, _, err = d.j(ctx, "wait", "class="+class)
	}
	return err
}
