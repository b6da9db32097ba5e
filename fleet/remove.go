package fleet

import (
	"errors"
	"time"

	"jobserver/agent"
	"jobserver/failpoint"
	"jobserver/sched"
)

// What is left of runs that are over: first whatever of them lives is ended, which frees their
// slots, then their directories are removed. What a machine refuses is tried again after pauses
// that grow, on the same link and the next.

// rest is the pause between two tries.
type rest struct {
	on    bool
	tries int
	timer *time.Timer
}

func (p *rest) end() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.on = false
}

// restRun lets a run rest before it is tried again.
func (m *machine) restRun(r *run) {
	pause := doubled(m.f.opt.RemoveMin, r.rest.tries, m.f.opt.RemoveMax)
	r.rest.tries++
	r.rest.on = true
	r.rest.timer = time.AfterFunc(pause, func() {
		m.do(func() {
			m.rouse(r)
			m.advance(r)
		})
	})
}

// rouse ends a run's rest.
func (m *machine) rouse(r *run) {
	if r.rest.on {
		r.rest.end()
		r.forgetting = false
	}
}

// forgetRuns has the runs removed that have gathered for it. Those that may live, as how they ended
// is not on record, are ended first.
func (m *machine) forgetRuns() {
	l := m.link
	var quiet []*run
	for _, r := range m.toForget {
		switch {
		case r.gone:
		case r.lost && !r.stopped:
			l.spawn(func() { m.endAndForget(l, r) })
		default:
			if !r.stopped && r.settling.Cancel { // its slot is held for it
				r.stopped = true
				m.f.report(sched.Stopped{Ref: r.ref})
			}
			quiet = append(quiet, r)
		}
	}
	m.toForget = nil
	if len(quiet) > 0 {
		l.spawn(func() { m.forgetQuiet(l, quiet) })
	}
}

// endAndForget ends what may live of a run, and removes it.
func (m *machine) endAndForget(l *link, r *run) {
	err := l.client.Kill(l.ctx, r.id)
	if err == nil || errors.Is(err, agent.ErrNoRun) {
		m.reportStopped(r, "")
		m.forgetQuiet(l, []*run{r})
		return
	}
	m.unremoved(l, r, err, false)
}

// forgetQuiet removes the directories of runs of which nothing lives.
func (m *machine) forgetQuiet(l *link, batch []*run) {
	ids := make([]agent.RunID, len(batch))
	force := false
	for i, r := range batch {
		ids[i] = r.id
		force = force || r.lost
	}
	err := l.client.Forget(l.ctx, ids, force)
	failpoint.Hit("fleet.run-forgotten")
	switch {
	case err == nil:
		for _, r := range batch {
			m.f.report(sched.Settled{Ref: r.ref})
		}
		m.do(func() {
			for _, r := range batch {
				m.remove(r)
			}
		})
	case len(batch) > 1 && !linkBroke(l): // one of them is to blame
		for i := range batch {
			m.forgetQuiet(l, batch[i:i+1])
		}
	default:
		for _, r := range batch {
			m.unremoved(l, r, err, !errors.Is(err, agent.ErrRunning))
		}
	}
}

// unremoved takes it that a run could not be ended or, if nothing of it lives, not be removed.
func (m *machine) unremoved(l *link, r *run, err error, stopped bool) {
	broke := linkBroke(l)
	if !broke {
		if stopped {
			m.reportStopped(r, err.Error())
		}
		m.log.Warn(
			"what is left of a run can't be removed; it is tried again",
			"run",
			r.id.Name(),
			"err",
			err,
		)
	}
	m.do(func() {
		switch {
		case r.gone:
		case broke:
			r.forgetting = false
			m.advance(r)
		default:
			m.restRun(r)
		}
	})
}

// reportStopped says that nothing of a run lives, and why its directory is still there if it can't
// be removed.
func (m *machine) reportStopped(r *run, unremoved string) {
	m.f.report(sched.Stopped{Ref: r.ref, Unremoved: unremoved})
	m.do(func() { r.stopped = true })
}
