package agent

import (
	"context"
	"time"
)

// What the host takes of an agent, which may be anybody's program. Every answer has a limit in
// bytes, which is checked before they are kept, and one in time without progress. Beyond a limit
// the call fails, or where the agent breaks the protocol the connection; nothing else does.
// docs/security.md has the table of all such limits.

// limit bounds the answer of one call.
type limit struct {
	reply int // bytes of the last frame; parts have the window
	// the answer has ended by then, or went forward
	silence time.Duration
	forward int // bytes of parts that count as going forward
}

// limits are those of the methods. An agent says what it has to say at once but for these: starts
// wait for forks, Forget for as many files as a job has left, code and inputs for their unpacking,
// and listings for disks.
var limits = map[byte]limit{
	methodPing:     {4 << 10, time.Minute, 1},
	methodFacts:    {64 << 10, time.Minute, 1},
	methodTakeOver: {4 << 10, time.Minute, 1},
	methodControl:  {4 << 10, time.Minute, 1},
	methodSteer:    {4 << 10, time.Minute, 1},
	methodStart:    {2 << 20, 2 * time.Minute, 1},
	methodPrepare:  {2 << 20, 2 * time.Minute, 1},
	methodKill:     {4 << 10, 2 * time.Minute, 1},
	methodForget:   {4 << 10, 10 * time.Minute, 1},
	methodCode:     {64 << 10, 10 * time.Minute, 1},
	methodInput:    {64 << 10, 30 * time.Minute, 1},
	methodLay:      {64 << 10, 2 * time.Minute, 1},
	methodList:     {4 << 10, 2 * time.Minute, 1},
	methodPoll:     {1 << 20, 2 * time.Minute, 1}, // beyond what it is to wait for
	methodManifest: {4 << 10, DefaultPatience, 1 << 10},
	methodFetch:    {4 << 10, DefaultPatience, 64 << 10},
	methodOutput:   {4 << 10, DefaultPatience, 64 << 10},
}

// DefaultPatience is how long results may take for the next piece of them, before they are said to
// stall.
const DefaultPatience = time.Minute

const (
	// maxText bounds a text that an agent has written for people, in bytes. The rest is cut off.
	maxText = 4 << 10
	// failSize bounds an error that comes instead of an answer, in bytes.
	failSize = 64 << 10
	// strayBytes is how much may come for calls that nobody waits for, beside what was on its way
	// when they were given up.
	strayBytes = 1 << 20
)

// Patient replaces a method's limit on silence: for calls that are tried again with more patience,
// or of which more is expected. A poll has it beyond what it is to wait for.
func Patient(ctx context.Context, d time.Duration) context.Context {
	if d <= 0 {
		return ctx
	}
	return context.WithValue(ctx, patienceKey{}, d)
}

type patienceKey struct{}

// limitOf is the limit of a call.
func limitOf(ctx context.Context, method byte) limit {
	l := limits[method]
	if d, ok := ctx.Value(patienceKey{}).(time.Duration); ok {
		l.silence = d
	}
	return l
}

// maxCalls bounds the calls of one connection that are under way.
const maxCalls = 4096

// A connection carries so many calls at once; an agent refuses more. Polls last, so they leave room
// for the others, which wait for each other.
const (
	pollPlaces  = maxCalls * 15 / 16
	otherPlaces = maxCalls - pollPlaces
	// crowdedWait is how long a poll waits for news when places are scarce: then others have their
	// turn.
	crowdedWait = 5 * time.Second
)

// place takes one of the places for calls; leave gives it back. crowded says that the places for
// polls are running out.
func (c *Client) place(ctx context.Context, method byte) (leave func(), crowded bool, err error) {
	places := c.others
	if method == methodPoll {
		places = c.polls
	}
	select {
	case places <- struct{}{}:
	default:
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-c.ended:
			return nil, false, c.Err()
		}
	}
	return func() { <-places }, len(places) > cap(places)/2, nil
}

// floor takes out what no machine can mean: an agent's numbers are shown, added up and kept.
func (f *Facts) floor() {
	f.Cores = min(max(f.Cores, 0), 1<<20)
	f.MemoryBytes, f.FreeBytes = max(f.MemoryBytes, 0), max(f.FreeBytes, 0)
	f.Load1 = min(max(f.Load1, 0), 1e6)
	f.Now = plausible(f.Now)
	f.GPUs = f.GPUs[:min(len(f.GPUs), maxGPUs)]
	f.CPUs = f.CPUs[:min(len(f.CPUs), maxCPUs)]
	for i := range f.CPUs {
		for _, n := range [...]*int{&f.CPUs[i].ID, &f.CPUs[i].Core, &f.CPUs[i].Package} {
			*n = min(max(*n, 0), maxCPUs)
		}
	}
}

func (e *Exit) floor() {
	for _, d := range []*time.Duration{&e.Duration, &e.UserCPU, &e.SystemCPU, &e.Paused} {
		*d = min(max(*d, 0), maxDuration)
	}
	for _, n := range []*int64{&e.MaxRSS, &e.OutLen, &e.ErrLen, &e.MarksLen, &e.OutDropped,
		&e.ErrDropped, &e.MarksDropped} {
		*n = min(max(*n, 0), 1<<60)
	}
	e.Killed, e.Left = max(e.Killed, 0), max(e.Left, 0)
	e.StartedAt, e.EndedAt = plausible(e.StartedAt), plausible(e.EndedAt)
}

func (p *Pause) floor() {
	p.Total = min(max(p.Total, 0), maxDuration)
	p.At, p.Left = plausible(p.At), max(p.Left, 0)
}

func (r *PollReply) floor() {
	for s := range r.Sizes {
		r.Sizes[s] = min(max(r.Sizes[s], 0), 1<<60)
	}
}

// maxCPUs is how many processors a machine may report, and the highest of their numbers.
const maxCPUs = 8192

// maxGPUs is how many devices a machine may report.
const maxGPUs = 64

// maxDuration is longer than anything lasts that is run: a century.
const maxDuration = 100 * 365 * 24 * time.Hour

// plausible is a time that a clock may show; the zero time for any other.
func plausible(t time.Time) time.Time {
	if y := t.UTC().Year(); y < 1970 || y > 2200 {
		return time.Time{}
	}
	return t
}

// stallWatch tells when an answer doesn't go forward. The time that the host itself takes for what
// came doesn't count.
type stallWatch struct {
	limit  limit
	timer  *time.Timer // nil without a limit
	left   time.Duration
	since  time.Time
	toward int // bytes since it last went forward
}

func newStallWatch(l limit) *stallWatch {
	w := &stallWatch{limit: l, left: l.silence, since: time.Now()}
	if l.silence > 0 {
		w.timer = time.NewTimer(l.silence)
	}
	return w
}

func (w *stallWatch) late() <-chan time.Time {
	if w.timer == nil {
		return nil
	}
	return w.timer.C
}

func (w *stallWatch) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// pause stops the clock while the host is at work.
func (w *stallWatch) pause() {
	w.stop()
	w.left -= time.Since(w.since)
}

// went takes it that so many bytes came, and starts the clock again.
func (w *stallWatch) went(n int) {
	if w.toward += n; w.toward >= w.limit.forward {
		w.toward, w.left = 0, w.limit.silence
	}
	w.since = time.Now()
	if w.timer != nil {
		w.timer.Reset(max(w.left, 0))
	}
}
