package fleet

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"jobserver/agent"
)

// What all manifests together may hold, in bytes as package agent counts them. Beyond what each
// copy has of its own, they share: a long list may take of it, and one machine's lists not all.
const (
	ownListing     = 12 << 20 // divided by the number of copies at a time
	sharedListing  = 32 << 20
	machineListing = 24 << 20 // of what is shared: some 120,000 results with common names
)

// While long lists are held, the process is to keep within so many bytes, or within what it held
// before and half as much, and what lists take with their garbage.
const (
	tidyMemory  = 96 << 20
	listGarbage = 48 << 20
)

// errCrowded says that a manifest must wait for other ones to go.
var errCrowded = errors.New("the lists of other results fill the memory that is for them")

// listing shares out the bytes that copies may hold of manifests. Who needs more than there is
// gives back what it has, so that nobody waits for each other, and waits until there is twice as
// much.
type listing struct {
	own, most int // of each copy; of what is shared, for one machine

	mu      sync.Mutex
	free    int
	held    map[*machine]int // of what is shared; machines without any aren't there
	waiting []*waitingShare  // in order of arrival
	usual   int64            // the process's limit of memory while none is held
}

// waitingShare is a copy that waits for bytes.
type waitingShare struct {
	s     *share
	bytes int
	given chan struct{} // closed when they are its own
}

func newListing(copies int) *listing {
	return &listing{own: ownListing / copies, most: machineListing, free: sharedListing,
		held: map[*machine]int{}}
}

// share is what one copy holds. A nil share has no limit.
type share struct {
	of   *listing
	m    *machine
	used int // bytes of the current manifest
	held int // of what is shared
}

func (l *listing) share(m *machine) *share { return &share{of: l, m: m} }

// restart forgets the manifest, for a new one in its place.
func (s *share) restart() {
	if s != nil {
		s.used = 0
	}
}

// grow takes bytes for more of the manifest. It fails with agent.ErrLimit when the manifest is too
// long for any time, and with errCrowded when others have to end first.
func (s *share) grow(bytes int) error {
	if s == nil {
		return nil
	}
	s.used += bytes
	need := s.used - s.of.own - s.held
	if need <= 0 {
		return nil
	}
	if s.held+need > s.of.most {
		return agent.TooManyNames(s.of.own + s.of.most)
	}
	if !s.of.take(s, need) {
		return errCrowded
	}
	return nil
}

// wait gives everything back, and returns when there is room for a longer manifest.
func (s *share) wait(ctx context.Context) error {
	w := &waitingShare{s: s, bytes: min(max(2*s.used-s.of.own, 0), s.of.most),
		given: make(chan struct{})}
	s.leave()
	l := s.of
	l.mu.Lock()
	l.waiting = append(l.waiting, w)
	l.give()
	l.mu.Unlock()
	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(o *waitingShare) bool { return o == w })
	return context.Cause(ctx)
}

// leave gives everything back.
func (s *share) leave() {
	l := s.of
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free += s.held
	if l.held[s.m] -= s.held; l.held[s.m] == 0 {
		if delete(l.held, s.m); len(l.held) == 0 && s.held > 0 {
			debug.SetMemoryLimit(l.usual)
		}
	}
	s.held, s.used = 0, 0
	l.give()
}

// fits tells whether a machine may have so many bytes more now. l.mu is held.
func (l *listing) fits(m *machine, bytes int) bool {
	return bytes <= l.free && l.held[m]+bytes <= l.most
}

// take takes bytes for a share, if they fit.
func (l *listing) take(s *share, bytes int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.fits(s.m, bytes) {
		return false
	}
	s.take(bytes)
	return true
}

// take takes bytes that fit. The listing's mu is held.
func (s *share) take(bytes int) {
	if len(s.of.held) == 0 {
		s.of.usual = tidy()
	}
	s.held += bytes
	s.of.held[s.m] += bytes
	s.of.free -= bytes
}

// give gives what is free to those that it suffices for: a long list that waits doesn't keep
// shorter ones waiting. l.mu is held.
func (l *listing) give() {
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waitingShare) bool {
		if !l.fits(w.s.m, w.bytes) {
			return false
		}
		if w.bytes > 0 {
			w.s.take(w.bytes)
		}
		close(w.given)
		return true
	})
}

// tidy has garbage collected early: a list that grows leaves several times as much as it holds, and
// the collector by itself would let it become as much as all that the process holds. It gives the
// limit of memory that was there before.
func tidy() (usual int64) {
	var now runtime.MemStats // runtime/metrics would have a part in each start of the program
	runtime.ReadMemStats(&now)
	held := int64(now.HeapAlloc)
	usual = debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(usual, max(tidyMemory, held+held/2+listGarbage)))
	return usual
}
