package sched

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/failpoint"
	"jobserver/sched/statepb"
)

// Loop owns the state of a daemon. One goroutine, Run, takes what is waiting (requests, outcomes,
// timers), applies what follows, and commits it as one batch; replies, events and effects wait for
// that. So a turn costs one sync of the disk however much it does, and what anybody sees is
// durable. A commit that fails ends the loop: nothing is ever rolled back.
//
// The loop never waits for the fleet and never sends to itself. Report may be called from anywhere,
// also by the fleet in the middle of a call that the loop makes.
type Loop struct {
	state   *State // Run's goroutine alone
	journal Journal
	fleet   Fleet
	opt     LoopOptions
	events  *Events

	// Run's goroutine alone.
	later []*request // taken by a turn that was full, for the next one
	news  []*Change  // of the loop itself, for the next turn
	// who waits for the end of a request that is carried out in pieces, by its id
	asked   map[uint64]*asked
	unsaved int       // snapshots that failed in a row
	retryAt time.Time // no snapshot is tried before

	mu       sync.Mutex // of inbox, and of stopped
	inbox    inbox
	stopped  error
	wake     chan struct{} // room for one: there is something in the inbox
	snapshot chan error    // room for one: how the snapshot that was being written has ended
}

// LoopOptions has what a loop can't know by itself.
type LoopOptions struct {
	Now     func() time.Time
	Token   func() string                // a new random name for a run
	Observe func([]Event)                // sees the events of each turn; must not block
	Problem func(what string, err error) // hears of what went wrong and is not fatal
	// Stretch hears that the loop begins to do one thing, during which nobody else gets in: a turn
	// up to its sync or after it, a read, a step of a snapshot. done is called at its end, on the
	// same goroutine. Neither may block. nil: nobody hears of it.
	Stretch func() (done func())
	MinFree int64 // what Journal.Full goes by, in bytes: for its message
	Check   bool  // verify every invariant after each turn: for tests
}

// inbox collects what waits for the next turn.
type inbox struct {
	requests []*request
	outcomes []Outcome
}

// request is a plan to carry out, or a read.
type request struct {
	id      string
	newWork bool
	plan    func(s *State, now time.Time) (Plan, error)
	read    func(s *State)
	taken   atomic.Bool // by a turn; or by the caller, who has given it up
	reply   chan reply  // room for one
	answer  reply
	waits   bool // for the end of a request that is carried out in pieces
}

type reply struct {
	plan     Plan
	repeated bool
	err      error
}

// sealAfter is how long the journal is quiet before its last batch is sealed.
const sealAfter = time.Second

// snapshotPause is how long no snapshot is tried after one that failed; twice as
// long after the next, up to about an hour, since each try begins a segment.
const snapshotPause = time.Minute

// failuresTold is how many snapshots in a row have to fail before that is announced.
const failuresTold = 2

// What one turn takes at the most. A turn that has made turnBytes of changes makes
// them durable before it goes on, as the journal takes batches of a limited length.
const (
	turnItems   = 4096     // requests, and outcomes
	turnDecided = 1 << 16  // changes that Decide asks for
	turnBytes   = 64 << 20 // beyond which it begins with nothing more
)

// NewLoop makes the loop of a state. Nothing happens before Run.
func NewLoop(s *State, j Journal, f Fleet, opt LoopOptions) *Loop {
	if opt.Problem == nil {
		opt.Problem = func(string, error) {}
	}
	if opt.Stretch == nil {
		none := func() {}
		opt.Stretch = func() func() { return none }
	}
	return &Loop{
		state: s, journal: j, fleet: f, opt: opt, events: newEvents(s.changes),
		asked: map[uint64]*asked{}, wake: make(chan struct{}, 1), snapshot: make(chan error, 1),
	}
}

// Events are the loop's events.
func (l *Loop) Events() *Events { return l.events }

// Report takes an outcome from the fleet. It never blocks.
func (l *Loop) Report(o Outcome) {
	l.mu.Lock()
	if l.stopped == nil { // afterwards nobody would ever take it
		l.inbox.outcomes = append(l.inbox.outcomes, o)
	}
	l.mu.Unlock()
	l.poke()
}

func (l *Loop) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Do carries out a plan: it is made in the loop's turn, and is durable when Do returns. A request
// whose id was done before changes nothing and gives what it gave then. newWork says that the plan
// may be refused when the disk is nearly full. When ctx ends before its turn comes, nothing is
// done; later it is waited for.
func (l *Loop) Do(
	ctx context.Context, id string, newWork bool, plan func(s *State, now time.Time) (Plan, error),
) (Plan, bool, error) {
	r := l.send(ctx, &request{id: id, newWork: newWork, plan: plan})
	return r.plan, r.repeated, r.err
}

// Read lets f look at the state, which is durable then. f must be quick and take at most MaxPage
// records: nothing else happens meanwhile. It keeps nothing of the state's memory.
func (l *Loop) Read(ctx context.Context, f func(s *State)) error {
	return l.send(ctx, &request{read: f}).err
}

func (l *Loop) send(ctx context.Context, r *request) reply {
	r.reply = make(chan reply, 1)
	l.mu.Lock()
	if l.stopped != nil {
		l.mu.Unlock()
		return reply{err: l.stopped}
	}
	l.inbox.requests = append(l.inbox.requests, r)
	l.mu.Unlock()
	l.poke()
	select {
	case got := <-r.reply:
		return got
	case <-ctx.Done():
		if r.taken.Swap(true) {
			return <-r.reply // its turn is under way: that takes as long as a sync of the disk
		}
		return reply{err: errorf(Stopping, "the request was given up before its turn came, and "+
			"nothing was done: %v", context.Cause(ctx))}
	}
}

// Run is the loop. It returns nil when ctx ends, after a last turn, and an error when the journal
// failed.
func (l *Loop) Run(ctx context.Context) (err error) {
	writing := false // a snapshot
	defer func() {
		l.stop(err)
		if writing {
			l.snapshotEnded("write a snapshot", <-l.snapshot)
		}
	}()
	l.state.Resume(l.fleet)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var sealAt time.Time
	for {
		now := l.opt.Now()
		turned, err := l.turn(now)
		if err != nil {
			return err
		}
		if turned {
			sealAt = now.Add(sealAfter)
		}
		next := l.state.Wake(now)
		if !writing && l.journal.NeedsSnapshot() {
			if !now.Before(l.retryAt) {
				writing = l.startSnapshot()
			}
			if !writing && (next.IsZero() || l.retryAt.Before(next)) {
				next = l.retryAt
			}
		}
		if !sealAt.IsZero() && (next.IsZero() || sealAt.Before(next)) {
			next = sealAt
		}
		pause := time.Hour
		if !next.IsZero() {
			pause = max(next.Sub(l.opt.Now()), 0)
		}
		timer.Reset(pause)
		select {
		case <-l.wake:
		case <-timer.C:
			if !sealAt.IsZero() && !l.opt.Now().Before(sealAt) {
				sealAt = time.Time{}
				if err := l.journal.Seal(); err != nil {
					return fmt.Errorf("seal the journal: %w", err)
				}
			}
		case err := <-l.snapshot:
			writing = false
			l.snapshotEnded("write a snapshot", err)
		case <-ctx.Done():
			_, err := l.turn(l.opt.Now())
			if err == nil && !writing && l.journal.SnapshotPays() {
				writing = l.startSnapshot() // who defers to its end is told of it
			}
			return err
		}
	}
}

// startSnapshot begins to write one, and says whether it did: then l.snapshot will say how that
// ended.
func (l *Loop) startSnapshot() bool {
	write, err := l.journal.StartSnapshot()
	if err != nil {
		l.snapshotEnded("begin a snapshot", err)
		return false
	}
	done := l.opt.Stretch()
	frozen := l.state.Freeze()
	done()
	for last := false; !last; {
		done = l.opt.Stretch()
		last = frozen.Step()
		if done(); !last {
			l.reads()
		}
	}
	go func() { l.snapshot <- write(frozen.Write) }()
	return true
}

// reads answers the reads that wait, and nothing else: what they see is durable, and is what is
// being frozen.
func (l *Loop) reads() {
	l.mu.Lock()
	var reads []*request
	l.inbox.requests = slices.DeleteFunc(l.inbox.requests, func(r *request) bool {
		if r.read == nil {
			return false
		}
		if !r.taken.Swap(true) {
			reads = append(reads, r)
		}
		return true
	})
	l.mu.Unlock()
	l.reply(reads)
}

// snapshotEnded notes how the last try of a snapshot went. That it keeps failing is announced
// once, and only then: what fails once may be the matter of a moment.
func (l *Loop) snapshotEnded(what string, err error) {
	if err == nil {
		l.unsaved = 0
		return
	}
	l.opt.Problem(what, err)
	l.retryAt = l.opt.Now().Add(snapshotPause << min(l.unsaved, 6))
	if l.unsaved++; l.unsaved == failuresTold {
		l.news = append(l.news,
			PlanNotice(Notice{Kind: NoticeUnsaved, Warn: true, Cause: err.Error(),
				Text: fmt.Sprintf("no snapshot of the state can be written: %v; its journal "+
					"grows, "+
					"and a start will take longer; nothing is lost", err)}).Changes...)
		l.poke()
	}
}

// stop refuses whatever comes from now on, and answers what was not taken.
func (l *Loop) stop(err error) {
	why := errorf(Stopping, "the daemon is stopping").hint("start it again with `jobserver serve`")
	if err != nil {
		why = errorf(Unknown, "the daemon stops, as its journal failed: %v", err).
			hint("look at the disk, then start `jobserver serve` again: it says what was saved")
	}
	l.mu.Lock()
	l.stopped = why
	waiting := append(l.later, l.inbox.requests...)
	l.later = nil
	l.inbox = inbox{}
	l.mu.Unlock()
	for _, a := range l.asked {
		for _, r := range a.requests {
			r.reply <- reply{err: a.unfinished(err)}
		}
	}
	for _, r := range waiting {
		r.reply <- reply{err: why} // there is room for it, also when the caller has given up
	}
	l.events.close()
}

// turn takes what is waiting and does it. It says whether anything became durable.
func (l *Loop) turn(now time.Time) (changed bool, err error) {
	if len(l.state.longs) > 0 {
		runtime.Gosched() // else who asks meanwhile gets a processor when Go takes ours away: 10 ms
	}
	done := l.opt.Stretch()
	in := l.take()
	t := &turn{l: l, now: now, from: l.state.changes}
	t.apply(l.state.Look(now))
	t.take(&in)
	t.decide()
	done()
	if t.err != nil {
		err := errorf(Internal, "the rules contradict themselves: %v", t.err)
		l.answer(in.requests, err)
		return false, err
	}
	if failpoint.Breaks("reply-before-commit") {
		l.reply(in.requests)
		in.requests = nil
		failpoint.Pause() // until they have left
	}
	done = l.opt.Stretch()
	over := t.goOn()
	done()
	if t.err != nil {
		err := errorf(Internal, "the rules contradict themselves: %v", t.err)
		l.answer(in.requests, err)
		return false, err
	}
	if err := t.commit(); err != nil {
		l.answer(in.requests, err)
		return false, err
	}
	if l.opt.Check {
		if err := l.state.check(); err != nil {
			l.answer(in.requests, err)
			return false, err
		}
	}
	done = l.opt.Stretch()
	for _, e := range l.state.takeEffects() {
		e(l.fleet)
	}
	l.events.publish(t.events, l.state.changes, l.state.pulse)
	if l.opt.Observe != nil && len(t.events) > 0 {
		l.opt.Observe(t.events)
	}
	done()
	l.reply(in.requests)
	l.reply(over)
	if len(t.records) > 0 {
		failpoint.Hit("loop.replied")
	}
	return len(t.records) > 0, nil
}

// reply lets reads look at what is durable now, and answers all.
func (l *Loop) reply(requests []*request) {
	for _, r := range requests {
		if r.read != nil {
			done := l.opt.Stretch()
			r.answer.err = l.guard("read the state", func() error { r.read(l.state); return nil })
			done()
		}
		if !r.waits {
			r.reply <- r.answer
		}
	}
}

// guard runs what a request brings along. Neither plans nor reads change the state, so a panic in
// one is that request's error, and not the daemon's end.
func (l *Loop) guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			l.opt.Problem(what, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			err = errorf(Internal, "%s: %v", what, p)
		}
	}()
	return f()
}

// take hands out what waits, up to a limit; the rest is for the next turn.
func (l *Loop) take() inbox {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.inbox
	l.inbox = inbox{}
	later := l.later
	l.later = nil
	if len(in.requests) > turnItems {
		l.inbox.requests = in.requests[turnItems:]
		in.requests = in.requests[:turnItems:turnItems]
	}
	in.requests = append(later, slices.DeleteFunc(in.requests, func(r *request) bool {
		return r.taken.Swap(true)
	})...)
	if len(in.outcomes) > turnItems {
		l.inbox.outcomes = in.outcomes[turnItems:]
		in.outcomes = in.outcomes[:turnItems:turnItems]
	}
	if len(l.inbox.requests)+len(l.inbox.outcomes) > 0 {
		l.poke()
	}
	return in
}

// answer gives up a turn: nobody knows what is durable of it.
func (l *Loop) answer(requests []*request, cause error) {
	for _, r := range requests {
		if r.waits {
			continue // stop answers it
		}
		r.reply <- reply{err: errorf(Unknown, "it is not known whether this was done: %v", cause).
			hint("the daemon has stopped; look at the disk, then start it again: it says what " +
				"was saved")}
	}
}

// turn collects what becomes durable together.
type turn struct {
	l       *Loop
	now     time.Time
	records [][]byte
	size    int    // bytes of records
	from    uint64 // the newest change before
	events  []Event
	err     error
}

// take applies outcomes and carries out requests, in their order, until the turn is full. The next
// one goes on there.
func (t *turn) take(in *inbox) {
	t.apply(t.l.news)
	t.l.news = nil
	for i, o := range in.outcomes {
		if t.size >= turnBytes {
			t.l.mu.Lock()
			t.l.inbox.outcomes = append(in.outcomes[i:], t.l.inbox.outcomes...)
			t.l.mu.Unlock()
			t.l.poke()
			break
		}
		t.apply(t.l.state.React(o, t.now))
	}
	for i, r := range in.requests {
		if r.plan == nil {
			continue
		}
		if t.size >= turnBytes {
			t.l.later, in.requests = in.requests[i:], in.requests[:i:i]
			t.l.poke()
			break
		}
		t.request(r)
	}
}

// decide applies what follows from the state, until nothing more does or the turn is full.
func (t *turn) decide() {
	for n := 0; t.err == nil; n++ {
		if t.size >= turnBytes || n == turnDecided {
			t.l.poke()
			return
		}
		decided := t.l.state.Decide(t.now)
		if len(decided) == 0 {
			return
		}
		t.apply(decided)
	}
}

// apply makes changes part of the state and of the turn's batch.
func (t *turn) apply(changes []*Change) {
	for _, c := range changes {
		if t.err != nil {
			return
		}
		c.At = t.now.UnixNano()
		if d := c.Dispatched; d != nil {
			giveTokens(d.Attempt, t.l.opt.Token)
		}
		b, err := encode(c)
		if err == nil {
			err = t.l.state.Apply(c)
		}
		if err != nil {
			t.err = err
			return
		}
		t.records = append(t.records, b)
		t.events = append(t.events, t.l.state.describe(c)...)
		t.size += len(b)
	}
}

// request plans and applies one request.
func (t *turn) request(r *request) {
	if done := t.l.state.requests.done[r.id]; r.id != "" && done != nil &&
		!failpoint.Breaks("request-once") {
		r.answer = reply{plan: Plan{IDs: done.Ids}, repeated: true}
		return
	}
	if t.joins(r) {
		return
	}
	if r.newWork && t.l.journal.Full() {
		r.answer.err = errorf(Full, "the disk of the state directory is nearly full: new work is "+
			"refused below %.1f MiB, beside a reserve for the work that runs",
			float64(t.l.opt.MinFree)/(1<<20)).
			hint("make space, or allow less with `jobserver serve --min-free`; running jobs go " +
				"on and are saved")
		return
	}
	var plan Plan
	if err := t.l.guard("plan the request",
		func() (err error) { plan, err = r.plan(t.l.state, t.now); return err }); err != nil {
		r.answer.err = err
		return
	}
	if err := plan.fits(); err != nil {
		r.answer.err = err
		return
	}
	r.answer.plan = plan
	if len(plan.Changes) == 0 {
		return
	}
	if t.begin(r, plan.Changes) {
		return
	}
	t.apply(plan.Changes)
	if r.id != "" {
		t.apply([]*Change{{RequestDone: &statepb.RequestDone{Id: r.id, Ids: plan.IDs}}})
	}
}

// fits refuses what the journal couldn't take: changes are applied together or not at all.
func (p *Plan) fits() error {
	total := 0
	for _, c := range p.Changes {
		size := proto.Size(c)
		if total += size; size > maxRecordBytes {
			return tooMuch(size).
				hint("this can't be split: fewer values or shorter ones are needed")
		}
	}
	if total > maxRequestBytes {
		return tooMuch(total).hint("split it: ask for it in parts, each for some of the jobs, as " +
			"in 1..50000 and then 50001..100000")
	}
	return nil
}

func tooMuch(size int) *Error {
	return errorf(Invalid, "the request would write %d MiB at once, which is more than the "+
		"journal takes", max(size>>20, 1))
}

func (t *turn) commit() error {
	if len(t.records) == 0 {
		return nil
	}
	failpoint.Hit("loop.decided")
	if err := t.l.journal.Commit(t.records); err != nil {
		return fmt.Errorf("commit to the journal: %w", err)
	}
	failpoint.Hit("loop.committed")
	return nil
}
