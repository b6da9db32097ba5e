package sched

import (
	"fmt"
	"time"

	"jobserver/sched/statepb"
)

// aboutSlurm tells of a change that concerns a provider or an allocation.
func (s *State) aboutSlurm(e Event, c *Change) (Event, bool) {
	about := func(kind, addr, format string, args ...any) {
		e.Kind, e.Machine, e.Text = kind, addr, fmt.Sprintf(format, args...)
		if p := s.providers[addr]; p != nil {
			e.Class = p.Class
		}
	}
	switch {
	case c.ProviderSet != nil:
		p := c.ProviderSet.Provider
		kind := EventProviderChanged
		if p.AddedAt == c.At {
			kind = EventProviderAdded
		}
		about(kind, p.Addr, "class %s is backed by %s: up to %s of %s with %s", p.Class, p.Addr,
			plural(int(p.Max), "allocation", "allocations"), durationText(time.Duration(p.Time)),
			plural(int(p.Slots), "slot", "slots"))
	case c.ProviderDrained != nil:
		about(EventProviderDraining, c.ProviderDrained.Addr, "%s asks for no more allocations",
			c.ProviderDrained.Addr)
	case c.ProviderResumed != nil:
		about(EventProviderResumed, c.ProviderResumed.Addr, "%s asks for allocations again",
			c.ProviderResumed.Addr)
	case c.ProviderRemoved != nil && c.ProviderRemoved.WhenIdle:
		about(EventProviderDraining, c.ProviderRemoved.Addr,
			"%s is removed as soon as its allocations have ended", c.ProviderRemoved.Addr)
	case c.ProviderRemoved != nil:
		about(EventProviderRemoved, c.ProviderRemoved.Addr, "%s was removed",
			c.ProviderRemoved.Addr)
	default:
		return s.aboutAllocation(e, c)
	}
	return e, true
}

// aboutAllocation tells of a change that concerns an allocation. Its pilot is named by its address
// also while there is none.
func (s *State) aboutAllocation(e Event, c *Change) (Event, bool) {
	about := func(kind string, a *statepb.Allocation, format string, args ...any) {
		e.Kind, e.Machine = kind, pilotAddr(a.Provider, a.Id)
		e.Text = e.Machine + fmt.Sprintf(format, args...)
		if p := s.providers[a.Provider]; p != nil {
			e.Class = p.Class
		}
	}
	of := func(id uint64) *statepb.Allocation {
		if a := s.allocations[id]; a != nil {
			return a.Allocation
		}
		return &statepb.Allocation{Id: id}
	}
	switch {
	case c.AllocationAsked != nil:
		a := c.AllocationAsked.Allocation
		about(EventAllocationAsked, a, " is asked for, for %s", durationText(time.Duration(a.Time)))
	case c.AllocationSeen != nil && c.AllocationSeen.Node == "":
		a := of(c.AllocationSeen.Id)
		about(EventAllocationWaits, a, " waits for Slurm as its job %s", a.Job)
	case c.AllocationSeen != nil:
		a := of(c.AllocationSeen.Id)
		about(EventAllocationRuns, a, " runs on %s as job %s until %s", a.Node, a.Job,
			clockTime(a.EndsAt))
	case c.AllocationRefused != nil:
		about(EventAllocationRefused, of(c.AllocationRefused.Id),
			" couldn't be submitted: %s; it is tried again", c.AllocationRefused.Words)
		e.Cause, e.Warn = c.AllocationRefused.Words, true
	case c.AllocationReleased != nil:
		about(EventAllocationReleased, of(c.AllocationReleased.Id), " is given back, as %s",
			c.AllocationReleased.Why)
	case c.AllocationEnded != nil:
		about(EventAllocationEnded, s.endedNow, " has ended: %s", endText(c.AllocationEnded))
		e.Cause = endText(c.AllocationEnded)
		e.Warn = s.endedNow.GetReleased() == ""
	case c.AttemptExpired != nil:
		e.Kind = EventJobCanceling
		return s.aboutJob(e, c.AttemptExpired.Run.Job,
			"job %d is being ended, as the allocation of %s ends in %s", c.AttemptExpired.Run.Job,
			c.AttemptExpired.Run.Machine, durationText(pilotCancel)), true
	default:
		return e, false
	}
	return e, true
}
