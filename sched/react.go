package sched

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// effect is something that a change asks of the fleet. It is carried out when the change is
// durable, and looks at the state as it is then: what is no longer wanted is not asked for.
type effect func(f Fleet)

func (s *State) ask(e effect) { s.effects = append(s.effects, e) }

// takeEffects hands out what was asked for since the last time.
func (s *State) takeEffects() []effect {
	e := s.effects
	s.effects = nil
	return e
}

func (s *State) askStart(j *job) {
	token := last(j.Job).Token
	s.ask(func(f Fleet) {
		if j.Status == Running && last(j.Job).Token == token {
			for _, r := range alive(last(j.Job)) {
				f.Start(s.run(j, r))
			}
		}
	})
}

// askCancel has all runs of a job ended that may live.
func (s *State) askCancel(j *job) {
	token := last(j.Job).Token
	s.ask(func(f Fleet) {
		if a := last(j.Job); j.Status == Running && a.Token == token {
			for _, r := range alive(a) {
				f.Cancel(runRef(j.Job, a, r))
			}
		}
	})
}

func (s *State) askCopy(j *job) {
	s.ask(func(f Fleet) {
		if j.Status == Copying {
			for _, r := range copyingRanks(last(j.Job)) {
				f.Copy(s.copyOf(j.Job, r))
			}
		}
	})
}

func (s *State) askDrop(j *job) { s.askDropRun(ref(j.Job)) }

func (s *State) askDropRun(r *statepb.RunRef) {
	s.ask(func(f Fleet) { f.Drop(r) })
}

func (s *State) askConnect(addr string) {
	s.ask(func(f Fleet) {
		if s.machines[addr] != nil {
			f.Connect(s.poolOf(addr))
		}
	})
}

// Resume asks the fleet for all that the state wants: after a start of the daemon it knows of
// nothing.
func (s *State) Resume(f Fleet) {
	s.resumeAllocations(f)
	runs := map[string]bool{}
	for id := range s.active {
		if a := last(s.live[id].Job); a != nil {
			for _, r := range runsOf(a) {
				runs[r.Machine] = true
			}
		}
	}
	for _, addr := range sorted(s.machines) {
		p := s.poolOf(addr)
		p.Runs = runs[addr]
		f.Connect(p)
	}
	gone := map[string]bool{}
	for _, o := range s.Obligations() {
		if addr := o.Run.Machine; s.machines[addr] == nil && !o.Run.Driver && !gone[addr] {
			gone[addr] = true
			f.Connect(s.poolOf(addr))
		}
		f.Settle(o)
	}
	for _, id := range sortedIDs(s.active) {
		j := s.live[id]
		switch {
		case j.Status == Running && !s.steps[id]:
			a := last(j.Job)
			for _, r := range alive(a) {
				f.Start(s.run(j, r))
				if a.Retimed {
					f.Retime(runRef(j.Job, a, r), time.Duration(a.Timeout))
				}
			}
		case j.Status == Copying:
			for _, r := range copyingRanks(last(j.Job)) {
				f.Copy(s.copyOf(j.Job, r))
			}
			if j.Canceling {
				f.StopCopy(id)
			}
		}
	}
}

// React takes what the fleet reports: it notes what is volatile, and says which changes follow.
// News of runs that are no longer wanted is ignored.
func (s *State) React(o Outcome, now time.Time) []*Change {
	set := s.Look(now)
	return append(set, s.react(o, now)...)
}

func (s *State) react(o Outcome, now time.Time) []*Change {
	one := func(c *Change) []*Change { return []*Change{c} }
	switch o := o.(type) {
	case Connected:
		return s.connected(o, now)
	case Connecting:
		// A machine that is away is dialled again and again: it stays
		// away, for the reason known, until one succeeds.
		if m := s.machines[o.Addr]; m != nil && m.link != LinkAway {
			s.linked(o.Addr, LinkConnecting, "", now)
		}
	case Away:
		s.reach(o.Addr, false, now)
		s.linked(o.Addr, LinkAway, o.Reason, now)
		return s.unprepared(o.Addr, o.Reason)
	case Refused:
		s.reach(o.Addr, false, now)
		m := s.linked(o.Addr, LinkRefused, o.Reason, now)
		if m == nil {
			return nil
		}
		m.hint = o.Hint
		changes := s.unprepared(o.Addr, o.Reason)
		if o.HostKey && m.Class != unknownHostClass {
			changes = append(changes, moved(o.Addr, unknownHostClass, o.Reason))
		}
		return changes
	case Measured:
		if m := s.machines[o.Addr]; m != nil {
			m.vitals = o.Vitals
		}
	case Prepared:
		if j, r := s.liveRank(o.Ref); j != nil && r != last(j.Job) && !r.Prepared {
			return one(&Change{Prepared: &statepb.Prepared{Run: o.Ref}})
		}
	case Started:
		if _, r := s.liveRank(o.Ref); r != nil && !r.StepStarted {
			return one(&Change{Started: &statepb.Started{Run: o.Ref, MachineAt: nanos(o.At)}})
		}
	case Paused:
		if c := s.sawPause(o); c != nil {
			return one(c)
		}
	case Unsteered:
		if c := s.unsteered(o); c != nil {
			return one(c)
		}
	case Ended:
		if s.liveRun(o.Ref) != nil {
			return one(&Change{Ended: &statepb.Ended{Run: o.Ref, Result: o.Result}})
		}
	case NotStarted:
		if s.liveRun(o.Ref) != nil {
			return one(&Change{NotStarted: &statepb.NotStarted{Run: o.Ref, Error: o.Reason,
				JobsFault: o.JobsFault || strings.HasPrefix(o.Reason, LostCode) ||
					strings.HasPrefix(o.Reason, LostStdin), Hold: o.Hold}})
		}
	case InputsRead:
		if j, r := s.liveRank(o.Ref); j != nil && len(o.Inputs) == len(r.Inputs) && !isRead(r) {
			return one(&Change{InputsRead: &statepb.InputsRead{Run: o.Ref, Inputs: o.Inputs}})
		}
	case Allocated:
		return s.allocated(o, now)
	case AllocationGone:
		if s.allocations[o.ID] != nil {
			return one(&Change{AllocationEnded: &statepb.AllocationEnded{Id: o.ID, State: o.State,
				Reason: o.Reason}})
		}
	case AllocationRefused:
		if a := s.allocations[o.ID]; a != nil && a.Job == "" && a.Released == "" {
			return one(&Change{AllocationRefused: &statepb.AllocationRefused{Id: o.ID,
				Words: o.Words}})
		}
	case ProviderSeen:
		s.providerSeen(o)
	case LoginFull:
		s.loginFull(o.Login)
	case RunLost:
		if s.liveRun(o.Ref) != nil && s.waitsForFate(o, now) {
			return nil
		}
		if s.liveRun(o.Ref) != nil {
			return one(&Change{AttemptLost: &statepb.AttemptLost{Run: o.Ref, Reason: o.Reason,
				Died: o.Died}})
		}
	case CopyWaits:
		if r := s.liveCopy(o.Job, o.Rank); r != nil && s.copyWaitsAnew(o.Job, r, o.Reason) {
			return one(&Change{CopyWaits: &statepb.CopyWaits{Job: o.Job, Reason: o.Reason,
				Rank: o.Rank}})
		}
	case CopyEnded:
		if s.liveCopy(o.Job, o.Rank) != nil {
			return one(&Change{CopyEnded: &statepb.CopyEnded{Job: o.Job, Dir: o.Dir, Rank: o.Rank,
				Files: int32(o.Files), Bytes: o.Bytes, Took: int64(o.Took), Error: o.Error}})
		}
	case Settled:
		if s.owed[o.Ref.GetToken()] != nil {
			return one(&Change{Settled: &statepb.Settled{Run: o.Ref}})
		}
	case Stopped:
		if d := s.owed[o.Ref.GetToken()]; d != nil && (!d.Stopped || d.Unremoved != o.Unremoved) {
			return one(&Change{Stopped: &statepb.Stopped{Run: o.Ref, Unremoved: o.Unremoved}})
		}
	}
	return nil
}

// linked notes the state of a machine's link, and since when it has been connected, or has not.
func (s *State) linked(addr string, l Link, reason string, now time.Time) *machine {
	m := s.machines[addr]
	if m == nil {
		return nil
	}
	m.heard = l
	if m.reason != reason {
		s.pulse++
	}
	m.reason, m.hint = reason, ""
	s.relink(m, now)
	return m
}

// linkOf is a machine's link by what was heard of it, and of its allocation if it is one.
func (s *State) linkOf(m *machine) Link {
	if m.heard != LinkRefused && s.stateOfPilot(m) != "" {
		return LinkAway
	}
	return m.heard
}

// relink brings a machine's link up to date.
func (s *State) relink(m *machine, now time.Time) {
	l := s.linkOf(m)
	if m.since.IsZero() || (m.link == LinkConnected) != (l == LinkConnected) {
		m.since = now
	}
	if m.link != l {
		s.pulse++
	}
	m.link = l
	s.file(m)
}

// connected notes what a machine is, and which runs are on it that nothing here knows.
func (s *State) connected(o Connected, now time.Time) []*Change {
	s.reach(o.Addr, true, now)
	m := s.linked(o.Addr, LinkConnected, "", now)
	if m == nil {
		return nil
	}
	s.carriesMore(m)
	m.vitals, m.orphans = o.Vitals, orphans{}
	for _, r := range o.Runs {
		if !s.knows(r) {
			m.orphans.add(r, !o.Over[r.Token])
		}
	}
	s.file(m)
	// Its host key is on record now, whoever put it there.
	changes := s.PlanTrusted(o.Addr).Changes
	f := proto.Clone(o.Facts).(*statepb.Machine)
	f.Addr = o.Addr
	if m.BootId == f.BootId && m.Root == f.Root && m.Os == f.Os && m.Arch == f.Arch &&
		m.Kernel == f.Kernel &&
		m.Cores == f.Cores && m.Memory == f.Memory && m.CpuModel == f.CpuModel &&
		m.LimitsMemory == f.LimitsMemory &&
		slices.EqualFunc(m.Cpus, f.Cpus, func(a, b *statepb.Cpu) bool {
			return proto.Equal(a, b)
		}) &&
		slices.EqualFunc(m.Devices, f.Devices, func(a, b *statepb.Item) bool {
			return proto.Equal(a, b)
		}) {
		return changes
	}
	return append(changes, &Change{MachineSeen: &statepb.MachineSeen{Facts: f}})
}

// knows says that a run directory belongs to something here: a run under way, one that is owed to
// be removed, or results that are kept for a recopy.
func (s *State) knows(r *statepb.RunRef) bool {
	if s.owed[r.Token] != nil {
		return true
	}
	j := s.Job(r.Job)
	if j == nil {
		return false
	}
	a := last(j)
	if a == nil || !slices.ContainsFunc(runsOf(a), func(one *statepb.Attempt) bool {
		return one.Token == r.Token
	}) {
		return false
	}
	return !Final(j.Status) || j.Results == statepb.Results_RESULTS_FAILED
}

// kindOf is the event's kind of a status.
func kindOf(s Status) string { return "job." + strings.ToLower(StatusName(s)) }

// liveCopy is the rank of a job whose results are on their way, by its number; nil: they aren't.
func (s *State) liveCopy(job uint64, rank int32) *statepb.Attempt {
	j := s.live[job]
	if j == nil || j.Status != Copying {
		return nil
	}
	return copyingRank(last(j.Job), rank)
}

// copyWaitsAnew says that it is news that a rank's results wait, and why.
func (s *State) copyWaitsAnew(job uint64, r *statepb.Attempt, why string) bool {
	j := s.live[job]
	if r != last(j.Job) {
		return r.Copy != statepb.Results_RESULTS_WAITING || r.CopyError != why
	}
	return !j.CopyWaiting || j.ResultsError != why
}

// unprepared gives up those gangs of which a machine went away before it was ready: none of them
// has begun, and the others needn't wait for it.
func (s *State) unprepared(addr, reason string) (changes []*Change) {
	m := s.machines[addr]
	if m == nil {
		return nil
	}
	var seen uint64
	for _, id := range m.slots {
		j := s.live[id]
		if j == nil || id == seen || j.Status != Running || len(last(j.Job).Ranks) == 0 {
			continue
		}
		seen = id
		a := last(j.Job)
		if r := rankOn(a, addr); r != nil && !r.Idle && holds(r) && !a.Driver && !prepared(a) {
			changes = append(changes, &Change{NotStarted: &statepb.NotStarted{
				Run: runRef(j.Job, a, r), NobodysFault: true,
				Error: "the machine was lost before it was ready: " + reason,
			}})
		}
	}
	return changes
}
