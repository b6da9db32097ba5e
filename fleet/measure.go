package fleet

import (
	"time"

	"jobserver/sched"
)

// measure takes a machine's vital signs now and then, as long as its link lasts. All machines are
// measured at the same moments, so that an idle daemon wakes once for all of them: a question and
// an answer of some hundred bytes each are no burden, and each machine computes its own. It also
// tells the agent that we are still there, and us that the agent is.
func (m *machine) measure(l *link) {
	every := m.f.opt.MeasureEvery
	for {
		timer := time.NewTimer(every - time.Duration(m.f.opt.Now().UnixNano())%every)
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
			return
		}
		sent := m.f.opt.Now()
		ctx, cancel := m.f.limited(l.ctx)
		facts, err := l.client.Facts(ctx)
		late := ctx.Err() != nil
		cancel()
		switch {
		case linkBroke(l):
			return // it says why itself
		case err != nil && late:
			l.giveUp(err)
			return
		case err != nil:
			m.log.Warn("the machine could not be measured", "err", err)
			continue
		}
		now := m.f.opt.Now()
		if m.addr == driversHere {
			continue // no machine that jobs see
		}
		m.report(sched.Measured{Addr: m.addr, Vitals: vitals(facts, now, now.Sub(sent))})
	}
}
