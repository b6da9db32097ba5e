package report

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/view"
)

const (
	// defaultAway is how long a machine may be away before that is announced, when --away-timeout
	// isn't given.
	defaultAway = 10 * time.Minute
	// watchEvery is the most that lies between two looks.
	watchEvery = 15 * time.Second
)

// Watcher looks at what no other change tells, at intervals: machines that stay away, jobs that
// print nothing, disks that fill up. It announces each once, as an event, which the log and those
// who want to hear of it follow, and changes nothing: a job on a machine that is away isn't lost,
// only not heard of.
type Watcher struct {
	o WatchOptions

	// What was announced, by machine, by run and by machine again ("" is this host). It is news
	// again when it was otherwise meanwhile; that a machine was away doesn't make it otherwise.
	awaySince map[string]time.Time
	silentAt  map[string]time.Time // when it had last printed
	low       map[string]bool
}

// WatchOptions say what is looked at. Zero durations mean the defaults.
type WatchOptions struct {
	Away     time.Duration // after which a machine that is away is announced
	Silent   time.Duration // after which a job that prints nothing is; 0: jobs aren't looked at
	MinFree  int64         // bytes: less is a disk that fills up
	StateDir string
	LogDir   string
	Now      func() time.Time
}

// NewWatcher has announced nothing yet.
func NewWatcher(o WatchOptions) *Watcher {
	w := &Watcher{
		o: o, awaySince: map[string]time.Time{}, silentAt: map[string]time.Time{},
		low: map[string]bool{},
	}
	if w.o.Away <= 0 {
		w.o.Away = defaultAway
	}
	return w
}

// Watch looks until ctx ends or the loop stops.
func (w *Watcher) Watch(ctx context.Context, loop *sched.Loop) {
	every := min(watchEvery, max(w.o.Away/4, 100*time.Millisecond))
	if w.o.Silent > 0 {
		every = min(every, max(w.o.Silent/4, 100*time.Millisecond))
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		s, err := look(ctx, loop, w.o.Silent > 0)
		if err != nil {
			return
		}
		now := w.o.Now()
		for _, n := range slices.Concat(w.lookAway(s, now), w.lookSilent(s, now), w.lookDisks(s)) {
			plan := func(*sched.State, time.Time) (sched.Plan, error) {
				return sched.PlanNotice(n),
					nil
			}
			if _, _, err := loop.Do(ctx, "", false, plan); err != nil {
				return // the loop has stopped, or the daemon does
			}
		}
	}
}

// observed notes what was seen of the state at one moment.
type observed struct {
	machines []sched.MachineView
	runs     []observedRun
}

// observedRun is a run under way.
type observedRun struct {
	ref       *statepb.RunRef
	since     time.Time
	connected bool // its machine is: what it prints arrives
}

// look looks at the machines, and at what runs on them.
func look(ctx context.Context, loop *sched.Loop, runs bool) (*observed, error) {
	seen := &observed{}
	err := loop.Read(ctx, func(st *sched.State) {
		for _, addr := range st.Machines() {
			m, _ := st.Machine(addr)
			m.Machine = &statepb.Machine{Addr: addr, Class: m.Class} // the record is the loop's
			seen.machines = append(seen.machines, m)
			if !runs {
				continue
			}
			for _, id := range m.Running {
				j := st.Job(id)
				if j == nil || j.Status != sched.Running || len(j.Attempts) == 0 ||
					sched.PauseOf(j) != "" {
					continue // what is paused prints nothing
				}
				a := j.Attempts[len(j.Attempts)-1]
				seen.runs = append(seen.runs, observedRun{
					ref: &statepb.RunRef{Machine: addr, Job: id, Attempt: a.Number,
						Step: a.Step},
					since:     sched.Time(max(a.StartedAt, a.DispatchedAt, a.ContinuedAt)),
					connected: m.Link == sched.LinkConnected,
				})
			}
		}
	})
	return seen, err
}

func (w *Watcher) lookAway(s *observed, now time.Time) (news []sched.Notice) {
	there := map[string]time.Time{}
	for _, m := range s.machines {
		since, announced := w.awaySince[m.Addr]
		switch {
		case m.Link == sched.LinkConnected && announced:
			news = append(news, sched.Notice{Kind: sched.NoticeBack, Machine: m.Addr, Cause: "back",
				Text: fmt.Sprintf("machine %s is back after %s", m.Addr,
					view.FormatDuration(now.Sub(since)))})
		case m.Link == sched.LinkConnected || m.Since.IsZero():
		case announced && since.Equal(m.Since):
			// otherwise it was back meanwhile, for less than one look
			there[m.Addr] = since
		case now.Sub(m.Since) >= w.o.Away:
			there[m.Addr] = m.Since
			text := fmt.Sprintf("machine %s has been %s for %s", m.Addr, m.Link,
				view.FormatDuration(now.Sub(m.Since)))
			if m.Reason != "" {
				text += ": " + m.Reason
			}
			if n := len(m.Running); n > 0 {
				text += fmt.Sprintf("; %s there, to be taken up when it is back",
					view.Counted(n, "job"))
			}
			news = append(news,
				sched.Notice{Kind: sched.NoticeAway, Machine: m.Addr, Cause: string(m.Link),
					Text: text, Warn: true})
		}
	}
	w.awaySince = there
	return news
}

// lookSilent compares the times at which the log files were last written to with the clock.
func (w *Watcher) lookSilent(s *observed, now time.Time) (news []sched.Notice) {
	there := map[string]time.Time{}
	for _, r := range s.runs {
		name := fmt.Sprintf("%d.%d.%d", r.ref.Job, r.ref.Attempt, r.ref.Step)
		if !r.connected {
			if at, announced := w.silentAt[name]; announced {
				there[name] = at
			}
			continue
		}
		last := r.since
		for _, stderr := range []bool{false, true} {
			if info, err := os.Stat(sched.LogPath(w.o.LogDir, r.ref, stderr)); err == nil &&
				info.ModTime().After(last) {
				last = info.ModTime()
			}
		}
		if now.Sub(last) < w.o.Silent {
			continue
		}
		there[name] = last
		if w.silentAt[name].Equal(last) {
			continue // nothing has come since
		}
		news = append(news,
			sched.Notice{Kind: sched.NoticeSilent, Job: r.ref.Job, Machine: r.ref.Machine,
				Warn: true,
				Text: fmt.Sprintf("job %d on %s has printed nothing for %s", r.ref.Job,
					r.ref.Machine,
					view.FormatDuration(now.Sub(last)))})
	}
	w.silentAt = there
	return news
}

// lookDisks looks at this host's disk, and at what was last measured of the machines'.
func (w *Watcher) lookDisks(s *observed) (news []sched.Notice) {
	there := map[string]bool{}
	look := func(addr, where string, free int64) {
		switch {
		case free < 0: // not known at present
			if w.low[addr] {
				there[addr] = true
			}
		case free < w.o.MinFree:
			there[addr] = true
			if !w.low[addr] {
				news = append(news, sched.Notice{Kind: sched.NoticeDisk, Machine: addr, Warn: true,
					Text: fmt.Sprintf("%s has %s of disk left, less than --min-free %s", where,
						view.FormatSize(free), view.FormatSize(w.o.MinFree))})
			}
		case w.low[addr] && free < w.o.MinFree+w.o.MinFree/4:
			there[addr] = true // only when there is clearly more, the next time is news
		}
	}
	look("", "this host", min(free(w.o.StateDir), free(w.o.LogDir)))
	for _, m := range s.machines {
		free := int64(-1)
		if m.Link == sched.LinkConnected && m.Vitals.FreeBytes > 0 {
			free = m.Vitals.FreeBytes
		}
		look(m.Addr, "machine "+m.Addr, free)
	}
	w.low = there
	return news
}
