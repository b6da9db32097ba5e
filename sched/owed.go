package sched

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// What machines owe. A run that has ended leaves its directory, and one that was given up may still
// be running: both are obligations, met whenever the machine is reached. While something of a run
// may live it holds its slot; when nothing does, the slot is free, however long it takes to remove
// the directory.

// owedFor is how long a machine that has left the pool is asked for what it owes. Nobody may ever
// hear of it again.
const owedFor = 30 * 24 * time.Hour

// debts follow from State.owed.
type debts struct {
	// by address: runs that are still to be ended, which hold slots
	ending map[string]int
	slots  map[string]int // by address: how many slots those hold
	// by address and token: of runs that couldn't be removed so far
	unremoved map[string]map[string]*statepb.Obligation
	// By job and token: of runs that may live still. Those of a forgotten job are filed with its
	// root as well.
	living map[uint64]map[string]*statepb.Obligation
	// nothing that is owed is old enough to be dropped before; 0: ever
	due int64
}

func newDebts() debts {
	return debts{
		ending:    map[string]int{},
		slots:     map[string]int{},
		unremoved: map[string]map[string]*statepb.Obligation{},
		living:    map[uint64]map[string]*statepb.Obligation{},
	}
}

// holdsSlot says that something of the run may still live on its machine.
func holdsSlot(o *statepb.Obligation) bool { return o.Cancel && !o.Stopped && !o.Run.Driver }

// heirs are the jobs under which a run that may live is filed.
func heirs(o *statepb.Obligation) []uint64 {
	if o.Root == 0 {
		return []uint64{o.Run.Job}
	}
	return []uint64{o.Run.Job, o.Root}
}

func (d *debts) add(o *statepb.Obligation) {
	addr := o.Run.Machine
	if o.Cancel && !o.Stopped {
		for _, id := range heirs(o) {
			if d.living[id] == nil {
				d.living[id] = map[string]*statepb.Obligation{}
			}
			d.living[id][o.Run.Token] = o
		}
	}
	if holdsSlot(o) {
		d.ending[addr]++
		d.slots[addr] += slotsHeld(o.Given)
	}
	if o.Unremoved != "" {
		if d.unremoved[addr] == nil {
			d.unremoved[addr] = map[string]*statepb.Obligation{}
		}
		d.unremoved[addr][o.Run.Token] = o
	}
}

func (d *debts) take(o *statepb.Obligation) {
	addr := o.Run.Machine
	if o.Cancel && !o.Stopped {
		for _, id := range heirs(o) {
			if delete(d.living[id], o.Run.Token); len(d.living[id]) == 0 {
				delete(d.living, id)
			}
		}
	}
	if holdsSlot(o) {
		d.slots[addr] -= slotsHeld(o.Given)
		if d.ending[addr]--; d.ending[addr] == 0 {
			delete(d.ending, addr)
			delete(d.slots, addr)
		}
	}
	if o.Unremoved != "" {
		delete(d.unremoved[addr], o.Run.Token)
		if len(d.unremoved[addr]) == 0 {
			delete(d.unremoved, addr)
		}
	}
}

// owe makes something a machine's obligation.
func (s *State) owe(o *statepb.Obligation) {
	token := o.Run.Token
	if token == "" {
		return
	}
	if o.Since == 0 {
		o.Since = s.at
	}
	if j := s.live[o.Run.Job]; j != nil {
		o.MaxLog = j.MaxLog
	}
	s.disown(token)
	s.fileOwed(o)
	s.ask(func(f Fleet) {
		if now := s.owed[token]; now != nil {
			f.Settle(now)
		}
	})
}

// fileOwed files one obligation.
func (s *State) fileOwed(o *statepb.Obligation) {
	s.owed[o.Run.Token] = o
	s.addDebt(o)
	if m := s.machines[o.Run.Machine]; m != nil {
		if holdsSlot(o) {
			s.file(m)
		}
	} else {
		s.agesFrom(o)
	}
}

// addDebt and takeDebt keep what follows from an obligation: also what its run holds of resources.
func (s *State) addDebt(o *statepb.Obligation) {
	s.debts.add(o)
	if holdsSlot(o) {
		s.book(o.Run.Machine, o.Given, 1)
	}
}

func (s *State) takeDebt(o *statepb.Obligation) {
	s.debts.take(o)
	if holdsSlot(o) {
		s.book(o.Run.Machine, o.Given, -1)
	}
}

// oweEnd has a machine end the newest run of a job, which may be living still, and remove what is
// left of it.
func (s *State) oweEnd(j *statepb.Job) {
	s.owe(&statepb.Obligation{Run: ref(j), Cancel: true, Given: last(j).Given})
}

// bequeath files what may live of a job that is forgotten with its root too: who runs that again
// would else know nothing of it. The records are replaced: others may be reading the old ones.
func (s *State) bequeath(id, root uint64) {
	if id == root {
		return
	}
	for token, o := range maps.Clone(s.debts.living[id]) {
		next := proto.CloneOf(o)
		next.Root = root
		s.debts.take(o)
		s.owed[token] = next
		s.debts.add(next)
	}
}

// agesFrom has an obligation of a machine that has left the pool dropped in the end. Of one from
// before there was a time in obligations it isn't known how old it is: the user can drop it.
func (s *State) agesFrom(o *statepb.Obligation) {
	if end := o.Since + int64(owedFor); o.Since != 0 && (s.debts.due == 0 || end < s.debts.due) {
		s.debts.due = end
	}
}

// disown takes an obligation away: it is met, or dropped.
func (s *State) disown(token string) {
	o := s.owed[token]
	if o == nil {
		return
	}
	delete(s.owed, token)
	s.takeDebt(o)
	s.passesOn(o)
	if m := s.machines[o.Run.Machine]; m != nil && holdsSlot(o) {
		s.file(m)
	}
	s.release(o.Run.Machine)
}

func (s *State) applySettled(c *statepb.Settled) error {
	o := s.owed[c.Run.Token]
	s.disown(c.Run.Token)
	if c.Dropped != "" && o != nil {
		s.ask(func(f Fleet) { f.Drop(o.Run) })
	}
	// To settle it, the fleet may have fetched its log again.
	if id := c.Run.Job; s.index.status(id) == 0 {
		s.ask(func(f Fleet) { f.ForgetLogs(id) })
	}
	return nil
}

// applyStopped takes it that nothing of a run lives any more. The record is replaced: others may be
// reading the old one.
func (s *State) applyStopped(c *statepb.Stopped) error {
	o := s.owed[c.Run.Token]
	if o == nil {
		return nil
	}
	next := proto.CloneOf(o)
	next.Stopped, next.Unremoved = true, c.Unremoved
	s.takeDebt(o)
	s.owed[c.Run.Token] = next
	s.addDebt(next)
	s.passesOn(o)
	if m := s.machines[next.Run.Machine]; m != nil {
		s.file(m)
	}
	return nil
}

// release lets go of a machine that has left the pool and owes nothing.
func (s *State) release(addr string) {
	s.ask(func(f Fleet) {
		if s.machines[addr] == nil && !s.owes(addr) {
			delete(s.unreached, addr)
			f.Disconnect(addr)
		}
	})
}

func (s *State) owes(addr string) bool {
	for _, o := range s.owed {
		if o.Run.Machine == addr && !o.Run.Driver {
			return true
		}
	}
	return false
}

// left is called when a machine has left the pool: what it owes grows old from now on.
func (s *State) left(addr string) {
	for _, o := range s.owed {
		if o.Run.Machine == addr && !o.Run.Driver {
			s.agesFrom(o)
		}
	}
}

// dropOld gives what is too old to be kept for machines that have left the pool.
func (s *State) dropOld(now time.Time) []*Change {
	if s.debts.due == 0 || now.UnixNano() < s.debts.due {
		return nil
	}
	s.debts.due = 0
	var old []*Change
	why := fmt.Sprintf(
		"its machine left the pool, and wasn't reached for %d days",
		owedFor/(24*time.Hour),
	)
	for _, o := range s.Obligations() {
		switch {
		case s.machines[o.Run.Machine] != nil || o.Run.Driver:
		case o.Since != 0 && o.Since+int64(owedFor) <= now.UnixNano() && len(old) < 1000:
			old = append(old, &Change{Settled: &statepb.Settled{Run: o.Run, Dropped: why}})
		default:
			s.agesFrom(o)
		}
	}
	return old
}

// Obligations lists what is owed, in the order of jobs.
func (s *State) Obligations() []*statepb.Obligation {
	var all []*statepb.Obligation
	for _, token := range sorted(s.owed) {
		all = append(all, s.owed[token])
	}
	slices.SortStableFunc(all, byJob)
	return all
}

func byJob(a, b *statepb.Obligation) int { return cmp.Compare(a.Run.Job, b.Run.Job) }

// Unremoved lists the obligations of a machine, in the pool or not, whose runs have ended and could
// not be removed.
func (s *State) Unremoved(addr string) []*statepb.Obligation {
	owed := s.debts.unremoved[addr]
	var all []*statepb.Obligation
	for _, token := range sorted(owed) {
		all = append(all, owed[token])
	}
	slices.SortStableFunc(all, byJob)
	return all
}

// Owing counts what machines owe that keeps somebody waiting.
type Owing struct {
	Ending    int // runs that are still to be ended
	Unremoved int // directories that could not be removed so far
}

// Owing says what each machine has still to end or to remove, by address. Machines that have left
// the pool are among them.
func (s *State) Owing() map[string]Owing {
	all := map[string]Owing{}
	for addr, n := range s.debts.ending {
		all[addr] = Owing{Ending: n}
	}
	for addr, owed := range s.debts.unremoved {
		one := all[addr]
		one.Unremoved = len(owed)
		all[addr] = one
	}
	return all
}

// PlanDropOwed forgets what machines owe: nothing is ended or removed there any more on behalf of
// it. The addresses need not be in the pool. dropped is what that concerns.
func (s *State) PlanDropOwed(addrs []string) (p Plan, dropped []*statepb.Obligation) {
	for _, o := range s.Obligations() {
		if !slices.Contains(addrs, o.Run.Machine) || o.Run.Driver {
			continue
		}
		// What is only to be removed goes by itself when the machine is reached, unless that was
		// tried in vain or it never will be.
		if s.machines[o.Run.Machine] != nil && !holdsSlot(o) && o.Unremoved == "" {
			continue
		}
		dropped = append(dropped, o)
		p.Changes = append(
			p.Changes,
			&Change{Settled: &statepb.Settled{Run: o.Run, Dropped: "the user said so"}},
		)
	}
	return p, dropped
}

// checkOwed checks that what is derived from the obligations is what they are.
func (s *State) checkOwed() error {
	want := newDebts()
	for token, o := range s.owed {
		if token == "" || o.Run.Token != token {
			return fmt.Errorf("an obligation for run %q is filed under %q", o.Run.Token, token)
		}
		want.add(o)
		gone := s.machines[o.Run.Machine] == nil && !o.Run.Driver && o.Since != 0
		if gone && (s.debts.due == 0 || s.debts.due > o.Since+int64(owedFor)) {
			return fmt.Errorf("an obligation of %s is never dropped", o.Run.Machine)
		}
	}
	if got, scan := fmt.Sprint(
		s.debts.ending,
		s.debts.slots,
	), fmt.Sprint(
		want.ending,
		want.slots,
	); got != scan {
		return fmt.Errorf("machines have to end %s, a scan gives %s", got, scan)
	}
	if got, scan := fmt.Sprint(s.debts.living), fmt.Sprint(want.living); got != scan {
		return fmt.Errorf("of %s something may live, a scan gives %s", got, scan)
	}
	if got, scan := len(s.debts.unremoved), len(want.unremoved); got != scan {
		return fmt.Errorf("%d machines have directories to remove, a scan gives %d", got, scan)
	}
	for addr, owed := range want.unremoved {
		if len(owed) != len(s.debts.unremoved[addr]) {
			return fmt.Errorf("%s has %d directories to remove, a scan gives %d",
				addr, len(s.debts.unremoved[addr]), len(owed))
		}
	}
	return nil
}

// orphans are runs on a machine that nothing here knows.
type orphans struct {
	refs  []*statepb.RunRef // the first of them
	count int               // all of them
	alive int               // those that may still be running
}

// maxOrphans is how many orphans of a machine are known by name: a machine can claim to have any
// number.
const maxOrphans = 1000

func (o *orphans) add(r *statepb.RunRef, alive bool) {
	o.count++
	if alive {
		o.alive++
	}
	if len(o.refs) < maxOrphans {
		o.refs = append(o.refs, r)
	}
}

// plural counts things.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
