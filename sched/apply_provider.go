package sched

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
	"jobserver/slurm"
)

// changeProvider applies f to a provider.
func (s *State) changeProvider(addr string, f func(p *provider)) error {
	p := s.providers[addr]
	if p == nil {
		return fmt.Errorf("no provider %q", addr)
	}
	f(p)
	s.pulse++
	return nil
}

// addProvider files a provider's record.
func (s *State) addProvider(rec *statepb.Provider) *provider {
	p := &provider{Provider: rec, offer: offerOf(rec.Args, int(rec.Slots))}
	s.providers[rec.Addr] = p
	return p
}

// applyProviderSet adds a provider, or gives one other settings. Allocations that are there stay as
// they are. One that was on its way out stays.
func (s *State) applyProviderSet(rec *statepb.Provider) error {
	rec = proto.CloneOf(rec)
	before := s.providers[rec.Addr]
	p := s.addProvider(rec)
	if before != nil {
		p.seen, p.problem, p.hint, p.carries = before.seen, before.problem, before.hint,
			before.carries
		for _, a := range s.allocationsOf(rec.Addr) {
			if m := s.pilot(a); m != nil && before.Removing && a.Released == "" &&
				m.Until > s.at {
				m.Removing = false
				s.file(m)
			}
		}
	}
	s.pulse++
	s.askProvide(rec.Addr)
	return nil
}

func (s *State) askProvide(addr string) {
	s.ask(func(f Fleet) {
		if p := s.providers[addr]; p != nil {
			f.Provide(p.fleets())
		}
	})
}

// applyProviderRemoved takes a provider away. When that is to be when it is idle, its pilots end
// what they do, and it goes with the last of them; with force, what it has is abandoned.
func (s *State) applyProviderRemoved(c *statepb.ProviderRemoved, at int64) error {
	p := s.providers[c.Addr]
	if p == nil {
		return fmt.Errorf("no provider %q", c.Addr)
	}
	s.pulse++
	left := s.allocationsOf(c.Addr)
	if c.WhenIdle {
		p.Removing = true
		for _, a := range left {
			if m := s.pilot(a); m != nil {
				m.Removing = true
				s.file(m)
			}
		}
		return nil
	}
	if len(left) > 0 && !c.Force {
		return fmt.Errorf("provider %s has %d allocations still", c.Addr, len(left))
	}
	for _, a := range left {
		if m := s.pilot(a); m != nil {
			err := s.applyMachineRemoved(&statepb.MachineRemoved{Addr: m.Addr, Force: true}, at)
			if err != nil {
				return err
			}
		}
		s.dropOwed(a.addr())
		delete(s.allocations, a.Id)
		s.ask(func(f Fleet) { f.Abandon(a.Id) })
	}
	delete(s.providers, c.Addr)
	s.ask(func(f Fleet) {
		if s.providers[c.Addr] == nil {
			f.Withdraw(c.Addr)
		}
	})
	return nil
}

// applyProviderResumed has a provider ask again.
func (s *State) applyProviderResumed(addr string) error {
	return s.changeProvider(addr, func(p *provider) {
		p.Draining, p.Resting, p.Words = false, "", ""
		p.Unanswered, p.Refused, p.Exclude, p.carries = 0, 0, nil, 0
		s.askProvide(addr) // to look again at once
	})
}

func (s *State) applyAllocationAsked(rec *statepb.Allocation, at int64) error {
	if s.providers[rec.Provider] == nil {
		return fmt.Errorf("allocation %d is of %q, which is no provider", rec.Id, rec.Provider)
	}
	if err := s.take(rec.Id, 1); err != nil {
		return err
	}
	a := &allocation{Allocation: proto.CloneOf(rec)}
	a.AskedAt = at
	s.allocations[a.Id] = a
	s.pulse++
	s.ask(func(f Fleet) {
		if s.allocations[a.Id] != nil {
			f.Allocate(a.fleets(time.Time{}))
		}
	})
	return nil
}

// changeAllocation applies f to an allocation.
func (s *State) changeAllocation(id uint64, f func(a *allocation) error) error {
	a := s.allocations[id]
	if a == nil {
		return fmt.Errorf("no allocation %d", id)
	}
	s.pulse++
	return f(a)
}

func (s *State) applyAllocationSeen(c *statepb.AllocationSeen, at int64) error {
	return s.changeAllocation(c.Id, func(a *allocation) error {
		if a.Job == "" {
			a.SeenAt = at
			s.providers[a.Provider].Refused = 0
		}
		moved := a.Job != c.Job || a.Node != c.Node
		a.Job, a.Node, a.EndsAt, a.Hosts = c.Job, c.Node, c.EndsAt, c.Hosts
		if m := s.pilot(a); m != nil {
			m.Until = pilotUntil(a)
			s.file(m)
			if moved {
				s.askConnect(m.Addr)
			}
		}
		return nil
	})
}

// pilotUntil is until when the pilot of an allocation takes jobs.
func pilotUntil(a *allocation) int64 {
	if a.EndsAt == 0 {
		return 0
	}
	return max(a.EndsAt-int64(pilotMargin), 1)
}

// applyAllocationRefused counts a submission that failed. After too many the provider rests, and
// what was never submitted is given up.
func (s *State) applyAllocationRefused(c *statepb.AllocationRefused) error {
	return s.changeAllocation(c.Id, func(a *allocation) error {
		p := s.providers[a.Provider]
		p.Refused++
		p.Words = c.Words
		if p.Refused < maxRefused || p.Resting != "" {
			return nil
		}
		s.rest(p, fmt.Sprintf("%d submissions in a row failed, the last: %s", p.Refused, c.Words))
		for _, other := range s.allocationsOf(p.Addr) {
			if other.Job == "" {
				s.giveBack(other, "its provider rests")
			}
		}
		return nil
	})
}

// rest has a provider ask for no more until the user says so.
func (s *State) rest(p *provider, why string) {
	p.Resting = why
	s.tell(EventProviderResting, p.Addr, true,
		"%s asks for no more allocations, as %s (`%s` ends that)", p.Addr, why,
		resumeCommand(p.Addr))
}

// giveBack releases an allocation, whose pilot gets no more jobs.
func (s *State) giveBack(a *allocation, why string) {
	if a.Released != "" {
		return
	}
	a.Released = why
	if m := s.pilot(a); m != nil {
		m.Removing = true
		s.file(m)
	}
	s.ask(func(f Fleet) {
		if s.allocations[a.Id] != nil {
			f.Release(a.Id)
		}
	})
}

func (s *State) applyAllocationReleased(c *statepb.AllocationReleased) error {
	return s.changeAllocation(c.Id, func(a *allocation) error {
		if p := s.providers[a.Provider]; c.Exclude != "" && !slices.Contains(p.Exclude, c.Exclude) {
			p.Exclude = append(p.Exclude, c.Exclude)
			p.Exclude = p.Exclude[max(len(p.Exclude)-maxExcluded, 0):]
		}
		s.giveBack(a, c.Why)
		return nil
	})
}

// answered notes that an allocation was of use.
func (s *State) answered(m *machine) {
	a := s.allocations[m.Allocation]
	if a == nil || a.Answered {
		return
	}
	a.Answered = true
	p := s.providers[a.Provider]
	p.Unanswered, p.Words = 0, ""
}

// applyAllocationEnded takes it that an allocation is gone: what ran there is lost, what is owed
// there can't be met any more, and its pilot leaves the pool.
func (s *State) applyAllocationEnded(c *statepb.AllocationEnded, at int64) error {
	a := s.allocations[c.Id]
	if a == nil {
		return fmt.Errorf("no allocation %d", c.Id)
	}
	s.pulse++
	s.endedNow = a.Allocation
	s.countEnd(a, c)
	if m := s.pilot(a); m != nil {
		if err := s.vanishFrom(m, a, c, at); err != nil {
			return err
		}
		s.removeFrom(m.Class, m)
		delete(s.machines, m.Addr)
	}
	s.dropOwed(a.addr())
	delete(s.allocations, c.Id)
	addr := a.addr()
	s.ask(func(f Fleet) {
		delete(s.unreached, addr)
		f.Disconnect(addr)
	})
	return nil
}

// countEnd counts an allocation that was of no use, for which nobody had asked: after too many in a
// row the provider rests. That others are preferred, or that its time was over, says nothing.
func (s *State) countEnd(a *allocation, c *statepb.AllocationEnded) {
	p := s.providers[a.Provider]
	switch {
	case a.Answered, c.State == slurmPreempted, c.State == slurmTimeout, c.State == slurmDeadline,
		c.State == slurm.NotSubmitted, a.Released != "" && a.Released != whySetupFailed:
		return
	}
	p.Unanswered++
	p.Words = endText(c)
	if a.Released == whySetupFailed {
		p.Words = whySetupFailed
	}
	if p.Unanswered >= maxUnanswered && p.Resting == "" {
		s.rest(p, fmt.Sprintf("%d allocations in a row ended before they could run a job, the "+
			"last: %s", p.Unanswered, p.Words))
	}
}

// dropOwed forgets what was still to be done on the machine of an allocation that is gone.
func (s *State) dropOwed(addr string) {
	dropped := 0
	for _, token := range sorted(s.owed) {
		o := s.owed[token]
		if o.Run.Machine != addr || o.Run.Driver {
			continue
		}
		s.disown(token)
		s.ask(func(f Fleet) { f.Drop(o.Run) })
		dropped++
	}
	if dropped > 0 {
		s.tell(EventMachineDropped, addr, false, "what is left of %s on %s is left alone: its "+
			"allocation has ended", plural(dropped, "run", "runs"), addr)
	}
}
