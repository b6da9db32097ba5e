package fleet

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"

	"jobserver/agent"
	"jobserver/sched"
)

// TestListing: what all manifests hold has a limit that they share, of which no machine can have
// all; who finds none left gives its own back and waits, unless it could never have enough.
func TestListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listing{own: 10, most: 60, free: 100, held: map[*machine]int{}}
		evil, other, good := &machine{}, &machine{}, &machine{}
		a, b, c, d := l.share(evil), l.share(evil), l.share(other), l.share(good)
		grow := func(s *share, bytes int, want error) {
			t.Helper()
			if err := s.grow(bytes); !errors.Is(err, want) {
				t.Errorf("%d bytes more: %v, want %v", bytes, err, want)
			}
		}
		grow(a, 10, nil) // its own
		grow(a, 50, nil)
		grow(b, 10, nil)
		grow(b, 20, errCrowded) // the machine's other list has them
		grow(d, 50, nil)
		grow(c, 10, nil)
		grow(c, 11, errCrowded) // 10 are left
		grow(l.share(good), 71, agent.ErrLimit)

		waited := make(chan error, 2)
		ctx, giveUp := context.WithCancel(t.Context())
		go func() { waited <- c.wait(ctx) }() // for twice 21
		synctest.Wait()
		select {
		case err := <-waited:
			t.Fatalf("there was room: %v", err)
		default:
		}
		small := l.share(other)
		small.used = 5
		if err := small.wait(ctx); err != nil { // a shorter list goes first
			t.Error(err)
		}
		d.leave()
		if err := <-waited; err != nil || c.held != 32 {
			t.Errorf("it has %d, %v", c.held, err)
		}
		b.used = 30
		go func() { waited <- b.wait(ctx) }()
		synctest.Wait()
		giveUp()
		if err := <-waited; err == nil {
			t.Error("it was given some when it had gone")
		}
		a.leave()
		c.leave()
		if l.free != 100 || len(l.held) != 0 || len(l.waiting) != 0 || b.held != 0 {
			t.Errorf("in the end %d are free, %v held", l.free, l.held)
		}
	})
}

// TestCopyWaitsForListing: a copy whose list finds no room says so, holds no place meanwhile, and
// ends when there is room again.
func TestCopyWaitsForListing(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	plant(t, from, map[string]string{"out": "1"})
	h := newHost(t, nil)
	h.connected("local")
	h.names.own = 0
	taken := h.names.share(&machine{})
	h.names.mu.Lock()
	taken.take(h.names.free)
	h.names.mu.Unlock()
	h.Copy(results("local", 1, to, filepath.Join(from, "out")))
	o := await[sched.CopyWaits](h, nil)
	if o.Reason != errCrowded.Error() {
		t.Errorf("the reason is %q", o.Reason)
	}
	h.copies.mu.Lock()
	if n := len(h.copies.held); n != 0 {
		t.Errorf("%d machines hold places", n)
	}
	h.copies.mu.Unlock()
	taken.leave()
	if o := await[sched.CopyEnded](h, nil); o.Error != "" || o.Files != 1 {
		t.Errorf("it ended with %+v", o)
	}
}
