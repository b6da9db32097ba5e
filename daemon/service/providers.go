package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/sched"
)

// checkTime is how long it may take to ask Slurm whether it would take what a provider asks for,
// and completeTime how long to ask for its partitions.
const (
	checkTime    = 30 * time.Second
	completeTime = 2 * time.Second
)

// AddProvider backs a class by a partition of Slurm, after Slurm was asked whether it would take
// such an allocation.
func (s *service) AddProvider(args *api.AddProviderArgs, reply *api.ChangeMachinesReply) error {
	spec := sched.ProviderSpec{
		Addr: args.Addr, Class: args.Class, Time: pointer(args.Time), Slots: pointer(args.Slots),
		Max: pointer(args.Max), Backlog: pointer(args.Backlog), Idle: pointer(args.Idle),
		Jobs: pointer(args.Jobs),
	}
	if args.ArgsSet {
		spec.Args = append([]string{}, args.Args...)
	}
	note, err := s.tryProvider(spec)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("back class %s by %s", args.Class, args.Addr)
	done, err := s.do(args.RequestID, false, what,
		func(st *sched.State, now time.Time) (sched.Plan, error) {
			return st.PlanProvider(spec, now)
		})
	if err != nil {
		return err
	}
	if reply.Notes = done.Warnings; note != "" {
		reply.Notes = append(reply.Notes, note)
	}
	return s.read(func(st *sched.State) error {
		reply.Machines = wire.Pool(st, []string{args.Addr}, nil)
		return nil
	})
}

func pointer[T any](m api.Maybe[T]) *T {
	if v, ok := m.Get(); ok {
		return &v
	}
	return nil
}

// tryProvider asks Slurm whether it would take what a provider asks for. What Slurm refuses is an
// error, unless it is only that nobody can be asked just now: then a note says so.
func (s *service) tryProvider(spec sched.ProviderSpec) (note string, err error) {
	var ask sched.Allocation
	err = s.read(func(st *sched.State) error {
		ask, err = st.ProviderAsks(spec)
		return err
	})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(s.ctx, checkTime)
	defer cancel()
	err = s.Fleet.CheckProvider(ctx, ask)
	var refused interface{ Refused() bool }
	switch {
	case err == nil:
		return "", nil
	case errors.As(err, &refused) && refused.Refused():
		return "", api.Wrap(api.Invalid, err)
	}
	note = fmt.Sprintf("Slurm couldn't be asked whether it takes that: %v", err)
	if hint := api.HintOf(err); hint != "" {
		note += "; " + hint
	}
	return note, nil
}

// Partitions lists the partitions that Slurm has, for who types one.
func (s *service) Partitions(args *api.PartitionsArgs, reply *api.PartitionsReply) error {
	ctx, cancel := context.WithTimeout(s.ctx, completeTime)
	defer cancel()
	names, err := s.Fleet.Partitions(ctx, args.Login)
	if err != nil {
		return nil // whoever types is told nothing
	}
	slices.Sort(names)
	reply.Partitions = slices.Compact(names)
	return nil
}

// pool finds the providers and machines that are meant.
func pool(st *sched.State, sel api.MachineSelector) (providers, machines []string, err error) {
	providers, others := st.SelectProviders(sel.Addrs, sel.Classes)
	if len(others)+len(sel.Classes) == 0 && len(sel.Addrs) > 0 {
		return providers, nil, nil
	}
	machines, err = st.SelectMachines(others, sel.Classes)
	return providers, machines, err
}

// changeProviders are the changes that an operation makes to providers.
func changeProviders(
	st *sched.State, args *api.ChangeMachinesArgs, providers []string,
) (sched.Plan, error) {
	switch args.Op {
	case api.MachineRemove:
		return st.PlanProvidersRemoved(providers, args.Force), nil
	case api.MachineDrain, api.MachineResume:
		return st.PlanProvidersDrained(providers, args.Op == api.MachineDrain), nil
	}
	return st.RefuseProviders(providers, args.Op)
}

// checkProvider asks Slurm whether it would take another allocation of a provider, which needn't be
// in the pool.
func (s *service) checkProvider(ctx context.Context, addr string, c *api.MachineCheck) error {
	var ask sched.Allocation
	err := s.read(func(st *sched.State) (err error) {
		spec := sched.ProviderSpec{Addr: addr}
		if p, ok := st.Provider(addr); ok {
			spec.Class = p.Class
		} else {
			short := time.Hour // that any partition takes
			spec.Class, spec.Time = "check", &short
		}
		ask, err = st.ProviderAsks(spec)
		return err
	})
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.Fleet.CheckProvider(ctx, ask); err != nil {
		return err
	}
	c.OK, c.LatencySeconds = true, time.Since(began).Seconds()
	return nil
}
