package live

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// asked remembers what the daemon has answered, so that what several viewers ask for is asked once.
type asked struct {
	daemon Daemon
	now    func() time.Time

	mu      sync.Mutex
	ctx     context.Context // nil: nothing runs
	calls   sync.WaitGroup
	answers map[string]*answer
}

type answer struct {
	version uint64    // of the state when it was asked
	at      time.Time // likewise
	done    chan struct{}
	reply   any
	err     error
}

const (
	maxAnswers = 256
	// staleAfter is how long an answer is given again when nothing has changed: loads and free
	// disks are measured without a change.
	staleAfter = 4 * time.Second
	// patience is how long a call may take; viewers may leave before.
	patience = 90 * time.Second
)

func newAsked(d Daemon, now func() time.Time) asked {
	return asked{daemon: d, now: now, answers: map[string]*answer{}}
}

func (a *asked) run(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ctx = ctx
}

// wait waits for the calls that are under way. No further one is made.
func (a *asked) wait() {
	a.mu.Lock()
	a.ctx = nil
	a.mu.Unlock()
	a.calls.Wait()
}

// Ask asks the daemon for something that it only reads. Who asks the same while it is answered, or
// when nothing has changed since, gets the same answer, which nobody may change.
func Ask[Reply any](ctx context.Context, f *Follower, method string, args any) (*Reply, error) {
	return ask(ctx, f, method, args, new(Reply), staleAfter)
}

// Wait asks for something that the daemon waits for, such as the rest of a log: the answer is given
// to those who wait for the same, and not remembered.
func Wait[Reply any](ctx context.Context, f *Follower, method string, args any) (*Reply, error) {
	return ask(ctx, f, method, args, new(Reply), 0)
}

func ask[Reply any](
	ctx context.Context, f *Follower, method string, args any, reply *Reply, stale time.Duration,
) (*Reply, error) {
	key, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", method, err)
	}
	f.mu.Lock()
	version := f.state.Version
	f.mu.Unlock()
	a, err := f.asked.get(method, method+string(key), args, reply, version, stale)
	if err != nil {
		return nil, err
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if a.err != nil {
		return nil, a.err
	}
	return a.reply.(*Reply), nil
}

// get gives the answer that there is, or asks.
func (a *asked) get(
	method, key string,
	args, reply any,
	version uint64,
	stale time.Duration,
) (*answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx == nil {
		return nil, context.Canceled
	}
	now := a.now()
	if old := a.answers[key]; old != nil {
		under := true
		select {
		case <-old.done:
			under = false
		default:
		}
		switch {
		case under && (stale == 0 || old.version == version):
			return old, nil
		case !under && old.err == nil && old.version == version && now.Sub(old.at) < stale:
			return old, nil
		}
	}
	a.forget(now)
	next := &answer{version: version, at: now, done: make(chan struct{}), reply: reply}
	a.answers[key] = next
	ctx, cancel := context.WithTimeout(a.ctx, patience)
	a.calls.Go(func() {
		defer cancel()
		next.err = a.daemon.Call(ctx, method, args, reply)
		close(next.done)
	})
	return next, nil
}

// forget makes room. It is called with the lock.
func (a *asked) forget(now time.Time) {
	for key, old := range a.answers {
		select {
		case <-old.done:
			if now.Sub(old.at) >= staleAfter || len(a.answers) >= maxAnswers {
				delete(a.answers, key)
			}
		default:
		}
	}
}
