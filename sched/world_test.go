package sched

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// world is a state with a clock, a journal in memory and a fleet that remembers what was asked of
// it: the loop without its goroutine. Every step checks all invariants.
type world struct {
	s       *State
	now     time.Time
	journal [][]byte // every change
	fleet   *memory
	tokens  int
	final   map[uint64]Status // jobs that have ended, as what
	events  []Event
	turns   int
	every   int                        // how many turns there are to a check; 0 is 1
	lives   map[string]*statepb.RunRef // by token: dispatched, and not known to be dead
	boots   map[string]string          // by machine
	lines   map[uint64][]uint64        // those that a job runs again, newest first
	needs   *statepb.Needs             // of the machine that a dispatch is checked against
}

func newWorld() *world {
	return &world{s: NewState(), now: time.Unix(1_700_000_000, 0), fleet: newMemory(),
		final: map[uint64]Status{}, lives: map[string]*statepb.RunRef{},
		boots: map[string]string{}, lines: map[uint64][]uint64{}}
}

// memory is a fleet that only notes what it is asked for.
type memory struct {
	pool    map[string]bool
	runs    map[string]Run // by token: asked to start, and no end reported
	copies  map[uint64]Copy
	ranks   map[string]Copy // by token: of gangs, all that are in copies by their jobs
	settles map[string]*statepb.Obligation
	started map[string]bool // tokens that were ever started
	stops   []uint64
	steers  []string // pauses and signals, in words
	errs    []error
	slurm   map[uint64]*askedFor // allocations that it is to look after
	logins  map[string]bool      // providers
	// hears, if it is there, of allocations that are asked for and given back
	hears    func(id uint64, released bool)
	canceled func(r *statepb.RunRef) // likewise, of runs that are canceled
}

// askedFor is an allocation as the fleet was asked for it.
type askedFor struct {
	Allocation
	released bool
}

func newMemory() *memory {
	return &memory{pool: map[string]bool{}, runs: map[string]Run{}, copies: map[uint64]Copy{},
		ranks:   map[string]Copy{},
		settles: map[string]*statepb.Obligation{}, started: map[string]bool{},
		slurm: map[uint64]*askedFor{}, logins: map[string]bool{}}
}

func (m *memory) Provide(p Provider)   { m.logins[p.Addr] = true }
func (m *memory) Withdraw(addr string) { delete(m.logins, addr) }
func (m *memory) Abandon(id uint64)    { delete(m.slurm, id) }
func (m *memory) Allocate(a Allocation) {
	before := m.slurm[a.ID]
	if before != nil && a.Job == "" {
		m.errs = append(m.errs, fmt.Errorf("allocation %d is submitted twice", a.ID))
	}
	m.slurm[a.ID] = &askedFor{a, before != nil && before.released}
	if m.hears != nil && before == nil {
		m.hears(a.ID, false)
	}
}
func (m *memory) Release(id uint64) {
	if a := m.slurm[id]; a == nil {
		m.errs = append(m.errs, fmt.Errorf("allocation %d is released, and isn't there", id))
	} else if !a.released {
		a.released = true
		if m.hears != nil {
			m.hears(id, true)
		}
	}
}

func (m *memory) Connect(p Pool)         { m.pool[p.Addr] = true }
func (m *memory) Disconnect(addr string) { delete(m.pool, addr) }
func (m *memory) Start(r Run) {
	if !m.pool[r.Ref.Machine] && !r.Ref.Driver {
		m.errs = append(m.errs,
			fmt.Errorf("job %d is started on %s, which is not connected to", r.Ref.Job,
				r.Ref.Machine))
	}
	for token, o := range m.runs {
		if o.Ref.Job == r.Ref.Job && token != r.Ref.Token && o.Ref.Attempt != r.Ref.Attempt {
			m.errs = append(m.errs,
				fmt.Errorf("job %d is started as %s while %s runs", r.Ref.Job, r.Ref.Token, token))
		}
	}
	m.runs[r.Ref.Token] = r
	m.started[r.Ref.Token] = true
}
func (m *memory) Cancel(r *statepb.RunRef) {
	if run, ok := m.runs[r.Token]; ok {
		run.Cancel = true
		m.runs[r.Token] = run
		if m.canceled != nil {
			m.canceled(r)
		}
	}
}
func (m *memory) Retime(*statepb.RunRef, time.Duration) {}
func (m *memory) Pause(r *statepb.RunRef, stop bool) {
	word := "go on "
	if stop {
		word = "pause "
	}
	m.steers = append(m.steers, word+r.Token)
}
func (m *memory) Signal(r *statepb.RunRef, signal int) {
	m.steers = append(m.steers, fmt.Sprintf("signal %d %s", signal, r.Token))
}
func (m *memory) Copy(c Copy) {
	m.copies[c.Job.Id] = c
	m.ranks[c.Attempt.Token] = c
}
func (m *memory) StopCopy(job uint64)          { m.stops = append(m.stops, job) }
func (m *memory) Settle(o *statepb.Obligation) { m.settles[o.Run.Token] = o }
func (m *memory) Drop(
	r *statepb.RunRef,
) {
	delete(m.runs, r.Token)
	delete(m.settles, r.Token)
}
func (m *memory) ForgetLogs(uint64) {}

// apply makes changes part of the state and the journal.
func (w *world) apply(changes ...*Change) error {
	for _, c := range changes {
		c.At = w.now.UnixNano()
		if d := c.Dispatched; d != nil {
			giveTokens(d.Attempt, func() string {
				w.tokens++
				return fmt.Sprintf("t%d", w.tokens)
			})
			if err := errors.Join(w.roomForAll(d), w.aloneIs(d)); err != nil {
				return err
			}
		}
		b, err := encode(c)
		if err != nil {
			return err
		}
		if err := w.s.Apply(c); err != nil {
			return fmt.Errorf("apply %v: %w", c, err)
		}
		w.liveAndDie(c)
		w.journal = append(w.journal, b)
		w.events = append(w.events, w.s.describe(c)...)
	}
	for _, token := range sorted(w.lives) { // what was only made ready never began
		r := w.lives[token]
		for _, a := range w.s.Job(r.Job).GetAttempts() {
			if a.Number == r.Attempt && len(a.Ranks) > 0 && !prepared(a) && rankOn(a, r.Machine).
				GetCause() == statepb.Cause_NOT_STARTED {
				delete(w.lives, token)
			}
		}
	}
	return nil
}

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

// turn does what the loop does after requests and outcomes: decide
// until nothing is to be done, carry out the effects, check.
func (w *world) turn() error {
	for n := 0; ; n++ {
		if err := w.s.checkReady(); err != nil {
			return err
		}
		decided := w.s.Decide(w.now)
		if len(decided) == 0 {
			break
		}
		if n > 100_000 {
			return fmt.Errorf("deciding has no end: %v", decided)
		}
		if err := w.apply(decided...); err != nil {
			return err
		}
	}
	for _, e := range w.s.takeEffects() {
		e(w.fleet)
	}
	if next := w.s.Wake(w.now); !next.IsZero() && !next.After(w.now) {
		return fmt.Errorf("at %v the next look is at %v", w.now, next)
	}
	if w.turns++; w.turns%max(w.every, 1) != 0 {
		return nil
	}
	return errors.Join(w.s.check(), w.finals(), errors.Join(w.fleet.errs...))
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

// do carries out a plan, as a request would, and a turn.
func (w *world) do(p Plan, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(w.apply(p.Changes...), w.turn())
}

// report takes an outcome, and a turn.
func (w *world) report(outcomes ...Outcome) error {
	for _, o := range outcomes {
		w.dies(o)
		switch o := o.(type) {
		case Ended:
			delete(w.fleet.runs, o.Ref.Token)
		case RunLost:
			delete(w.fleet.runs, o.Ref.Token)
		case NotStarted:
			delete(w.fleet.runs, o.Ref.Token)
		case CopyEnded:
			delete(w.fleet.copies, o.Job)
		case Settled:
			delete(w.fleet.settles, o.Ref.Token)
		case AllocationGone:
			delete(w.fleet.slurm, o.ID)
		}
		if err := w.apply(w.s.React(o, w.now)...); err != nil {
			return err
		}
	}
	return w.turn()
}

// pass lets time go by, looking as often as the state wants.
func (w *world) pass(d time.Duration) error {
	end := w.now.Add(d)
	for {
		next := w.s.Wake(w.now)
		if next.IsZero() || next.After(end) {
			break
		}
		w.now = next
		if err := w.turn(); err != nil {
			return err
		}
	}
	w.now = end
	return w.turn()
}

// connect reports the machines as connected, with nothing on them.
func (w *world) connect(addrs ...string) error {
	var all []Outcome
	for _, addr := range addrs {
		all = append(all,
			Connected{Addr: addr,
				Facts: &statepb.Machine{BootId: "boot1", Os: "linux", Arch: "amd64", Cores: 4,
					Cpus: someCPUs(2, 2), LimitsMemory: true}})
	}
	return w.report(all...)
}

// pool adds machines to a class and connects them.
func (w *world) pool(class string, slots int, addrs ...string) error {
	var specs []MachineSpec
	for _, addr := range addrs {
		specs = append(specs, MachineSpec{Addr: addr, Class: class, Slots: slots})
	}
	if err := w.do(w.s.PlanMachines(specs, w.now)); err != nil {
		return err
	}
	return w.connect(addrs...)
}

// submit submits jobs and gives their ids.
func (w *world) submit(specs ...JobSpec) ([]uint64, error) {
	p, err := w.s.PlanJobs(specs, false)
	return p.IDs, w.do(p, err)
}

// settle meets what is owed on machines that can be reached: what was given up has ended, and is
// removed.
func (w *world) settle() error {
	var met []Outcome
	for _, token := range sorted(w.fleet.settles) {
		r := w.fleet.settles[token].Run
		if m := w.s.machines[r.Machine]; m == nil || m.link == LinkConnected {
			met = append(met, Settled{Ref: r})
		}
	}
	if len(met) == 0 {
		return nil
	}
	return w.report(met...)
}

// running lists the runs that were asked for, by token in order.
func (w *world) running() []Run {
	var all []Run
	for _, token := range sorted(w.fleet.runs) {
		all = append(all, w.fleet.runs[token])
	}
	slices.SortFunc(all, func(a, b Run) int { return int(a.Ref.Job) - int(b.Ref.Job) })
	return all
}

// runOf is the run of a job that is under way.
func (w *world) runOf(job uint64) *statepb.RunRef {
	for _, r := range w.fleet.runs {
		if r.Ref.Job == job {
			return r.Ref
		}
	}
	return nil
}

func exit(code int32) *statepb.Attempt {
	return &statepb.Attempt{Cause: statepb.Cause_EXITED, ExitCode: code,
		Duration: int64(time.Second)}
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
