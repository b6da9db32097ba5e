package sched

import (
	"time"

	"jobserver/sched/statepb"
)

// What the fleet reports of providers and allocations.

// clockJitter is by how much the end of an allocation may differ from what is known, before that is
// news: what is left of it is told in seconds, and takes a moment to be told.
const clockJitter = 20 * time.Second

// resumeAllocations asks the fleet for the allocations that the state wants, and to end the others:
// all of them are known before the first login is looked at.
func (s *State) resumeAllocations(f Fleet) {
	for _, a := range s.allAsked() {
		f.Allocate(a.fleets(Time(a.AskedAt)))
		if a.Released != "" {
			f.Release(a.Id)
		}
	}
	for _, addr := range sorted(s.providers) {
		f.Provide(s.providers[addr].fleets())
	}
}

// providerSeen notes whether a login answers.
func (s *State) providerSeen(o ProviderSeen) {
	p := s.providers[o.Addr]
	if p == nil {
		return
	}
	if !p.seen || p.problem != o.Problem || p.hint != o.Hint {
		s.pulse++
	}
	p.seen, p.problem, p.hint = true, o.Problem, o.Hint
}

// loginFull takes it that the pilots which are connected now are all that the connection carries
// which those of a login share.
func (s *State) loginFull(login string) {
	n := s.connectedBy(login)
	for _, p := range s.providers {
		if p.Login == login && n > 0 && p.carries != n {
			p.carries = n
			s.pulse++
		}
	}
}

// connectedBy counts the pilots that are connected by way of a login.
func (s *State) connectedBy(login string) (n int) {
	for _, a := range s.allocations {
		if m := s.pilot(a); a.Login == login && m != nil && m.link == LinkConnected {
			n++
		}
	}
	return n
}

// carriesMore forgets how many pilots a login carries, as there are more now.
func (s *State) carriesMore(m *machine) {
	a := s.allocations[m.Allocation]
	if a == nil {
		return
	}
	for _, p := range s.providers {
		if p.Login == a.Login && p.carries > 0 && s.connectedBy(a.Login) > p.carries {
			p.carries = 0
			s.pulse++
		}
	}
}

// allocated notes what Slurm says of an allocation. One that has begun joins its class.
func (s *State) allocated(o Allocated, now time.Time) []*Change {
	a := s.allocations[o.ID]
	if a == nil {
		s.ask(func(f Fleet) { f.Abandon(o.ID) })
		return nil
	}
	if a.state != o.State {
		a.since = now
	}
	if a.state != o.State || a.reason != o.Reason || !a.start.Equal(o.Start) {
		s.pulse++
	}
	a.state, a.reason, a.start = o.State, o.Reason, o.Start
	if m := s.pilot(a); m != nil && m.link != s.linkOf(m) {
		s.relink(m, now)
		if m.link != LinkConnected && s.stateOfPilot(m) == "" {
			s.askConnect(m.Addr) // at once, whatever a dial waits for
		}
	}
	seen := &statepb.AllocationSeen{Id: a.Id, Job: o.Job, Node: a.Node, EndsAt: a.EndsAt,
		Hosts: a.Hosts}
	if o.State == slurmRunning && o.Node != "" && a.Released == "" {
		if seen.Node = o.Node; a.Machines > 0 {
			seen.Hosts = o.Nodes
		}
		end := nanos(o.End)
		switch {
		case end != 0 && (a.EndsAt == 0 || Time(end).Sub(Time(a.EndsAt)).Abs() > clockJitter):
			seen.EndsAt = end
		case a.EndsAt == 0: // as it was asked for; it is told later, if ever
			seen.EndsAt = now.UnixNano() + a.Time
		}
	}
	var changes []*Change
	if seen.Job != a.Job || seen.Node != a.Node || seen.EndsAt != a.EndsAt {
		changes = append(changes, &Change{AllocationSeen: seen})
	}
	if o.State == slurmRunning && o.Node != "" && s.pilot(a) == nil && a.Released == "" {
		changes = append(changes, s.join(a, seen.EndsAt, now)...)
	}
	return changes
}

// join has the pilot of an allocation join its class, after the setup that its matrices want.
func (s *State) join(a *allocation, endsAt int64, now time.Time) []*Change {
	class := s.providers[a.Provider].Class
	until := max(endsAt-int64(pilotMargin), 1)
	pilot := &statepb.Machine{
		Addr: a.addr(), Slots: a.Slots, Until: until, AddedAt: now.UnixNano(),
		Allocation: a.Id, Provider: a.Provider, Jobs: a.Jobs, Nodes: a.Machines,
		Resources: a.Resources,
	}
	p := s.planner()
	steps := p.wanted(pilot.Addr, class, nil)
	if len(steps) == 0 || until <= now.UnixNano() {
		pilot.Class = class
		return []*Change{{MachineAdded: &statepb.MachineAdded{Machine: pilot}}}
	}
	spec := SetupSpec{Class: class, Slots: int(a.Slots), Until: Time(until)}
	if err := p.setup(spec, steps, pilot.Addr, 0, now); err != nil {
		// it can't be made any more, as a variable is gone: as if it had failed
		return []*Change{{MachineAdded: &statepb.MachineAdded{Machine: pilot}}}
	}
	for _, c := range p.Changes {
		if c.MachineAdded != nil {
			c.MachineAdded.Machine = pilot
		}
	}
	return p.Changes
}
