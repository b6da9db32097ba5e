package timeline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestASpanHas24Bytes(t *testing.T) {
	if n := unsafe.Sizeof(span{}); n != 24 {
		t.Errorf("a span has %d bytes", n)
	}
}

func TestDraw(t *testing.T) {
	x := New()
	x.Add(Span{Job: 1, Attempt: 1, Machine: "a", Start: 0, End: 1000, Outcome: Done})
	x.Add(Span{Job: 2, Attempt: 1, Machine: "a", Start: 1000, End: 1010, Outcome: Failed})
	x.Add(Span{Job: 2, Attempt: 2, Machine: "gone", Start: 1500, End: 3500, Outcome: Lost})
	x.Add(Span{Job: 3, Attempt: 5000, Machine: "b", Start: 500, End: 4000, Outcome: Canceled})
	running := []Span{
		{Job: 9, Attempt: 1, Machine: "a", Start: 3000, End: 4000, Outcome: Running},
		{Job: 8, Machine: "a", Start: 9000, End: 9001},
	}
	q := Query{
		From:    0,
		To:      4000,
		Columns: 4,
		Rows: []Row{
			{Machine: "a", Slots: 2},
			{Machine: "idle", Slots: 1},
			{Machine: "b", Slots: 1},
		},
		Spans: 10,
	}
	got := x.View().Draw(q, running)
	want := []Row{
		{
			Machine: "a",
			Slots:   2,
			Shares: [outcomes][]byte{
				Running: {0, 0, 0, 8},
				Done:    {8, 0, 0, 0},
				Failed:  {0, 1, 0, 0},
			},
		},
		{Machine: "idle", Slots: 1},
		{Machine: "b", Slots: 1, Shares: [outcomes][]byte{Canceled: {8, 15, 15, 15}}},
		{Machine: "gone", Shares: [outcomes][]byte{Lost: {0, 8, 15, 8}}},
	}
	if diff := cmp.Diff(want, got.Rows); diff != "" {
		t.Error(diff)
	}
	var jobs []string
	for _, s := range got.Spans {
		jobs = append(jobs, fmt.Sprintf("%d.%d", s.Job, s.Attempt))
	}
	if diff := cmp.Diff(
		[]string{"1.1", "3.1023", "2.1", "2.2", "9.1"},
		jobs,
	); diff != "" ||
		got.Total != 5 {
		t.Error(got.Total, diff)
	}
	q.Only, q.Spans = true, 2
	if got := x.View().Draw(q, running); len(got.Rows) != 3 || got.Spans != nil || got.Total != 4 {
		t.Error("only the rows asked for, and too many spans:", got)
	}
	late := []Span{{Job: 3, Attempt: 5000, Machine: "b"}, {Job: 3, Attempt: 1, Machine: "b"}}
	if left := x.View().Without(late); len(left) != 1 || left[0].Attempt != 1 {
		t.Error("one of the two has ended:", left)
	}
	if empty := New().View().Draw(q, nil); len(empty.Rows) != 3 || empty.Total != 0 {
		t.Error(empty)
	}
}

// TestWindows compares windows of a random history with all of it looked at, and views with the
// index as it was when they were taken.
func TestWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := New()
		n := rapid.IntRange(0, 4*blockSpans).Draw(t, "spans")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		all := make([]Span, n)
		for i := range all {
			end := int64(i)*100 + r.Int64N(300)
			all[i] = Span{
				Job:     uint64(i + 1),
				Attempt: 1,
				Machine: fmt.Sprint(r.IntN(5)),
				Start:   end - r.Int64N(2000)/10*10,
				Outcome: Outcome(1 + r.IntN(4)),
			}
			all[i].End = end - (end-all[i].Start)%10
		}
		var views []View
		for i, s := range all {
			if i%777 == 0 {
				views = append(views, x.View())
			}
			x.Add(s)
		}
		for i, v := range views {
			if len(v.spans) != i*777 {
				t.Fatalf("view %d has %d spans", i, len(v.spans))
			}
		}
		views = append(views, x.View())
		from := rapid.Int64Range(-1000, int64(n)*100+1000).Draw(t, "from")
		to := from + rapid.Int64Range(1, 100_000).Draw(t, "long")
		for _, v := range views {
			var want, got []uint64
			for _, s := range all[:len(v.spans)] {
				if s.Start < to && s.End > from {
					want = append(want, s.Job)
				}
			}
			for _, s := range v.Draw(Query{From: from, To: to, Columns: 7, Spans: n}, nil).Spans {
				got = append(got, s.Job)
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("from %d to %d of %d:\n%s", from, to, len(v.spans), diff)
			}
		}
		if first, last, ok := x.View().
			Bounds(); ok != (n > 0) ||
			ok && (first > all[0].Start || last < all[n-1].End) {
			t.Fatal(first, last, ok)
		}
	})
}

// million is a week of 500 machines.
func million() *Index {
	x := New()
	r := rand.New(rand.NewPCG(1, 2))
	type end struct{ at, length int64 }
	ends := make([]end, 1_000_000)
	for i := range ends {
		ends[i] = end{r.Int64N(7 * 86400 * 1000), 1000 + r.Int64N(600_000)}
	}
	sort.Slice(ends, func(i, k int) bool { return ends[i].at < ends[k].at })
	for i, e := range ends {
		o := Done
		if r.IntN(50) == 0 {
			o = Failed
		}
		x.Add(
			Span{
				Job:     uint64(i + 1),
				Attempt: 1,
				Machine: fmt.Sprintf("m%03d", r.IntN(500)),
				Start:   e.at - e.length,
				End:     e.at,
				Outcome: o,
			},
		)
	}
	return x
}

func BenchmarkDraw(b *testing.B) {
	v := million().View()
	for _, hours := range []int64{24 * 7, 6, 1} {
		b.Run(fmt.Sprintf("%dh", hours), func(b *testing.B) {
			for b.Loop() {
				v.Draw(
					Query{
						From:    3 * 86400_000,
						To:      3*86400_000 + hours*3600_000,
						Columns: 1200,
						Spans:   5000,
					},
					nil,
				)
			}
		})
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			v.Draw(Query{From: 0, To: 7 * 86400_000, Columns: 1200, Spans: 5000}, nil)
		}
	})
}
