package sched

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// pages compares pages from the newest down with what Select finds, for random selectors, page
// sizes and patience; and the map of each matrix and the spans of all attempts with the records.
func (d *driver) pages(t *rapid.T) {
	words := []string{
		":failed",
		":done:lost",
		":waiting",
		":uncopied",
		"class=x",
		"class=x-broken",
		"machine=a:done",
		"machine=u@c:22",
		"3..9",
		"2..99999:held",
		"last",
		"last~3",
		fmt.Sprint(d.s.nextID / 2),
		"@t",
		"@t:failed",
	}
	for _, m := range d.s.order {
		words = append(words, fmt.Sprintf("%%%d", m.Id), fmt.Sprintf("%d:failed", m.Id))
	}
	picked := rapid.SliceOfN(rapid.SampledFrom(words), 0, 3).Draw(t, "words")
	want, err := d.s.Select(picked)
	var problem *Error
	if problem, _ = err.(*Error); problem != nil && problem.Kind == NoMatch {
		err = nil
	}
	var got []uint64
	before := uint64(0)
	for calls := 0; ; calls++ {
		limit, looks := rapid.IntRange(1, 9).
			Draw(t, "limit"),
			rapid.IntRange(1, 20).
				Draw(t, "looks")
		ids, next, failed := d.s.page(picked, before, limit, looks)
		if (failed != nil) != (err != nil) {
			t.Fatalf("page of %q: %v; select: %v", picked, failed, err)
		}
		if failed != nil {
			return
		}
		if len(ids) > limit || next != 0 && before != 0 && next >= before && len(ids) == 0 {
			t.Fatalf("page of %q below %d gives %v and %d", picked, before, ids, next)
		}
		got = append(got, ids...)
		if before = next; next == 0 {
			break
		}
	}
	slices.Reverse(got)
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		t.Fatalf("pages of %q:\n%s", picked, diff)
	}
	d.pagesUp(t, picked, want)
	d.maps(t)
	d.spans(t)
}

// pagesUp compares pages from below with what Select finds.
func (d *driver) pagesUp(t *rapid.T, picked []string, want []uint64) {
	var got []uint64
	after := uint64(0)
	for {
		limit := rapid.IntRange(1, 9).Draw(t, "limit")
		looks := rapid.IntRange(1, 20).Draw(t, "looks")
		ids, next, err := d.s.pageUp(picked, after, limit, looks)
		d.must(t, err)
		if len(ids) > limit || next != 0 && next <= after {
			t.Fatalf("page of %q above %d gives %v and %d", picked, after, ids, next)
		}
		got = append(got, ids...)
		if after = next; next == 0 {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		t.Fatalf("pages of %q from below:\n%s", picked, diff)
	}
}

func (d *driver) maps(t *rapid.T) {
	for _, m := range d.s.order {
		var cells []byte
		for c := uint32(0); c < m.Cells; c += 3 {
			cells = d.s.MatrixMap(m.Id, c, 3, cells)
		}
		for c, mark := range cells {
			if want := d.s.Status(m.counting(uint32(c))); Status(mark) != want {
				t.Fatalf(
					"the map of matrix %d has %d for cell %d, and the job is %d",
					m.Id,
					mark,
					c,
					want,
				)
			}
		}
		if len(cells) != int(m.Cells) {
			t.Fatalf("the map of matrix %d has %d cells", m.Id, len(cells))
		}
	}
}

func (d *driver) spans(t *rapid.T) {
	var got, want []string
	told := map[string]int{} // by events
	for i := range d.events {
		for _, sp := range d.events[i].Spans {
			told[fmt.Sprintf("%+v", sp)]++
		}
	}
	text := func(sp Span) string { return fmt.Sprintf("%+v", sp) }
	h := d.s.SpanHistory()
	defer h.Close()
	for piece := range h.Pieces() {
		spans, err := h.Piece(piece, nil)
		d.must(t, err)
		for _, sp := range spans {
			got = append(got, text(sp))
			if n := told[text(sp)]; n != 1 {
				t.Fatalf("%d events tell of the end of %+v", n, sp)
			}
		}
	}
	running := 0
	for id := uint64(1); id < d.s.nextID; id++ {
		j := d.s.Job(id)
		if j == nil {
			continue
		}
		for i, a := range j.Attempts {
			if !underWay(j, i) && a.EndedAt != 0 {
				for _, sp := range spansIn(id, a) {
					want = append(want, text(sp))
				}
			}
		}
		if a := last(j); a != nil && j.Status == Running {
			for _, r := range ranksOf(a) {
				if d.s.machines[r.Machine] != nil && (holds(r) || r == a) {
					running++
				}
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("other spans:\n%s", diff)
	}
	if n := len(d.s.RunningSpans()); n != running {
		t.Fatalf("%d attempts run, and %d are given", running, n)
	}
}

// TestPageIsFlat holds that a page looks at a part of a long history only, and that rare jobs in it
// are found in as many pieces as that takes.
func TestPageIsFlat(t *testing.T) {
	s := cluster(t, 1, time.Unix(1_700_000_000, 0))
	at := time.Unix(1_700_000_000, 0)
	bigMatrix(t, s, MaxCells, at)
	if ids, next, err := s.Page(nil, 0, 100); len(ids) != 100 || next != ids[99] || err != nil {
		t.Error(len(ids), next, err)
	}
	if ids, next, _ := s.Page([]string{":failed"}, 0, 100); len(ids) != 0 || next != 0 {
		t.Error("nothing has failed:", ids, next)
	}
	decideAll(t, s, at) // the first job runs
	calls, found := 0, []uint64(nil)
	for before := uint64(0); ; calls++ {
		ids, next, err := s.Page([]string{":running"}, before, 100)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, ids...)
		if before = next; next == 0 {
			break
		}
	}
	if len(found) != 1 || calls < MaxCells/maxLooks-1 || calls > MaxCells/maxLooks+1 {
		t.Error(found, calls)
	}
}

func TestDigest(t *testing.T) {
	many := func(n int, event func(i int) Event) []Event {
		events := make([]Event, n)
		for i := range events {
			events[i] = event(i)
		}
		return events
	}
	tests := []struct {
		name   string
		events []Event
		want   Changes
	}{
		{"nothing", nil, Changes{}},
		{
			"a few",
			[]Event{
				{Job: 7, Matrix: 3, Machine: "b"},
				{Job: 5, Machine: "a"},
				{Job: 7, Matrix: 3, Machine: "b"},
				{Tag: 9},
			},
			Changes{
				Events:   4,
				Jobs:     []uint64{5, 7},
				First:    5,
				Last:     7,
				Matrices: []uint64{3},
				Machines: []string{"a", "b"},
			},
		},
		{
			"as many jobs as are named",
			many(maxChangedJobs, func(i int) Event { return Event{Job: uint64(i + 1)} }),
			Changes{
				Events: maxChangedJobs,
				First:  1,
				Last:   maxChangedJobs,
				Jobs: func() (ids []uint64) {
					for i := range maxChangedJobs {
						ids = append(ids, uint64(i+1))
					}
					return ids
				}(),
			},
		},
		{"too many of each", many(2000, func(i int) Event {
			return Event{Job: uint64(i + 10), Matrix: uint64(i + 1), Machine: fmt.Sprint("m", i)}
		}), Changes{Events: 2000, First: 10, Last: 2009, AllMatrices: true, AllMachines: true}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, digest(test.events)); diff != "" {
			t.Errorf("%s:\n%s", test.name, diff)
		}
	}
}

func TestChangesWaitAndCollect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEvents(10)
		got := make(chan Changes, 1)
		follow := func(since, pulse uint64) {
			c, err := e.Changes(t.Context(), since, pulse, 250*time.Millisecond)
			if err != nil {
				t.Error(err)
			}
			got <- c
		}
		go follow(10, 0)
		time.Sleep(time.Minute) // of the bubble: nothing happens
		e.publish([]Event{{Seq: 11, Job: 1}}, 11, 0)
		time.Sleep(200 * time.Millisecond)
		e.publish([]Event{{Seq: 12, Job: 2}}, 12, 0)
		want := Changes{Cursor: 12, Events: 2, Jobs: []uint64{1, 2}, First: 1, Last: 2}
		if diff := cmp.Diff(want, <-got); diff != "" {
			t.Error(diff)
		}
		go follow(12, 0)
		synctest.Wait()
		e.publish(nil, 12, 1)
		if diff := cmp.Diff(Changes{Cursor: 12, Pulse: 1, AllMachines: true}, <-got); diff != "" {
			t.Error("a machine is connected otherwise:", diff)
		}
		follow(99, 1)
		if c := <-got; !c.Gap || c.Cursor != 12 {
			t.Error("a cursor of another history:", c)
		}
		e.close()
		if _, err := e.Changes(t.Context(), 12, 1, 0); err != ErrClosed {
			t.Error(err)
		}
	})
}

func BenchmarkPage(b *testing.B) {
	s, _ := million()
	for _, words := range [][]string{nil, {":done"}, {"class=x:done"}, {":running"},
		{"machine=m001"}, {":done", "last~7"}} {
		b.Run(fmt.Sprint(words), func(b *testing.B) {
			for b.Loop() {
				_, _, err := s.Page(words, 0, 100)
				must(b, err)
			}
		})
	}
	for _, words := range [][]string{nil, {":done"}, {":running"}} {
		b.Run(fmt.Sprint("up", words), func(b *testing.B) {
			for b.Loop() {
				_, _, err := s.PageUp(words, 300_000, 1000)
				must(b, err)
			}
		})
	}
	b.Run("nothing matches", func(b *testing.B) {
		s.index.intern("nowhere")
		for b.Loop() {
			_, _, err := s.Page([]string{"class=nowhere"}, 0, 100)
			must(b, err)
		}
	})
	b.Run("a history of spans", func(b *testing.B) {
		for b.Loop() {
			s.SpanHistory()
		}
	})
	b.Run("a piece of it", func(b *testing.B) {
		h := s.SpanHistory()
		defer h.Close()
		var spans []Span
		for b.Loop() {
			spans, _ = h.Piece(17, spans[:0])
		}
	})
	b.Run("map", func(b *testing.B) {
		var m []byte
		for b.Loop() {
			m = s.MatrixMap(s.order[0].Id, 0, MaxMap, m[:0])
		}
	})
}

// TestRunningSpansOnce: an attempt on several slots, with another one's between them, is one span.
func TestRunningSpansOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	check(t, w.pool("x", 3, "a"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "first", Repeat: 2},
		JobSpec{Class: "x", Cmd: "wide", Slots: 2})
	check(t, err)
	w.ends(t, ids[0], exit(0))
	w.wants(t, ids[2], Running)
	if spans := w.s.RunningSpans(); len(spans) != 2 {
		t.Errorf("two attempts run, and %d are given: %+v", len(spans), spans)
	}
}
