package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jobserver/agent"
	"jobserver/ssh/sshtest"
)

// TestInOrder: chunks are handed on in their order, whichever comes first, no more of them are
// asked for than their memory allows, and the first error is the end.
func TestInOrder(t *testing.T) {
	t.Parallel()
	l, _ := far(t, 0)
	fault := errors.New("fault")
	for _, tt := range []struct {
		name string
		n    int
		fail int // the one that fails; -1: none
		want int // how many are handed on
		err  error
	}{
		{"none", 0, -1, 0, nil},
		{"one", 1, -1, 1, nil},
		{"more than a channel has ahead", 4*aheadOfChannel + 1, -1, 4*aheadOfChannel + 1, nil},
		{"one can't be had", 3 * aheadOfChannel, aheadOfChannel, aheadOfChannel, fault},
	} {
		var under, most atomic.Int32
		var handed, want []int
		asked := 0
		come := make([]chan struct{}, tt.n)
		for i := range come {
			come[i] = make(chan struct{})
		}
		err := l.source.inOrder(t.Context(), func() *chunk {
			i := asked
			if i == tt.n {
				return nil
			}
			asked++
			most.Store(max(most.Load(), under.Add(1)))
			return &chunk{
				get: func(_ context.Context, _ *agent.Client, memory []byte) error {
					defer close(come[i])
					if next := i + 1; next%aheadOfChannel != 0 && next < tt.n {
						<-come[next] // of those that are asked for together, the last comes first
					}
					if i == tt.fail {
						return fault
					}
					if len(memory) != 0 || cap(memory) != pieceSize {
						return fmt.Errorf("memory of %d of %d bytes", len(memory), cap(memory))
					}
					return nil
				},
				hand: func() (int, error) {
					under.Add(-1)
					handed = append(handed, i)
					return 1, nil
				},
			}
		})
		for i := range tt.want {
			want = append(want, i)
		}
		if !errors.Is(err, tt.err) || !slices.Equal(handed, want) || most.Load() > aheadOfChannel {
			t.Errorf("%s: %v were handed on, %d at once were asked for: %v", tt.name, handed,
				most.Load(), err)
		}
	}
	if l.source.memory.users != 0 || l.source.memory.free != nil {
		t.Errorf("what is left of memory: %+v", l.source.memory)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	err := l.source.inOrder(ctx, func() *chunk {
		return &chunk{get: func(ctx context.Context, _ *agent.Client, _ []byte) error {
			cancel(fault)
			<-ctx.Done()
			return context.Cause(ctx)
		}}
	})
	if !errors.Is(err, fault) {
		t.Errorf("when it is given up: %v", err)
	}
}

// TestBrokenChannel: what a channel that breaks was asked for comes over the first one.
func TestBrokenChannel(t *testing.T) {
	t.Parallel()
	l, _ := far(t, 0)
	grown(l.source)
	broke := make(chan struct{})
	var handed []int
	asked := 0
	var first sync.Once
	err := l.source.inOrder(t.Context(), func() *chunk {
		i := asked
		if i == 4*aheadOfChannel {
			return nil
		}
		asked++
		return &chunk{
			get: func(_ context.Context, from *agent.Client, _ []byte) error {
				if from == l.client {
					<-broke // the other one has its turn
					return nil
				}
				from.Close()
				first.Do(func() { close(broke) })
				return from.Err()
			},
			hand: func() (int, error) {
				handed = append(handed, i)
				return 1, nil
			},
		}
	})
	if err != nil || len(handed) != 4*aheadOfChannel || !slices.IsSorted(handed) {
		t.Errorf("%v were handed on: %v", handed, err)
	}
	if all, _ := l.source.all(); len(all) != 1 {
		t.Errorf("%d channels are left", len(all))
	}
}

// TestSharedMemory: those who are at work share what there is, and each has some.
func TestSharedMemory(t *testing.T) {
	t.Parallel()
	p := &pieces{}
	for users, want := range map[int]int{1: 48, 2: 24, 3: 16, 4: 12, 8: 6, 16: 3, 100: aheadOfFew} {
		p.users = users
		if got := p.share(); got != want {
			t.Errorf("each of %d may ask for %d pieces ahead, not %d", users, got, want)
		}
	}
	p.users = 1
	memory := p.get()
	p.put(append(memory, 1))
	if again := p.get(); cap(again) != cap(memory) || len(p.free) != 0 {
		t.Errorf("%d bytes were made anew", cap(again))
	}
	p.put(memory)
	if p.leave(); p.free != nil {
		t.Error("memory is kept for nobody")
	}
	if p.put(memory); p.free != nil {
		t.Error("memory of one that has left is kept")
	}
}

// TestNearWindow: when more channels may bring more. A window in each round trip is what one lets
// through, 40 MiB/s of a machine 50 ms away.
func TestNearWindow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mib, channels int
		took, trip    time.Duration
		want          bool
	}{
		{40, 1, time.Second, 50 * time.Millisecond, true},
		{21, 1, time.Second, 50 * time.Millisecond, true},
		{19, 1, time.Second, 50 * time.Millisecond, false},
		{41, 2, time.Second, 50 * time.Millisecond, true},
		{39, 2, time.Second, 50 * time.Millisecond, false},
		{8, 1, 200 * time.Millisecond, 50 * time.Millisecond, true},
		{40, 1, time.Second, 10 * time.Millisecond, false},
	} {
		if got := nearWindow(tt.mib<<20, tt.channels, tt.took, tt.trip); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestGrow: there are twice as many channels each time, as far as there may be; not before those
// that are being opened are there, nor after one was refused.
func TestGrow(t *testing.T) {
	t.Parallel()
	l, _ := far(t, 0)
	opened := 0
	c := newChannels(l.client, l.source.memory)
	c.another = func(func(*agent.Client, error)) { opened++ }
	for _, want := range []int{1, 2, 2} { // with the first one 2, 4 and 6
		before := opened
		c.grow()
		c.grow()
		if got := opened - before; got != want {
			t.Fatalf("%d more were opened, not %d", got, want)
		}
		for range want {
			c.added(l.client, nil)
		}
	}
	c.grow()
	if all, _ := c.all(); opened != maxChannels-1 || len(all) != maxChannels {
		t.Errorf("%d were opened, there are %d", opened, len(all))
	}
	refused := newChannels(l.client, l.source.memory)
	refused.another = c.another
	opened = 0
	refused.grow()
	refused.added(nil, errors.New("refused"))
	if refused.grow(); opened != 1 {
		t.Errorf("%d were opened after one was refused", opened-1)
	}
}

// TestFewSessions: where sshd allows few sessions on a connection, there are more connections.
func TestFewSessions(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.ServerConfig("MaxSessions 2"))
	h := newHost(t, m)
	h.connected(m.Name)
	l, err := h.open(t.Context(), t.Context(), m.Name, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	for range 3 {
		grown(l.source)
	}
	all, _ := l.source.all()
	if len(all) != maxChannels {
		t.Errorf("there are %d channels", len(all))
	}
	r, sums := wanted(t, 5<<20)
	l.source.measured(farAway)
	var got arrived
	if err := l.source.Fetch(t.Context(), r, &got); err != nil || got.sums[0] != sums[0] {
		t.Errorf("%d bytes came, %+v: %v", got.bytes[0], got.done, err)
	}
}

// grown opens more channels, and waits until they are there.
func grown(c *channels) {
	c.grow()
	for {
		c.mu.Lock()
		opening, news := c.opening, c.news
		c.mu.Unlock()
		if opening == 0 {
			return
		}
		<-news
	}
}
