package sched

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
	"jobserver/suggest"
)

// Requests about machines.

// MachineSpec is a machine to add.
type MachineSpec struct {
	Addr  string
	Class string
	Slots int       // 0: as many as it has, or 1
	Until time.Time // zero: as it is, or never
	// Resources are what the machine has, by name, as ParseResource reads them; "" takes one away.
	// Others stay.
	Resources map[string]string
}

// PlanMachines adds machines, or changes the slots, the class and the end of those that are there;
// what isn't named stays. Those that join a class whose matrices want a setup join it after that.
func (s *State) PlanMachines(specs []MachineSpec, now time.Time) (Plan, error) {
	p := s.planner()
	seen := map[string]bool{}
	for _, spec := range specs {
		if seen[spec.Addr] {
			return Plan{}, errorf(Invalid, "the machine %s is given twice", spec.Addr).
				hint("give each machine once; --slots N lets one run several jobs at a time")
		}
		seen[spec.Addr] = true
		if err := s.refuseSlurm(spec.Addr); err != nil {
			return Plan{}, err
		}
		if err := checkClass(spec.Class); err != nil {
			return Plan{}, err
		}
		m := s.machines[spec.Addr]
		rec, err := s.machineRecord(m, spec, now)
		if err != nil {
			return Plan{}, err
		}
		if m != nil && m.Class == spec.Class && m.sameOffer(rec) && !m.Draining && !m.Removing {
			p.warn("%s is in class %s already", spec.Addr, spec.Class)
			continue
		}
		if m != nil && m.Class != spec.Class && m.Class != "" {
			return Plan{}, errorf(Conflict, "%s is in class %s already", spec.Addr, m.Class).
				hint("`jobserver machine mv -m %s %s` moves it", spec.Addr, spec.Class)
		}
		if m == nil || m.Class != spec.Class {
			if later, err := p.joinSetUp(spec, now); err != nil {
				return Plan{}, err
			} else if later {
				continue
			}
		}
		p.add(&Change{MachineAdded: &statepb.MachineAdded{Machine: rec}})
	}
	return p.Plan, nil
}

// keeps completes what is asked of a machine by what it is. One that is on its way out comes back
// for good.
func (m *machine) keeps(spec MachineSpec) MachineSpec {
	if m == nil {
		return spec
	}
	if spec.Slots == 0 {
		spec.Slots = int(m.Slots)
	}
	if spec.Until.IsZero() && !m.Removing {
		spec.Until = Time(m.Until)
	}
	return spec
}

// sameOffer says that a machine offers what a record says.
func (m *machine) sameOffer(rec *statepb.Machine) bool {
	return m.Slots == rec.Slots && m.Until == rec.Until &&
		slices.EqualFunc(m.Resources, rec.Resources, sameResource)
}

// sameResource compares what was declared, and not which devices were found.
func sameResource(a, b *statepb.Resource) bool {
	if a.Auto || b.Auto {
		return a.Name == b.Name && a.Auto == b.Auto
	}
	return proto.Equal(a, b)
}

// equipment are a machine's resources with those that are asked for.
func (s *State) equipment(m *machine, asked map[string]string) ([]*statepb.Resource, error) {
	var have []*statepb.Resource
	if m != nil {
		for _, r := range m.Resources {
			if _, other := asked[r.Name]; !other {
				have = append(have, proto.CloneOf(r))
			}
		}
	}
	for _, name := range sorted(asked) {
		if s.ofPool(name) {
			return nil, errorf(Conflict,
				"%s is a resource of the pool, so a machine can't have its own", name).
				hint("`jobserver resource unset %s` takes it from the pool", name)
		}
		if asked[name] == "" {
			continue
		}
		r, err := ParseResource(name, asked[name])
		if err != nil {
			return nil, err
		}
		have = append(have, r)
	}
	if len(have) > maxResources {
		return nil, errorf(Invalid, "a machine can't have more than %d resources", maxResources)
	}
	slices.SortFunc(have, func(a, b *statepb.Resource) int {
		return strings.Compare(a.Name, b.Name)
	})
	return have, nil
}

// PlanResource sets how much the pool has of something, or takes it away.
func (s *State) PlanResource(name, value string, unset bool) (Plan, error) {
	if unset {
		if s.resources[name] == nil {
			e := errorf(NotFound, "the pool has no resource %q", name)
			if near := suggest.Closest(name, sorted(s.resources)); near != "" {
				return Plan{}, e.hint("did you mean %s?", near)
			}
			return Plan{}, e.hint("`jobserver resource ls` lists them")
		}
		return Plan{
			Changes: []*Change{
				{ResourceSet: &statepb.ResourceSet{Resource: &statepb.Resource{Name: name},
					Unset: true}},
			},
		}, nil
	}
	r, err := ParseResource(name, value)
	switch {
	case err != nil:
		return Plan{}, err
	case r.Auto || name == memoryName || name == coresName:
		return Plan{}, errorf(Invalid, "%s belongs to machines, not to the pool", name).
			hint("`jobserver machine add ADDR CLASS --resource %s=…` says what a machine has of it",
				name)
	}
	for _, addr := range s.Machines() {
		if s.machines[addr].resource(name) != nil {
			return Plan{}, errorf(Conflict,
				"machine %s has a resource %s of its own, so the pool can't", addr, name).
				hint("choose another name, or take it from the machine with `--resource %s=`", name)
		}
	}
	if s.resources[name] == nil && len(s.resources) == maxResources {
		return Plan{}, errorf(Invalid, "the pool can't have more than %d resources", maxResources)
	}
	return Plan{Changes: []*Change{{ResourceSet: &statepb.ResourceSet{Resource: r}}}}, nil
}

// machineRecord checks what is asked of a machine: its address, slots, end and resources; m is what
// it is, or nil.
func (s *State) machineRecord(
	m *machine, spec MachineSpec, now time.Time,
) (*statepb.Machine, error) {
	spec = m.keeps(spec)
	if m == nil && !IsSlurm(spec.Addr) { // a pilot's comes from its provider
		if err := checkAddr(spec.Addr); err != nil {
			return nil, err
		}
	}
	resources, err := s.equipment(m, spec.Resources)
	if err != nil {
		return nil, err
	}
	slots := spec.Slots
	if slots == 0 {
		slots = 1
	}
	if slots < 1 || slots > MaxSlots {
		return nil, errorf(Invalid, "%d slots are not possible", spec.Slots).
			hint("between 1 and %d", MaxSlots)
	}
	if !spec.Until.IsZero() && !spec.Until.After(now) {
		return nil, errorf(Invalid, "the machine would expire at once")
	}
	return &statepb.Machine{Addr: spec.Addr, Class: spec.Class, Slots: int32(slots),
		Until: nanos(spec.Until), AddedAt: now.UnixNano(), Resources: resources}, nil
}

// checkAddr refuses what can't be an address; whether it can be reached is for the fleet to find
// out.
func checkAddr(addr string) error {
	bad := func(why string) error {
		return errorf(Invalid, "%q can't be a machine: %s", addr, why).
			hint("an address is [user@]host[:port], an alias of the ssh config, or local[:NAME]")
	}
	switch {
	case addr == "":
		return bad("it is empty")
	case len(addr) > 255:
		return bad("it is too long")
	case strings.HasPrefix(addr, "-"):
		return bad("it begins with a dash")
	case strings.ContainsFunc(addr, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("/\\'\"`$;&|<>(){}*?!,=#%", r)
	}):
		return bad("it has a character that no address has")
	}
	if IsLocal(addr) {
		return nil
	}
	user, host, port := hostParts(addr)
	if host == "" || strings.Contains(addr, "@") && user == "" {
		return bad("it names no host")
	}
	if port != "" {
		n := 0
		if _, err := fmt.Sscanf(port, "%d", &n); err != nil || n < 1 || n > 65535 ||
			fmt.Sprint(n) != port {
			return bad("its port is not between 1 and 65535")
		}
	}
	return nil
}

// SelectMachines finds machines by address and class, in the order of Machines.
func (s *State) SelectMachines(addrs, classes []string) ([]string, error) {
	if len(addrs) == 0 && len(classes) == 0 {
		return s.Machines(), nil
	}
	want := map[string]bool{}
	for _, addr := range addrs {
		if s.machines[addr] == nil {
			return nil, s.unknownMachine(addr)
		}
		want[addr] = true
	}
	for _, name := range classes {
		c := s.classes[name]
		if c == nil || len(c.machines) == 0 {
			if len(s.providersOf(name)) > 0 {
				continue
			}
			return nil, s.unknownClass(name)
		}
		for _, m := range c.machines {
			want[m.Addr] = true
		}
	}
	return slices.DeleteFunc(s.Machines(), func(addr string) bool { return !want[addr] }), nil
}

// known gives those of the addresses that are in the pool, each once: the changes of a plan must
// fit each other.
func (s *State) known(addrs []string) []string {
	var out []string
	for _, addr := range addrs {
		if s.machines[addr] != nil && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// PlanRemove takes machines out of the pool. With force, what they still owe is dropped.
func (s *State) PlanRemove(addrs []string, force bool) Plan {
	var p Plan
	for _, addr := range s.known(addrs) {
		p.Changes = append(p.Changes,
			&Change{MachineRemoved: &statepb.MachineRemoved{Addr: addr, Force: force}})
		m := s.machines[addr]
		if m.isPilot() {
			p.Changes = append(p.Changes, &Change{AllocationReleased: &statepb.AllocationReleased{
				Id: m.Allocation, Why: "the user removed it"}})
		}
		if m.link == LinkConnected && !force {
			continue
		}
		for i, id := range m.slots { // what is to end them isn't done, or not soon
			if j := s.live[id]; j != nil && j.Status == Running && j.MaxFailures != 0 &&
				j.Setup == nil && !j.Canceling && slices.Index(m.slots, id) == i {
				p.Warnings = append(p.Warnings, fmt.Sprintf("job %d: %s", id, twoOf(id, addr)))
			}
		}
	}
	return p
}

// PlanMove moves machines to another class; what runs on them runs on. Where the matrices of that
// class want a setup, they move when it has succeeded.
func (s *State) PlanMove(addrs []string, class string, now time.Time) (Plan, error) {
	p := s.planner()
	if err := checkClass(class); err != nil {
		return Plan{}, err
	}
	for _, addr := range s.known(addrs) {
		if s.machines[addr].Class == class {
			continue
		}
		if s.machines[addr].isPilot() {
			return Plan{}, notMoved(addr)
		}
		later, err := p.joinSetUp(MachineSpec{Addr: addr, Class: class}, now)
		if err != nil {
			return Plan{}, err
		}
		if !later {
			p.add(&Change{MachineMoved: &statepb.MachineMoved{Addr: addr, Class: class}})
		}
	}
	return p.Plan, nil
}

// PlanDrain gives machines no more work, or gives them work again. Resuming also brings back what
// was set aside, and clears failures.
func (s *State) PlanDrain(addrs []string, draining bool) Plan {
	var p Plan
	for _, addr := range s.known(addrs) {
		m := s.machines[addr]
		if m.Draining != draining {
			p.Changes = append(p.Changes,
				&Change{MachineDrained: &statepb.MachineDrained{Addr: addr, Draining: draining}})
		}
		if !draining &&
			(m.HomeClass != "" || len(m.Failures) > 0 || m.LastError != "" ||
				m.SetupError != "" || m.Own > 0) {
			p.Changes = append(p.Changes,
				&Change{MachineCleared: &statepb.MachineCleared{Addr: addr, Class: m.HomeClass}})
		}
	}
	return p
}

// PlanTrusted brings a machine back that was set aside for its host key, which is on record now.
func (s *State) PlanTrusted(addr string) Plan {
	m := s.machines[addr]
	if m == nil || m.Class != unknownHostClass || m.HomeClass == "" {
		return Plan{}
	}
	return Plan{Changes: []*Change{{MachineCleared: &statepb.MachineCleared{Addr: addr,
		Class: m.HomeClass}}}}
}
