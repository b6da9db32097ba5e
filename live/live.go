// Package live follows a daemon for those who show it: one follower for all pages and screens of a
// process, so that the daemon has one client however many look.
//
// The follower waits with one call for what has changed. After each change it asks how the daemon
// is, at most four times a second, and tells its viewers, which then ask for what they show. What
// several ask for is asked once (Ask).
package live

import (
	"context"
	"errors"
	"sync"
	"time"

	"jobserver/api"
)

// Daemon has what a follower needs of the connection; api.Client is one.
type Daemon interface {
	Call(ctx context.Context, method string, args, reply any) error
}

// Options of a follower have defaults.
type Options struct {
	Now   func() time.Time // nil: time.Now
	Pause time.Duration    // how long changes are collected; 0 is 250 ms
	Wait  time.Duration    // how long one call waits for them; 0 is 25 s
	Retry time.Duration    // before the next try when the daemon is away; 0 is a second
}

// Follower follows a daemon. It may be used by several goroutines.
type Follower struct {
	daemon Daemon
	opt    Options

	mu    sync.Mutex
	state State
	past  []Digest // of the newest versions, the last one of state.Version
	pace  pace
	more  chan struct{} // closed when there is a newer version
	asked asked
}

// State is the daemon as it was last seen.
type State struct {
	Version uint64 // of this follower's: each one is newer
	Online  bool
	Error   string // why it isn't
	Hint    string // what to do about it
	Status  api.Status
	Rate    Rate
}

// Digest says what has changed from one version to a later one.
type Digest struct {
	api.ChangesReply
	Version uint64 // the later one
}

// keptDigests is how many versions a viewer may be behind without having to look at everything
// again.
const keptDigests = 64

// New makes a follower; Run lets it follow.
func New(d Daemon, o Options) *Follower {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Pause == 0 {
		o.Pause = 250 * time.Millisecond
	}
	if o.Wait == 0 {
		o.Wait = 25 * time.Second
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	return &Follower{daemon: d, opt: o, more: make(chan struct{}), asked: newAsked(d, o.Now)}
}

// Run follows until ctx ends. When the daemon goes away, it says so and tries again.
func (f *Follower) Run(ctx context.Context) {
	f.asked.run(ctx)
	for ctx.Err() == nil {
		if err := f.follow(ctx); ctx.Err() == nil {
			f.offline(err)
		}
		timer := time.NewTimer(f.opt.Retry)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	f.asked.wait()
}

// follow begins with all that there is, and goes on with what changes until a call fails.
func (f *Follower) follow(ctx context.Context) error {
	changed := api.ChangesReply{Gap: true}
	for {
		var status api.Status
		if err := f.daemon.Call(ctx, "Status", &api.Empty{}, &status); err != nil {
			return err
		}
		if changed.Gap {
			// What happens from here on is told, and the pulse is learned: nothing is waited for.
			var first api.ChangesReply
			args := &api.ChangesArgs{Since: status.Cursor}
			if err := f.daemon.Call(ctx, "Changes", args, &first); err != nil {
				return err
			}
			changed.Cursor, changed.Pulse = status.Cursor, first.Pulse
		}
		f.publish(&status, changed)
		args := &api.ChangesArgs{
			Since: changed.Cursor,
			Pulse: changed.Pulse,
			Wait:  f.opt.Wait,
			Pause: f.opt.Pause,
		}
		next := api.ChangesReply{Cursor: changed.Cursor, Pulse: changed.Pulse}
		for next.Cursor == changed.Cursor && next.Pulse == changed.Pulse && !next.Gap {
			if err := f.daemon.Call(ctx, "Changes", args, &next); err != nil {
				return err
			}
		}
		changed = next
	}
}

// publish makes a new version.
func (f *Follower) publish(status *api.Status, changed api.ChangesReply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.opt.Now()
	f.pace.note(now, status.Jobs)
	f.step(Digest{ChangesReply: changed})
	f.state.Online, f.state.Error, f.state.Hint = true, "", ""
	f.state.Status = *status
}

// offline says that the daemon can't be reached. What was last seen of it stays.
func (f *Follower) offline(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	message, hint := err.Error(), ""
	var told *api.Error
	if errors.As(err, &told) {
		hint = told.Hint
	}
	if !f.state.Online && f.state.Error == message {
		return
	}
	f.state.Online, f.state.Error, f.state.Hint = false, message, hint
	f.step(Digest{})
}

// step is called with the lock.
func (f *Follower) step(d Digest) {
	f.state.Version++
	d.Version = f.state.Version
	f.past = append(f.past, d)
	if len(f.past) > keptDigests {
		f.past = f.past[len(f.past)-keptDigests:]
	}
	close(f.more)
	f.more = make(chan struct{})
}

// Now is the state as it is, without waiting. Before the daemon was first reached, Version is 0.
func (f *Follower) Now() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now()
}

func (f *Follower) now() State {
	s := f.state
	s.Rate = f.pace.rate(f.opt.Now())
	return s
}

// Next waits until there is a newer version than that, and gives the state with all that has
// changed since. When ctx ends before, it gives its error.
func (f *Follower) Next(ctx context.Context, version uint64) (State, Digest, error) {
	for {
		f.mu.Lock()
		state, more := f.now(), f.more
		past := f.past
		f.mu.Unlock()
		if state.Version != version && state.Version > 0 {
			return state, since(past, version), nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return State{}, Digest{}, context.Cause(ctx)
		}
	}
}

// since merges the digests after a version. A version that is not known any more, or that is
// another follower's, makes a gap.
func since(past []Digest, version uint64) Digest {
	d := Digest{Version: past[len(past)-1].Version}
	if version == 0 || version+1 < past[0].Version || version > d.Version {
		d.Gap = true
		return d
	}
	for i := range past {
		if past[i].Version > version {
			d.merge(&past[i])
		}
	}
	return d
}

// Do calls the daemon with what changes something; every call is made.
func (f *Follower) Do(ctx context.Context, method string, args, reply any) error {
	return f.daemon.Call(ctx, method, args, reply)
}
