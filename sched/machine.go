package sched

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"jobserver/sched/statepb"
)

// Link has what the fleet last said of its connection to a machine.
type Link string

// The links.
const (
	LinkConnecting Link = "connecting"
	LinkConnected  Link = "connected"
	LinkAway       Link = "away"
	LinkRefused    Link = "refused"
)

// machine is a machine of the pool: its record, what occupies its slots, and, not durable, its
// link.
type machine struct {
	*statepb.Machine
	slots  []uint64 // the job in each, 0: free; a setup has all of them
	setups []uint64 // that wait for it, ascending
	used   uint64   // when it was last given work, in dispatches

	room    int  // slots that could take a job; this and what follows is for file alone to set
	spot    int  // place among those of its class that are ready; -1: it isn't
	watched bool // it is among those of its class that Decide looks at one by one
	asAble  bool // it is counted among the able ones of its class, and among its sound ones
	asSound bool
	class   *class

	// heard is what the fleet last said of its connection. link is the same, but that a pilot which
	// Slurm has suspended is away, whether its agent is missed already or not.
	heard   Link
	link    Link
	since   time.Time
	reason  string // of being away or refused
	hint    string // what to do about it
	vitals  Vitals
	orphans orphans // runs of ours that nothing here knows
	scanAt  int64   // no job to try it with is looked for before
}

// MachineView is a machine as readers see it. The record must not be changed.
type MachineView struct {
	*statepb.Machine
	Link    Link
	Since   time.Time
	Reason  string // of being away or refused
	Hint    string // what to do about it
	Vitals  Vitals
	Running []uint64
	// Orphans are runs of ours on it that nothing here knows: the first of OrphanCount, of which
	// Alive may still be running.
	Orphans            []*statepb.RunRef
	OrphanCount, Alive int
	Ending             int                   // runs that it has still to end
	Unremoved          []*statepb.Obligation // of runs that have ended, and couldn't be removed
	Resting            bool
	Verdict            Verdict // what is held against it; its Text is empty when that is nothing
}

// Machine gives one machine of the pool.
func (s *State) Machine(addr string) (MachineView, bool) {
	m := s.machines[addr]
	if m == nil {
		return MachineView{}, false
	}
	v := MachineView{
		Machine: m.Machine, Link: m.link, Since: m.since, Reason: s.reasonOf(m), Hint: m.hint,
		Vitals: m.vitals, Orphans: m.orphans.refs, OrphanCount: m.orphans.count,
		Alive:  m.orphans.alive,
		Ending: s.debts.ending[addr], Unremoved: s.Unremoved(addr),
		Resting: m.restsUntil() > s.looked,
		Verdict: s.machineVerdict(m, Time(s.looked)),
	}
	if v.Verdict.Text != "" && v.Hint == "" {
		v.Hint = fmt.Sprintf("it is %s; `%s` ends that", v.Verdict.Text, v.Verdict.Undo)
	}
	for _, id := range m.slots {
		if id != 0 && (len(v.Running) == 0 || v.Running[len(v.Running)-1] != id) {
			v.Running = append(v.Running, id)
		}
	}
	return v, true
}

// Machines lists the addresses of the pool, by class and address.
func (s *State) Machines() []string {
	addrs := sorted(s.machines)
	sort.SliceStable(addrs, func(i, k int) bool {
		return s.machines[addrs[i]].Class < s.machines[addrs[k]].Class
	})
	return addrs
}

// Classes lists the classes that have machines, or providers of them.
func (s *State) Classes() []string {
	var names []string
	for name, c := range s.classes {
		if name != "" && len(c.machines) > 0 {
			names = append(names, name)
		}
	}
	for _, p := range s.providers {
		names = append(names, p.Class)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// free counts the slots that could take a job at the time being. A slot is held by processes: also
// by those that are still to be ended on the machine, and those of runs that nothing knows.
// Directories hold none.
func (s *State) free(m *machine) int {
	free := int(m.Slots) - m.orphans.alive - s.debts.slots[m.Addr]
	for _, id := range m.slots {
		// more than Slots, while jobs run that began before they became fewer
		if id != 0 {
			free--
		}
	}
	if m.Jobs > 0 && m.Taken >= m.Jobs {
		return 0 // it is for no more
	}
	return max(free, 0)
}

// open says that the machine may be given work, unless it rests.
func (m *machine) open() bool {
	return m.link == LinkConnected && !m.Draining && !m.Removing && m.Class != ""
}

// usable says that the machine may be given work.
func (m *machine) usable(now time.Time) bool {
	return m.open() && m.restsUntil() <= now.UnixNano()
}

// occupy gives the job of an attempt what that was given: its slots, or all of them for a setup,
// and its share of resources.
func (s *State) occupy(j *statepb.Job) {
	a := last(j)
	if m := s.machines[a.Machine]; j.Setup != nil {
		for i := range m.slots {
			m.slots[i] = j.Id
		}
		return
	}
	for _, r := range ranksOf(a) {
		m := s.machines[r.Machine]
		if m == nil || !holds(r) && r != a {
			continue
		}
		for _, slot := range slotsGiven(r) {
			for int(slot) >= len(m.slots) { // a run that is taken up after the slots became fewer
				m.slots = append(m.slots, 0)
			}
			m.slots[slot] = j.Id
		}
		s.book(m.Addr, r.Given, 1)
	}
	if len(a.Ranks) > 0 {
		s.book(poolName, a.Given, 1)
	}
	s.countHolder(j, 1)
}

// vacate frees what the job had.
func (s *State) vacate(j *statepb.Job) {
	a := last(j)
	if a == nil {
		return
	}
	if len(a.Ranks) > 0 {
		if j.Status != Running {
			return
		}
		for _, r := range a.Ranks {
			s.vacateRank(j, r)
		}
		s.passPool(j.Id, a.Number, a.Given)
		s.book(poolName, a.Given, -1)
		s.countHolder(j, -1)
		return
	}
	m := s.machines[a.Machine]
	if m == nil {
		return
	}
	if had := m.free(j.Id); had && j.Setup == nil {
		s.book(m.Addr, a.Given, -1)
		s.countHolder(j, -1)
	}
	if len(m.slots) > int(m.Slots) {
		m.resize()
	}
	s.file(m)
}

// resize brings the slots to the number that the record wants, as far as they are free.
func (m *machine) resize() {
	for len(m.slots) < int(m.Slots) {
		m.slots = append(m.slots, 0)
	}
	for len(m.slots) > int(m.Slots) && m.slots[len(m.slots)-1] == 0 {
		m.slots = m.slots[:len(m.slots)-1]
	}
}

// idle says that nothing of ours occupies the machine.
func (s *State) idle(m *machine) bool {
	for _, id := range m.slots {
		if id != 0 {
			return false
		}
	}
	return m.orphans.alive == 0 && s.debts.ending[m.Addr] == 0
}
