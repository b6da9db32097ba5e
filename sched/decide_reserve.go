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

// reservation are the machines that are kept for the first job of a shape: as many as it asks for,
// in the order of its lots.
type reservation struct {
	shape    *shape
	machines []*machine
}

// awayFor is how long a reserved machine may be away before another one is taken.
const awayFor = time.Minute

// until is when one of the machines has been away for too long, 0 while none is away.
func (r *reservation) until() (first int64) {
	for _, m := range r.machines {
		if m.link == LinkConnected {
			continue
		}
		if at := m.since.Add(awayFor).UnixNano(); first == 0 || at < first {
			first = at
		}
	}
	return first
}

// in says that some of the machines are of a class.
func (r *reservation) in(class string) bool {
	return slices.ContainsFunc(r.shape.lots, func(l lot) bool { return l.class == class })
}

// needsOn gives what is kept of one of the machines, false for any other.
func (r *reservation) needsOn(m *machine) (*statepb.Needs, bool) {
	i := slices.Index(r.machines, m)
	if i < 0 {
		return nil, false
	}
	for _, l := range r.shape.lots {
		if i < l.count {
			return l.needs, true
		}
		i -= l.count
	}
	return nil, false
}

// unreserve gives a reservation up; who was kept off its machines is tried again.
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
		var keep []*machine
		if r := c.reserved; r != nil && r.shape == sh {
			if s.canStay(r, now) {
				return r
			}
			keep = r.machines
		}
		if ms := s.soonest(sh, keep, now); ms != nil {
			if c.reserved != nil {
				s.unreserve(c)
			}
			c.reserved = &reservation{sh, ms}
			return c.reserved
		}
	}
	if c.reserved != nil {
		s.unreserve(c)
	}
	return nil
}

// canStay says that all machines of a reservation can still be had.
func (s *State) canStay(r *reservation, now time.Time) bool {
	i := 0
	for _, l := range r.shape.lots {
		for range l.count {
			if i >= len(r.machines) || !s.couldHave(r.shape, l, r.machines[i], now) {
				return false
			}
			i++
		}
	}
	return true
}

// couldHave says that a machine will be able to be one of a lot of a shape's first job when what it
// has to do is done.
func (s *State) couldHave(sh *shape, l lot, m *machine, now time.Time) bool {
	s.looks++
	j := sh.first().record()
	there := m.open() ||
		m.link != LinkConnected && m.link != LinkRefused && !m.Draining && !m.Removing &&
			now.Sub(m.since) <= awayFor
	if !there || s.machines[m.Addr] != m || m.Class != l.class || m.suspect() ||
		isGang(sh.needs) && m.isPilot() ||
		s.setupDue(m, now) ||
		s.neverHas(l.needs, m) != "" {
		return false
	}
	start := now
	if at, known := s.startOn(l.needs, m, now); known {
		start = time.Unix(0, at)
	}
	return fits(j, m, start) && (isGang(sh.needs) ||
		!slices.Contains(s.avoided(j, sh.class.machines, now), m.Addr))
}

// waitsForRoom says that there are machines that will be able to take a shape's first job.
func (s *State) waitsForRoom(sh *shape, now time.Time) bool {
	if s.poolNeverHas(sh.needs) != "" {
		return false
	}
	if !isGang(sh.needs) {
		return slices.ContainsFunc(
			sh.class.machines,
			func(m *machine) bool { return s.couldHave(sh, sh.lots[0], m, now) },
		)
	}
	return s.soonest(sh, nil, now) != nil
}

// soonest are the machines that will first have room for a shape, as many as it asks for: of those
// of which that is known the earliest; then those with the fewest slots still to free. Those that
// it is to keep come before.
func (s *State) soonest(sh *shape, keep []*machine, now time.Time) (all []*machine) {
	type choice struct {
		m     *machine
		at    int64
		kept  bool
		known bool
		left  int
	}
	for _, l := range sh.lots {
		var choices []choice
		for _, m := range s.class(l.class).machines {
			if slices.Contains(all, m) || !s.couldHave(sh, l, m, now) {
				continue
			}
			at, known := s.startOn(l.needs, m, now)
			choices = append(choices, choice{m, at, slices.Contains(keep, m), known,
				slotsOf(l.needs, m) - m.room})
		}
		if len(choices) < l.count {
			return nil
		}
		slices.SortStableFunc(choices, func(a, b choice) int {
			if a.known != b.known || a.kept != b.kept {
				return cmp.Or(b2i(b.kept)-b2i(a.kept), b2i(b.known)-b2i(a.known))
			}
			if a.known {
				return cmp.Compare(a.at, b.at)
			}
			return cmp.Compare(a.left, b.left)
		})
		for _, c := range choices[:l.count] {
			all = append(all, c.m)
		}
	}
	return all
}

// startOf is when all machines of a reservation will have room, as far as that is known.
func (s *State) startOf(r *reservation, now time.Time) (at int64, known bool) {
	for _, m := range r.machines {
		need, _ := r.needsOn(m)
		one, ok := s.startOn(need, m, now)
		if !ok {
			return 0, false
		}
		at = max(at, one)
	}
	return at, true
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
		j := s.live[id]
		if j == nil {
			continue
		}
		r := cmp.Or(rankOn(last(j.Job), m.Addr), last(j.Job))
		if !slices.ContainsFunc(
			ends,
			func(e end) bool { return e.given == r.Given && e.given != nil },
		) {
			ends = append(ends, end{at: endOf(j.Job, r, now), given: r.Given})
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
		for _, a := range amountsOf(n, m) {
			if !s.ofPool(a.Name) &&
				s.freeOf(m.Addr, m.resource(a.Name))+freed.of(m.Addr, a.Name) < a.Amount {
				return false
			}
		}
		if n.GetPin() {
			h := freed[m.Addr][coresName]
			if h == nil {
				h = &holding{}
			}
			if len(s.freeCPUs(m))+len(h.items) < coresFor(n, m) {
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

// endOf is when a rank of a job gives back what it has, at the latest; 0: that isn't known. A
// machine that is held for others is held until the last of them has ended.
func endOf(j *statepb.Job, r *statepb.Attempt, now time.Time) (at int64) {
	a := last(j)
	if a.Timeout == 0 || j.Setup != nil || j.Status != Running {
		return 0
	}
	runs := []*statepb.Attempt{r}
	if r.Idle {
		runs = alive(a)
	}
	for _, one := range runs {
		if pauses(one) {
			return 0
		}
		began := cmp.Or(one.StartedAt, a.DispatchedAt) + one.PausedFor
		if len(a.Ranks) > 0 && one.StartedAt == 0 { // it may wait for others to be ready
			began = now.UnixNano()
		}
		at = max(at, began+a.Timeout, now.UnixNano())
	}
	return at
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// delays says that a job which goes to a machine, and takes so much of it, would take what one of
// those needs for which it is kept, at the time when that could begin.
func (s *State) delays(
	j *statepb.Job, takes *statepb.Needs, kept []*reservation, m *machine, now time.Time,
) bool {
	return slices.ContainsFunc(kept, func(r *reservation) bool {
		return s.delaysOne(j, takes, r, m, now)
	})
}

func (s *State) delaysOne(
	j *statepb.Job, takes *statepb.Needs, kept *reservation, m *machine, now time.Time,
) bool {
	need, is := kept.needsOn(m)
	if !is {
		return false
	}
	if at, known := s.startOf(kept, now); known && j.Timeout > 0 &&
		now.UnixNano()+j.Timeout <= at {
		return false
	}
	if need.GetExclusive() || m.room-slotsOf(takes, m) < slotsOf(need, m) {
		return true
	}
	if need.GetPin() && takes.GetPin() &&
		len(s.freeCPUs(m))-coresFor(takes, m) < coresFor(need, m) {
		return true
	}
	ofMachine := func(name string) (string, *statepb.Resource, bool) {
		return m.Addr, m.resource(name), !s.ofPool(name)
	}
	return s.overlap(amountsOf(need, m), amountsOf(takes, m), ofMachine)
}

// overlap says that of some resource there would be less left than the first needs, if the second
// had its share.
func (s *State) overlap(
	first, second []*statepb.Amount,
	of func(name string) (where string, r *statepb.Resource, counts bool),
) bool {
	for _, a := range first {
		where, r, counts := of(a.Name)
		for _, b := range second {
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
			other.needs.GetAmounts(),
			sh.needs.GetAmounts(),
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
