package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"jobserver/notify"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/view"
)

const (
	// defaultAway is how long a machine may be away before that is announced, when --away-timeout isn't given.
	defaultAway = 10 * time.Minute
	// watchEvery is the most that lies between two looks.
	watchEvery = 15 * time.Second
)

// watcher looks at what no other change tells, at intervals: machines that stay away, jobs that print nothing,
// disks that fill up. It announces each once, as an event, which the log and those who want to hear of it follow, and
// changes nothing: a job on a machine that is away isn't lost, only not heard of.
type watcher struct {
	p       *daemonParts
	away    time.Duration
	silent  time.Duration // 0: jobs aren't looked at
	minFree int64

	// What was announced, by machine, by run and by machine again ("" is this host). It is news again when it was otherwise
	// meanwhile; that a machine was away doesn't make it otherwise.
	awaySince map[string]time.Time
	silentAt  map[string]time.Time // when it had last printed
	low       map[string]bool
}

func newWatcher(p *daemonParts, t *teller) *watcher {
	w := &watcher{
		p: p, away: p.settings.AwayTimeout.Duration, minFree: int64(p.settings.MinFree),
		awaySince: map[string]time.Time{}, silentAt: map[string]time.Time{}, low: map[string]bool{},
	}
	if w.away <= 0 {
		w.away = defaultAway
	}
	if t.wanted[notify.Silent] {
		w.silent = p.settings.SilentAfter.Duration
	}
	return w
}

// run looks until ctx ends or the loop stops.
func (w *watcher) run(ctx context.Context) {
	every := min(watchEvery, max(w.away/4, 100*time.Millisecond))
	if w.silent > 0 {
		every = min(every, max(w.silent/4, 100*time.Millisecond))
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		s, err := w.survey(ctx)
		if err != nil {
			return
		}
		now := w.p.now()
		for _, n := range slices.Concat(w.lookAway(s, now), w.lookSilent(s, now), w.lookDisks(s)) {
			plan := func(*sched.State, time.Time) (sched.Plan, error) { return sched.PlanNotice(n), nil }
			if _, _, err := w.p.loop.Do(ctx, "", false, plan); err != nil {
				return // the loop has stopped, or the daemon does
			}
		}
	}
}

// sight is what a look needs of the state.
type sight struct {
	machines []sched.MachineView
	runs     []runSight
}

// runSight is a run under way.
type runSight struct {
	ref       *statepb.RunRef
	since     time.Time
	connected bool // its machine is: what it prints arrives
}

func (w *watcher) survey(ctx context.Context) (*sight, error) {
	s := &sight{}
	err := w.p.loop.Read(ctx, func(st *sched.State) {
		for _, addr := range st.Machines() {
			m, _ := st.Machine(addr)
			m.Machine = &statepb.Machine{Addr: addr, Class: m.Class} // the record is the loop's
			s.machines = append(s.machines, m)
			if w.silent == 0 {
				continue
			}
			for _, id := range m.Running {
				if j := st.Job(id); j != nil && j.Status == sched.Running && len(j.Attempts) > 0 {
					a := j.Attempts[len(j.Attempts)-1]
					s.runs = append(s.runs, runSight{
						ref:   &statepb.RunRef{Machine: addr, Job: id, Attempt: a.Number, Step: a.Step},
						since: sched.Time(max(a.StartedAt, a.DispatchedAt)), connected: m.Link == sched.LinkConnected,
					})
				}
			}
		}
	})
	return s, err
}

func (w *watcher) lookAway(s *sight, now time.Time) (news []sched.Notice) {
	there := map[string]time.Time{}
	for _, m := range s.machines {
		since, announced := w.awaySince[m.Addr]
		switch {
		case m.Link == sched.LinkConnected && announced:
			news = append(news, sched.Notice{Kind: sched.NoticeBack, Machine: m.Addr, Cause: "back",
				Text: fmt.Sprintf("machine %s is back after %s", m.Addr, view.FormatDuration(now.Sub(since)))})
		case m.Link == sched.LinkConnected || m.Since.IsZero():
		case announced && since.Equal(m.Since): // otherwise it was back meanwhile, for less than one look
			there[m.Addr] = since
		case now.Sub(m.Since) >= w.away:
			there[m.Addr] = m.Since
			text := fmt.Sprintf("machine %s has been %s for %s", m.Addr, m.Link, view.FormatDuration(now.Sub(m.Since)))
			if m.Reason != "" {
				text += ": " + m.Reason
			}
			if n := len(m.Running); n > 0 {
				text += fmt.Sprintf("; %s there, to be taken up when it is back", counted(n, "job"))
			}
			news = append(news, sched.Notice{Kind: sched.NoticeAway, Machine: m.Addr, Cause: string(m.Link), Text: text, Warn: true})
		}
	}
	w.awaySince = there
	return news
}

// lookSilent compares the times at which the log files were last written to with the clock.
func (w *watcher) lookSilent(s *sight, now time.Time) (news []sched.Notice) {
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
			if info, err := os.Stat(sched.LogPath(w.p.settings.LogDir, r.ref, stderr)); err == nil && info.ModTime().After(last) {
				last = info.ModTime()
			}
		}
		if now.Sub(last) < w.silent {
			continue
		}
		there[name] = last
		if w.silentAt[name].Equal(last) {
			continue // nothing has come since
		}
		news = append(news, sched.Notice{Kind: sched.NoticeSilent, Job: r.ref.Job, Machine: r.ref.Machine, Warn: true,
			Text: fmt.Sprintf("job %d on %s has printed nothing for %s", r.ref.Job, r.ref.Machine, view.FormatDuration(now.Sub(last)))})
	}
	w.silentAt = there
	return news
}

// lookDisks looks at this host's disk, and at what was last measured of the machines'.
func (w *watcher) lookDisks(s *sight) (news []sched.Notice) {
	there := map[string]bool{}
	look := func(addr, where string, free int64) {
		switch {
		case free < 0: // not known at present
			if w.low[addr] {
				there[addr] = true
			}
		case free < w.minFree:
			there[addr] = true
			if !w.low[addr] {
				news = append(news, sched.Notice{Kind: sched.NoticeDisk, Machine: addr, Warn: true,
					Text: fmt.Sprintf("%s has %s of disk left, less than --min-free %s", where, view.FormatSize(free), view.FormatSize(w.minFree))})
			}
		case w.low[addr] && free < w.minFree+w.minFree/4:
			there[addr] = true // only when there is clearly more, the next time is news
		}
	}
	look("", "this host", min(freeBytes(w.p.settings.StateDir), freeBytes(w.p.settings.LogDir)))
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
