package sched

import (
	"cmp"
	"slices"
	"time"

	"jobserver/sched/statepb"
)

// Which machines does a gang get? All that it asks for at the same time, or none. One whose
// machines are all of its own class is tried in the line of that class, as any other job. One that
// spans classes is tried when nothing else can be sent in any of them, so that it takes from no job
// that comes before it; and of all of these the first has its machines reserved, in every class, so
// that those which come after it don't take them either. As there is one order over all classes,
// two gangs that want each other's class can't keep each other waiting.

// spans says that a job wants machines of other classes too.
func spans(n *statepb.Needs) bool { return len(n.GetWith()) > 0 }

// muster gives the machines that a gang could have now, in the order of its lots, or nil. One of
// them can be asked for: it is the first then.
func (s *State) muster(
	j *statepb.Job, must *machine, kept []*reservation, now time.Time,
) []*machine {
	if s.poolLacks(j.Needs) != "" {
		return nil
	}
	avoided := s.avoided(j, s.class(j.Class).machines, now)
	rank := func(m *machine) int {
		switch {
		case m == must:
			return 0
		case slices.Contains(avoided, m.Addr):
			return 3
		case m.suspect():
			return 2
		}
		return 1
	}
	better := func(a, b *machine) int {
		switch {
		case rank(a) != rank(b):
			return cmp.Compare(rank(a), rank(b))
		case a.before(b):
			return -1
		}
		return 1
	}
	if m := s.asOne(j, must, kept, better, now); m != nil || must != nil && must.isPilot() {
		return one(m)
	}
	var all []*machine
	for i, l := range lots(j.Class, j.Needs) {
		var room []*machine
		c := s.class(l.class)
		for _, m := range slices.Concat(c.ready, s.roomAmong(c.watched, now)) {
			if m != must && !slices.Contains(all, m) && s.suits(j, l, m, kept, now) {
				room = append(room, m)
			}
		}
		if i == 0 && must != nil {
			if !s.suits(j, l, must, kept, now) {
				return nil
			}
			room = append(room, must)
		}
		if len(room) < l.count {
			return nil
		}
		slices.SortFunc(room, better)
		all = append(all, room[:l.count]...)
	}
	return all
}

// asOne is the best machine that is all of a gang's at once, or nil: an allocation of several
// nodes.
func (s *State) asOne(
	j *statepb.Job, must *machine, kept []*reservation, better func(a, b *machine) int,
	now time.Time,
) (best *machine) {
	if nodesFor(j.Needs) == 0 {
		return nil
	}
	c := s.class(j.Class)
	for _, m := range slices.Concat(c.ready, s.roomAmong(c.watched, now), one(must)) {
		if m.Nodes > 0 && (must == nil || m == must) && s.hasRoom(j.Needs, m) &&
			fits(j, m, now) && !s.delays(j, j.Needs, kept, m, now) &&
			(best == nil || better(m, best) < 0) {
			best = m
		}
	}
	return best
}

// one lists a machine, unless it is none.
func one(m *machine) []*machine {
	if m == nil {
		return nil
	}
	return []*machine{m}
}

// suits says that a machine could be one of a gang's lot now, and that nothing is kept there for
// others. An allocation of Slurm's could not: each of them begins and ends at its own time.
func (s *State) suits(
	j *statepb.Job, l lot, m *machine, kept []*reservation, now time.Time,
) bool {
	return !m.isPilot() && s.hasRoom(l.needs, m) && fits(j, m, now) &&
		!s.delays(j, l.needs, kept, m, now)
}

// span notes whether a shape wants machines of several classes.
func (s *State) span(sh *shape) {
	if spans(sh.needs) {
		s.spanning[sh] = true
	}
}

// inOrder are the shapes that span classes, by their first jobs.
func (s *State) inOrder() []*shape {
	var all []*shape
	for sh := range s.spanning {
		all = append(all, sh)
	}
	slices.SortFunc(all, func(a, b *shape) int {
		if a.first().before(b.first()) {
			return -1
		}
		return 1
	})
	return all
}

// dispatchSpanning sends the first gang that spans classes and can have all of its machines.
func (s *State) dispatchSpanning(now time.Time) *Change {
	for _, sh := range s.inOrder() {
		if s.atLimit(sh) {
			continue
		}
		it := sh.first()
		if s.lingersAfterAll(it) {
			return s.dispatchSpanning(now)
		}
		if s.poolKept(sh, now) != nil {
			continue
		}
		if ms := s.muster(it.record(), nil, s.keptFromGang(sh, now), now); ms != nil {
			return s.dispatched(it.next(), ms, now)
		}
	}
	return nil
}

// keptFromGang gives what is reserved, in any of its classes, for those that come before a gang.
func (s *State) keptFromGang(sh *shape, now time.Time) (kept []*reservation) {
	if r := s.foremost(now); r != nil && r.shape != sh && r.shape.first().before(sh.first()) {
		kept = append(kept, r)
	}
	seen := map[string]bool{}
	for _, l := range sh.lots {
		if seen[l.class] {
			continue
		}
		seen[l.class] = true
		c := s.class(l.class)
		var stuck []*shape
		for _, other := range c.line {
			if !other.first().before(sh.first()) {
				break
			}
			if other.needs != nil && !s.spanning[other] && !s.atLimit(other) {
				stuck = append(stuck, other)
			}
		}
		if len(stuck) == 0 {
			continue
		}
		if r := s.reserve(c, stuck, now); r != nil {
			kept = append(kept, r)
		}
	}
	return kept
}

// foremost is what is reserved for the first of the gangs which span classes that lacks only room,
// or nil.
func (s *State) foremost(now time.Time) *reservation {
	if len(s.spanning) == 0 {
		return nil
	}
	for _, sh := range s.inOrder() {
		if s.atLimit(sh) || s.poolNeverHas(sh.needs) != "" {
			continue
		}
		r := s.reserved
		if r != nil && r.shape == sh && s.canStay(r, now) {
			return r
		}
		var keep []*machine
		if r != nil && r.shape == sh {
			keep = r.machines
		}
		if ms := s.soonest(sh, keep, now); ms != nil {
			s.unreserveSpanning()
			s.reserved = &reservation{sh, ms}
			return s.reserved
		}
	}
	s.unreserveSpanning()
	return nil
}

// unreserveSpanning gives the reservation of a gang that spans classes up; who was kept off its
// machines is tried again.
func (s *State) unreserveSpanning() {
	r := s.reserved
	if s.reserved = nil; r == nil {
		return
	}
	for _, l := range r.shape.lots {
		s.tryAll(s.class(l.class))
	}
}

// keptFor is what is reserved in a class for those that come before a shape of it; stuck are those
// of its own line.
func (s *State) keptFor(sh *shape, stuck []*shape, now time.Time) (kept []*reservation) {
	if len(stuck) > 0 {
		if r := s.reserve(sh.class, stuck, now); r != nil {
			kept = append(kept, r)
		}
	}
	if r := s.foremost(now); r != nil && r.in(sh.class.name) &&
		r.shape.first().before(sh.first()) {
		kept = append(kept, r)
	}
	return kept
}

// next is the record of an item's next job.
func (it *item) next() *statepb.Job {
	if it.matrix != nil {
		return it.matrix.job(it.matrix.next)
	}
	return it.job.Job
}
