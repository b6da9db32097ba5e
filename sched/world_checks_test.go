package sched

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// liveAndDie notes what a change says of runs that live, and of whose line they are.
func (w *world) liveAndDie(c *Change) {
	switch {
	case c.JobResubmitted != nil:
		of := c.JobResubmitted.RestartOf
		line := slices.DeleteFunc(slices.Clone(w.lines[of]), func(id uint64) bool {
			j := w.s.live[id]
			return j != nil && !j.Canceling // nobody has given it up
		})
		w.lines[c.JobResubmitted.Job] = append([]uint64{of}, line...)
	case c.Dispatched != nil:
		j := w.s.Job(c.Dispatched.Job)
		for _, r := range runsOf(last(j)) {
			w.lives[r.Token] = runRef(j, last(j), r)
		}
	case c.NotStarted != nil: // of a gang, with those ranks that were called off for it
		j := w.s.Job(c.NotStarted.Run.Job)
		if j == nil {
			break // it was to be forgotten
		}
		for _, r := range runsOf(last(j)) {
			if r.Cause == statepb.Cause_NOT_STARTED {
				delete(w.lives, r.Token)
			}
		}
	case c.Settled != nil && c.Settled.Dropped != "": // the user takes the blame
		delete(w.lives, c.Settled.Run.Token)
	case c.AllocationEnded != nil:
		maps.DeleteFunc(w.lives, func(_ string, r *statepb.RunRef) bool {
			return r.Machine == w.s.endedNow.GetProvider()+"/"+fmt.Sprint(c.AllocationEnded.Id)
		})
	case c.ProviderRemoved != nil && c.ProviderRemoved.Force:
		maps.DeleteFunc(w.lives, func(_ string, r *statepb.RunRef) bool {
			return strings.HasPrefix(r.Machine, c.ProviderRemoved.Addr+"/")
		})
	case c.AllocationAsked != nil:
		p := w.s.providers[c.AllocationAsked.Allocation.Provider]
		if exist, waiting := w.s.countAllocations(p.Addr); exist > int(p.Max) ||
			waiting > int(p.Backlog) {
			w.fleet.errs = append(w.fleet.errs,
				fmt.Errorf("%s has %d allocations, %d of which wait", p.Addr, exist, waiting))
		}
	case c.MachineRemoved != nil && c.MachineRemoved.Force:
		maps.DeleteFunc(w.lives, func(_ string, r *statepb.RunRef) bool {
			return r.Machine == c.MachineRemoved.Addr && !r.Driver
		})
	}
}

// dies notes what an outcome says of runs that don't live any more.
func (w *world) dies(o Outcome) {
	switch o := o.(type) {
	case Ended:
		delete(w.lives, o.Ref.Token)
	case NotStarted:
		delete(w.lives, o.Ref.Token)
	case Stopped:
		delete(w.lives, o.Ref.Token)
	case Settled:
		delete(w.lives, o.Ref.Token)
	case Connected:
		if boot := o.Facts.BootId; w.boots[o.Addr] != boot {
			w.boots[o.Addr] = boot
			maps.DeleteFunc(w.lives, func(_ string, r *statepb.RunRef) bool {
				return r.Machine == o.Addr && !r.Driver
			})
		}
	}
}

// aloneIs checks that nothing lives of a job that is sent, or of those that it runs again, unless
// the machine has been out of reach for so long that nobody can know. One that runs and that nobody
// gave up is a job of its own.
func (w *world) aloneIs(d *statepb.Dispatched) error {
	line := append([]uint64{d.Job}, w.lines[d.Job]...)
	for _, token := range sorted(w.lives) {
		r := w.lives[token]
		if !slices.Contains(line, r.Job) || !r.Driver && !w.s.reached(r.Machine) {
			continue
		}
		if j := w.s.live[r.Job]; r.Job != d.Job && j != nil && j.Status == Running &&
			!j.Canceling {
			continue
		}
		return fmt.Errorf("job %d is sent to %s while %s of job %d may live on %s", d.Job,
			d.Attempt.Machine, token, r.Job, r.Machine)
	}
	return nil
}

// roomForAll checks a dispatch against all machines that it takes.
func (w *world) roomForAll(d *statepb.Dispatched) error {
	j := w.s.Job(d.Job)
	w.needs = j.GetNeeds()
	if m := w.s.machines[d.Attempt.Machine]; m != nil && m.Nodes > 0 && j.Setup == nil {
		if n := w.needs; n.GetMachines() != m.Nodes || n.Each || len(n.With) > 0 ||
			len(d.Attempt.Ranks) > 0 || len(d.Attempt.Hosts) == 0 {
			return fmt.Errorf("job %d, which needs %s, is sent to %s, which is %d nodes: %v", d.Job,
				NeedsText(n), m.Addr, m.Nodes, d.Attempt)
		}
		return w.roomFor(d)
	}
	if !isGang(w.needs) || j.Setup != nil {
		return w.roomFor(d)
	}
	i := 0
	for _, l := range lots(j.Class, j.Needs) {
		for range l.count {
			if w.needs = l.needs; i > 0 && l.needs != nil { // what the pool gives, it has once
				w.needs = proto.CloneOf(l.needs)
				w.needs.Amounts = slices.DeleteFunc(w.needs.Amounts,
					func(a *statepb.Amount) bool { return w.s.ofPool(a.Name) })
			}
			one := viewOf(d.Attempt, d.Attempt.Ranks[i])
			if i > 0 {
				one.Given = d.Attempt.Ranks[i].Given
			}
			if m := w.s.machines[one.Machine]; m == nil || m.Class != l.class && !m.aside() {
				return fmt.Errorf("job %d is sent to %s, which isn't of %s", d.Job, one.Machine,
					l.class)
			}
			slices.SortFunc(one.Given.GetGrants(), func(a, b *statepb.Grant) int {
				return strings.Compare(a.Name, b.Name)
			})
			if err := w.roomFor(&statepb.Dispatched{Job: d.Job, Attempt: one}); err != nil {
				return err
			}
			i++
		}
	}
	return nil
}

// roomFor checks a dispatch against what the machine is, and its slots, counted from the jobs'
// records.
func (w *world) roomFor(d *statepb.Dispatched) error {
	busy := 0
	for id, j := range w.s.live {
		a := last(j.Job)
		if id == d.Job || a == nil || j.Status != Running &&
			(j.Status != Copying || j.CopyWaiting) {
			continue
		}
		if r := rankOn(a, d.Attempt.Machine); r != nil && (r == a || holds(r)) {
			busy += len(slotsGiven(r))
		}
	}
	m := w.s.machines[d.Attempt.Machine]
	if err := w.amountsFor(d); err != nil {
		return err
	}
	if j := w.s.Job(d.Job); j.Setup == nil && w.s.whyLimit(j) != "" {
		return fmt.Errorf("job %d is sent to %s, though %s", d.Job, m.Addr, w.s.whyLimit(j))
	} else if j.StartAfter > w.now.UnixNano() {
		return fmt.Errorf("job %d is sent to %s before its time", d.Job, m.Addr)
	}
	if m == nil || busy+len(slotsGiven(d.Attempt)) > int(m.Slots) || w.s.live[d.Job] != nil &&
		w.s.live[d.Job].Setup != nil && busy > 0 {
		return fmt.Errorf("job %d is sent to %s, where %d jobs are", d.Job, d.Attempt.Machine, busy)
	}
	if m.link != LinkConnected || w.s.Job(d.Job).GetSetup() == nil && !m.usable(w.now) {
		return fmt.Errorf("job %d is sent to %s, which should get none", d.Job, m.Addr)
	}
	return nil
}

// amountsFor checks that a dispatch gives what the job needs, and no more than there is.
func (w *world) amountsFor(d *statepb.Dispatched) error {
	needs := w.needs
	m := w.s.machines[d.Attempt.Machine]
	if want := slotsOf(needs, m); len(slotsGiven(d.Attempt)) != want {
		return fmt.Errorf("job %d has slots %v of %s, and needs %d", d.Job, slotsGiven(d.Attempt),
			m.Addr, want)
	}
	amounts := amountsOf(needs, m)
	if len(amounts) != len(d.Attempt.GetGiven().GetGrants()) {
		return fmt.Errorf("job %d needs %v and is given %v", d.Job, needs, d.Attempt.Given)
	}
	for i, g := range d.Attempt.GetGiven().GetGrants() {
		where, r := m.Addr, m.resource(g.Name)
		if g.Pool {
			where, r = poolName, w.s.resources[g.Name]
		}
		held := int64(0)
		var twice error
		count := func(addr string, given *statepb.Given) {
			for _, other := range given.GetGrants() {
				if other.Name == g.Name && other.Pool == g.Pool && (g.Pool || addr == m.Addr) {
					held += other.Amount
					for _, it := range g.Items {
						if slices.ContainsFunc(other.Items, func(o *statepb.Item) bool {
							return o.Index == it.Index
						}) {
							twice = fmt.Errorf("job %d is given item %d of %s, which is another's",
								d.Job, it.Index, g.Name)
						}
					}
				}
			}
		}
		for _, j := range w.s.live {
			if j.Status == Running || j.Status == Copying && !j.CopyWaiting {
				count(last(j.Job).Machine, last(j.Job).Given)
				for _, r := range last(j.Job).Ranks {
					if holds(r) {
						count(r.Machine, r.Given)
					}
				}
			}
		}
		for _, o := range w.s.owed {
			if holdsSlot(o) {
				count(o.Run.Machine, o.Given)
			}
		}
		if held+g.Amount > max(All(r), int64(len(r.GetItems()))) ||
			g.Amount != amounts[i].Amount || len(r.GetItems()) > 0 &&
			len(g.Items) != int(g.Amount) || twice != nil ||
			needs.GetPin() && g.Name == coresName && len(g.Items) != int(g.Amount) {
			return fmt.Errorf("job %d is given %v on %q, of %v, of which %d are held", d.Job, g,
				where, r, held)
		}
	}
	return nil
}

// finals checks that what has ended stays as it ended, but for copying again.
func (w *world) finals() error {
	for id, was := range w.final {
		switch now := w.s.Status(id); {
		case now == was:
		case now == 0: // forgotten
			delete(w.final, id)
		case was == Done && now == Copying:
		default:
			return fmt.Errorf("job %d was %s and is %s", id, StatusName(was), StatusName(now))
		}
	}
	for id := uint64(1); id < w.s.nextID; id++ {
		if st := w.s.Status(id); Final(st) {
			w.final[id] = st
		}
	}
	return nil
}

// frozen gives a snapshot's records.
func frozen(s *State) ([][]byte, error) {
	var records [][]byte
	f := s.Freeze()
	for !f.Step() {
	}
	err := f.Write(func(b []byte) error {
		records = append(records, slices.Clone(b))
		return nil
	})
	return records, err
}

// restored rebuilds a state.
func restored(snapshot, changes [][]byte) (*State, error) {
	r := NewRestorer()
	for _, b := range snapshot {
		if err := r.Record(b); err != nil {
			return nil, err
		}
	}
	for _, b := range changes {
		if err := r.Change(b); err != nil {
			return nil, err
		}
	}
	return r.State()
}

// dump writes down everything durable, and all that is derived from it, in an order of its own: two
// states are the same exactly if their dumps are. Where a job's record lies in history is no part
// of it.
func dump(s *State) []string {
	var out []string
	put := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	text := func(m proto.Message) string {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%q", b)
	}
	put("next %d, changes %d, counts %v", s.nextID, s.changes, s.counts)
	for id := uint64(1); id < s.nextID; id++ {
		if j := s.Job(id); j != nil {
			put("job %d: %x %s %s %s", id, s.index.mark[id], s.index.names[s.index.class[id]],
				s.index.names[s.index.machine[id]], text(j))
		}
	}
	for _, m := range s.order {
		put("matrix %d: %d jobs, %d untouched, %v, again %v, queued %v: %s", m.Id, m.jobs,
			m.untouched, m.counts, m.again, m.item != nil || m.Template.StartAfter != 0,
			text(m.Matrix))
	}
	for _, name := range sorted(s.named) {
		put("name %s: %d", name, s.named[name])
	}
	for _, id := range s.Tags() {
		put("tag: %v %s", s.tags[id].counts, text(s.tags[id].record()))
	}
	for _, addr := range sorted(s.machines) {
		m := s.machines[addr]
		held := map[int]uint64{}
		for i, id := range m.slots {
			if id != 0 && s.live[id].Setup == nil {
				held[i] = id
			} else if id != 0 {
				held[0] = id
			}
		}
		put("machine: %v, setups %v, owes %d, %s", held, m.setups, s.debts.ending[addr],
			text(m.Machine))
	}
	for _, addr := range sorted(s.providers) {
		put("provider %s", text(s.providers[addr].Provider))
	}
	for _, a := range s.allAsked() {
		put("allocation %s", text(a.Allocation))
	}
	for _, v := range s.Vars() {
		put("var %s", text(v))
	}
	put("restarts %s", text(s.restartsRecord()))
	put("last %s", text(s.lastRecord()))
	put("places %q", s.places.paths)
	for _, key := range sorted(s.gates.byKey) {
		g := s.gates.byKey[key]
		put("gate %q: %d, %d jobs, %d matrices", key, g.door, len(g.jobs), len(g.matrices))
	}
	for _, name := range sorted(s.resources) {
		put("resource %s", text(s.resources[name]))
	}
	for _, o := range s.Obligations() {
		put("owed %s", text(o))
	}
	for _, name := range sorted(s.classes) {
		for _, m := range s.classes[name].machines {
			put("class %s: %s", name, m.Addr)
		}
	}
	put("steps %v, copying %v, empty %v, accused %v", sortedIDs(s.steps), len(s.copying),
		sortedIDs(s.empty), sortedIDs(s.accused))
	for _, l := range s.longs {
		put("long %s, at %d and %d of %d", text(l.Operation), l.at, l.in, l.total)
	}
	s.works.each(func(w *statepb.Work) error { put("work %s", text(w)); return nil })
	s.requests.each(func(r *statepb.RequestDone) error { put("request %s", text(r)); return nil })
	return out
}
