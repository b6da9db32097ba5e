package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/sched"
	"jobserver/ssh"
)

// ListMachines lists machines by class and address.
func (s *service) ListMachines(args *api.ListMachinesArgs, reply *api.ListMachinesReply) error {
	return s.read(func(st *sched.State) error {
		providers, machines, err := pool(st, args.MachineSelector)
		reply.Machines = wire.Pool(st, providers, machines)
		return err
	})
}

// AddMachines adds machines to a class.
func (s *service) AddMachines(args *api.AddMachinesArgs, reply *api.ChangeMachinesReply) error {
	what := fmt.Sprintf("add machines %s to class %s", strings.Join(args.Addrs, " "), args.Class)
	done, err := s.do(args.RequestID, false, what,
		func(st *sched.State, now time.Time) (sched.Plan, error) {
			var specs []sched.MachineSpec
			for _, addr := range args.Addrs {
				specs = append(specs,
					sched.MachineSpec{Addr: addr, Class: args.Class, Slots: args.Slots,
						Until: args.Until, Resources: args.Resources})
			}
			return st.PlanMachines(specs, now)
		})
	if err != nil {
		return err
	}
	reply.Notes = done.Warnings
	return s.read(func(st *sched.State) error {
		for _, addr := range args.Addrs {
			reply.Machines = append(reply.Machines, wire.Machine(st, addr))
		}
		return nil
	})
}

// SetupMachines submits a setup for each machine.
func (s *service) SetupMachines(args *api.SetupArgs, reply *api.SetupReply) error {
	what := fmt.Sprintf("set up machines %s for class %s",
		strings.Join(append(args.Addrs, args.Classes...), " "), args.Class)
	done, err := s.do(args.RequestID, true, what,
		func(st *sched.State, now time.Time) (sched.Plan, error) {
			addrs := args.Addrs
			if args.Existing {
				found, err := st.SelectMachines(args.Addrs, args.Classes)
				if err != nil {
					return sched.Plan{}, err
				}
				addrs = found
			}
			reply.Addrs = addrs
			return st.PlanSetup(sched.SetupSpec{
				Addrs: addrs, Class: args.Class, Keep: args.Existing, Slots: args.Slots,
				Resources: args.Resources,
				Steps:     args.Steps, Reboot: args.Reboot, Verify: args.Verify,
				Timeout: args.Timeout,
				Retries: args.Retries,
				Stagger: args.Stagger, Parallel: args.Parallel, Notify: args.Notify,
				Until: args.Until,
				Once:  args.Once, Needed: args.Needed,
			}, now)
		})
	if reply.JIDs, reply.Notes = done.IDs, done.Warnings; err != nil || !done.repeated {
		return err
	}
	return s.read(func(st *sched.State) error {
		for _, id := range done.IDs {
			reply.Addrs = append(reply.Addrs, st.Job(id).GetSetup().GetMachine())
		}
		return nil
	})
}

// ChangeMachines removes, moves, drains, resumes or cleans machines.
func (s *service) ChangeMachines(
	args *api.ChangeMachinesArgs, reply *api.ChangeMachinesReply,
) error {
	if len(args.Addrs) == 0 && len(args.Classes) == 0 {
		return api.Errorf(api.Invalid, "no machines are named").
			WithHint("name them with -m ADDR…, -c CLASS or -f FILE")
	}
	if args.Op == api.MachineClean && args.Drop {
		return s.dropOwed(args, reply)
	}
	var addrs, providers []string
	plan := func(st *sched.State, now time.Time) (sched.Plan, error) {
		var err error
		if providers, addrs, err = pool(st, args.MachineSelector); err != nil {
			return sched.Plan{}, err
		}
		if args.Op == api.MachineRemove { // pilots go with their providers
			addrs = slices.DeleteFunc(addrs, func(addr string) bool {
				m, _ := st.Machine(addr)
				return m.Allocation != 0 && slices.Contains(providers, m.Provider)
			})
		}
		reply.Machines = wire.Pool(st, providers, addrs)
		first, err := changeProviders(st, args, providers)
		if err != nil {
			return sched.Plan{}, err
		}
		p, err := planMachines(st, args, addrs, now)
		p.Changes = append(first.Changes, p.Changes...)
		p.Warnings = append(first.Warnings, p.Warnings...)
		reply.Notes = p.Warnings
		return p, err
	}
	if args.DryRun {
		return s.read(func(st *sched.State) error {
			_, err := plan(st, time.Now())
			return err
		})
	}
	done, err := s.do(args.RequestID, false,
		fmt.Sprintf("%s machines %s", args.Op,
			strings.Join(append(args.Addrs, args.Classes...), " ")), plan)
	if err != nil {
		return err
	}
	if reply.Repeated = done.repeated; reply.Repeated {
		if providers, addrs, err = s.repeatedFor(args); err != nil {
			return err
		}
	}
	switch args.Op {
	case api.MachineResume: // whatever was wrong may be right now
		for _, addr := range addrs {
			s.Fleet.Retry(addr)
		}
	case api.MachineClean:
		if err := s.clean(addrs, reply); err != nil {
			return err
		}
	case api.MachineRemove: // they were what they were
		return nil
	}
	return s.read(func(st *sched.State) error {
		there := slices.DeleteFunc(addrs, func(addr string) bool {
			_, ok := st.Machine(addr) // another call may have removed it meanwhile
			return !ok
		})
		reply.Machines = wire.Pool(st, providers, there)
		return nil
	})
}

// repeatedFor finds the machines of a change that was done before: those that are named, or are in
// a class that is, as far as they are there still.
func (s *service) repeatedFor(
	args *api.ChangeMachinesArgs,
) (providers, addrs []string, err error) {
	err = s.read(func(st *sched.State) error {
		providers, _ = st.SelectProviders(args.Addrs, args.Classes)
		for _, addr := range st.Machines() {
			m, _ := st.Machine(addr)
			if slices.Contains(args.Addrs, addr) || slices.Contains(args.Classes, m.Class) {
				addrs = append(addrs, addr)
			}
		}
		return nil
	})
	return providers, addrs, err
}

func planMachines(
	st *sched.State, args *api.ChangeMachinesArgs, addrs []string, now time.Time,
) (sched.Plan, error) {
	switch args.Op {
	case api.MachineRemove:
		return st.PlanRemove(addrs, args.Force), nil
	case api.MachineMove:
		return st.PlanMove(addrs, args.Class, now)
	case api.MachineDrain, api.MachineResume:
		return st.PlanDrain(addrs, args.Op == api.MachineDrain), nil
	case api.MachineClean:
		return sched.Plan{}, nil
	}
	return sched.Plan{}, api.Errorf(api.Invalid, "%q is no operation on machines", args.Op)
}

// atOnce is how many machines one call looks at at the same time.
const atOnce = 32

// each visits the machines, several at a time.
func (s *service) each(addrs []string, f func(ctx context.Context, i int, addr string)) {
	group, ctx := errgroup.WithContext(s.ctx)
	group.SetLimit(atOnce)
	for i, addr := range addrs {
		group.Go(func() error {
			f(ctx, i, addr)
			return nil
		})
	}
	_ = group.Wait() // f reports for itself
}

// selectMachines finds the machines that are meant. Addresses need not be in the pool.
func (s *service) selectMachines(sel api.MachineSelector) (machines []api.Machine, err error) {
	err = s.read(func(st *sched.State) error {
		var inPool []string
		providers, others := st.SelectProviders(sel.Addrs, sel.Classes)
		machines = wire.Pool(st, providers, nil)
		for _, addr := range others {
			if _, ok := st.Machine(addr); ok {
				inPool = append(inPool, addr)
			} else {
				machines = append(machines, api.Machine{Addr: addr})
			}
		}
		if len(machines) > 0 && len(inPool) == 0 && len(sel.Classes) == 0 {
			return nil
		}
		addrs, err := st.SelectMachines(inPool, sel.Classes)
		for _, addr := range addrs {
			machines = append(machines, wire.Machine(st, addr))
		}
		return err
	})
	return machines, err
}

// CheckMachines connects to the machines now and measures them.
func (s *service) CheckMachines(
	args *api.CheckMachinesArgs, reply *api.CheckMachinesReply,
) (err error) {
	reply.Checks, err = s.checks(args.MachineSelector,
		func(ctx context.Context, addr string, check *api.MachineCheck) error {
			if sched.IsSlurm(addr) && check.Pilot == nil {
				return s.checkProvider(ctx, addr, check)
			}
			found, err := s.Fleet.Check(ctx, addr)
			if err != nil {
				return err
			}
			check.OK = true
			check.Warnings, check.MemoryLimitWhy = found.Warnings, found.MemoryWhy
			wire.Facts(&check.Machine, found.Facts, found.Vitals)
			if len(found.HostKeys) > 0 {
				check.HostKey, check.Fingerprint = found.HostKeys[0].Type,
					found.HostKeys[0].Fingerprint
			}
			return nil
		})
	return err
}

// Trust shows the host keys that machines present now, and records those that the caller accepts.
func (s *service) Trust(args *api.TrustArgs, reply *api.TrustReply) (err error) {
	reply.Checks, err = s.checks(args.MachineSelector,
		func(ctx context.Context, addr string, check *api.MachineCheck) error {
			login, err := loginOf(addr, check)
			if err != nil {
				return err
			}
			if sched.IsLocal(login) || login == "" {
				check.OK, check.Known = true, "local"
				return nil
			}
			return s.trust(ctx, login, args, check)
		})
	return err
}

// loginOf is the host whose key counts for a machine: itself, unless it is a partition of Slurm or
// one of its pilots.
func loginOf(addr string, check *api.MachineCheck) (string, error) {
	if !sched.IsSlurm(addr) {
		return addr, nil
	}
	if check.Pilot != nil {
		addr = check.Pilot.Provider
	}
	login, _, err := sched.SplitProvider(addr)
	return login, err
}

// checks looks at the machines that are meant, several at a
// time. An error of look's is told in its machine's check.
func (s *service) checks(
	sel api.MachineSelector,
	look func(ctx context.Context, addr string, check *api.MachineCheck) error,
) ([]api.MachineCheck, error) {
	machines, err := s.selectMachines(sel)
	if err != nil {
		return nil, err
	}
	checks := make([]api.MachineCheck, len(machines))
	addrs := make([]string, len(machines))
	for i := range machines {
		checks[i].Machine = machines[i]
		addrs[i] = machines[i].Addr
	}
	s.each(addrs, func(ctx context.Context, i int, addr string) {
		if err := look(ctx, addr, &checks[i]); err != nil {
			checks[i].Error, checks[i].Hint = err.Error(), api.HintOf(err)
		}
	})
	return checks, nil
}

func (s *service) trust(
	ctx context.Context, addr string, args *api.TrustArgs, check *api.MachineCheck,
) error {
	keys, err := s.Fleet.HostKeys(ctx, addr)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return fmt.Errorf("%s presents no host key", addr)
	}
	key := keyToShow(keys)
	check.HostKey, check.Fingerprint, check.Known = key.Type, key.Fingerprint, "unknown"
	switch {
	case key.Known:
		check.OK, check.Known = true, "known"
		return s.trusted(args, addr)
	case key.Revoked:
		return api.Errorf(api.Denied, "%s: its host key is revoked, and is not recorded", addr).
			WithHint("give the machine a new key, or take the @revoked line out of known_hosts")
	case key.Changed:
		check.Known = "changed"
	}
	confirmed, asked := args.Fingerprints[addr]
	switch {
	case !args.Record || !args.Any && !asked:
		return nil
	case !args.Any && confirmed != key.Fingerprint:
		return api.Errorf(api.Denied, "%s presents another host key now, %s, than the one that "+
			"was confirmed, %s: nothing was recorded", addr, key.Fingerprint, confirmed).
			WithHint("somebody may stand between, or several machines may answer at this " +
				"address: `jobserver machine trust` looks again")
	}
	if err := s.Fleet.Trust(ctx, addr, key); err != nil {
		return err
	}
	s.Log.Warn("a host key was recorded as trusted", "machine", addr, "fingerprint",
		key.Fingerprint, "uid", s.peer.UID)
	check.OK, check.Known = true, "known"
	return s.trusted(args, addr)
}

// keyToShow is the key by which a machine is known, else one that isn't the one on record, else the
// first.
func keyToShow(keys []ssh.HostKey) ssh.HostKey {
	for _, is := range []func(ssh.HostKey) bool{
		func(k ssh.HostKey) bool { return k.Known },
		func(k ssh.HostKey) bool { return k.Revoked || k.Changed },
	} {
		if i := slices.IndexFunc(keys, is); i >= 0 {
			return keys[i]
		}
	}
	return keys[0]
}

// trusted brings a machine back that was set aside for its host key.
func (s *service) trusted(args *api.TrustArgs, addr string) error {
	if !args.Record {
		return nil
	}
	// Each machine is an intention of its own, and asking again for it changes nothing.
	_, err := s.do("", false, "trust machine "+addr,
		func(st *sched.State, _ time.Time) (sched.Plan, error) {
			return st.PlanTrusted(addr), nil
		})
	s.Fleet.Retry(addr)
	return err
}
