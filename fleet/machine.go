package fleet

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"jobserver/agent"
	"jobserver/failpoint"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh"
)

// machine is the actor of one address. What is below loop's line
// belongs to its goroutine: everybody else hands it functions with do.
type machine struct {
	f    *Fleet
	addr string
	id   string // its name in RunIDs
	log  *slog.Logger

	mu    sync.Mutex
	inbox []func()      // guarded by mu: what the actor has been asked to do
	ended bool          // guarded by mu: it does nothing any more
	wake  chan struct{} // has room for one: set when inbox is not empty

	// loop's own:
	ctx  context.Context // Run's
	pool bool            // it is in the pool: to be connected even when there is nothing to do
	root string          // chosen on the machine before; "" if it never was reached

	link    *link
	dialing bool
	// ends the dial that is under way, so that another begins; nil: there is none, or that has been
	// done already
	dialAnew func()
	refused  bool      // the last dial was: see refused.go
	news     string    // what the log says of being away or refused already
	tries    int       // failed dials in a row, of one kind
	asked    ssh.Stamp // loginStamp before the last dial
	timer    *time.Timer
	waiting  bool // for timer

	rootless rootless // its tasks', too

	runs     map[agent.RunID]*run
	toStart  []*run // with the next message
	toForget []*run // likewise

	polls  pace // of those that bring little
	excess pace // of logs

	bulk    bulk
	uploads map[content]*upload
	copies  map[uint64]*copying // by job
	queue   []*copying          // those that wait for their turn, in order
}

func newMachine(f *Fleet, addr string) *machine {
	m := &machine{
		f:       f,
		addr:    addr,
		id:      machineID(addr),
		log:     f.opt.Log.With("machine", addr),
		wake:    make(chan struct{}, 1),
		timer:   time.NewTimer(time.Hour),
		runs:    map[agent.RunID]*run{},
		copies:  map[uint64]*copying{},
		uploads: map[content]*upload{},
		polls:   pace{rate: pollsPerSecond},
		excess:  pace{rate: excessPerSecond},
	}
	m.timer.Stop()
	return m
}

// do has the actor call fn, after all that was asked for before. It never waits. An actor that has
// ended has nothing that fn could be about: then it is not called, and the result is false.
func (m *machine) do(fn func()) bool {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return false
	}
	m.inbox = append(m.inbox, fn)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return true
}

// useless says that the actor has nothing to do, and nothing is known here of its machine.
func (m *machine) useless() bool {
	return !m.pool && !m.dialing && m.link == nil && m.bulk.link == nil && !m.bulk.opening &&
		m.bulk.users == 0 &&
		len(m.runs)+len(m.copies)+len(m.uploads)+len(m.toStart)+len(m.toForget) == 0 &&
		m.addr != driversHere
}

// ends takes an actor that has nothing to do out of the fleet, unless it was just asked for
// something.
func (m *machine) ends() bool {
	if !m.useless() {
		return false
	}
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.inbox) > 0 {
		return false
	}
	m.ended = true
	m.timer.Stop()
	if m.bulk.timer != nil {
		m.bulk.timer.Stop()
	}
	m.f.refusals.forget(m)
	if m.f.machines[m.addr] == m {
		delete(m.f.machines, m.addr)
	}
	return true
}

// loop is the actor. It takes everything that waits before it acts,
// so that runs which are started at the same time share a message.
func (m *machine) loop(ctx context.Context) {
	m.ctx = ctx
	for {
		m.mu.Lock()
		inbox := m.inbox
		m.inbox = nil
		m.mu.Unlock()
		for _, fn := range inbox {
			fn()
		}
		m.act()
		if m.ends() {
			return
		}
		select {
		case <-m.wake:
		case <-m.timer.C:
			m.waiting = false
		case <-ctx.Done():
			m.hangUp()
			return
		}
	}
}

// act does what can be done now.
func (m *machine) act() {
	switch {
	case m.link == nil && m.needed() && !m.dialing && !m.waiting:
		m.dial()
	case m.link != nil && !m.needed() && m.addr != driversHere:
		m.hangUp()
	case m.link != nil:
		m.startRuns()
		m.forgetRuns()
		m.startUploads()
		m.startCopies()
	}
}

// needed tells whether there is a reason for a connection. A machine that has left the pool is
// connected to while there is something to do there, and not while what can't be done rests.
func (m *machine) needed() bool {
	if m.pool || len(m.copies) > 0 {
		return true
	}
	for _, r := range m.runs {
		if !r.rest.on {
			return true
		}
	}
	return false
}

// connect is sched's Connect. What a machine still owed when it left the pool may have kept its
// link: when it comes back, sched knows nothing of that.
func (m *machine) connect(p sched.Pool) {
	m.pool = true
	if m.root == "" {
		m.root = p.Root
	}
	m.rootless.promise(p.Runs)
	m.retry()
	if p.Step != nil && m.dialAnew != nil { // what it waits for may be over: see package slurm
		m.dialAnew()
		m.dialAnew = nil
	}
	if l := m.link; l != nil {
		l.spawn(func() { m.lookAgain(l) })
	}
}

// retry makes the next dial due at once.
func (m *machine) retry() {
	m.refused, m.waiting, m.tries = false, false, 0
	m.f.refusals.forget(m)
	m.timer.Stop()
}

// disconnect is sched's Disconnect: nothing is owed to the machine, so nothing is kept of it.
func (m *machine) disconnect() {
	m.pool, m.root = false, ""
	m.letGo()
	for _, r := range m.runs {
		m.remove(r)
	}
	m.toStart, m.toForget = nil, nil
	clear(m.uploads)
	for _, c := range m.copies {
		m.stopCopy(c.job())
	}
	m.retry()
}

// leaveTime is how long a machine may take to hear that nothing of it is wanted any more.
const leaveTime = 5 * time.Second

// letGo closes the link after the machine has heard that nothing of it is wanted any more.
func (m *machine) letGo() {
	m.closeBulk()
	l := m.link
	if m.link = nil; l == nil {
		return
	}
	m.f.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, leaveTime)
		defer cancel()
		if err := l.client.Leave(ctx, m.f.opt.ServerID, m.id); err != nil {
			m.log.Debug("a small file stays on a machine that is let go", "err", err)
		}
		l.close()
	})
}

// hangUp closes the link and waits for what depends on it.
func (m *machine) hangUp() {
	m.closeBulk()
	if m.link != nil {
		m.link.close()
		m.link = nil
	}
}

// dial makes a link, off the actor's goroutine.
func (m *machine) dial() {
	m.dialing = true
	if !m.refused { // it stays refused until a dial succeeds
		m.report(sched.Connecting{Addr: m.addr})
	}
	root := m.root
	m.expect()
	ctx, cancel := context.WithCancel(m.ctx)
	m.dialAnew = cancel
	m.f.tasks.Go(func() {
		stamp := m.f.loginStamp()
		l, err := m.f.open(ctx, m.ctx, m.addr, root)
		cancel()
		var found *findings
		if err == nil {
			if found, err = m.survey(l); err != nil {
				l.close()
			}
		}
		if m.ctx.Err() != nil {
			if err == nil {
				l.close()
			}
			return
		}
		m.do(func() {
			m.asked = stamp
			m.dialed(l, found, err)
		})
	})
}

// vitals judges facts that arrived at the time given.
func vitals(f agent.Facts, at time.Time, latency time.Duration) sched.Vitals {
	return sched.Vitals{
		FreeBytes:   f.FreeBytes,
		Load1:       f.Load1,
		ClockOffset: f.Now.Sub(at.Add(-latency / 2)),
		Latency:     latency,
	}
}

// dialed takes the outcome of a dial.
func (m *machine) dialed(l *link, found *findings, err error) {
	anew := m.dialAnew == nil
	m.dialing, m.dialAnew = false, nil
	if found != nil {
		defer m.f.surveys.end()
	}
	switch {
	case err != nil && anew: // at once
		return
	case err != nil:
		m.unreached(err)
		return
	case !m.needed() && m.addr != driversHere:
		l.close()
		return
	}
	m.link, m.tries, m.refused = l, 0, false
	m.f.refusals.forget(m)
	m.root = rootToKeep(found.facts.Root)
	m.f.tasks.Go(func() {
		<-l.client.Done()
		m.do(func() { m.broken(l) })
	})
	m.reportConnected(found)
	l.spawn(func() { m.measure(l) })
	if found.vitals.Latency >= farAway {
		l.spawn(func() { l.source.roundTrip(l.ctx) })
	}
	for _, warning := range warnings(found.facts) {
		m.log.Warn(warning)
	}
	for _, r := range m.runs {
		m.rouse(r)
		m.advance(r)
	}
}

func (m *machine) reportConnected(found *findings) {
	m.report(sched.Connected{
		Addr:   m.addr,
		Facts:  machineFacts(m.addr, found.facts),
		Vitals: found.vitals,
		Runs:   found.runs,
		Over:   found.over,
	})
	m.watchStrangers(found)
}

// watchStrangers looks again after a while when there are runs that live and aren't ours to follow:
// each holds a slot until it ends, and nothing tells of that.
func (m *machine) watchStrangers(found *findings) {
	strangers := slices.ContainsFunc(found.runs, func(r *statepb.RunRef) bool {
		return !found.over[r.Token] && m.runs[m.f.runID(r)] == nil
	})
	l := m.link
	if !strangers || l == nil {
		return
	}
	l.spawn(func() {
		timer := time.NewTimer(m.f.opt.StrangersEvery)
		defer timer.Stop()
		select {
		case <-timer.C:
			m.lookAgain(l)
		case <-l.ctx.Done():
		}
	})
}

// doubled is a pause that has doubled so many times, up to the longest.
func doubled(first time.Duration, times int, most time.Duration) time.Duration {
	if times >= 20 {
		return most
	}
	return min(most, first<<times)
}

// later plans the next dial: the delay doubles from RetryMin to RetryMax, and a random half of it
// keeps machines that were lost together from coming back together.
func (m *machine) later() {
	most := m.f.opt.RetryMax
	if !m.pool { // it may be gone for good
		most = max(most, m.f.opt.RemoveMax)
	}
	delay := doubled(m.f.opt.RetryMin, m.tries, most)
	m.tries++
	m.timer.Reset(delay/2 + rand.N(delay/2+1))
	m.waiting = true
}

// broken takes the end of a link. What was under way on it has failed by itself and waits for the
// next.
func (m *machine) broken(l *link) {
	if m.link != l {
		return
	}
	reason := l.why()
	m.hangUp()
	if failpoint.Breaks("lost-is-known") {
		for _, r := range m.runs {
			m.f.report(sched.RunLost{Ref: r.ref, Reason: reason})
		}
	}
	m.report(sched.Away{Addr: m.addr, Reason: reason})
	if step := m.f.stepOf(m.addr); step != nil {
		m.f.lookAtLogin(step.Login) // it may be gone
	}
	for _, c := range m.queue {
		m.copyWaits(c, "the machine is away")
	}
	m.later()
}

// note writes to the log what becomes of the link: being away is news once, not at every dial.
func (m *machine) note(o sched.Outcome) {
	switch o := o.(type) {
	case sched.Connected:
		m.news = ""
		m.log.Info("connected", "latency", o.Vitals.Latency, "os", o.Facts.Os, "arch", o.Facts.Arch,
			"runs", len(o.Runs))
	case sched.Away:
		m.log.Log(m.ctx, m.newsLevel("away"), "away; it is dialed again by itself", "err", o.Reason)
	case sched.Refused:
		m.log.Log(m.ctx, m.newsLevel(o.Reason), "refused", "err", o.Reason, "hint", o.Hint)
	}
}

// newsLevel gives the level of what becomes of a link: a warning when it is new.
func (m *machine) newsLevel(told string) slog.Level {
	if m.news == told {
		return slog.LevelDebug
	}
	m.news = told
	return slog.LevelWarn
}

// report hands an outcome to sched. The actor for drivers is no
// machine of the pool: what becomes of its link only goes to the log.
func (m *machine) report(o sched.Outcome) {
	if m.addr == driversHere {
		switch o := o.(type) {
		case sched.Connecting, sched.Connected, sched.Measured:
			return
		case sched.Away:
			m.log.Warn("the agent of this host doesn't run", "err", o.Reason)
			return
		case sched.Refused:
			m.log.Error("the agent of this host can't run", "err", o.Reason, "hint", o.Hint)
			return
		}
	}
	m.note(o)
	m.f.report(o)
}
