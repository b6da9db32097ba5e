package fleet

import (
	"slices"
	"sync"
	"time"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// findings has what is learned on a new link before it is used.
type findings struct {
	facts  agent.Facts
	vitals sched.Vitals
	runs   []*statepb.RunRef
	over   map[string]bool // by token: those of which nothing lives
}

// add takes the runs of a listing.
func (f *findings) add(m *machine, listed []agent.RunInfo, driver bool) {
	for _, r := range listed {
		ref := m.ref(r.Run)
		ref.Driver = driver
		f.runs = append(f.runs, ref)
		if r.Over() {
			f.over[ref.Token] = true
		}
	}
}

// survey lists the runs that are there; what it doesn't find can't be started by an earlier link
// any more. The list's round trip is also the link's measure. Whoever gets findings ends the survey
// when they are reported, or dropped.
func (m *machine) survey(l *link) (found *findings, err error) {
	m.f.surveys.begin()
	defer func() {
		if err != nil {
			m.f.surveys.end()
		}
	}()
	ctx, cancel := m.f.limited(l.ctx)
	defer cancel()
	var sent time.Time
	var listed []agent.RunInfo
	if err = m.take(ctx, l); err == nil {
		sent = m.f.opt.Now()
		listed, err = l.client.List(ctx, m.f.opt.ServerID, m.id)
	}
	if err != nil {
		if ctx.Err() != nil {
			l.giveUp(err)
		}
		return nil, err
	}
	found = &findings{facts: l.client.Machine(), over: map[string]bool{}}
	latency := m.f.opt.Now().Sub(sent)
	found.vitals = vitals(found.facts, sent, latency)
	found.add(m, listed, false)
	if !sched.IsLocal(m.addr) {
		drivers, err := m.driverRuns(l.ctx)
		if err != nil {
			return nil, err
		}
		found.add(m, drivers, true)
	}
	return found, nil
}

// surveys reports what is settled and what is found, in an order that makes sense to sched: a list
// that was made before a run was removed names it, and after Settled nothing knows it any more. So
// lists are reported without the runs that were settled since.
type surveys struct {
	mu      sync.Mutex      // held while either is reported
	under   int             // guarded by mu: how many are under way, from the list to its report
	settled map[string]bool // guarded by mu: tokens of the runs that were settled while one was
}

func (s *surveys) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under++
}

func (s *surveys) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under--; s.under == 0 {
		s.settled = nil
	}
}

// report passes Settled and Connected on. A run that is settled is never wanted again, so it
// doesn't matter whose survey came first.
func (s *surveys) report(o sched.Outcome, report func(sched.Outcome)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch x := o.(type) {
	case sched.Settled:
		if s.under > 0 {
			if s.settled == nil {
				s.settled = map[string]bool{}
			}
			s.settled[x.Ref.Token] = true
		}
	case sched.Connected:
		x.Runs = slices.DeleteFunc(slices.Clone(x.Runs), func(r *statepb.RunRef) bool {
			return s.settled[r.Token]
		})
		o = x
	}
	report(o)
}
