package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/fleet"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/view"
)

// What `machine clean` does: it ends runs that nothing knows, tries to remove again what couldn't
// be, and with Drop forgets what a machine owes.

// clean ends runs on the machines that nothing here knows, and removes what is left of those that
// have ended.
func (s *service) clean(addrs []string, reply *api.ChangeMachinesReply) error {
	machines := make([]sched.MachineView, len(addrs))
	err := s.read(func(st *sched.State) error {
		for i, addr := range addrs {
			m, _ := st.Machine(addr)
			m.Orphans = slices.Clone(m.Orphans)
			machines[i] = m
		}
		return nil
	})
	if err != nil {
		return err
	}
	reply.Notes = make([]string, len(addrs))
	s.each(addrs, func(ctx context.Context, i int, addr string) {
		reply.Notes[i] = addr + ": " + s.cleanOne(ctx, addr, machines[i])
	})
	return nil
}

// cleanOne cleans a machine, and says what became of it.
func (s *service) cleanOne(ctx context.Context, addr string, m sched.MachineView) string {
	runs := m.Orphans
	for _, o := range m.Unremoved {
		runs = append(runs, o.Run)
	}
	if len(runs) == 0 {
		return "there was nothing to clean"
	}
	err := s.Fleet.Clean(ctx, addr, runs)
	failed := countErrors(err)
	said := ""
	if n := len(runs) - failed; n > 0 || failed == 0 {
		said = fmt.Sprintf("%s ended and removed", view.Counted(n, "run"))
	}
	if more := m.OrphanCount - len(m.Orphans); more > 0 {
		said += fmt.Sprintf("; %d more are there: clean again", more)
	}
	if err == nil {
		return said
	}
	if said != "" {
		said += "; "
	}
	return said + fmt.Sprintf(
		"%s can't be removed: %v; `jobserver machine clean --drop -m %s` forgets that",
		view.Counted(failed, "run"),
		firstError(err),
		addr,
	)
}

// joined is implemented by what errors.Join makes.
type joined interface{ Unwrap() []error }

// countErrors counts the errors that were joined, and those that they were joined of.
func countErrors(err error) (n int) {
	if err == nil {
		return 0
	}
	if all, ok := err.(joined); ok {
		for _, one := range all.Unwrap() {
			n += countErrors(one)
		}
		return n
	}
	return 1
}

func firstError(err error) error {
	for {
		all, ok := err.(joined)
		if !ok || len(all.Unwrap()) == 0 {
			return err
		}
		err = all.Unwrap()[0]
	}
}

// dropOwed forgets what machines owe, which need not be in the pool any more.
func (s *service) dropOwed(args *api.ChangeMachinesArgs, reply *api.ChangeMachinesReply) error {
	what := "forget what is left on machines " + strings.Join(
		append(args.Addrs, args.Classes...),
		" ",
	)
	plan := func(st *sched.State, _ time.Time) (sched.Plan, error) {
		addrs, err := owing(st, args.MachineSelector)
		if err != nil {
			return sched.Plan{}, err
		}
		p, dropped := st.PlanDropOwed(addrs)
		reply.Machines, reply.Notes = nil, nil
		for _, addr := range addrs {
			reply.Machines = append(reply.Machines, wire.Machine(st, addr))
		}
		for _, o := range dropped {
			m, _ := st.Machine(o.Run.Machine)
			reply.Notes = append(
				reply.Notes,
				fmt.Sprintf("%s: %s", o.Run.Machine, leftThere(s.About.ServerID, m, o)),
			)
		}
		if len(dropped) == 0 {
			reply.Notes = []string{"these machines owe nothing that could be dropped"}
		}
		return p, nil
	}
	if args.DryRun {
		return s.read(func(st *sched.State) error {
			_, err := plan(st, s.Now())
			return err
		})
	}
	done, err := s.do(args.RequestID, false, what, plan)
	reply.Repeated = done.repeated
	return err
}

// leftThere says what stays on a machine when it is forgotten.
func leftThere(server string, m sched.MachineView, o *statepb.Obligation) string {
	root := "ROOT"
	if m.Machine != nil && m.Root != "" {
		root = m.Root
	}
	dir := fleet.RunDir(server, root, o.Run)
	switch {
	case o.Unremoved != "":
		return fmt.Sprintf("%s stays (%s)", dir, o.Unremoved)
	case o.Cancel && !o.Stopped:
		return fmt.Sprintf("%s stays, and its run may still be going on", dir)
	}
	return dir + " stays"
}

// owing finds machines that are meant, also those that have left the pool and owe something.
func owing(st *sched.State, sel api.MachineSelector) ([]string, error) {
	gone := map[string]bool{}
	for _, o := range st.Obligations() {
		if _, inPool := st.Machine(o.Run.Machine); !inPool && !o.Run.Driver {
			gone[o.Run.Machine] = true
		}
	}
	var addrs, rest []string
	for _, addr := range sel.Addrs {
		if gone[addr] {
			addrs = append(addrs, addr)
		} else {
			rest = append(rest, addr)
		}
	}
	if len(rest) == 0 && len(sel.Classes) == 0 {
		return addrs, nil
	}
	found, err := st.SelectMachines(rest, sel.Classes)
	return append(addrs, found...), err
}
