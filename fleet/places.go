package fleet

import (
	"context"
	"sync"
)

// places are those for copies: Options.Copies run at a time. A place that becomes free goes to the
// machine that has the fewest, and among those to who has waited longest, so that a machine with
// many or slow copies doesn't keep the others from theirs.
type places struct {
	mu      sync.Mutex
	free    int
	held    map[*machine]int // machines without any aren't there
	waiting []*ticket        // in order of arrival
}

// ticket is somebody who waits for a place.
type ticket struct {
	m     *machine
	given chan struct{} // closed when the place is theirs
}

func newPlaces(n int) *places { return &places{free: n, held: map[*machine]int{}} }

// take takes a place for a machine, and waits for one if it has to.
func (p *places) take(ctx context.Context, m *machine) error {
	p.mu.Lock()
	t := &ticket{m: m, given: make(chan struct{})}
	p.waiting = append(p.waiting, t)
	p.give()
	p.mu.Unlock()
	select {
	case <-t.given:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-t.given: // in that moment
		p.put(m)
	default:
		for i, other := range p.waiting {
			if other == t {
				p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
				break
			}
		}
	}
	return context.Cause(ctx)
}

// try takes a place for a machine if one is free that nobody waits for.
func (p *places) try(m *machine) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free == 0 || len(p.waiting) > 0 {
		return false
	}
	p.free--
	p.held[m]++
	return true
}

// leave gives a place back.
func (p *places) leave(m *machine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put(m)
}

// put takes a place back, and gives it to the next. p.mu is held.
func (p *places) put(m *machine) {
	if p.held[m]--; p.held[m] == 0 {
		delete(p.held, m)
	}
	p.free++
	p.give()
}

// give gives what is free. p.mu is held.
func (p *places) give() {
	for p.free > 0 && len(p.waiting) > 0 {
		next := 0
		for i, t := range p.waiting {
			if p.held[t.m] < p.held[p.waiting[next].m] {
				next = i
			}
		}
		t := p.waiting[next]
		p.waiting = append(p.waiting[:next], p.waiting[next+1:]...)
		p.free--
		p.held[t.m]++
		close(t.given)
	}
}
