package sched

import (
	"fmt"
	"math"
	"slices"
	"time"

	"jobserver/sched/statepb"
)

// How many allocations should there be? As many as the jobs that wait need beside what is there or
// on its way, as far as the provider's limits go; and none that has nothing left to do.

// Why allocations are released, where more than people's reading depends on it.
const whySetupFailed = "the setup of its class failed there"

// tidyTime is how long an allocation that is to be released waits for what is still to be removed
// from its node.
const tidyTime = time.Minute

// fate is a run on a pilot that was lost, while what has become of the allocation isn't known.
type fate struct {
	RunLost
	until int64
}

// waitsForFate holds back that a run on a pilot was lost: what ends an allocation ends its runs a
// moment before that is known of it.
func (s *State) waitsForFate(o RunLost, now time.Time) bool {
	m := s.machines[o.Ref.Machine]
	if m == nil || !m.isPilot() || o.Ref.Driver {
		return false
	}
	token := o.Ref.Token
	if f := s.fates[token]; f != nil {
		return now.UnixNano() < f.until
	}
	s.fates[token] = &fate{o, now.Add(fateWait).UnixNano()}
	if a := s.allocations[m.Allocation]; a != nil {
		s.ask(func(f Fleet) { f.Allocate(a.fleets(time.Time{})) }) // has it looked at
	}
	return true
}

// endFates gives the next run whose allocation goes on without it.
func (s *State) endFates(now time.Time) *Change {
	for _, token := range sorted(s.fates) {
		f := s.fates[token]
		switch {
		case s.liveRun(f.Ref) == nil:
			delete(s.fates, token)
		case f.until <= now.UnixNano():
			delete(s.fates, token)
			return &Change{AttemptLost: &statepb.AttemptLost{Run: f.Ref, Reason: f.Reason,
				Died: f.Died}}
		default:
			s.staffAgain(f.until)
		}
	}
	return nil
}

// staffAgain has staff look again at a time at the latest.
func (s *State) staffAgain(at int64) {
	if s.staffAt == 0 || at < s.staffAt {
		s.staffAt = at
	}
}

// staff says what is to become of allocations, or nil. It looks at all of them, which are few.
func (s *State) staff(now time.Time) *Change {
	s.staffAt = 0
	if len(s.providers) == 0 {
		return nil
	}
	if c := s.endFates(now); c != nil {
		return c
	}
	for _, addr := range sorted(s.providers) {
		if s.providers[addr].Removing && len(s.allocationsOf(addr)) == 0 {
			return &Change{ProviderRemoved: &statepb.ProviderRemoved{Addr: addr}}
		}
	}
	for _, a := range s.allAsked() {
		if a.Released != "" {
			continue
		}
		if c := s.expire(a, now); c != nil {
			return c
		}
		if c := s.dismiss(a, now); c != nil {
			return c
		}
	}
	var classes []string
	for _, p := range s.providers {
		if !slices.Contains(classes, p.Class) {
			classes = append(classes, p.Class)
		}
	}
	slices.Sort(classes)
	for _, class := range classes {
		if c := s.demand(class, now); c != nil {
			return c
		}
	}
	return nil
}

// expire ends what still runs in an allocation that is about to end.
func (s *State) expire(a *allocation, now time.Time) *Change {
	m := s.pilot(a)
	if m == nil || a.EndsAt == 0 || s.stateOfPilot(m) != "" { // the time of what is suspended stops
		return nil
	}
	if at := a.EndsAt - int64(pilotCancel); at > now.UnixNano() {
		s.staffAgain(at)
		return nil
	}
	for _, id := range m.slots {
		j := s.live[id]
		if j == nil || j.Status != Running || j.Canceling || s.steps[id] || last(j.Job).Expired {
			continue
		}
		return &Change{AttemptExpired: &statepb.AttemptExpired{Run: ref(j.Job)}}
	}
	return nil
}

// dismiss releases an allocation that has nothing to do and won't have, or has had nothing to do
// for as long as its provider may idle.
func (s *State) dismiss(a *allocation, now time.Time) *Change {
	m, p := s.pilot(a), s.providers[a.Provider]
	why, exclude := s.whyDismiss(a, m, p)
	if m != nil && s.hasDuties(m) || why == "" && s.hasWork(a, m, now) {
		a.idle = time.Time{}
		return nil
	}
	if a.idle.IsZero() {
		a.idle = now
	}
	if why == "" {
		if end := a.idle.Add(time.Duration(p.Idle)); end.After(now) {
			s.staffAgain(end.UnixNano())
			return nil
		}
		why = "it had nothing to do for " + durationText(time.Duration(p.Idle))
	}
	if m != nil && m.link == LinkConnected && s.tidies(m.Addr) {
		end := a.idle.Add(time.Duration(p.Idle) + tidyTime)
		if end.After(now) {
			s.staffAgain(end.UnixNano())
			return nil
		}
	}
	return &Change{AllocationReleased: &statepb.AllocationReleased{Id: a.Id, Why: why,
		Exclude: exclude}}
}

// hasDuties says that something is under way on a pilot, or is about to be.
func (s *State) hasDuties(m *machine) bool {
	return !s.idle(m) || len(m.setups) > 0 || len(s.copiesFrom(m.Addr)) > 0
}

// whyDismiss says why an allocation that runs nothing is released without waiting, "" if it isn't.
func (s *State) whyDismiss(a *allocation, m *machine, p *provider) (why, exclude string) {
	switch {
	case m == nil && p.Removing:
		return "its provider is being removed", ""
	case m == nil:
		return "", ""
	case m.aside():
		return "it was set aside: " + m.LastError, a.Node
	case m.Class == "":
		return whySetupFailed, ""
	case m.Jobs > 0 && m.Taken >= m.Jobs:
		return "it has had its " + plural(int(m.Jobs), "job", "jobs"), ""
	case p.Removing:
		return "its provider is being removed", ""
	case m.Removing:
		return "its time is over", ""
	case m.Draining:
		return "it was drained", ""
	}
	return "", ""
}

// tidies says that a machine has still to remove something, and may manage to.
func (s *State) tidies(addr string) bool {
	for _, o := range s.owed {
		if o.Run.Machine == addr && !o.Run.Driver && o.Unremoved == "" {
			return true
		}
	}
	return false
}

// hasWork says that jobs wait which an allocation will take when it can. One that is there, and can
// be given work, has been given all that it may have.
func (s *State) hasWork(a *allocation, m *machine, now time.Time) bool {
	c := s.classes[s.providers[a.Provider].Class]
	if c == nil || m != nil && (m.Class != c.name || m.usable(now) || m.Draining || m.Removing) {
		return false
	}
	return slices.ContainsFunc(c.line, func(sh *shape) bool {
		return s.mayStartNow(sh, now) && s.willTake(a, m, sh, now)
	})
}

// mayStartNow says that nothing but a machine is missing for the first job of a shape.
func (s *State) mayStartNow(sh *shape, now time.Time) bool {
	return !s.atLimit(sh) && s.poolNeverHas(sh.needs) == "" && s.poolLacks(sh.needs) == "" &&
		s.poolKept(sh, now) == nil
}

// willTake says that an allocation, when it is there and idle, could take jobs of a shape.
func (s *State) willTake(a *allocation, m *machine, sh *shape, now time.Time) bool {
	if m == nil {
		m = &machine{Machine: &statepb.Machine{Addr: a.addr(), Slots: a.Slots,
			Nodes: a.Machines, Resources: a.Resources}}
	}
	left := time.Duration(a.Time) - pilotMargin
	if a.EndsAt != 0 {
		left = Time(pilotUntil(a)).Sub(now)
	}
	takes := time.Duration(takesTime(sh.first().record()))
	return left > 0 && takes <= left && s.neverHas(sh.needs, m) == "" &&
		(!isGang(sh.needs) || m.Nodes > 0)
}

// berth is room for jobs that is on its way: an allocation, or a machine that isn't connected yet.
type berth struct {
	a     *allocation
	m     *machine
	slots int
	jobs  int // that it takes at most
}

// berths lists the berths of a class.
func (s *State) berths(c *class, now time.Time) []*berth {
	var all []*berth
	soon := func(m *machine) bool {
		if m.link == LinkConnected || m.link == LinkRefused || m.Draining || m.Removing {
			return false
		}
		until := m.since.Add(awayFor)
		if !m.since.IsZero() && !until.After(now) {
			return false
		}
		if !m.since.IsZero() {
			s.staffAgain(until.UnixNano())
		}
		return true
	}
	for _, a := range s.allAsked() {
		m := s.pilot(a)
		switch {
		case a.Released != "" || s.providers[a.Provider].Class != c.name:
		case m == nil:
			all = append(all, &berth{a: a, slots: int(a.Slots), jobs: mostJobs(a.Jobs)})
		case m.Class == "" && (len(m.setups) > 0 || !s.idle(m)): // it is being set up
			all = append(all, &berth{a: a, m: m, slots: int(m.Slots), jobs: mostJobs(m.Jobs)})
		case m.Class == c.name && soon(m):
			all = append(all, &berth{a: a, m: m, slots: m.room, jobs: mostJobs(m.Jobs)})
		}
	}
	for _, m := range c.machines {
		if !m.isPilot() && soon(m) {
			all = append(all, &berth{m: m, slots: m.room, jobs: mostJobs(0)})
		}
	}
	return all
}

// mostJobs is how many jobs a machine takes that has a limit of so many, 0 for none.
func mostJobs(limit int32) int {
	if limit == 0 {
		return math.MaxInt
	}
	return int(limit)
}

// berthTakes is how many of n jobs of a shape a berth takes, and takes their slots.
func (s *State) berthTakes(b *berth, sh *shape, n int, now time.Time) int {
	m := b.m
	if n <= 0 {
		return 0
	}
	if b.a != nil {
		if !s.willTake(b.a, m, sh, now) {
			return 0
		}
	} else if isGang(sh.needs) || s.neverHas(sh.needs, m) != "" ||
		!fits(sh.first().record(), m, now) {
		return 0
	}
	if sh.needs.GetExclusive() {
		if b.slots == 0 || b.jobs == 0 {
			return 0
		}
		b.slots = 0
		b.jobs--
		return 1
	}
	each := int(max(sh.needs.GetSlots(), 1))
	got := min(n, b.slots/each, b.jobs)
	for _, amount := range sh.needs.GetAmounts() {
		if b.a == nil || s.ofPool(amount.Name) || amount.Amount == 0 {
			continue
		}
		for _, r := range b.a.Resources {
			if r.Name == amount.Name {
				got = min(got, int(All(r)/amount.Amount))
			}
		}
	}
	b.slots -= got * each
	b.jobs -= got
	return got
}

// demand asks for another allocation of a class if jobs wait for which no room is on its way.
func (s *State) demand(class string, now time.Time) *Change {
	c := s.classes[class]
	if c == nil || len(c.line) == 0 {
		return nil
	}
	var able []*provider
	for _, p := range s.providersOf(class) {
		if s.mayAsk(p) {
			able = append(able, p)
		}
	}
	if len(able) == 0 {
		return nil
	}
	berths := s.berths(c, now)
	room := 0
	for _, b := range berths {
		room += b.slots
	}
	for _, sh := range c.line {
		if !s.mayStartNow(sh, now) {
			continue
		}
		n := s.waitingIn(sh, room+1)
		for _, b := range berths {
			n -= s.berthTakes(b, sh, n, now)
		}
		if n <= 0 {
			continue
		}
		j := sh.first().record()
		for _, p := range able {
			if s.neverServes(p, j) == "" {
				return s.askFor(p, j)
			}
		}
	}
	return nil
}

// countAllocations counts the allocations of a provider, and those that hold nothing yet.
func (s *State) countAllocations(addr string) (exist, waiting int) {
	for _, a := range s.allocations {
		if a.Provider == addr {
			exist++
			if a.Node == "" {
				waiting++
			}
		}
	}
	return exist, waiting
}

// mayAsk says that a provider may ask for another allocation.
func (s *State) mayAsk(p *provider) bool {
	if p.Draining || p.Removing || p.Resting != "" || p.problem != "" {
		return false
	}
	exist, waiting := s.countAllocations(p.Addr)
	return exist < int(p.Max) && waiting < int(p.Backlog) && !s.gainsNothing(p)
}

// gainsNothing says that as many allocations of a provider run in which no agent has answered as
// may end so before it rests: another one would only be held, too.
func (s *State) gainsNothing(p *provider) bool {
	silent := 0
	for _, a := range s.allocations {
		if a.Provider == p.Addr && a.Node != "" && !a.Answered && a.Released == "" {
			silent++
		}
	}
	return silent >= maxUnanswered
}

// waitingIn counts the jobs of a shape that may start, up to so many.
func (s *State) waitingIn(sh *shape, most int) int {
	if m := s.matrices[sh.key.matrix]; m != nil && m.AtMost > 0 {
		most = min(most, int(m.AtMost)-m.holding)
	}
	if t := s.tags[sh.key.tag]; t != nil && t.AtMost > 0 {
		most = min(most, int(t.AtMost)-t.holding)
	}
	n := 0
	for _, it := range sh.queue {
		if n >= most {
			break
		}
		n += it.waiting(most - n)
	}
	return min(n, most)
}

// waiting counts the jobs of an item that may start, up to so many.
func (it *item) waiting(most int) int {
	m := it.matrix
	if m == nil || m.relation == nil {
		return it.jobs()
	}
	n := 0
	for c := m.next; c < m.Cells && n < most; c++ {
		if !m.isTouched(c) && m.relation.isReady(c) {
			n++
		}
	}
	return n
}

// neverServes says why no allocation of a provider could ever run a job, "" when one could.
func (s *State) neverServes(p *provider, j *statepb.Job) string {
	if takes := time.Duration(takesTime(j)); takes > time.Duration(p.Time)-pilotMargin {
		what := "its timeout is"
		if j.Timeout == 0 {
			what = "it needs more than"
		}
		return fmt.Sprintf("%s %s, and an allocation of %s has %s, less %s in which results are "+
			"copied", what, durationText(takes), p.Addr, durationText(time.Duration(p.Time)),
			durationText(pilotMargin))
	}
	if isGang(j.Needs) && nodesFor(j.Needs) == 0 {
		return fmt.Sprintf("what runs on each of several machines, or on machines of other "+
			"classes, can't run in an allocation of %s", p.Addr)
	}
	if lacks := p.offer.lacks(s, p.Provider, j.Needs); lacks != "" {
		return fmt.Sprintf("an allocation of %s has %s", p.Addr, lacks)
	}
	return ""
}

// askFor asks for an allocation for jobs like one that waits.
func (s *State) askFor(p *provider, j *statepb.Job) *Change {
	args, has := p.offer.request(j.Needs)
	nodes, slots, jobs := int32(p.offer.nodes), p.Slots, p.Jobs
	if n := int32(nodesFor(j.Needs)); n > 0 { // which take one such job at a time
		nodes, slots = n, max(j.Needs.GetSlots(), 1)
	}
	if j.Needs.GetExclusive() { // it is the job's alone
		jobs = 1
	}
	exclude := slices.Clone(p.Exclude)
	if p.offer.exclude != "" {
		exclude = append(exclude, p.offer.exclude)
	}
	return &Change{AllocationAsked: &statepb.AllocationAsked{Allocation: &statepb.Allocation{
		Id: s.nextID, Provider: p.Addr, Login: p.Login, Partition: p.Partition, Time: p.Time,
		Args: args, Exclude: exclude, Nodes: nodes, Slots: slots, Resources: has, Jobs: jobs,
		Machines: int32(nodesFor(j.Needs)),
	}}}
}

// setAllocations sets what is volatile of allocations as the clock was set.
func (s *State) setAllocations(by time.Duration) {
	for _, a := range s.allocations {
		if !a.idle.IsZero() {
			a.idle = a.idle.Add(by)
		}
		if a.EndsAt != 0 {
			a.EndsAt += int64(by)
		}
	}
	for _, f := range s.fates {
		f.until += int64(by)
	}
	if s.staffAt != 0 {
		s.staffAt += int64(by)
	}
}

// durationText writes a duration without what is zero at its end.
func durationText(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d%time.Hour == 0 && d != 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0 && d > time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d%time.Minute == 0 && d != 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
