package sched

import (
	"errors"
	"fmt"
	"slices"
	"time"

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
