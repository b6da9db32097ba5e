package fleet

import (
	"errors"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// steer is a pause that is to be delivered to a run. It belongs to the actor.
type steer struct {
	pause    *bool // to stop, or to go on
	steering bool  // a task delivers it, or waits for its next try
}

// pause is sched's Pause.
func (m *machine) pause(ref *statepb.RunRef, stop bool) {
	r := m.runs[m.f.runID(ref)]
	if r == nil {
		return
	}
	r.pause = &stop
	m.advance(r)
}

// steerRun delivers a pause. What is refused for a while, as by a machine whose disk is full, is
// tried again; what can't be done is reported.
func (m *machine) steerRun(l *link, r *run) {
	r.steering = true
	stop := r.pause
	l.spawn(func() {
		err := l.client.Steer(m.patient(l.ctx), r.id, agent.Control{SetPause: true, Pause: *stop})
		done := err == nil || errors.Is(err, agent.ErrNoRun) // where there is none, none is stopped
		switch {
		case done || unanswered(l, err):
		case errors.Is(err, agent.ErrOlder):
			done = true
			m.unsteered(r, 0, err)
		default:
			m.do(func() { m.logRefusal(r, err) })
			_ = m.f.disk.pause(l.ctx) // the end of the link is seen by advance
		}
		m.do(func() {
			r.steering = false
			if done && r.pause == stop {
				r.pause = nil
			}
			m.advance(r)
		})
	})
}

// signal is sched's Signal.
func (m *machine) signal(ref *statepb.RunRef, signal int) {
	r, l := m.runs[m.f.runID(ref)], m.link
	if r == nil || l == nil || !r.known || r.over {
		m.f.report(sched.Unsteered{Ref: ref, Signal: signal,
			Reason: "its machine can't be reached at present"})
		return
	}
	l.spawn(func() {
		err := l.client.Steer(m.patient(l.ctx), r.id, agent.Control{Signal: signal})
		if err != nil {
			unanswered(l, err)
			m.unsteered(r, signal, err)
		}
	})
}

// unsteered reports that a pause or a signal came to nothing.
func (m *machine) unsteered(r *run, signal int, err error) {
	if !r.silent.Load() {
		m.f.report(sched.Unsteered{Ref: r.ref, Signal: signal, Reason: err.Error()})
	}
}

// takePause reports that a run has stopped, or goes on.
func (m *machine) takePause(r *run, before, now agent.Pause) {
	if now.Changes == before.Changes || r.silent.Load() {
		return
	}
	m.f.report(sched.Paused{Ref: r.ref, On: now.On, Total: now.Total, Left: now.Left})
}
