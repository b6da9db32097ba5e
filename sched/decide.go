package sched

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// Decide says which changes should come next at the time now: what should be dispatched, which
// machines are set aside, what expires. It gives at most one change, as each may alter what is
// right for the next: the caller applies it, and asks again until there is none. It looks only at
// classes in which something changed, so its cost doesn't grow with what waits.
//
// The tokens of runs are left empty: the caller fills them in, since they are random.
func (s *State) Decide(now time.Time) []*Change {
	if set := s.Look(now); set != nil {
		return set
	}
	s.ripen(now)
	s.endLingering()
	for _, id := range sortedIDs(s.steps) {
		if c := s.nextStep(s.live[id], now); c != nil {
			return []*Change{c}
		}
	}
	if c := s.skips(); len(c) > 0 {
		return c
	}
	for _, id := range sortedIDs(s.overdone) {
		if m := s.matrices[id]; m != nil && m.failedOut() {
			return s.failOut(m)
		}
		if t := s.tags[id]; t != nil && t.failedOut() {
			return s.failOutTag(t)
		}
		delete(s.overdone, id)
	}
	for _, id := range sortedIDs(s.empty) {
		if m := s.matrices[id]; len(m.watchers)+len(m.followers) > 0 {
			continue // how its cells were is still asked for
		}
		return []*Change{{MatrixForgotten: &statepb.MatrixForgotten{Matrix: id}}}
	}
	if old := s.dropOld(now); len(old) > 0 {
		return old
	}
	looks := len(s.dirty) > 0
	for _, name := range sorted(s.dirty) {
		if c := s.decideClass(s.class(name), now); c != nil {
			return []*Change{c}
		}
		delete(s.dirty, name)
	}
	if looks {
		if c := s.dispatchSpanning(now); c != nil {
			return []*Change{c}
		}
	}
	if c := s.staff(now); c != nil {
		return []*Change{c}
	}
	return nil
}

// ripen moves retries that are due into their queues, and looks at classes whose time has come.
func (s *State) ripen(now time.Time) {
	for len(s.delayed) > 0 {
		j := s.delayed[0]
		// One that is further away than any pause was planned before the clock was set back.
		if wait := j.NotBefore - now.UnixNano(); wait > 0 && wait <= int64(maxBackoff) {
			break
		}
		j.due = true
		s.enqueue(j)
	}
	if s.looked == now.UnixNano() {
		return // the rest changes with time alone
	}
	back := now.UnixNano() < s.looked
	s.looked = now.UnixNano()
	s.ring()
	if s.nextEnd != 0 && s.nextEnd <= s.looked || back {
		s.nextEnd = 0
		for _, m := range s.machines {
			s.file(m)
		}
	}
	s.endAvoidances(now)
	for id := range s.accused {
		s.dirty[s.matrices[id].Template.Class] = true
	}
	for name, c := range s.classes {
		for _, m := range c.watched {
			s.dirty[name] = true
			c.grew(m)
		}
		for _, r := range []*reservation{c.reserved, s.reserved} {
			if r != nil && r.until() != 0 && r.until() <= s.looked {
				s.dirty[name] = true
			}
		}
	}
}

// decideClass finds the next change for a class, or nil when nothing can be done.
func (s *State) decideClass(c *class, now time.Time) *Change {
	if c := s.judge(c); c != nil {
		return c
	}
	for _, m := range c.watched {
		if ch := s.decideMachine(m, now); ch != nil {
			return ch
		}
	}
	if ch := s.tries(c, now); ch != nil {
		return ch
	}
	return s.dispatch(c, now)
}

// decideMachine looks after what concerns one machine: its end, and its setups. One of which it
// says nothing needn't be watched.
func (s *State) decideMachine(m *machine, now time.Time) *Change {
	switch {
	case m.isPilot() && m.Removing: // it is released, and leaves when its allocation has ended
		return nil
	case s.stateOfPilot(m) != "": // what is left of its time is known when it goes on
		return nil
	case m.Removing && s.idle(m) && len(s.copiesFrom(m.Addr)) == 0:
		return &Change{MachineRemoved: &statepb.MachineRemoved{Addr: m.Addr}}
	case m.Until != 0 && m.Until <= now.UnixNano() && !m.Removing:
		return &Change{MachineRemoved: &statepb.MachineRemoved{Addr: m.Addr, WhenIdle: true}}
	}
	if len(m.setups) == 0 || m.link != LinkConnected || !s.idle(m) {
		return nil
	}
	if !s.setupDue(m, now) || m.Draining || m.Removing {
		return nil
	}
	return s.dispatched(s.live[m.setups[0]].Job, []*machine{m}, now)
}

// setupDue says that a setup waits for the machine and its time and turn have come: the machine
// gets no more jobs then. Before, it goes on working, as the point of staggering is that few
// machines are away at a time.
func (s *State) setupDue(m *machine, now time.Time) bool {
	if len(m.setups) == 0 {
		return false
	}
	setup := s.live[m.setups[0]].Setup
	return setup.StartAt <= now.UnixNano() && !s.batchFull(setup)
}

// dispatch pairs the first job of the line that some machine may have with the best of those, or a
// gang with as many as it needs. Gangs that span classes are left to dispatchSpanning.
func (s *State) dispatch(c *class, now time.Time) *Change {
	watched := s.roomAmong(c.watched, now)
	if len(c.line) == 0 || len(c.ready)+len(watched) == 0 {
		return nil
	}
	var stuck []*shape
	for _, sh := range c.line {
		if s.atLimit(sh) {
			sh.tried = unknown
			continue
		}
		if s.spanning[sh] {
			continue
		}
		ms := s.bestOnes(sh, watched, nil, now)
		if ms != nil && (len(stuck) > 0 || len(s.spanning) > 0) {
			ms = s.bestOnes(sh, watched, s.keptFor(sh, stuck, now), now)
		}
		if ms != nil {
			it := sh.first()
			if s.lingersAfterAll(it) {
				return s.dispatch(c, now)
			}
			return s.dispatched(it.next(), ms, now)
		}
		sh.tried = c.newsFrom + len(c.news)
		if sh.needs != nil {
			stuck = append(stuck, sh)
		}
	}
	c.forgetNews()
	return nil
}

// bestOnes are the machines that the first job of a shape goes to, or nil.
func (s *State) bestOnes(
	sh *shape, watched []*machine, kept []*reservation, now time.Time,
) []*machine {
	if isGang(sh.needs) {
		c := sh.class
		if sh.tried == c.newsFrom+len(c.news) || s.poolKept(sh, now) != nil {
			return nil // nothing is new
		}
		return s.muster(sh.first().record(), nil, kept, now)
	}
	return one(s.best(sh, watched, kept, now))
}

// fits says that a job which has a timeout would end before the machine expires.
func fits(j *statepb.Job, m *machine, now time.Time) bool {
	takes := takesTime(j)
	return m.Until == 0 || takes == 0 || now.UnixNano()+takes <= m.Until
}

// takesTime is how long a job may run, or has shown that it does; 0: not known.
func takesTime(j *statepb.Job) int64 {
	if j.Timeout != 0 && j.Timeout < j.Least {
		return j.Timeout
	}
	return max(j.Timeout, j.Least)
}

// dispatched is the change that sends a waiting job to its machines, or ends it when no machine
// could start it.
func (s *State) dispatched(j *statepb.Job, ms []*machine, now time.Time) *Change {
	m := ms[0]
	slot, given := s.give(j.Needs, m)
	a := &statepb.Attempt{
		Number: 1, Machine: m.Addr, Slot: int32(slot), BootId: m.BootId,
		DispatchedAt: now.UnixNano(),
		Driver:       j.Driver && j.Setup == nil, Timeout: j.Timeout, Given: given,
	}
	if before := last(j); before != nil {
		a.Number = before.Number + 1
	}
	switch {
	case !isGang(j.Needs) || j.Setup != nil:
	case m.Nodes > 0:
		a.Hosts = s.hostsOf(m)
	default:
		s.giveRanks(j, a, ms)
	}
	for i, r := range runsOf(a) {
		view := viewOf(a, r)
		if why := s.tooLong(j, view); why != "" {
			return &Change{JobRefused: &statepb.JobRefused{Job: j.Id, Error: refused + why}}
		}
		inputs, why := s.inputsOf(j, view)
		if why != "" {
			return &Change{JobHeld: &statepb.JobHeld{Job: j.Id, Held: true, Why: why}}
		}
		r.Inputs = inputs
		cmd := []byte(s.commandLine(j, view))
		if i == 0 {
			a.CmdRun = cmd
		}
		if r.SameCmd = r != a && bytes.Equal(cmd, a.CmdRun); !r.SameCmd {
			r.CmdRun = cmd
		}
	}
	return &Change{Dispatched: &statepb.Dispatched{Job: j.Id, Attempt: a}}
}

// commandLine is what an attempt runs, all variables put in but secrets. That it isn't too long was
// checked.
func (s *State) commandLine(j *statepb.Job, a *statepb.Attempt) string {
	cmd := string(j.Cmd)
	if j.Setup != nil {
		cmd = string(j.Setup.Steps[a.Step])
	}
	cmd, _ = Expand(cmd, MaxCommand, s.lookup(j, a))
	return cmd
}

// lookup gives the value of each variable that a job may use in an attempt.
func (s *State) lookup(j *statepb.Job, a *statepb.Attempt) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, v := range j.Vars {
			if v.Name == name {
				if v.Secret {
					return "${" + varPrefix + name + "}", true
				}
				return string(v.Value), true
			}
		}
		return s.builtin(j, a, name)
	}
}

// sortedIDs lists the keys in ascending order.
func sortedIDs(set map[uint64]bool) []uint64 {
	if len(set) == 0 {
		return nil
	}
	ids := make([]uint64, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// hostParts splits an address into the user, the host and the port that it names.
func hostParts(addr string) (user, host, port string) {
	host = addr
	if IsLocal(addr) {
		return "", "localhost", ""
	}
	if i := strings.IndexByte(host, '@'); i >= 0 {
		user, host = host[:i], host[i+1:]
	}
	if strings.HasPrefix(host, "[") {
		if i := strings.IndexByte(host, ']'); i > 0 {
			return user, host[1:i], strings.TrimPrefix(host[i+1:], ":")
		}
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Count(host, ":") == 1 {
		host, port = host[:i], host[i+1:]
	}
	return user, host, port
}
