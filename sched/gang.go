package sched

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// A gang is a job that has several machines at once. It is one attempt: all of its machines are
// given to it by one decision, or none. A machine on which the command runs is a rank, with a run
// of its own; the others are held for it, and nothing runs there. What an attempt has on each of
// its machines are its ranks, whichever of the two; an attempt on one machine is its own only one.

// Names that only gangs have.
const (
	machinesName = "MACHINES" // the addresses of its own class, in order
	rankName     = "RANK"     // which of them this one is, from 0
)

// isGang says that a job has several machines at once.
func isGang(n *statepb.Needs) bool { return n.GetMachines() > 1 || len(n.GetWith()) > 0 }

// nodesFor is how many nodes one allocation of Slurm's has to have to be all machines of a job; 0:
// none can be that. As nothing of ours is on its other nodes, the command runs on the first of them
// only; what is to run on the others, it starts itself.
func nodesFor(n *statepb.Needs) int {
	if n.GetMachines() < 2 || n.Each || len(n.With) > 0 {
		return 0
	}
	return int(n.Machines)
}

// asMany says that a machine may be what a job asks for as far as the number of machines goes: an
// allocation of several nodes is for those that want as many.
func asMany(n *statepb.Needs, m *machine) bool {
	return m.Nodes == 0 || int(m.Nodes) == nodesFor(n)
}

// lot is so many machines of one class that a job is given together.
type lot struct {
	class string
	needs *statepb.Needs // of each of them
	count int
	name  string // as which the job finds them; "": they are of its own class
}

// lots lists what a job asks for, of its own class first.
func lots(class string, n *statepb.Needs) []lot {
	all := []lot{{class: class, needs: n, count: max(int(n.GetMachines()), 1)}}
	var one *statepb.Needs
	if n.GetExclusive() {
		one = &statepb.Needs{Exclusive: true}
	}
	for _, w := range n.GetWith() {
		all = append(all, lot{class: w.Class, needs: one, count: max(int(w.Machines), 1),
			name: w.Name})
	}
	return all
}

// ranksOf gives what an attempt has on each of its machines.
func ranksOf(a *statepb.Attempt) []*statepb.Attempt {
	if len(a.GetRanks()) > 0 {
		return a.Ranks
	}
	return []*statepb.Attempt{a}
}

// runsOf gives those of them on which the command runs, or has run.
func runsOf(a *statepb.Attempt) []*statepb.Attempt {
	if len(a.GetRanks()) == 0 {
		return []*statepb.Attempt{a}
	}
	return slices.DeleteFunc(slices.Clone(a.Ranks), func(r *statepb.Attempt) bool { return r.Idle })
}

// alive are the runs of which the end isn't known.
func alive(a *statepb.Attempt) []*statepb.Attempt {
	return slices.DeleteFunc(slices.Clone(runsOf(a)), func(r *statepb.Attempt) bool {
		return r.Cause != statepb.Cause_CAUSE_NONE
	})
}

// rankOn gives the rank of an attempt on a machine, or nil.
func rankOn(a *statepb.Attempt, addr string) *statepb.Attempt {
	for _, r := range ranksOf(a) {
		if r.GetMachine() == addr {
			return r
		}
	}
	return nil
}

// holds says that one of an attempt's ranks has its share of its machine, if the job is under way.
func holds(r *statepb.Attempt) bool {
	return r.Cause == statepb.Cause_CAUSE_NONE
}

// prepared says that all machines of an attempt are ready: from then on the command may have
// started on any of them. With one run, there is nothing to wait for.
func prepared(a *statepb.Attempt) bool {
	runs := runsOf(a)
	return len(runs) == 1 || !slices.ContainsFunc(runs, func(r *statepb.Attempt) bool {
		return !r.Prepared
	})
}

// breaksUp says that an attempt's ranks are being ended, as one of them ended badly.
func breaksUp(a *statepb.Attempt) bool { return a.GetFirst() > 0 && a.Cause == 0 }

// viewOf is an attempt as one of its ranks has it: where that is, and what it was given. What it
// refers to is shared, and must not be changed.
func viewOf(a, r *statepb.Attempt) *statepb.Attempt {
	if a == r {
		return a
	}
	v := cloneShallow(r)
	v.Number, v.Seq, v.Driver, v.Timeout, v.Ranks = a.Number, a.Seq, a.Driver, a.Timeout, a.Ranks
	v.DispatchedAt, v.Hosts = a.DispatchedAt, a.Hosts
	v.Given = withPool(r.Given, a.Given)
	if r.SameCmd {
		v.CmdRun = a.CmdRun
	}
	return v
}

// cloneShallow copies an attempt but not what it refers to.
func cloneShallow(a *statepb.Attempt) *statepb.Attempt {
	given, ranks := a.Given, a.Ranks
	a.Given, a.Ranks = nil, nil
	next := proto.CloneOf(a)
	a.Given, a.Ranks, next.Given, next.Ranks = given, ranks, given, ranks
	return next
}

// cloneAttempt copies an attempt; what it was given is never altered, and shared.
func cloneAttempt(a *statepb.Attempt) *statepb.Attempt {
	next := cloneShallow(a)
	next.Ranks = nil
	for _, r := range a.Ranks {
		next.Ranks = append(next.Ranks, cloneShallow(r))
	}
	return next
}

// giveTokens gives each run of an attempt a name that no other has.
func giveTokens(a *statepb.Attempt, token func() string) {
	a.Token = token()
	for i, r := range a.Ranks {
		switch {
		case i == 0:
			r.Token = a.Token
		case !r.Idle:
			r.Token = token()
		}
	}
}

// withPool is a share of a machine together with one of the pool.
func withPool(g, pool *statepb.Given) *statepb.Given {
	if len(pool.GetGrants()) == 0 {
		return g
	}
	return &statepb.Given{Slots: g.GetSlots(),
		Grants: append(slices.Clone(g.GetGrants()), pool.Grants...)}
}

// poolShare gives the pool's part of a share, nil for nothing; and what is left of it.
func poolShare(g *statepb.Given) (pool, rest *statepb.Given) {
	if g == nil {
		return nil, nil
	}
	rest = &statepb.Given{Slots: g.Slots}
	for _, grant := range g.Grants {
		if !grant.Pool {
			rest.Grants = append(rest.Grants, grant)
			continue
		}
		if pool == nil {
			pool = &statepb.Given{}
		}
		pool.Grants = append(pool.Grants, grant)
	}
	return pool, rest
}

// giveRanks gives an attempt its share of each of its machines. What the pool gives, it has once.
func (s *State) giveRanks(j *statepb.Job, a *statepb.Attempt, ms []*machine) {
	for _, l := range lots(j.Class, j.Needs) {
		for range l.count {
			i, m := len(a.Ranks), ms[len(a.Ranks)]
			slot, given := s.give(l.needs, m)
			pool, own := poolShare(given)
			if i == 0 {
				a.Given = pool
			}
			if len(own.GetSlots())+len(own.GetGrants()) == 0 {
				own = nil
			}
			r := &statepb.Attempt{Machine: m.Addr, Slot: int32(slot), BootId: m.BootId, Given: own,
				With: l.name, Idle: i > 0 && !(j.Needs.Each && l.name == "")}
			if j.Needs.Each && !r.Idle {
				r.Rank = int32(i + 1)
			}
			a.Ranks = append(a.Ranks, r)
		}
	}
}

// addressesOf lists the machines of an attempt that a job knows under a name, in order; those of
// its own class under "". Those that Slurm has allocated together are nodes of its.
func addressesOf(a *statepb.Attempt, name string) string {
	if name == "" && len(a.Hosts) > 0 {
		return strings.Join(a.Hosts, ",")
	}
	var addrs []string
	for _, r := range ranksOf(a) {
		if r.With == name {
			addrs = append(addrs, r.Machine)
		}
	}
	return strings.Join(addrs, ",")
}

// gangName says that a name has a value for a job since that is a gang.
func gangName(n *statepb.Needs, name string) bool {
	switch {
	case !isGang(n):
		return false
	case name == machinesName, name == rankName && n.Each:
		return true
	}
	return slices.ContainsFunc(n.With, func(w *statepb.With) bool { return w.Name == name })
}

// gangValue is the value of such a name, of an attempt as one of its ranks has it.
func gangValue(n *statepb.Needs, a *statepb.Attempt, name string) (string, bool) {
	switch {
	case !gangName(n, name):
		return "", false
	case name == machinesName:
		return addressesOf(a, ""), true
	case name == rankName && n.Each:
		return strconv.Itoa(max(int(a.Rank)-1, 0)), true
	}
	return addressesOf(a, name), true
}

// gangEnv are the variables of a gang's environment.
func gangEnv(n *statepb.Needs, a *statepb.Attempt) (env []string) {
	if !isGang(n) {
		return nil
	}
	names := []string{machinesName, rankName}
	for _, w := range n.With {
		names = append(names, w.Name)
	}
	for _, name := range names {
		if v, ok := gangValue(n, a, name); ok {
			env = append(env, varPrefix+name+"="+v)
		}
	}
	return env
}

// BreaksUp says that what is left of a job on several machines is being ended, as one of its ranks
// has ended badly.
func BreaksUp(j *statepb.Job) bool {
	a := last(j)
	return a != nil && j.Status == Running && breaksUp(a)
}
