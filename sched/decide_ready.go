package sched

import (
	"container/heap"
	"slices"
	"sort"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// Which machine of a class gets the next job? A pool may have hundreds, and most of what happens concerns one of them. So each is
// filed whenever anything about it has changed, and a dispatch takes the best of those that are ready, without looking at the others.

// class is a class that has machines or jobs: its machines by address and its queue.
type class struct {
	name     string
	queue    heapOf[*item]
	machines []*machine       // all of them
	ready    heapOf[*machine] // those that can take a job, now and as long as nothing about them changes
	watched  []*machine       // the few that Decide looks at one by one, as what it may do with them depends on the time or on others
}

func (s *State) class(name string) *class {
	c := s.classes[name]
	if c == nil {
		c = &class{name: name}
		s.classes[name] = c
	}
	return c
}

// file puts a machine where Decide will look for it, and has it look at the class. It is called after every change of what a
// machine is, does or owes, and of its link.
func (s *State) file(m *machine) {
	c := s.class(m.Class)
	m.room = s.free(m)
	s.dirty[m.Class] = true
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

// isWatched says that a machine leaves, is to be set up, or is suspect.
func (s *State) isWatched(m *machine) bool {
	return m.Removing || m.Until != 0 && m.Until <= s.looked || len(m.setups) > 0 || m.suspect()
}

// addTo and removeFrom keep the members of a class by address.
func (s *State) addTo(name string, m *machine) {
	c := s.class(name)
	c.machines = insertMachine(c.machines, m)
	s.file(m)
}

func (s *State) removeFrom(name string, m *machine) {
	c := s.class(name)
	c.machines = withoutMachine(c.machines, m)
	if m.watched {
		c.watched, m.watched = withoutMachine(c.watched, m), false
	}
	if m.spot >= 0 {
		heap.Remove(&c.ready, m.spot)
	}
	s.dirty[name] = true
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

// roomAmong are the watched machines of a class that can take a job just now.
func (s *State) roomAmong(watched []*machine, now time.Time) (rooms []*machine) {
	for _, m := range watched {
		if m.room > 0 && m.usable(now) && !s.setupDue(m, now) && (!m.suspect() || s.idle(m)) { // a suspect is tried with one job
			rooms = append(rooms, m)
		}
	}
	return rooms
}

// best is the machine that a job goes to, of those that are ready and of some others, or nil.
func (s *State) best(j *statepb.Job, c *class, others []*machine, now time.Time) *machine {
	avoided := s.avoided(j, c.machines, now)
	suits := func(m *machine) bool { return fits(j, m, now) && !slices.Contains(avoided, m.Addr) }
	ready := c.ready
	if len(ready) > 0 && suits(ready[0]) {
		ready = ready[:1] // no other is better
	}
	var best *machine
	for _, machines := range [][]*machine{ready, others} {
		for _, m := range machines {
			if suits(m) && (best == nil || m.before(best)) {
				best = m
			}
		}
	}
	return best
}
