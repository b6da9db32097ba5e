package notify

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// receiver is somebody or something that is told. Its goroutine is run's; add may be called from
// any.
type receiver struct {
	n    *Notifier
	name string
	only Kind // told of this kind alone; "": of those whose mode says so
	// target is the address, "" while there is none; nil for a command.
	target func(*Targets) string
	// deliver tells of groups. With an error it gives those that were refused for good, and the
	// others that were not told.
	deliver deliverer

	urgent, summary outbox
	wake            chan struct{} // room for one: urgent isn't empty

	// run's own:
	gap     time.Duration // how long events are gathered at present
	told    time.Time     // when the last message went
	failing bool          // the last try failed, and this has been logged
}

type deliverer func(ctx context.Context, groups []*group) (refused, rest []*group, err error)

func newReceiver(n *Notifier, name string, deliver deliverer) *receiver {
	return &receiver{n: n, name: name, deliver: deliver, wake: make(chan struct{}, 1)}
}

// wants says how an event is told; Off: not at all.
func (r *receiver) wants(e *Event, t *Targets) Mode {
	switch {
	case r.target == nil && r.only == e.Kind:
		return Immediate
	case r.target == nil || r.target(t) == "":
		return Off
	case e.Asked:
		return Immediate
	}
	return r.n.opt.Modes[e.Kind]
}

func (r *receiver) add(e Event, mode Mode) {
	switch mode {
	case Off:
		return
	case Summary:
		r.summary.add(e)
		return
	}
	r.urgent.add(e)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *receiver) run(ctx context.Context) {
	summaries := time.NewTicker(r.n.opt.Interval)
	defer summaries.Stop()
	for {
		select {
		case <-r.wake:
			r.pace()
			if pause(ctx, r.gap) {
				r.tell(ctx, &r.urgent)
			}
		case <-summaries.C:
			r.tell(ctx, &r.summary)
		case <-ctx.Done():
			r.sayGoodbye(ctx)
			return
		}
	}
}

// pace sets how long to gather: a moment, and twice as long each time that events follow a message
// soon.
func (r *receiver) pace() {
	if r.gap == 0 || time.Since(r.told) > 2*r.gap {
		r.gap = r.n.opt.Gather
		return
	}
	r.gap = min(2*r.gap, r.n.opt.MaxGather)
}

// tell sends what is in the box. What can't be sent at present is tried again, together with what
// has come meanwhile.
func (r *receiver) tell(ctx context.Context, box *outbox) {
	delay := r.n.opt.RetryMin
	for {
		groups := box.take()
		if len(groups) == 0 {
			return
		}
		refused, rest, err := r.deliver(ctx, groups)
		if err == nil {
			r.worked()
			return
		}
		box.putBack(rest)
		if len(refused) > 0 {
			r.drop(refused, err)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		wait := delay/2 + rand.N(delay/2+1)
		var p *postError
		if errors.As(err, &p) {
			wait = max(wait, min(p.after, r.n.opt.RetryMax))
		}
		r.failed(err)
		if !pause(ctx, wait) {
			return
		}
		delay = min(2*delay, r.n.opt.RetryMax)
	}
}

func (r *receiver) worked() {
	r.told = time.Now()
	r.n.count(func(s *Stats) { s.Sent++ })
	if r.failing {
		r.failing = false
		r.n.opt.Log.Info("notifications arrive again", "receiver", r.name)
	}
}

// failed logs the first failure of a row: a receiver that is down for a night isn't worth a line a
// minute.
func (r *receiver) failed(err error) {
	r.n.count(func(s *Stats) { s.Failed++ })
	if !r.failing {
		r.failing = true
		r.n.opt.Log.Warn("a notification could not be sent; it is tried again", "receiver", r.name,
			"err", r.clean(err))
	}
}

func (r *receiver) drop(groups []*group, err error) {
	lost := 0
	for _, g := range groups {
		lost += g.count
	}
	r.n.count(func(s *Stats) { s.Failed++; s.Dropped += uint64(lost) })
	r.n.opt.Log.Error("a notification was refused and is given up", "receiver", r.name, "events",
		lost, "err", r.clean(err))
}

func (r *receiver) clean(err error) string {
	t := r.n.current()
	return plain(t.hidden.Redact(err.Error()))
}

// sayGoodbye tries once what waits.
func (r *receiver) sayGoodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	for _, box := range []*outbox{&r.urgent, &r.summary} {
		for groups := box.take(); len(groups) > 0; {
			refused, rest, err := r.deliver(ctx, groups)
			if err == nil {
				r.worked()
				break
			}
			if len(refused) == 0 {
				r.drop(rest, err)
				return
			}
			r.drop(refused, err)
			groups = rest
		}
	}
}

// pause waits, and says whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
