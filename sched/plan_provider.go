package sched

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
	"jobserver/slurm"
)

// Requests about providers.

// ProviderSpec is a provider to add, or what is to change of one that is there; what is nil stays
// as it is, or is as usual.
type ProviderSpec struct {
	Addr    string
	Class   string
	Time    *time.Duration // after which an allocation ends: whole minutes
	Slots   *int           // of each allocation
	Max     *int           // allocations at a time
	Backlog *int           // of them, those that wait
	Idle    *time.Duration // after which one that has nothing to do is released
	Jobs    *int           // for so many jobs an allocation is; 0: any number
	Args    []string       // of sbatch; nil: as they are
}

// Limits of providers.
const (
	maxPilots  = 1000
	maxSbatch  = 64 // arguments
	maxSlurmed = 365 * 24 * time.Hour
)

// PlanProvider adds a provider, or gives one other settings.
func (s *State) PlanProvider(spec ProviderSpec, now time.Time) (Plan, error) {
	rec, err := s.providerRecord(spec)
	if err != nil {
		return Plan{}, err
	}
	p := s.planner()
	before := s.providers[spec.Addr]
	if before == nil {
		rec.AddedAt = now.UnixNano()
	} else {
		rec.Draining, rec.Removing = false, false
		if proto.Equal(rec, before.Provider) {
			p.warn("%s is in class %s already", spec.Addr, spec.Class)
			return p.Plan, nil
		}
		if exist, _ := s.countAllocations(spec.Addr); exist > 0 {
			p.warn("what is there already, %s, stays as it is", plural(exist, "allocation",
				"allocations"))
		}
	}
	if s.machines[spec.Addr] != nil {
		return Plan{}, errorf(Conflict, "%s is a machine already", spec.Addr)
	}
	p.add(&Change{ProviderSet: &statepb.ProviderSet{Provider: rec}})
	return p.Plan, nil
}

// ProviderAsks is what a provider would ask Slurm for when a job waits that needs nothing in
// particular. It needn't be there yet.
func (s *State) ProviderAsks(spec ProviderSpec) (Allocation, error) {
	rec, err := s.providerRecord(spec)
	if err != nil {
		return Allocation{}, err
	}
	p := &provider{Provider: rec, offer: offerOf(rec.Args, int(rec.Slots))}
	a := &allocation{Allocation: s.askFor(p, &statepb.Job{}).AllocationAsked.Allocation}
	return a.fleets(time.Time{}), nil
}

// providerRecord is the record of a provider as it is to be.
func (s *State) providerRecord(spec ProviderSpec) (*statepb.Provider, error) {
	login, partition, err := SplitProvider(spec.Addr)
	if err != nil {
		return nil, err
	}
	if err := checkClass(spec.Class); err != nil {
		return nil, err
	}
	rec := &statepb.Provider{Addr: spec.Addr, Class: spec.Class, Login: login,
		Partition: partition, Slots: 1, Max: defaultPilots, Backlog: defaultBacklog,
		Idle: int64(defaultIdle)}
	if before := s.providers[spec.Addr]; before != nil {
		rec = proto.CloneOf(before.Provider)
		if rec.Class != spec.Class {
			return nil, errorf(Conflict, "%s is in class %s already", spec.Addr, rec.Class).
				hint("`jobserver machine rm -m %s`, and then add it to class %s", spec.Addr,
					spec.Class)
		}
	}
	if spec.Time != nil {
		rec.Time = int64(*spec.Time)
	}
	set := func(to *int32, from *int) {
		if from != nil {
			*to = int32(min(*from, 1<<30))
		}
	}
	set(&rec.Slots, spec.Slots)
	set(&rec.Max, spec.Max)
	set(&rec.Backlog, spec.Backlog)
	set(&rec.Jobs, spec.Jobs)
	if spec.Idle != nil {
		rec.Idle = int64(*spec.Idle)
	}
	if spec.Args != nil {
		rec.Args = slices.DeleteFunc(slices.Clone(spec.Args), func(a string) bool {
			return a == ""
		})
	}
	return rec, checkProvider(rec)
}

// checkProvider refuses settings that make no sense.
func checkProvider(p *statepb.Provider) error {
	length := time.Duration(p.Time)
	switch {
	case length == 0:
		return errorf(Invalid, "--time is missing: how long is an allocation of %s?", p.Addr).
			hint("`--time 4h`: the partition's limit at most (`sinfo -o '%%P %%l'`), and shorter " +
				"ones begin sooner")
	case length < minPilotTime:
		return errorf(Invalid, "--time %s: an allocation is of %s at least, as the last %s of it "+
			"are for copying results", durationText(length), durationText(minPilotTime),
			durationText(pilotMargin)).
			hint("give at least twice what a job takes")
	case length%time.Minute != 0:
		return errorf(Invalid, "--time %s: Slurm counts in whole minutes", durationText(length)).
			hint("--time %s", durationText(length.Truncate(time.Minute)+time.Minute))
	case length > maxSlurmed:
		return errorf(Invalid, "--time %s is more than a year", durationText(length))
	case p.Slots < 1 || p.Slots > MaxSlots:
		return errorf(Invalid, "%d slots are not possible", p.Slots).hint("between 1 and %d",
			MaxSlots)
	case p.Max < 1 || p.Max > maxPilots:
		return errorf(Invalid, "--max %d: between 1 and %d allocations are possible", p.Max,
			maxPilots)
	case p.Backlog < 1 || p.Backlog > maxPilots:
		return errorf(Invalid, "--backlog %d: between 1 and %d allocations may wait", p.Backlog,
			maxPilots)
	case p.Idle < 0:
		return errorf(Invalid, "--idle can't be negative")
	case p.Jobs < 0:
		return errorf(Invalid, "--jobs can't be negative")
	case p.Jobs > 0 && p.Slots > p.Jobs:
		return errorf(Invalid, "--slots %d: an allocation for %s needs no more slots than that",
			p.Slots, plural(int(p.Jobs), "job", "jobs")).
			hint("--slots %d", p.Jobs)
	case len(p.Args) > maxSbatch:
		return errorf(Invalid, "more than %d arguments of sbatch", maxSbatch)
	}
	for _, arg := range p.Args {
		var bad *slurm.ArgError
		if errors.As(slurm.CheckArg(arg), &bad) {
			return errorf(Invalid, "--sbatch=%s: %s", arg, bad.Reason).hint("%s", bad.Advice)
		}
	}
	if o := offerOf(p.Args, int(p.Slots)); o.nodes > 1 && p.Slots > 1 {
		return errorf(Invalid, "--sbatch=--nodes=%d: an allocation of several nodes runs one job "+
			"at a time", o.nodes).
			hint("leave --slots out: the job finds its nodes in SLURM_JOB_NODELIST, and uses " +
				"them with srun")
	}
	return nil
}

// refuseSlurm refuses the address of a provider where a machine's is wanted.
func (s *State) refuseSlurm(addr string) error {
	switch {
	case !IsSlurm(addr):
		return nil
	case s.providers[addr] != nil:
		return errorf(Invalid, "%s is a partition of Slurm, and no machine", addr).
			hint("`jobserver machine ls` shows its pilots")
	}
	return errorf(Invalid, "%s is a partition of Slurm, and is added as one", addr).
		hint("`jobserver machine add %s CLASS --time 4h`", addr)
}

// notMoved refuses to move what belongs to a class through its provider.
func notMoved(addr string) error {
	return errorf(Conflict, "%s can't be moved to another class", addr).
		hint("a partition of Slurm is removed from its class, `jobserver machine rm`, and added " +
			"to another; its pilots go where it goes")
}

// SelectProviders finds providers among addresses, and those of classes. The other addresses are
// given back.
func (s *State) SelectProviders(addrs, classes []string) (providers, others []string) {
	want := map[string]bool{}
	for _, addr := range addrs {
		if s.providers[addr] != nil {
			want[addr] = true
		} else {
			others = append(others, addr)
		}
	}
	for _, addr := range s.Providers() {
		if want[addr] || slices.Contains(classes, s.providers[addr].Class) ||
			len(addrs)+len(classes) == 0 {
			providers = append(providers, addr)
		}
	}
	return providers, others
}

// PlanProvidersRemoved removes providers: what runs ends first, unless that is to be now.
func (s *State) PlanProvidersRemoved(addrs []string, force bool) Plan {
	var p Plan
	for _, addr := range addrs {
		rec := s.providers[addr]
		if rec == nil || rec.Removing && !force {
			continue
		}
		p.Changes = append(p.Changes, &Change{ProviderRemoved: &statepb.ProviderRemoved{
			Addr: addr, WhenIdle: !force, Force: force}})
		if exist, _ := s.countAllocations(addr); exist > 0 && !force {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s goes when %s ended what runs there; "+
				"--force ends that now", addr, plural(exist, "allocation has",
				"allocations have")))
		}
	}
	return p
}

// PlanProvidersDrained has providers ask for no more allocations, or ask again, whatever kept them
// from it.
func (s *State) PlanProvidersDrained(addrs []string, draining bool) Plan {
	var p Plan
	for _, addr := range addrs {
		switch rec := s.providers[addr]; {
		case rec == nil:
		case draining && !rec.Draining:
			p.Changes = append(p.Changes,
				&Change{ProviderDrained: &statepb.ProviderDrained{Addr: addr}})
		case !draining && (rec.Draining || rec.Resting != "" || rec.Refused > 0 ||
			rec.Unanswered > 0 || len(rec.Exclude) > 0):
			p.Changes = append(p.Changes,
				&Change{ProviderResumed: &statepb.ProviderResumed{Addr: addr}})
		}
	}
	return p
}

// RefuseProviders refuses to do to providers what is only done to machines.
func (s *State) RefuseProviders(addrs []string, op string) (Plan, error) {
	if len(addrs) == 0 {
		return Plan{}, nil
	}
	if op == "mv" {
		return Plan{}, notMoved(addrs[0])
	}
	return Plan{}, errorf(Invalid, "%s is a partition of Slurm: there is nothing to %s", addrs[0],
		op).hint("name one of its pilots: `jobserver machine ls` shows them")
}
