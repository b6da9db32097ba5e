package fleet

import (
	"math/rand/v2"
	"time"

	"jobserver/sched"
)

// measure takes a machine's vital signs now and then, as long as its link lasts. A random part of the pause
// keeps machines that came together from answering together.
func (m *machine) measure(l *link) {
	if m.addr == driversHere {
		return
	}
	every := m.f.opt.MeasureEvery
	for {
		timer := time.NewTimer(every/2 + rand.N(every))
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
			return
		}
		sent := m.f.opt.Now()
		facts, err := l.client.Facts(l.ctx)
		if err != nil {
			return // the link is at its end, and says why itself
		}
		now := m.f.opt.Now()
		m.report(sched.Measured{Addr: m.addr, Vitals: vitals(facts, now, now.Sub(sent))})
	}
}
