package sched

import (
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// Deadlines don't go by the host's clock alone, which may be set at any time: by an hour, when it
// is found to be wrong, or by a day. Retries, rests, trials, setups and the ends of machines wait
// for as long as they were meant to. So the clock is watched: while anything waits for a time,
// somebody looks every beat, and a look that comes much later than it was asked for, or before the
// one before it, tells that the clock was set, or that nobody looked for that long. Then all
// deadlines are set by as much: time at which nobody looked doesn't count. That is a change like
// any other, ClockSet.

const (
	// beat is how often the clock is looked at while anything waits for a time: of a clock that is
	// set no more than that goes unnoticed.
	beat = time.Minute
	// lateness is how much later than asked for a look may come without telling anything: a disk
	// may be slow.
	lateness = 10 * time.Second
	// slewed is how much a clock may differ from one that only runs, between two looks, without
	// having been set.
	slewed = time.Second
)

// watch is when the clock was looked at last, and when it was to be looked at again.
type watch struct {
	seen     time.Time // zero: never
	promised int64     // 0: never, or not said
}

// Look is to be called with the time before anything that goes by it: it gives the change that sets
// the deadlines when the clock was set, or nothing.
func (s *State) Look(now time.Time) []*Change {
	by, down := s.clockSet(now)
	if by != 0 && !down && s.next(s.watch.seen) == 0 {
		by = 0
	}
	if s.watch.promised != 0 && !now.Before(Time(s.watch.promised)) {
		s.watch.promised = 0
	}
	s.watch.seen = now
	if by == 0 {
		return nil
	}
	s.watch.promised = 0
	return []*Change{{ClockSet: &statepb.ClockSet{By: by, Down: down}}}
}

// clockSet says by how much the clock was set since the last look.
func (s *State) clockSet(now time.Time) (by int64, down bool) {
	wall := now.UnixNano()
	if s.watch.seen.IsZero() {
		switch { // the daemon was started, and knows of the time of the newest change alone
		case s.at == 0:
		case wall < s.at-int64(slewed):
			by, down = wall-s.at, true
		case len(s.steps) > 0: // machines that reboot may have been back long ago
			by, down = wall-s.at, true
		}
		return by, down
	}
	before := s.watch.seen.UnixNano()
	// Where both times have it, Sub goes by a clock that only runs.
	if by = wall - before - int64(now.Sub(s.watch.seen)); by > int64(slewed) ||
		by < -int64(slewed) {
		return by, false
	}
	switch {
	case wall < before-int64(slewed):
		return wall - before, false
	case s.watch.promised != 0 && wall > s.watch.promised+int64(lateness):
		return wall - s.watch.promised, false
	}
	return 0, false
}

// Wake is when Decide, which has looked at the time given, has to look again though nothing
// changes; zero: never.
func (s *State) Wake(looked time.Time) time.Time {
	first := s.next(looked)
	if first != 0 {
		first = min(first, looked.Add(beat).UnixNano())
	}
	s.watch.promised = first
	return Time(first)
}

// next is the first time, after the one given, that anything waits for; 0: nothing does.
func (s *State) next(looked time.Time) int64 {
	var first int64
	earlier := func(at int64) {
		if at > looked.UnixNano() && (first == 0 || at < first) {
			first = at
		}
	}
	if len(s.delayed) > 0 {
		earlier(s.delayed[0].NotBefore)
	}
	for id := range s.steps {
		earlier(stepDeadline(s.live[id].Job))
	}
	for _, j := range s.lingering {
		earlier(s.lingersUntil(j.Job))
	}
	if len(s.avoiding) > 0 {
		earlier(s.avoiding[0].until)
	}
	for id := range s.accused {
		earlier(s.matrices[id].TrialAt)
	}
	earlier(s.nextEnd)
	if len(s.timers) > 0 {
		// what is to start at a certain time goes by the clock, as it was asked for
		earlier(s.timers[0].at)
	}
	earlier(s.debts.due)
	if s.reserved != nil {
		earlier(s.reserved.until())
	}
	earlier(s.staffAt)
	for _, c := range s.classes {
		if c.reserved != nil {
			earlier(c.reserved.until())
		}
		for _, m := range c.watched {
			earlier(m.restsUntil())
			if m.aside() && m.open() {
				earlier(max(m.TrialAt, m.scanAt))
			}
			if len(m.setups) > 0 && m.link == LinkConnected {
				earlier(s.live[m.setups[0]].Setup.StartAt)
			}
		}
	}
	return first
}

// applyClockSet sets all that waits for a time. What only tells when something was stays as it is.
func (s *State) applyClockSet(c *statepb.ClockSet) error {
	set := func(at *int64) {
		if *at != 0 {
			*at += c.By
		}
	}
	if c.Down && c.By > 0 {
		// the end of a machine, and the pause of a retry, have passed all the same
		for id := range s.steps {
			set(&last(s.live[id].Job).EndedAt)
		}
		return nil
	}
	for id, j := range s.live {
		set(&j.NotBefore)
		set(&j.AvoidUntil)
		if j.Setup != nil {
			set(&j.Setup.StartAt)
		}
		if s.steps[id] {
			set(&last(j.Job).EndedAt)
		}
	}
	for _, m := range s.order {
		set(&m.TrialAt)
	}
	for token, o := range s.owed {
		if o.Since != 0 { // others may be reading the record
			next := proto.CloneOf(o)
			set(&next.Since)
			s.debts.take(o)
			s.owed[token] = next
			s.debts.add(next)
		}
	}
	set(&s.debts.due)
	for _, a := range s.avoiding {
		set(&a.until)
	}
	for addr := range s.unreached {
		s.unreached[addr] += c.By
	}
	set(&s.looked)
	s.setAllocations(time.Duration(c.By))
	s.nextEnd = 0
	for _, m := range s.machines {
		set(&m.Until)
		set(&m.OwnUntil)
		set(&m.RestUntil)
		set(&m.TrialAt)
		set(&m.scanAt)
		if !m.since.IsZero() {
			m.since = m.since.Add(time.Duration(c.By))
		}
		s.file(m)
	}
	return nil
}
