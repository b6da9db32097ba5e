package fleet

import (
	"context"
	"sync"
	"time"

	"jobserver/agent"
)

// pace bounds how much of the host's time and network a machine gets for what is of no use. Whoever
// goes on faster sleeps.
type pace struct {
	rate float64 // a second; a second's worth may come at once

	mu   sync.Mutex
	next time.Time // when all that was let through would have come at that rate
}

// wait lets n through, at the rate.
func (p *pace) wait(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	ahead := p.next.Sub(now) - time.Second
	p.mu.Unlock()
	return sleep(ctx, ahead)
}

// sleep waits for d, or for the end of ctx, whose cause it returns then.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const (
	// pollsPerSecond of a machine may bring little or nothing. An agent of ours lets output gather,
	// and says nothing without news.
	pollsPerSecond = 2000
	// excessPerSecond bytes of logs are taken from a machine, and dropped, that are more than may
	// be kept.
	excessPerSecond = 4 << 20
	// little is how many bytes of output a poll brings at least for which it was worth while.
	little = 4 << 10
	// emptyPause is the first pause after a poll that was answered at once with nothing new. It
	// doubles up to maxEmptyPause.
	emptyPause    = 10 * time.Millisecond
	maxEmptyPause = 5 * time.Second
)

// pacePolls sleeps when a run's polls come back too fast: before is what was known before the last
// one, which began at the time given.
func (m *machine) pacePolls(
	ctx context.Context,
	r *run,
	before, reply agent.PollReply,
	began time.Time,
) error {
	news := reply.Bytes > 0 || len(reply.Marks) > 0 || reply.State != before.State ||
		reply.Ending != before.Ending
	switch {
	case news:
		r.empty = 0
	case time.Since(began) < time.Second:
		r.empty++
		if err := sleep(ctx, doubled(emptyPause, r.empty-1, maxEmptyPause)); err != nil {
			return err
		}
	}
	if reply.Bytes >= little {
		return nil
	}
	return m.polls.wait(ctx, 1)
}
