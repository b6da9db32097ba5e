package sched

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"jobserver/sched/statepb"
)

// What there is of each resource, and who holds how much of it. Resources are held as slots are:
// from dispatch until nothing of the run lives, so that a cancel which is owed still holds them,
// and a copy that waits does not.

// poolName is the pool in the ledger, beside the addresses of machines.
const poolName = ""

// ledger is how much is held, by machine or pool and then by resource.
type ledger map[string]map[string]*holding

// holding tells what is given out of one resource.
type holding struct {
	amount int64
	// by index: how often, as a run that is being ended and the next may be counted for a moment
	// both
	items map[int32]int
}

// book adds what an attempt holds of a machine and of the pool, or takes it away.
func (l ledger) book(addr string, g *statepb.Given, sign int64) {
	for _, grant := range g.GetGrants() {
		where := addr
		if grant.Pool {
			where = poolName
		}
		if l[where] == nil {
			l[where] = map[string]*holding{}
		}
		h := l[where][grant.Name]
		if h == nil {
			h = &holding{items: map[int32]int{}}
			l[where][grant.Name] = h
		}
		h.amount += sign * grant.Amount
		for _, it := range grant.Items {
			if h.items[it.Index] += int(sign); h.items[it.Index] == 0 {
				delete(h.items, it.Index)
			}
		}
	}
}

// book notes that an attempt has begun, or ceased, to hold what it was given, and has those looked
// at again that may have it now.
func (s *State) book(addr string, g *statepb.Given, sign int64) {
	s.held.book(addr, g, sign)
	if sign < 0 &&
		slices.ContainsFunc(g.GetGrants(), func(g *statepb.Grant) bool { return g.Pool }) {
		s.poolGrew()
	}
}

// held is how much of a machine's or the pool's resource is given out.
func (s *State) heldOf(where, name string) int64 {
	if h := s.held[where][name]; h != nil {
		return h.amount
	}
	return 0
}

// resource is what a machine has of something: what it was declared with, else what it was found to
// have; nil: none of it.
func (m *machine) resource(name string) *statepb.Resource {
	for _, r := range m.Resources {
		if r.Name == name {
			return r
		}
	}
	switch {
	case name == memoryName && m.Memory > 0:
		return &statepb.Resource{Name: name, Amount: m.Memory, Bytes: true}
	case name == coresName && m.Cores > 0:
		return &statepb.Resource{Name: name, Amount: int64(m.Cores)}
	}
	return nil
}

// All is how much there is of a resource.
func All(r *statepb.Resource) int64 {
	if r == nil {
		return 0
	}
	if len(r.Items) == 0 {
		return r.Amount
	}
	n := int64(0)
	for _, it := range r.Items {
		if !it.Gone {
			n++
		}
	}
	return n
}

// freeOf is how much of a resource could be given out now.
func (s *State) freeOf(where string, r *statepb.Resource) int64 {
	if r == nil {
		return 0
	}
	if len(r.Items) == 0 {
		return r.Amount - s.heldOf(where, r.Name)
	}
	return int64(len(s.freeItems(where, r)))
}

// freeItems lists the items that nobody holds, by index.
func (s *State) freeItems(where string, r *statepb.Resource) []*statepb.Item {
	h := s.held[where][r.Name]
	var free []*statepb.Item
	for _, it := range r.Items {
		if !it.Gone && (h == nil || h.items[it.Index] == 0) {
			free = append(free, it)
		}
	}
	return free
}

// ofPool says that a need is met by the pool, and not by a machine.
func (s *State) ofPool(name string) bool { return s.resources[name] != nil }

// lacks names the first resource of which a machine, or the pool, could give less just now than is
// needed, "" for none.
func (s *State) lacks(n *statepb.Needs, m *machine) string {
	if n == nil {
		return ""
	}
	for _, a := range amountsOf(n, m) {
		where, r := m.Addr, m.resource(a.Name)
		if s.ofPool(a.Name) {
			where, r = poolName, s.resources[a.Name]
		}
		if s.freeOf(where, r) < a.Amount {
			return a.Name
		}
	}
	if n.Pin && len(s.freeCPUs(m)) < coresFor(n, m) {
		return coresName
	}
	return ""
}

// poolLacks names the first of the pool's resources of which there is less left than is needed, ""
// for none.
func (s *State) poolLacks(n *statepb.Needs) string {
	for _, a := range n.GetAmounts() {
		if s.ofPool(a.Name) && s.freeOf(poolName, s.resources[a.Name]) < a.Amount {
			return a.Name
		}
	}
	return ""
}

// hasRoom says that a machine could give what is needed just now.
func (s *State) hasRoom(n *statepb.Needs, m *machine) bool {
	s.looks++
	if !asMany(n, m) {
		return false
	}
	if n == nil {
		return m.room > 0
	}
	if n.Exclusive && !s.idle(m) || m.room < slotsOf(n, m) {
		return false
	}
	return s.lacks(n, m) == ""
}

// neverHas says why a machine could not give what is needed even when it is idle, "" when it could.
// Of what a machine that has never been connected has, nothing is known.
func (s *State) neverHas(n *statepb.Needs, m *machine) string {
	if !asMany(n, m) {
		return fmt.Sprintf("%s has %d nodes, for jobs with --machines %[2]d", m.Addr, m.Nodes)
	}
	if slots := slotsOf(n, m); slots > int(m.Slots) {
		return fmt.Sprintf("%s has %d slots", m.Addr, m.Slots)
	}
	switch {
	case !n.GetPin() || m.BootId == "":
	case s.ofPool(coresName):
		return "the pool has cores, to which no job can be pinned"
	case len(m.Cpus) == 0:
		return m.Addr + " doesn't say which cores it has"
	case coresFor(n, m) > len(m.Cpus):
		return fmt.Sprintf("%s has %d cores to pin jobs to", m.Addr, len(m.Cpus))
	}
	for _, a := range amountsOf(n, m) {
		if s.ofPool(a.Name) {
			continue
		}
		r := m.resource(a.Name)
		switch {
		case r == nil && m.BootId == "" && (a.Name == memoryName || a.Name == coresName),
			r != nil && r.Auto && m.BootId == "":
		case r == nil:
			return fmt.Sprintf("%s has no %s", m.Addr, a.Name)
		case All(r) < a.Amount:
			return fmt.Sprintf(
				"%s has %s=%s",
				m.Addr,
				a.Name,
				AmountText(All(r), a.Bytes || r.Bytes),
			)
		}
	}
	return ""
}

// poolNeverHas says why the pool could not give what is needed, "" when it could.
func (s *State) poolNeverHas(n *statepb.Needs) string {
	for _, a := range n.GetAmounts() {
		if r := s.resources[a.Name]; r != nil && All(r) < a.Amount {
			return fmt.Sprintf("the pool has %s=%s", a.Name, AmountText(All(r), a.Bytes || r.Bytes))
		}
	}
	return ""
}

// give chooses what an attempt of a job gets of a machine that has room for it. Nil: one slot and
// nothing else.
func (s *State) give(n *statepb.Needs, m *machine) (slot int, g *statepb.Given) {
	slot = slices.Index(m.slots, 0)
	if n == nil {
		return slot, nil
	}
	g = &statepb.Given{}
	if want := slotsOf(n, m); want > 1 {
		for i, id := range m.slots {
			if id == 0 && len(g.Slots) < want {
				g.Slots = append(g.Slots, int32(i))
			}
		}
	}
	for _, a := range amountsOf(n, m) {
		grant := &statepb.Grant{
			Name:   a.Name,
			Amount: a.Amount,
			Bytes:  a.Bytes,
			Pool:   s.ofPool(a.Name),
		}
		grant.Enforced = a.Name == memoryName && !grant.Pool && m.LimitsMemory
		where, r := m.Addr, m.resource(a.Name)
		if grant.Pool {
			where, r = poolName, s.resources[a.Name]
		}
		switch {
		case n.Pin && isCores(a):
			for _, c := range choose(m.Cpus, s.freeCPUs(m), int(a.Amount)) {
				grant.Items = append(grant.Items, &statepb.Item{Index: c.Number})
			}
		case len(r.GetItems()) > 0:
			for _, it := range s.freeItems(where, r)[:a.Amount] {
				grant.Items = append(
					grant.Items,
					&statepb.Item{Index: it.Index, Id: it.Id, Vendor: it.Vendor},
				)
			}
		}
		g.Grants = append(g.Grants, grant)
	}
	return slot, g
}

// slotsGiven are all slots of an attempt.
func slotsGiven(a *statepb.Attempt) []int32 {
	if len(a.Given.GetSlots()) > 0 {
		return a.Given.Slots
	}
	return []int32{a.Slot}
}

// slotsHeld is how many slots a run holds that is still to be ended.
func slotsHeld(g *statepb.Given) int { return max(len(g.GetSlots()), 1) }

// GrantText is what was given of a resource, as {GPU} has it: the indexes of items, else the
// amount.
func GrantText(g *statepb.Grant) string {
	if len(g.Items) == 0 {
		return strconv.FormatInt(g.Amount, 10)
	}
	return joined(g.Items, func(it *statepb.Item) string { return strconv.Itoa(int(it.Index)) })
}

func joined[T any](list []T, text func(T) string) string {
	var parts []string
	for _, x := range list {
		parts = append(parts, text(x))
	}
	return strings.Join(parts, ",")
}

// grantOf is what an attempt was given of the resource that a placeholder names, or nil.
func grantOf(a *statepb.Attempt, name string) *statepb.Grant {
	for _, g := range a.GetGiven().GetGrants() {
		if placeholder(g.Name) == name {
			return g
		}
	}
	return nil
}

// gpuEnv tells the libraries of both makers which devices are the attempt's, unless its environment
// says so itself: by the ids that never change where they are known, else by their numbers in the
// order of the bus.
func gpuEnv(j *statepb.Job, a *statepb.Attempt) []string {
	g := grantOf(a, placeholder(gpuName))
	if g == nil || len(g.Items) == 0 {
		return nil
	}
	known := !slices.ContainsFunc(g.Items, func(it *statepb.Item) bool {
		return !strings.HasPrefix(it.Id, "GPU-") && !strings.HasPrefix(it.Id, "MIG-")
	})
	list := GrantText(g)
	if known {
		list = joined(g.Items, func(it *statepb.Item) string { return it.Id })
	}
	of := func(vendor string) bool {
		return !slices.ContainsFunc(
			g.Items,
			func(it *statepb.Item) bool { return it.Vendor != "" && it.Vendor != vendor },
		)
	}
	var env []string
	put := func(name, value string) {
		if !slices.ContainsFunc(j.Env, func(v *statepb.Var) bool { return v.Name == name }) {
			env = append(env, name+"="+value)
		}
	}
	if of(vendorNVIDIA) {
		put("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
		put("CUDA_VISIBLE_DEVICES", list)
	}
	if of(vendorAMD) {
		put("ROCR_VISIBLE_DEVICES", list)
	}
	return env
}

// The makers of GPUs, as agents report them.
const (
	vendorNVIDIA = "nvidia"
	vendorAMD    = "amd"
)

// seeDevices brings the items of what a machine is asked for to what it has reported: a device
// keeps its index for ever, one that vanished is kept as gone, and a new one gets the next.
func (m *machine) seeDevices(devices []*statepb.Item) {
	for _, r := range m.Resources {
		if !r.Auto {
			continue
		}
		next := int32(0)
		for _, it := range r.Items {
			it.Gone = !slices.ContainsFunc(
				devices,
				func(d *statepb.Item) bool { return d.Id == it.Id },
			)
			next = max(next, it.Index+1)
		}
		for _, d := range devices {
			if !slices.ContainsFunc(r.Items, func(it *statepb.Item) bool { return it.Id == d.Id }) {
				r.Items = append(r.Items, &statepb.Item{Index: next, Id: d.Id, Vendor: d.Vendor})
				next++
			}
		}
	}
}

// of is how much of a resource, or how many of its items, a ledger has.
func (l ledger) of(where, name string) int64 {
	h := l[where][name]
	if h == nil {
		return 0
	}
	return max(h.amount, int64(len(h.items)))
}
