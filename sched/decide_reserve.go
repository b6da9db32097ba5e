package sched

import (
	"cmp"
	"slices"
	"time"

	"jobserver/sched/statepb"
)

// A big job must not starve behind small ones that take each slot as soon as it is free. So there
// is one line over all classes, by priority and id, and the first of it that lacks only room has a
// machine reserved, the one that it will have soonest. Others pass it if they end before it could
// begin, or take nothing that it lacks. Of what the pool has, as much is left as it needs.
//
// A reservation is not durable: nothing that was decided depends on it, and it is made again when
// it is needed. It stays where it is while its machine can be had, as one that moves about is none.

// reservation is a machine that is kept for the first job of a shape.
type reservation struct {
	shape   *shape
	machine *machine
}

// awayFor is how long a reserved machine may be away before another one is taken.
const awayFor = time.Minute

// until is when a reserved machine has been away for too long, 0 while it isn't.
func (r *reservation) until() int64 {
	if m := r.machine; m != nil && m.link != LinkConnected {
		return m.since.Add(awayFor).UnixNano()
	}
	return 0
}

// unreserve gives a reservation up; who was kept off its machine is tried again.
func (s *State) unreserve(c *class) {
	c.reserved = nil
	s.tryAll(c)
}

// reserve gives what is kept for the first of some shapes that lacks only room, or nil.
func (s *State) reserve(c *class, stuck []*shape, now time.Time) *reservation {
	for _, sh := range stuck {
		if s.poolNeverHas(sh.needs) != "" {
			continue
		}
		if r := c.reserved; r != nil && r.shape == sh && s.couldHave(sh, r.machine, now) {
			return r
		}
		if m := s.soonest(sh, now); m != nil {
			if c.reserved != nil {
				s.unreserve(c)
			}
			c.reserved = &reservation{sh, m}
			return c.reserved
		}
	}
	if c.reserved != nil {
		s.unreserve(c)
	}
	return nil
}

// couldHave says that a machine will be able to take a shape's first job when what it has to do is
// done.
func (s *State) couldHave(sh *shape, m *machine, now time.Time) bool {
	j := sh.first().record()
	there := m.open() ||
		m.link != LinkConnected && m.link != LinkRefused && !m.Draining && !m.Removing &&
			now.Sub(m.since) <= awayFor
	if !there || s.machines[m.Addr] != m || m.Class != sh.class.name || m.suspect() ||
		s.setupDue(m, now) ||
		s.neverHas(sh.needs, m) != "" {
		return false
	}
	start := now
	if at, known := s.startOn(sh.needs, m, now); known {
		start = time.Unix(0, at)
	}
	return fits(j, m, start) && !slices.Contains(s.avoided(j, sh.class.machines, now), m.Addr)
}

// waitsForRoom says that some machine of its class will be able to take a shape's first job.
func (s *State) waitsForRoom(sh *shape, now time.Time) bool {
	if s.poolNeverHas(sh.needs) != "" {
		return false
	}
	return slices.ContainsFunc(
		sh.class.machines,
		func(m *machine) bool { return s.couldHave(sh, m, now) },
	)
}

// soonest is the machine that will first have room for a shape: the earliest of those of which that
// is known; else the one with the fewest slots still to free.
func (s *State) soonest(sh *shape, now time.Time) (best *machine) {
	var bestAt int64
	var bestKnown bool
	var bestLeft int
	for _, m := range sh.class.machines {
		if !s.couldHave(sh, m, now) {
			continue
		}
		at, known := s.startOn(sh.needs, m, now)
		left := slotsOf(sh.needs, m) - m.room
		better := best == nil || known && !bestKnown
		if best != nil && known == bestKnown {
			better = known && at < bestAt || !known && left < bestLeft
		}
		if better {
			best, bestAt, bestKnown, bestLeft = m, at, known, left
		}
	}
	return best
}

// startOn is when a machine will have room for what is needed, as far as the timeouts of what runs
// there tell.
func (s *State) startOn(n *statepb.Needs, m *machine, now time.Time) (at int64, known bool) {
	type end struct {
		at    int64 // 0: not known
		given *statepb.Given
	}
	var ends []end
	var before uint64
	for _, id := range m.slots {
		if id == 0 || id == before {
			continue
		}
		before = id
		if j := s.live[id]; j != nil &&
			!slices.ContainsFunc(
				ends,
				func(e end) bool { return e.given == last(j.Job).Given && e.given != nil },
			) {
			e := end{given: last(j.Job).Given}
			if a := last(j.Job); a.Timeout > 0 && j.Setup == nil && j.Status == Running &&
				!pauses(a) {
				e.at = max(cmp.Or(a.StartedAt, a.DispatchedAt)+a.Timeout+a.PausedFor,
					now.UnixNano())
			}
			ends = append(ends, e)
		}
	}
	slices.SortStableFunc(ends, func(a, b end) int {
		return cmp.Or(cmp.Compare(b2i(a.at == 0), b2i(b.at == 0)), cmp.Compare(a.at, b.at))
	})
	slots, freed := m.room, ledger{}
	enough := func() bool {
		if slots < slotsOf(n, m) {
			return false
		}
		for _, a := range n.GetAmounts() {
			if !s.ofPool(a.Name) &&
				s.freeOf(m.Addr, m.resource(a.Name))+freed.of(m.Addr, a.Name) < a.Amount {
				return false
			}
		}
		return s.poolLacks(n) == ""
	}
	at = now.UnixNano()
	for _, e := range ends {
		if enough() {
			return at, true
		}
		if e.at == 0 {
			return 0, false
		}
		at = e.at
		slots += slotsHeld(e.given)
		freed.book(m.Addr, e.given, 1)
	}
	return at, enough()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// delays says that a job which goes to a machine would take what the one needs for which it is
// kept, at the time when that could begin.
func (s *State) delays(j *statepb.Job, kept *reservation, m *machine, now time.Time) bool {
	if kept == nil || kept.machine != m {
		return false
	}
	need := kept.shape.needs
	if at, known := s.startOn(
		need,
		m,
		now,
	); known && j.Timeout > 0 &&
		now.UnixNano()+j.Timeout <= at {
		return false
	}
	if need.GetExclusive() || m.room-slotsOf(j.Needs, m) < slotsOf(need, m) {
		return true
	}
	return s.overlap(need, j.Needs, func(name string) (string, *statepb.Resource, bool) {
		return m.Addr, m.resource(name), !s.ofPool(name)
	})
}

// overlap says that of some resource there would be less left than the first needs, if the second
// had its share.
func (s *State) overlap(
	first, second *statepb.Needs,
	of func(name string) (where string, r *statepb.Resource, counts bool),
) bool {
	for _, a := range first.GetAmounts() {
		where, r, counts := of(a.Name)
		for _, b := range second.GetAmounts() {
			if counts && a.Name == b.Name && s.freeOf(where, r)-b.Amount < a.Amount {
				return true
			}
		}
	}
	return false
}

// poolKept is a shape that comes before the given one, of whichever class, and for which something
// of the pool has to be left, or nil.
func (s *State) poolKept(sh *shape, now time.Time) *shape {
	if !s.pooled[sh] {
		return nil
	}
	var kept *shape
	for other := range s.pooled {
		if other == sh || !other.first().before(sh.first()) ||
			kept != nil && !other.first().before(kept.first()) {
			continue
		}
		taken := s.overlap(
			other.needs,
			sh.needs,
			func(name string) (string, *statepb.Resource, bool) {
				return poolName, s.resources[name], s.ofPool(name)
			},
		)
		if taken && s.waitsForRoom(other, now) {
			kept = other
		}
	}
	return kept
}
