package fleet

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"jobserver/sched"
	"jobserver/slurm"
	"jobserver/ssh"
)

// login is the actor of one place where Slurm's commands are run. It runs one of them at a time,
// and asks the controller no more than it has to: an administrator who looks should see a user who
// is patient. What is below loop's line belongs to its goroutine.
type login struct {
	f    *Fleet
	addr string // "" : this host
	log  *slog.Logger
	pace time.Duration // see slurmPace; Options.SlurmPace

	mu    sync.Mutex
	inbox []func()      // guarded by mu: what the actor has been asked to do
	wake  chan struct{} // has room for one: set when inbox is not empty

	// loop's own:
	ctx       context.Context
	conn      ssh.Conn // nil: none
	providers map[string]sched.Provider
	problem   map[string]string // by provider: what was said of it last
	all       map[uint64]*allocation
	strays    []slurm.Job // to be canceled by number: a second job of a name of ours

	next   time.Time     // when the queue is to be looked at
	last   time.Time     // when that was begun last
	listed time.Time     // when all of it was
	wait   time.Duration // between two looks, when nothing happens
	idle   bool          // nothing is to be looked at
	fails  int           // looks in a row that gave no answer
}

// allocation says what is wanted of Slurm under one name.
type allocation struct {
	sched.Allocation
	name string
	seen bool // Job was seen in the queue: it exists, or has existed
	// Of one that was seen: the last list had it not, the controller didn't know its number.
	missed, denied bool

	due      time.Time // when it is to be submitted; zero: not to be
	doubtful time.Time // since when it isn't known whether it was submitted; zero: it is known
	words    string    // what sbatch said instead of a number
	refused  bool      // the controller said that, which leaves no doubt
	reported sched.Allocated

	releasing bool
	abandoned time.Time // when it is to be forgotten; zero: when it is gone
	canceled  time.Time // when it was last; zero: not yet
	cancelAt  time.Time // when it is to be
}

// slurmPace is the least time between two looks at the queue while something happens there. The
// others are multiples of it: nothing is looked at less often than every twelve of them, and for
// as long a job is looked for of which it isn't known whether it was submitted. Two looks for
// which there is a reason are closer together.
const slurmPace = 5 * time.Second

func (l *login) longest() time.Duration { return 12 * l.pace }
func (l *login) soon() time.Duration    { return l.pace * 2 / 5 }

// maxByNumber is how many allocations are looked at one by one. Each costs the controller a small
// answer; beyond that, one with everybody's jobs is the smaller burden.
const maxByNumber = 20

// loginAt is the actor for an address; it is made when there is none.
func (f *Fleet) loginAt(addr string) *login {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.logins[addr]
	if l == nil {
		l = &login{
			f: f, addr: addr, wake: make(chan struct{}, 1),
			log:       f.opt.Log.With("login", addr),
			pace:      f.opt.SlurmPace,
			providers: map[string]sched.Provider{}, problem: map[string]string{},
			all: map[uint64]*allocation{}, idle: true,
		}
		f.logins[addr] = l
		f.startLogin(l)
	}
	return l
}

// startLogin sets an actor going. f.mu is held.
func (f *Fleet) startLogin(l *login) {
	if f.ctx == nil || f.ended {
		return
	}
	f.tasks.Go(func() { l.loop(f.ctx) })
}

// do has the actor call fn. It never waits.
func (l *login) do(fn func()) {
	l.mu.Lock()
	l.inbox = append(l.inbox, fn)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// everyLogin has all actors call fn.
func (f *Fleet) everyLogin(fn func(l *login)) {
	f.mu.Lock()
	logins := slices.Collect(maps.Values(f.logins))
	f.mu.Unlock()
	for _, l := range logins {
		l.do(func() { fn(l) })
	}
}

// Provide implements sched.Allocator.
func (f *Fleet) Provide(p sched.Provider) {
	l := f.loginAt(p.Login)
	l.do(func() {
		l.providers[p.Addr] = p
		delete(l.problem, p.Addr)
		l.listed = time.Time{}
		l.look(0)
	})
}

// Withdraw implements sched.Allocator.
func (f *Fleet) Withdraw(addr string) {
	f.everyLogin(func(l *login) {
		delete(l.providers, addr)
		delete(l.problem, addr)
	})
}

// Allocate implements sched.Allocator.
func (f *Fleet) Allocate(a sched.Allocation) {
	f.mu.Lock()
	f.asked[a.ID] = true
	f.mu.Unlock()
	l := f.loginAt(a.Login)
	l.do(func() { l.allocate(a) })
}

// Release implements sched.Allocator.
func (f *Fleet) Release(id uint64) {
	f.everyLogin(func(l *login) { l.release(id, time.Time{}) })
}

// Abandon implements sched.Allocator.
func (f *Fleet) Abandon(id uint64) {
	f.everyLogin(func(l *login) { l.release(id, f.opt.Now().Add(l.longest())) })
}

// lookAtLogin has a login's queue looked at soon: something has happened there.
func (f *Fleet) lookAtLogin(addr string) {
	f.mu.Lock()
	l := f.logins[addr]
	f.mu.Unlock()
	if l != nil {
		l.do(func() { l.look(0) })
	}
}

func (l *login) allocate(a sched.Allocation) {
	if known := l.all[a.ID]; known != nil {
		l.look(0)
		return
	}
	own := &allocation{Allocation: a, name: slurm.Name(l.f.opt.ServerID, a.ID), seen: a.Job != ""}
	l.all[a.ID] = own
	switch {
	case own.seen:
		l.look(0)
	case !a.Asked.IsZero():
		own.doubtful = l.f.opt.Now()
		l.look(0)
	default:
		own.due = l.f.opt.Now()
	}
}

func (l *login) release(id uint64, until time.Time) {
	a := l.all[id]
	if a == nil {
		return
	}
	a.releasing, a.abandoned, a.due = true, until, time.Time{}
	if a.canceled.IsZero() {
		a.cancelAt = l.f.opt.Now()
	}
}

// look makes the next look at the queue due after a while, but not too soon after the last one.
func (l *login) look(after time.Duration) {
	now := l.f.opt.Now()
	at := now.Add(after)
	if earliest := l.last.Add(l.soon()); at.Before(earliest) {
		at = earliest
	}
	l.wait = l.pace
	if l.idle || at.Before(l.next) {
		l.next, l.idle = at, false
	}
}

// loop is the actor.
func (l *login) loop(ctx context.Context) {
	l.ctx = ctx
	defer func() { l.hangUp() }()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.mu.Lock()
		inbox := l.inbox
		l.inbox = nil
		l.mu.Unlock()
		for _, fn := range inbox {
			fn()
		}
		wait, busy := l.act()
		if ctx.Err() != nil {
			return
		}
		if busy {
			continue
		}
		timer.Reset(wait)
		select {
		case <-l.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// act carries out one command that is due; busy tells that it has. Otherwise wait is the time until
// the next is.
func (l *login) act() (wait time.Duration, busy bool) {
	now := l.f.opt.Now()
	l.forgetAbandoned(now)
	due := now.Add(time.Hour)
	sooner := func(at time.Time) bool {
		if at.IsZero() {
			return false
		}
		if at.Before(due) {
			due = at
		}
		return !at.After(now)
	}
	if len(l.strays) > 0 {
		l.cancelStrays()
		return 0, true
	}
	for _, id := range slices.Sorted(maps.Keys(l.all)) {
		a := l.all[id]
		if a.releasing && sooner(a.cancelAt) {
			l.cancel(now)
			return 0, true
		}
		if !a.releasing && sooner(a.due) {
			l.submit(a)
			return 0, true
		}
	}
	if l.idle = len(l.all)+len(l.providers) == 0; l.idle {
		l.hangUp()
		return time.Hour, false
	}
	if sooner(l.next) {
		l.watch()
		return 0, true
	}
	return max(0, due.Sub(now)), false
}

func (l *login) hangUp() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// forgetAbandoned gives up those that could not be ended in time.
func (l *login) forgetAbandoned(now time.Time) {
	for _, a := range l.all {
		if !a.abandoned.IsZero() && now.After(a.abandoned) {
			l.log.Warn("an allocation is left to itself: it could not be canceled in time",
				"name", a.name)
			l.forget(a)
		}
	}
}

// forget drops what is known of an allocation: should its name show up, it is a stray.
func (l *login) forget(a *allocation) {
	delete(l.all, a.ID)
	l.f.mu.Lock()
	delete(l.f.asked, a.ID)
	l.f.mu.Unlock()
}
