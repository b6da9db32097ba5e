package sched

import (
	"cmp"
	"slices"

	"jobserver/sched/statepb"
)

// A job that is pinned gets cores of its own, among the pinned jobs of this daemon: as many as its
// share of its machine's slots, or as many as it says that it needs. They are items then, and their
// numbers are those of the processors that its machine has said it may use.

// coresFor is how many processors of a machine a job is pinned to.
func coresFor(n *statepb.Needs, m *machine) int {
	for _, a := range n.GetAmounts() {
		if a.Name == coresName {
			return int(min(a.Amount, maxAmount))
		}
	}
	return max(slotsOf(n, m)*len(m.Cpus)/max(int(m.Slots), 1), 1)
}

// amountsOf is what a job needs of a machine and the pool: also the cores that it is to be pinned
// to.
func amountsOf(n *statepb.Needs, m *machine) []*statepb.Amount {
	amounts := n.GetAmounts()
	if !n.GetPin() || slices.ContainsFunc(amounts, isCores) {
		return amounts
	}
	amounts = append(slices.Clone(amounts),
		&statepb.Amount{Name: coresName, Amount: int64(coresFor(n, m))})
	slices.SortFunc(amounts, func(a, b *statepb.Amount) int { return cmp.Compare(a.Name, b.Name) })
	return amounts
}

func isCores(a *statepb.Amount) bool { return a.Name == coresName }

// freeCPUs are the processors that no job is pinned to.
func (s *State) freeCPUs(m *machine) []*statepb.Cpu {
	h := s.held[m.Addr][coresName]
	if h == nil || len(h.items) == 0 {
		return m.Cpus
	}
	var free []*statepb.Cpu
	for _, c := range m.Cpus {
		if h.items[c.Number] == 0 {
			free = append(free, c)
		}
	}
	return free
}

// choose gives n of the free processors of a machine: whole cores as far as they go, then threads
// of cores that nobody is pinned to, and only then those whose siblings are others'. Cores next to
// each other in one package are taken together.
func choose(all, free []*statepb.Cpu, n int) []*statepb.Cpu {
	type core struct{ pkg, core int32 }
	of := func(c *statepb.Cpu) core { return core{c.Package, c.Core} }
	threads := map[core]int{}
	for _, c := range all {
		threads[of(c)]++
	}
	left := map[core][]*statepb.Cpu{}
	var cores []core
	for _, c := range free {
		if left[of(c)] == nil {
			cores = append(cores, of(c))
		}
		left[of(c)] = append(left[of(c)], c)
	}
	slices.SortFunc(cores, func(a, b core) int {
		return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.core, b.core))
	})
	var chosen []*statepb.Cpu
	take := func(c core, k int) {
		k = min(k, n-len(chosen), len(left[c]))
		chosen, left[c] = append(chosen, left[c][:k]...), left[c][k:]
	}
	whole := func(c core) bool { return len(left[c]) == threads[c] }
	for _, c := range cores {
		if whole(c) && len(left[c]) <= n-len(chosen) {
			take(c, len(left[c]))
		}
	}
	for _, c := range cores {
		if whole(c) {
			take(c, len(left[c]))
		}
	}
	for _, c := range cores {
		take(c, len(left[c]))
	}
	slices.SortFunc(chosen, func(a, b *statepb.Cpu) int { return cmp.Compare(a.Number, b.Number) })
	return chosen
}

// pinnedTo are the numbers of the processors that an attempt is pinned to.
func pinnedTo(a *statepb.Attempt) (cpus []int) {
	for _, g := range a.GetGiven().GetGrants() {
		if g.Name == coresName && !g.Pool {
			for _, it := range g.Items {
				cpus = append(cpus, int(it.Index))
			}
		}
	}
	return cpus
}

// enforcedMemory is how many bytes an attempt may use, 0 when nothing keeps it from using more.
func enforcedMemory(a *statepb.Attempt) int64 {
	for _, g := range a.GetGiven().GetGrants() {
		if g.Name == memoryName && !g.Pool && g.Enforced {
			return g.Amount
		}
	}
	return 0
}
