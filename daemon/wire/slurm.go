package wire

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/sched"
)

// Pool is everything that backs classes: providers and machines, by class and address.
func Pool(st *sched.State, providers, machines []string) []api.Machine {
	all := make([]api.Machine, 0, len(providers)+len(machines))
	for _, addr := range providers {
		if m, ok := Provider(st, addr); ok {
			all = append(all, m)
		}
	}
	for _, addr := range machines {
		all = append(all, Machine(st, addr))
	}
	slices.SortStableFunc(all, func(a, b api.Machine) int {
		if a.Class != b.Class {
			return strings.Compare(a.Class, b.Class)
		}
		return strings.Compare(a.Addr, b.Addr)
	})
	return all
}

// Provider is a partition of Slurm as clients see it: a row among the machines of its class. Its
// slots are those of its allocations that run.
func Provider(st *sched.State, addr string) (api.Machine, bool) {
	p, ok := st.Provider(addr)
	if !ok {
		return api.Machine{}, false
	}
	out := api.Machine{Addr: addr, Class: p.Class, State: string(sched.LinkConnected),
		Draining: p.Draining || p.Removing, Resting: p.Resting != "", LastError: p.Words,
		Hint: p.Hint}
	info := &api.Provider{
		Seconds: int64(time.Duration(p.Time) / time.Second), Max: int(p.Max),
		Backlog: int(p.Backlog), Idle: int64(time.Duration(p.Idle) / time.Second),
		Jobs: int(p.Jobs), Args: slices.Clone(p.Args), Resting: p.Resting,
		Exclude: slices.Clone(p.Exclude),
	}
	switch {
	case p.Problem != "":
		out.State, out.LastError = string(sched.LinkAway), p.Problem
	case !p.Seen:
		out.State = string(sched.LinkConnecting)
	}
	if p.Resting != "" {
		out.LastError = p.Resting
		if out.Hint == "" {
			out.Hint = fmt.Sprintf("it asks for no more allocations; when that is mended, "+
				"`jobserver machine resume -m %s` has it ask again", addr)
		}
	}
	for i := range p.Allocations {
		a := &p.Allocations[i]
		switch a.Stage() {
		case sched.StageEnding:
			info.Ending++
		case sched.StageRunning:
			info.Running++
			out.Slots += int(a.Slots)
		case sched.StageSubmitted:
			info.Submitted++
		case sched.StagePending:
			info.Pending++
			if a.Reason != "" && !slices.Contains(info.Reasons, a.Reason) {
				info.Reasons = append(info.Reasons, a.Reason)
			}
			if start := a.Start; !start.IsZero() && (info.Start == nil ||
				start.Before(*info.Start)) {
				info.Start = &start
			}
		}
		if m, ok := st.Machine(a.Pilot); ok {
			out.Running = append(out.Running, m.Running...)
		}
	}
	if p.Carries > 0 && info.Running > p.Carries {
		info.Carries = p.Carries
		if out.Hint == "" {
			out.Hint = fmt.Sprintf("%d pilots run, and one shared connection carries %d: let the "+
				"login's ssh configuration share none (`ControlPath none`), or ask its "+
				"administrators for a higher MaxSessions", info.Running, p.Carries)
		}
	}
	slices.Sort(out.Running)
	out.Provider = info
	return out, true
}

// pilot describes a machine that is an allocation; nil of any other.
func pilot(st *sched.State, m *sched.MachineView) *api.Pilot {
	a, ok := st.Allocation(m.Allocation)
	if !ok {
		return nil
	}
	return &api.Pilot{Provider: a.Provider, Job: a.Job, Node: a.Node, State: a.State,
		Ends: timeOf(a.EndsAt), Released: a.Released}
}
