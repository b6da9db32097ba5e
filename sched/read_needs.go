package sched

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// What there is, who holds it, and who waits for it, in words.

// whyNoRoom says what a machine that has a free slot lacks for a job.
func (s *State) whyNoRoom(n *statepb.Needs, m *machine) string {
	if n.GetExclusive() {
		return fmt.Sprintf(
			"%s is busy with %s, and the job wants it for itself",
			m.Addr,
			s.busyWith(m),
		)
	}
	if want := slotsOf(n, m); m.room < want {
		return fmt.Sprintf(
			"%s has %d free slots of the %d that the job needs",
			m.Addr,
			m.room,
			want,
		)
	}
	name := s.lacks(n, m)
	if s.ofPool(name) {
		return fmt.Sprintf("%s has room, but the pool has too little of %s left", m.Addr, name)
	}
	return fmt.Sprintf(
		"%s has %s left, of %s: %s",
		m.Addr,
		s.leftOf(m.Addr, m.resource(name)),
		AmountText(All(m.resource(name)),
			m.resource(name).GetBytes()),
		s.holders(m.Addr, name),
	)
}

// leftOf writes what is left of a resource, as gpu=1.
func (s *State) leftOf(where string, r *statepb.Resource) string {
	return r.GetName() + "=" + AmountText(max(s.freeOf(where, r), 0), r.GetBytes())
}

// holders lists who holds how much of a resource.
func (s *State) holders(where, name string) string {
	var parts []string
	add := func(addr, who string, g *statepb.Given) {
		for _, grant := range g.GetGrants() {
			if grant.Name == name &&
				(grant.Pool && where == poolName || !grant.Pool && where == addr) {
				parts = append(
					parts,
					fmt.Sprintf("%s has %s", who, AmountText(grant.Amount, grant.Bytes)),
				)
			}
		}
	}
	for _, id := range sortedIDs(s.active) {
		if j := s.live[id]; j.Status == Running || j.Status == Copying && !j.CopyWaiting {
			a := last(j.Job)
			add(a.Machine, fmt.Sprintf("job %d", id), a.Given)
			for _, r := range a.Ranks {
				if holds(r) {
					add(r.Machine, fmt.Sprintf("job %d", id), r.Given)
				}
			}
		}
	}
	for _, o := range s.Obligations() {
		if holdsSlot(o) {
			add(
				o.Run.Machine,
				fmt.Sprintf("a run of job %d that is being ended", o.Run.Job),
				o.Given,
			)
		}
	}
	if len(parts) > maxTold {
		parts = append(parts[:maxTold], fmt.Sprintf("%d more", len(parts)-maxTold))
	}
	return strings.Join(parts, ", ")
}

// keptFrom is for whom a machine is kept from a job, nil for nobody.
func (s *State) keptFrom(m *machine, j *statepb.Job, now time.Time) *reservation {
	for _, r := range []*reservation{s.class(m.Class).reserved, s.reserved} {
		if r == nil || r.shape.first().id == j.Id || !s.delaysOne(j, j.Needs, r, m, now) {
			continue
		}
		if first := r.shape.first(); first.priority > j.Priority ||
			first.priority == j.Priority && first.id < j.Id {
			return r
		}
	}
	return nil
}

// expected says when a reservation is expected to be taken up.
func (s *State) expected(r *reservation, now time.Time) string {
	at, known := s.startOf(r, now)
	if !known {
		return ", and free when what runs there has ended, which has no timeout"
	}
	return fmt.Sprintf(
		", and free in %s at the latest",
		time.Duration(at-now.UnixNano()).Round(time.Second),
	)
}

// whyPool says what the pool lacks for a job, "" for nothing.
func (s *State) whyPool(j *statepb.Job, now time.Time) string {
	if why := s.poolNeverHas(j.Needs); why != "" {
		return why + ", which is too little for the job"
	}
	if name := s.poolLacks(j.Needs); name != "" {
		return fmt.Sprintf(
			"the pool has %s left: %s",
			s.leftOf(poolName, s.resources[name]),
			s.holders(poolName, name),
		)
	}
	for sh := range s.pooled {
		if slices.ContainsFunc(sh.queue, func(it *item) bool {
			return it.job != nil && it.id == j.Id || it.matrix != nil && it.matrix.Id == j.Matrix
		}) {
			if other := s.poolKept(sh, now); other != nil {
				return fmt.Sprintf(
					"what the pool has left is kept for job %d, which comes before it and needs %s",
					other.first().id,
					NeedsText(other.needs),
				)
			}
		}
	}
	return ""
}

// ResourceView shows a resource of the pool, and how much of it is given out.
type ResourceView struct {
	*statepb.Resource
	Held    int64
	Waiting int // jobs that wait and need some of it; of a matrix all its waiting cells
}

// Resources lists those of the pool, by name.
func (s *State) Resources() []ResourceView {
	var views []ResourceView
	for _, name := range sorted(s.resources) {
		v := ResourceView{Resource: s.resources[name], Held: s.heldOf(poolName, name)}
		for sh := range s.pooled {
			if slices.ContainsFunc(
				sh.needs.GetAmounts(),
				func(a *statepb.Amount) bool { return a.Name == name },
			) {
				for _, it := range sh.queue {
					v.Waiting += it.jobs()
				}
			}
		}
		views = append(views, v)
	}
	return views
}

// jobs is how many jobs an item of a queue stands for.
func (it *item) jobs() int {
	if it.matrix != nil {
		return it.matrix.untouched
	}
	return 1
}

// MachineResource is what a machine has of something, how much of it is given out, and by whom it
// was said.
type MachineResource struct {
	*statepb.Resource
	Held  int64
	Found bool // nobody declared it
}

// MachineResources lists what a machine has, by name: what it was declared with, and its memory and
// cores.
func (s *State) MachineResources(addr string) []MachineResource {
	m := s.machines[addr]
	if m == nil {
		return nil
	}
	var views []MachineResource
	for _, name := range []string{coresName, memoryName} {
		declared := slices.ContainsFunc(
			m.Resources,
			func(r *statepb.Resource) bool { return r.Name == name },
		)
		if r := m.resource(name); r != nil && !declared {
			views = append(views, MachineResource{r, s.heldOf(addr, name), true})
		}
	}
	for _, r := range m.Resources {
		if m.isPilot() && r.Amount == 0 && len(r.Items) == 0 {
			continue // how much it has isn't known
		}
		views = append(views, MachineResource{r, s.heldOf(addr, r.Name), false})
	}
	slices.SortFunc(
		views,
		func(a, b MachineResource) int { return strings.Compare(a.Name, b.Name) },
	)
	return views
}

// reservedText says which machines are reserved for a job, and from when they are expected to be
// free.
func (s *State) reservedText(r *reservation, now time.Time) string {
	are := " is reserved for it"
	if len(r.machines) > 1 {
		are = " are reserved for it"
	}
	return joined(r.machines, func(m *machine) string { return m.Addr }) + are + s.expected(r, now)
}

// tookMore says of an attempt that took more memory than it asked for, where nothing keeps it from
// that, how much it was; "" otherwise.
func tookMore(a *statepb.Attempt) string {
	for _, g := range a.GetGiven().GetGrants() {
		if g.Name == memoryName && !g.Pool && !g.Enforced && a.MaxRss > g.Amount {
			return fmt.Sprintf("attempt %d took %s of memory in one process, and had asked for "+
				"mem=%s, which is only accounted on %s", a.Number,
				AmountText(a.MaxRss>>20<<20, true), AmountText(g.Amount, true), a.Machine)
		}
	}
	return ""
}
