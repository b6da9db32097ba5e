package sched

import (
	"container/heap"
	"slices"
	"sort"
	"strings"
	"time"
)

// Which machine of a class gets the next job? A pool may have hundreds, and most of what happens
// concerns one of them. So each is filed whenever anything about it has changed, and a dispatch
// takes the best of those that are ready, without looking at the others.

// class is a class that has machines or jobs: its machines by address and its queue.
type class struct {
	name     string
	shapes   map[shapeKey]*shape
	line     []*shape   // those of shapes, by their first items
	machines []*machine // all of them
	// those that can take a job, now and as long as nothing about them changes
	ready heapOf[*machine]
	able  int // machines that could be given work
	sound int // of them, those that aren't suspect
	// the few that Decide looks at one by one, as what it may do with them depends on the time or
	// on others
	watched  []*machine
	news     []*machine   // that may have room for more than before, oldest first
	newsFrom int          // the place of the first of them among all that there ever were
	reserved *reservation // what is kept for one that waits for room; nil: nothing
}

func (s *State) class(name string) *class {
	c := s.classes[name]
	if c == nil {
		c = &class{name: name, shapes: map[shapeKey]*shape{}}
		s.classes[name] = c
	}
	return c
}

// file puts a machine where Decide will look for it, and has it look at the class. It is called
// after every change of what a machine is, does or owes, and of its link.
func (s *State) file(m *machine) {
	c := s.class(m.Class)
	m.room = s.free(m)
	c.countMachine(m, m.able(), m.sound())
	s.dirty[m.Class] = true
	c.grew(m)
	for sh := range s.pooled {
		// who waits for this machine may keep something of the pool from them
		s.dirty[sh.class.name] = true
	}
	switch watched := s.isWatched(m); {
	case watched && !m.watched:
		c.watched, m.watched = insertMachine(c.watched, m), true
	case !watched && m.watched:
		c.watched, m.watched = withoutMachine(c.watched, m), false
	}
	switch takes := !m.watched && m.open() && m.room > 0; {
	case takes && m.spot < 0:
		heap.Push(&c.ready, m)
	case takes:
		heap.Fix(&c.ready, m.spot)
	case m.spot >= 0:
		heap.Remove(&c.ready, m.spot)
	}
	if m.Until > s.looked && !m.Removing && (s.nextEnd == 0 || m.Until < s.nextEnd) {
		s.nextEnd = m.Until
	}
}

// isWatched says that a machine leaves, is to be set up, or has failed so that it is tried with one
// job at a time.
func (s *State) isWatched(m *machine) bool {
	return m.Removing || m.Until != 0 && m.Until <= s.looked || len(m.setups) > 0 || m.suspect() ||
		m.Own > 0 || m.aside()
}

// addTo and removeFrom keep the members of a class by address.
func (s *State) addTo(name string, m *machine) {
	c := s.class(name)
	c.machines = insertMachine(c.machines, m)
	m.class = c
	s.file(m)
}

func (s *State) removeFrom(name string, m *machine) {
	c := s.class(name)
	c.machines = withoutMachine(c.machines, m)
	c.countMachine(m, false, false)
	if m.watched {
		c.watched, m.watched = withoutMachine(c.watched, m), false
	}
	if m.spot >= 0 {
		heap.Remove(&c.ready, m.spot)
	}
	c.forgetNews()
	s.tryAll(c)
}

func insertMachine(sorted []*machine, m *machine) []*machine {
	i := sort.Search(len(sorted), func(i int) bool { return sorted[i].Addr >= m.Addr })
	return slices.Insert(sorted, i, m)
}

func withoutMachine(sorted []*machine, m *machine) []*machine {
	return slices.DeleteFunc(sorted, func(k *machine) bool { return k == m })
}

// before prefers the machine with most room for its size, then the one that has waited longest.
func (m *machine) before(o *machine) bool {
	if d := m.room*int(o.Slots) - o.room*int(m.Slots); d != 0 {
		return d > 0
	}
	if m.used != o.used {
		return m.used < o.used
	}
	return strings.Compare(m.Addr, o.Addr) < 0
}

func (m *machine) place() *int { return &m.spot }

// countMachine counts a machine among the able and the sound ones of its class, or not any more.
func (c *class) countMachine(m *machine, able, sound bool) {
	count := func(n *int, was *bool, is bool) {
		switch {
		case is && !*was:
			*n++
		case !is && *was:
			*n--
		}
		*was = is
	}
	count(&c.able, &m.asAble, able)
	count(&c.sound, &m.asSound, sound)
}

// roomAmong are the watched machines of a class that can take a job just now.
func (s *State) roomAmong(watched []*machine, now time.Time) (rooms []*machine) {
	for _, m := range watched {
		if m.room > 0 && m.usable(now) && !s.setupDue(m, now) && s.mayTry(m) {
			rooms = append(rooms, m)
		}
	}
	return rooms
}

// best is the machine that the first job of a shape goes to, of those that are ready and of some
// others, or nil. It may take nothing that is kept for one which comes before it.
func (s *State) best(sh *shape, others []*machine, kept []*reservation, now time.Time) *machine {
	c, j := sh.class, sh.first().record()
	if s.poolLacks(sh.needs) != "" || s.poolKept(sh, now) != nil {
		return nil
	}
	avoided := s.avoided(j, c.machines, now)
	suits := func(m *machine) bool {
		return s.hasRoom(sh.needs, m) && fits(j, m, now) && !slices.Contains(avoided, m.Addr) &&
			!s.delays(j, sh.needs, kept, m, now)
	}
	ready := c.ready
	if news, ok := c.since(sh); ok {
		ready = nil
		for _, m := range news {
			if m.spot >= 0 {
				ready = append(ready, m)
			}
		}
	} else if len(ready) > 0 && suits(ready[0]) {
		ready = ready[:1] // no other is better
	}
	var best *machine
	for _, machines := range [][]*machine{ready, others} {
		for _, m := range machines {
			if (best == nil || m.before(best)) && suits(m) {
				best = m
			}
		}
	}
	return best
}
