package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"jobserver/api"
)

// fake is a daemon whose state is a cursor.
type fake struct {
	mu     sync.Mutex
	cursor uint64
	jobs   api.Counts
	away   error
	calls  map[string]int
	more   chan struct{}
	told   []api.ChangesReply // of each cursor from 1 on
	hold   chan struct{}      // ListJobs waits for it
}

func newFake() *fake { return &fake{calls: map[string]int{}, more: make(chan struct{})} }

func (f *fake) change(c api.ChangesReply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cursor++
	f.told = append(f.told, c)
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fake) goes(away error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fake) Call(ctx context.Context, method string, args, reply any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[method]++
	switch r := reply.(type) {
	case *api.Status:
		r.Cursor, r.Jobs = f.cursor, f.jobs
	case *api.ChangesReply:
		a := args.(*api.ChangesArgs)
		timeout := time.NewTimer(a.Wait)
		defer timeout.Stop()
		for f.cursor == a.Since && f.away == nil {
			more := f.more
			f.mu.Unlock()
			select {
			case <-more:
			case <-timeout.C:
				f.mu.Lock()
				*r = api.ChangesReply{Cursor: a.Since}
				return f.away
			case <-ctx.Done():
				f.mu.Lock()
				return ctx.Err()
			}
			f.mu.Lock()
		}
		d := Digest{}
		for _, c := range f.told[min(a.Since, f.cursor):f.cursor] {
			d.merge(&Digest{ChangesReply: c})
		}
		*r = d.ChangesReply
		r.Cursor = f.cursor
	case *api.ListJobsReply:
		if hold := f.hold; hold != nil {
			f.mu.Unlock()
			<-hold
			f.mu.Lock()
		}
		r.Cursor = f.cursor
	}
	return f.away
}

func (f *fake) called(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

func inBubble(t *testing.T, test func(t *testing.T, d *fake, f *Follower)) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		f := New(d, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { f.Run(ctx); close(ended) }()
		synctest.Wait()
		test(t, d, f)
		cancel()
		<-ended
	})
}

func TestFollow(t *testing.T) {
	inBubble(t, func(t *testing.T, d *fake, f *Follower) {
		s, changed, err := f.Next(t.Context(), 0)
		if err != nil || !s.Online || !changed.Gap {
			t.Fatal(s, changed, err)
		}
		time.Sleep(
			5 * time.Minute,
		) // of the bubble: a quiet daemon is asked for nothing but the one call
		if d.called("Status") != 1 || d.called("Changes") > 14 {
			t.Error(d.calls)
		}
		for i := range 3 {
			d.change(
				api.ChangesReply{
					Events:   1,
					Jobs:     []uint64{uint64(9 - i)},
					First:    uint64(9 - i),
					Last:     uint64(9 - i),
					Machines: []string{"a"},
				},
			)
			synctest.Wait()
		}
		s, changed, err = f.Next(t.Context(), s.Version)
		want := api.ChangesReply{
			Cursor:   3,
			Events:   3,
			Jobs:     []uint64{7, 8, 9},
			First:    7,
			Last:     9,
			Machines: []string{"a"},
		}
		if diff := cmp.Diff(
			want,
			changed.ChangesReply,
		); diff != "" || err != nil || changed.Version != s.Version ||
			s.Status.Cursor != 3 {
			t.Error(diff, err, changed.Version, s.Version)
		}
		for range keptDigests + 1 {
			d.change(api.ChangesReply{Events: 1})
			synctest.Wait()
		}
		if _, changed, _ = f.Next(t.Context(), s.Version); !changed.Gap {
			t.Error("no gap for who is far behind")
		}
		if _, changed, _ = f.Next(t.Context(), 1<<40); !changed.Gap {
			t.Error("no gap for a version of another follower")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := f.Next(ctx, f.Now().Version); err == nil {
			t.Error("nothing is new")
		}
	})
}

func TestTheDaemonGoesAndComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, d *fake, f *Follower) {
		before := f.Now()
		d.goes(api.Errorf(api.Unavailable, "nothing listens").WithHint("start it"))
		synctest.Wait()
		s, _, _ := f.Next(t.Context(), before.Version)
		if s.Online || s.Error != "nothing listens" || s.Hint != "start it" {
			t.Error(s)
		}
		version := s.Version
		time.Sleep(time.Minute)
		if v := f.Now().Version; v != version {
			t.Error("the same is told again:", v, version)
		}
		d.goes(nil)
		if s, changed, _ := f.Next(
			t.Context(),
			version,
		); !s.Online || !changed.Gap ||
			s.Error != "" {
			t.Error("whoever was there looks at everything again:", s, changed)
		}
	})
}

func TestAskOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, d *fake, f *Follower) {
		d.hold = make(chan struct{})
		ask := func(limit int) (*api.ListJobsReply, error) {
			return Ask[api.ListJobsReply](
				t.Context(),
				f,
				"ListJobs",
				&api.ListJobsArgs{Limit: limit},
			)
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := ask(5); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(d.hold)
		all.Wait()
		d.hold = nil
		steps := []struct {
			what   string
			before func()
			limit  int
			calls  int
		}{
			{"ten at once", func() {}, 5, 1},
			{"something else", func() {}, 6, 2},
			{"nothing has changed", func() {}, 5, 2},
			{
				"something has",
				func() { d.change(api.ChangesReply{Events: 1}); synctest.Wait() },
				5,
				3,
			},
			{"a while later", func() { time.Sleep(staleAfter) }, 5, 4},
		}
		for _, step := range steps {
			step.before()
			if _, err := ask(step.limit); err != nil || d.called("ListJobs") != step.calls {
				t.Errorf(
					"%s: %d calls, want %d; %v",
					step.what,
					d.called("ListJobs"),
					step.calls,
					err,
				)
			}
		}
		d.goes(errors.New("away"))
		synctest.Wait()
		if _, err := ask(5); err == nil {
			t.Error("an answer without a daemon")
		}
		d.goes(nil)
		time.Sleep(time.Minute)
		if _, err := ask(5); err != nil {
			t.Error("an error is remembered:", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		d.hold = make(chan struct{})
		if _, err := Ask[api.ListJobsReply](
			gone,
			f,
			"ListJobs",
			&api.ListJobsArgs{Limit: 99},
		); !errors.Is(
			err,
			context.Canceled,
		) {
			t.Error(err)
		}
		close(d.hold)
	})
}

func TestPace(t *testing.T) {
	var p pace
	now := time.Unix(1_700_000_000, 0)
	ended := 1_000_000
	p.note(now, api.Counts{Done: ended})
	if r := p.rate(now); r.PerMinute != 0 || len(r.Recent) != paceSteps {
		t.Error(r)
	}
	for range 300 {
		now = now.Add(time.Second)
		ended += 2
		p.note(now, api.Counts{Done: ended})
	}
	if r := p.rate(now); r.PerMinute < 115 || r.PerMinute > 125 || r.Recent[3] != 20 {
		t.Error("two a second:", r)
	}
	p.note(now, api.Counts{Done: 7}) // the history was forgotten
	if r := p.rate(now); r.PerMinute < 115 {
		t.Error(r)
	}
	if r := p.rate(now.Add(time.Hour)); r.PerMinute != 0 || slices.Max(r.Recent) != 0 {
		t.Error("an hour later:", r)
	}
}

// TestMerge holds that merged digests name all that each of them names, and stay small.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sum Digest
		jobs, machines := map[uint64]bool{}, map[string]bool{}
		for range rapid.IntRange(1, 8).Draw(t, "digests") {
			var d Digest
			ids := rapid.SliceOfNDistinct(rapid.Uint64Range(1, 400), 0, 150, rapid.ID).
				Draw(t, "jobs")
			slices.Sort(ids)
			for _, id := range ids {
				jobs[id] = true
				if d.First == 0 {
					d.First = id
				}
				d.Last = id
			}
			if d.Jobs = ids; rapid.Bool().Draw(t, "many") || len(ids) == 0 {
				d.Jobs = nil
			}
			for range rapid.IntRange(0, 9).Draw(t, "machines") {
				m := fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "machine"))
				machines[m] = true
				d.Machines, d.AllMachines = union(d.Machines, []string{m}, maxOther, d.AllMachines)
			}
			sum.merge(&d)
		}
		if len(sum.Jobs) > maxJobs || len(sum.Machines) > maxOther {
			t.Fatal("too much is named")
		}
		for id := range jobs {
			if sum.Jobs != nil && !slices.Contains(sum.Jobs, id) || id < sum.First ||
				id > sum.Last {
				t.Fatalf("job %d is missing: %v, %d to %d", id, sum.Jobs, sum.First, sum.Last)
			}
		}
		for m := range machines {
			if !sum.AllMachines && !slices.Contains(sum.Machines, m) {
				t.Fatalf("machine %s is missing", m)
			}
		}
	})
}
