package sched

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// changeMachine applies f to a machine, whose class is then looked at again.
func (s *State) changeMachine(addr string, f func(m *machine)) error {
	m := s.machines[addr]
	if m == nil {
		return fmt.Errorf("no machine %q", addr)
	}
	f(m)
	s.file(m)
	return nil
}

// applyMachineAdded adds a machine, or changes the slots and the end of one that is there.
func (s *State) applyMachineAdded(rec *statepb.Machine) error {
	if m := s.machines[rec.Addr]; m != nil {
		m.Slots, m.Until = rec.Slots, rec.Until
		m.equip(proto.CloneOf(rec).Resources)
		m.Draining, m.Removing = false, false
		m.resize()
		if j := s.live[m.slots[0]]; j != nil && j.Setup != nil {
			s.occupy(j.Job) // the new slots too
		}
		if rec.Class != "" {
			m.HomeClass, m.SetupError = "", ""
			s.moveMachine(m, rec.Class)
		}
		s.file(m)
		s.askConnect(rec.Addr)
		return nil
	}
	s.addMachine(proto.Clone(rec).(*statepb.Machine))
	s.askConnect(rec.Addr)
	return nil
}

// equip gives a machine other resources. Its devices keep their indexes.
func (m *machine) equip(resources []*statepb.Resource) {
	before := m.Resources
	m.Resources = resources
	for _, r := range resources {
		i := slices.IndexFunc(before, func(b *statepb.Resource) bool {
			return b.Name == r.Name && b.Auto && r.Auto
		})
		if i >= 0 {
			r.Items = before[i].Items
		}
	}
	if m.BootId != "" {
		m.seeDevices(m.Devices)
	}
}

// applyResource changes what the pool has. What is given out of it stays given.
func (s *State) applyResource(c *statepb.ResourceSet) error {
	if c.Resource == nil {
		return fmt.Errorf("no resource is named")
	}
	if c.Unset {
		delete(s.resources, c.Resource.Name)
	} else {
		s.resources[c.Resource.Name] = proto.CloneOf(c.Resource)
	}
	for _, class := range s.classes {
		for _, sh := range class.line {
			s.pool(sh)
		}
		s.tryAll(class)
	}
	return nil
}

// addMachine files a machine's record.
func (s *State) addMachine(rec *statepb.Machine) {
	m := &machine{Machine: rec, heard: LinkConnecting, link: LinkConnecting, spot: -1}
	m.resize()
	s.machines[m.Addr] = m
	s.addTo(m.Class, m)
}

// moveMachine changes a machine's class.
func (s *State) moveMachine(m *machine, to string) {
	if m.Class == to {
		return
	}
	s.removeFrom(m.Class, m)
	m.Class = to
	s.addTo(to, m)
}

// applyMachineRemoved takes a machine out of the pool. What runs there is ended: jobs that may
// retry wait again, others are canceled. What the machine owes stays owed, unless it is dropped by
// force.
func (s *State) applyMachineRemoved(c *statepb.MachineRemoved, at int64) error {
	m := s.machines[c.Addr]
	if m == nil {
		return fmt.Errorf("no machine %q", c.Addr)
	}
	if c.WhenIdle {
		m.Removing = true
		s.file(m)
		return nil
	}
	for _, id := range m.slots {
		if j := s.live[id]; j != nil {
			if err := s.uproot(j, m.Addr, at); err != nil {
				return err
			}
		}
	}
	for _, id := range s.copiesFrom(c.Addr) { // those that wait hold no slot
		if err := s.uproot(s.live[id], c.Addr, at); err != nil {
			return err
		}
	}
	for _, id := range s.setupsOf(c.Addr) {
		j := s.live[id]
		s.uprooted = append(s.uprooted, id)
		j.Status, j.EndedAt, j.Error = Canceled, at, "its machine was removed"
		if err := s.settle(j); err != nil {
			return err
		}
	}
	s.removeFrom(m.Class, m)
	delete(s.machines, c.Addr)
	s.left(c.Addr)
	if c.Force {
		for _, token := range sorted(s.owed) {
			if o := s.owed[token]; o.Run.Machine == c.Addr && !o.Run.Driver {
				s.disown(token)
				s.ask(func(f Fleet) { f.Drop(o.Run) })
			}
		}
	}
	s.release(c.Addr)
	return nil
}

// setupsOf lists the setups of a machine that haven't begun, ascending, the held ones too.
func (s *State) setupsOf(addr string) []uint64 {
	var ids []uint64
	for id, j := range s.live {
		if j.Setup != nil && j.Setup.Machine == addr && (j.Status == Waiting || j.Status == Held) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// uproot ends what a job has under way on a machine that is being removed.
func (s *State) uproot(j *job, addr string, at int64) error {
	s.uprooted = append(s.uprooted, j.Id)
	a := last(j.Job)
	r := rankOn(a, addr)
	if j.Status == Copying {
		s.ask(func(f Fleet) { f.StopCopy(j.Id) })
		return s.stopCopying(j, []*statepb.Attempt{r},
			"the machine was removed before its results were copied", at)
	}
	if r != a {
		s.rankLost(j, a, r, statepb.Cause_MACHINE_REMOVED, "", at)
		return s.gangEnds(j, a, false, at)
	}
	a.Cause, a.EndedAt = statepb.Cause_MACHINE_REMOVED, at
	endPause(a, at)
	s.askDrop(j)
	s.oweEnd(j.Job)
	delete(s.steps, j.Id)
	s.vacate(j.Job)
	s.uprootedEnds(j, at)
	return s.settle(j)
}

func (s *State) applyMachineMoved(c *statepb.MachineMoved, at int64) error {
	return s.changeMachine(c.Addr, func(m *machine) {
		if c.Reason != "" { // set aside: it may come back
			if m.LastError = c.Reason; m.HomeClass == "" {
				m.HomeClass = m.Class
			}
		} else {
			m.HomeClass, m.LastError, m.SetupError = "", "", ""
		}
		reason := m.LastError
		s.pardon(m, false)
		m.LastError = reason
		s.moveMachine(m, c.Class)
		if m.aside() {
			m.TrialPause = int64(firstAside)
			m.TrialAt = at + m.TrialPause
			s.file(m)
		}
	})
}

func (s *State) applyMachineSeen(f *statepb.Machine) error {
	return s.changeMachine(f.Addr, func(m *machine) {
		m.BootId, m.Root, m.Os, m.Arch, m.Kernel = f.BootId, f.Root, f.Os, f.Arch, f.Kernel
		m.Cores, m.Memory, m.CpuModel = f.Cores, f.Memory, f.CpuModel
		m.Devices = nil
		for _, d := range f.Devices {
			m.Devices = append(m.Devices, proto.CloneOf(d))
		}
		m.seeDevices(m.Devices)
		m.Cpus, m.LimitsMemory = nil, f.LimitsMemory
		for _, c := range f.Cpus {
			m.Cpus = append(m.Cpus, proto.CloneOf(c))
		}
		if m.isPilot() {
			p := s.providers[m.Provider]
			p.Memory, p.Cores = m.Memory, m.Cores
			if m.Class != "" {
				s.answered(m)
			}
		}
	})
}

func (s *State) applyMachineCleared(c *statepb.MachineCleared) error {
	for _, addr := range c.Others {
		if err := s.changeMachine(addr, func(m *machine) { s.pardon(m, c.Double) }); err != nil {
			return err
		}
	}
	return s.changeMachine(c.Addr, func(m *machine) {
		s.pardon(m, c.Double)
		if c.Why == "" { // the user says that it is well
			m.SetupError = ""
		}
		if c.Class != "" {
			m.HomeClass = ""
			s.moveMachine(m, c.Class)
		}
	})
}
