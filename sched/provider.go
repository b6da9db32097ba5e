package sched

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// What is known of providers and of what Slurm allocates for them. A provider asks for allocations
// while jobs of its class wait that they could run; each joins the class as a machine that expires,
// its pilot, when Slurm has begun it, and is released when nothing is left for it to do.

// Of the time of an allocation, the last part is not given to jobs.
const (
	// pilotMargin before its end a pilot takes no more jobs, and gives none that would run longer:
	// results are to be copied. Slurm ends a job up to a minute late, and signals it as early.
	pilotMargin = 90 * time.Second
	// pilotCancel before its end what runs there is canceled, so that its log is saved.
	pilotCancel = 60 * time.Second
	// minPilotTime is the least that an allocation may have.
	minPilotTime = 2 * time.Minute
)

// What providers have unless it is said.
const (
	defaultPilots  = 10
	defaultBacklog = 2
	defaultIdle    = 5 * time.Minute
)

// When a provider rests.
const (
	maxUnanswered = 3  // allocations in a row that ended before an agent answered
	maxRefused    = 10 // submissions in a row that failed
)

// maxVanished is how often a job runs again because the allocation that it ran in has ended.
const maxVanished = 3

// needsMoreTime begins the error of a job that had nearly all the time of its allocation.
const needsMoreTime = "needs more than --time"

// maxExcluded is how many nodes of a provider are remembered that were set aside, the newest.
const maxExcluded = 32

// fateWait is how long it is waited for what has become of an allocation in which a run was lost,
// as that is the better reason.
const fateWait = 90 * time.Second

// provider is a provider: its record, and what was last said of it.
type provider struct {
	*statepb.Provider
	seen          bool   // its login was looked at
	problem, hint string // of the last look at what its login has; "" : none
	// pilots that the connection which they share carries; 0: as far as is known, any number
	carries int
	// of the settings: what each pilot has, as far as the arguments say
	offer offer
}

// allocation is one that was asked for: its record, and what Slurm last said of it.
type allocation struct {
	*statepb.Allocation
	state  string // Slurm's word; "" : it said nothing yet
	reason string
	start  time.Time
	since  time.Time // that state
	// idle is since when there has been nothing for it to do; zero: there is something.
	idle time.Time
}

// addr is the address of its pilot.
func (a *allocation) addr() string { return pilotAddr(a.Provider, a.Id) }

// fleets is the allocation as the fleet needs it.
func (a *allocation) fleets(asked time.Time) Allocation {
	return Allocation{
		ID: a.Id, Provider: a.Provider, Login: a.Login, Partition: a.Partition,
		Time: time.Duration(a.Time), Args: slices.Clone(a.Args), Exclude: slices.Clone(a.Exclude),
		Nodes: int(max(a.Nodes, 1)), Job: a.Job, Asked: asked,
	}
}

func (p *provider) fleets() Provider {
	return Provider{Addr: p.Addr, Login: p.Login, Partition: p.Partition}
}

// pilot is the machine of an allocation, nil while there is none.
func (s *State) pilot(a *allocation) *machine { return s.machines[a.addr()] }

// hostsOf are the nodes of a machine that is an allocation for jobs on several machines.
func (s *State) hostsOf(m *machine) []string {
	if a := s.allocations[m.Allocation]; a != nil && len(a.Hosts) > 0 {
		return a.Hosts
	}
	return []string{m.Addr}
}

// isPilot says that a machine is an allocation of Slurm's.
func (m *machine) isPilot() bool { return m.Allocation != 0 }

// poolOf is a machine as the fleet needs it, also one that has left the pool.
func (s *State) poolOf(addr string) Pool {
	p := Pool{Addr: addr}
	if m := s.machines[addr]; m != nil {
		p.Root = m.Root
	}
	if !IsSlurm(addr) {
		return p
	}
	for _, a := range s.allocations {
		if a.addr() == addr {
			p.Step = &Step{ID: a.Id, Login: a.Login, Job: a.Job, Node: a.Node}
		}
	}
	return p
}

// allocationsOf lists the allocations of a provider, in the order in which they were asked for.
func (s *State) allocationsOf(addr string) []*allocation {
	var all []*allocation
	for _, a := range s.allAsked() {
		if a.Provider == addr {
			all = append(all, a)
		}
	}
	return all
}

// allAsked lists all allocations in the order in which they were asked for.
func (s *State) allAsked() []*allocation {
	all := make([]*allocation, 0, len(s.allocations))
	for _, a := range s.allocations {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *allocation) int {
		if a.Id < b.Id {
			return -1
		}
		return 1
	})
	return all
}

// providersOf lists the providers of a class by address.
func (s *State) providersOf(class string) []*provider {
	var all []*provider
	for _, addr := range sorted(s.providers) {
		if p := s.providers[addr]; p.Class == class {
			all = append(all, p)
		}
	}
	return all
}

// ProviderView is a provider as readers see it. The record must not be changed.
type ProviderView struct {
	*statepb.Provider
	Seen          bool   // its login was looked at since the daemon was started
	Problem, Hint string // of the last look at its login
	Carries       int    // pilots that one shared connection carries; 0: any number
	Allocations   []AllocationView
}

// AllocationView is an allocation as readers see it. The record must not be changed.
type AllocationView struct {
	*statepb.Allocation
	Pilot  string // its machine's address, also while there is none
	State  string // Slurm's word; "" : nothing was heard of it yet
	Reason string
	Start  time.Time // when it began, or is expected to; zero: not known
}

// The stages of an allocation, as people are told of them.
const (
	StageSubmitted = "submitted" // Slurm hasn't said that it has it
	StagePending   = "pending"   // Slurm has it in its queue
	StageRunning   = "running"   // it has a node
	StageEnding    = "ending"    // it is given back
)

// Stages are all of them.
var Stages = []string{StageSubmitted, StagePending, StageRunning, StageEnding}

// Stage is how far it has come.
func (v *AllocationView) Stage() string {
	switch {
	case v.Released != "":
		return StageEnding
	case v.Node != "":
		return StageRunning
	case v.Job == "":
		return StageSubmitted
	}
	return StagePending
}

// Provider gives one provider.
func (s *State) Provider(addr string) (ProviderView, bool) {
	p := s.providers[addr]
	if p == nil {
		return ProviderView{}, false
	}
	v := ProviderView{Provider: p.Provider, Seen: p.seen, Problem: p.problem, Hint: p.hint,
		Carries: p.carries}
	for _, a := range s.allocationsOf(addr) {
		v.Allocations = append(v.Allocations, a.view())
	}
	return v, true
}

func (a *allocation) view() AllocationView {
	return AllocationView{Allocation: a.Allocation, Pilot: a.addr(), State: a.state,
		Reason: a.reason, Start: a.start}
}

// Providers lists the addresses of the providers, by class and address.
func (s *State) Providers() []string {
	addrs := sorted(s.providers)
	slices.SortStableFunc(addrs, func(a, b string) int {
		return strings.Compare(s.providers[a].Class, s.providers[b].Class)
	})
	return addrs
}

// Allocation gives the allocation that a machine is.
func (s *State) Allocation(id uint64) (AllocationView, bool) {
	a := s.allocations[id]
	if a == nil {
		return AllocationView{}, false
	}
	return a.view(), true
}

// checkProviders checks what has to hold of providers, allocations and pilots.
func (s *State) checkProviders() error {
	for addr, p := range s.providers {
		login, partition, err := SplitProvider(addr)
		if err != nil || p.Addr != addr || p.Login != login || p.Partition != partition {
			return fmt.Errorf("provider %s is filed as %s: %v", p.Addr, addr, err)
		}
		if p.Removing && len(s.allocationsOf(addr)) == 0 && s.looked != 0 {
			return fmt.Errorf("provider %s is being removed, has nothing left, and is there", addr)
		}
	}
	for id, a := range s.allocations {
		p := s.providers[a.Provider]
		switch {
		case a.Id != id || id >= s.nextID || s.index.status(id) != 0:
			return fmt.Errorf("allocation %d is filed as %d", a.Id, id)
		case p == nil:
			return fmt.Errorf("allocation %d is of %s, which is no provider", id, a.Provider)
		case a.Node != "" && a.Job == "":
			return fmt.Errorf("allocation %d is on a node, and has no job", id)
		}
	}
	for addr, m := range s.machines {
		if a := s.allocations[m.Allocation]; IsSlurm(addr) != m.isPilot() ||
			m.isPilot() && (a == nil || a.addr() != addr || a.Job == "") {
			return fmt.Errorf("%s is the pilot of allocation %d, which is %v", addr, m.Allocation,
				a)
		}
	}
	return nil
}
