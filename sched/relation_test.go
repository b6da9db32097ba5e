package sched

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// follows is a matrix of many cells, and another one whose cells wait for its cells.
type follows struct {
	name          string
	first, second MatrixSpec
	most          float64 // bytes for each cell of the second, all that is held of it
}

// manyFollow are pairs of 20,000 cells or so, and one of 100,000.
func manyFollow() []follows {
	most, many := numbers(100_000), numbers(20_000)
	backwards := slices.Clone(many)
	slices.Reverse(backwards)
	half := axis("A", many[:len(many)/2]...)
	wide, narrow := axis("A", numbers(1000)...), axis("B", numbers(20)...)
	chosen := make([][]uint32, len(many)) // one in ten
	for i := range chosen {
		n := uint32(10*i + i%7)
		chosen[i] = []uint32{n / 1000, n % 1000, 0}
	}
	of := func(axes ...*statepb.Axis) MatrixSpec { return MatrixSpec{Axes: axes} }
	repeated := func(n int, axes ...*statepb.Axis) MatrixSpec {
		return MatrixSpec{Axes: axes, Job: JobSpec{Repeat: n}}
	}
	some := MatrixSpec{Axes: []*statepb.Axis{wide, axis("B", numbers(1000)...)}, Cells: chosen}
	return []follows{
		{"of one variable", of(axis("A", most...)), of(axis("A", most...)), 50},
		{"in another order", of(axis("A", many...)), of(axis("A", backwards...)), 50},
		{"of two", of(wide, narrow), of(wide, narrow), 50},
		{"with its results", MatrixSpec{Axes: []*statepb.Axis{wide, narrow},
			Job: JobSpec{CpPath: "/r"}}, MatrixSpec{Axes: []*statepb.Axis{wide, narrow},
			Job: JobSpec{Inputs: []InputSpec{{Path: "{AFTER_RESULTS}/model"}}}}, 50},
		{"of two, turned", of(wide, narrow), of(narrow, wide), 50},
		{"with repeats", repeated(20, wide), repeated(20, wide), 50},
		{"one for all repeats", of(wide), repeated(20, wide), 50},
		{"each after all repeats", repeated(2, half), of(half, axis("C", "x", "y")), 50},
		{"two after each", of(half), of(half, axis("C", "x", "y")), 50},
		{"few of many", some, some, 50},
	}
}

// TestCellsAfterAreCheap counts all that is held of cells that wait for others, of which 13 bytes
// are of any that waits, and how it is after a restart.
func TestCellsAfterAreCheap(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	for _, tt := range manyFollow() {
		t.Run(tt.name, func(t *testing.T) {
			s := cluster(t, 2, at)
			submit := func(spec MatrixSpec, after string) (bytes, cells float64, id uint64) {
				spec.Job.Class, spec.Job.Cmd = "x", "work"
				spec.Job.After.Cells = after
				p, err := s.PlanMatrix(spec, false)
				must(t, err)
				id, cells = p.IDs[0], float64(p.IDs[2])
				// as the journal has it, so that nothing of it is the test's
				record, err := encode(&Change{MatrixSubmitted: p.Changes[0].MatrixSubmitted})
				must(t, err)
				p = Plan{}
				bytes = heldAfter(func() {
					c := &Change{}
					must(t, proto.Unmarshal(record, c))
					s.run1(t, at, c)
				})
				runtime.KeepAlive(record)
				return bytes, cells, id
			}
			alone, cells, first := submit(tt.first, "")
			second, more, _ := submit(tt.second, fmt.Sprint(first))
			t.Logf("%.1f bytes for each of the first %.0f, %.1f for each of %.0f that wait",
				alone/cells, cells, second/more, more)
			if second/more > tt.most {
				t.Errorf("a cell that waits takes %.1f bytes, at most %v are right", second/more,
					tt.most)
			}
			records, err := frozen(s)
			must(t, err)
			var again *State
			loaded := heldAfter(func() {
				again, err = restored(records, nil)
				must(t, err)
			})
			t.Logf("%.1f bytes for each of all after a restart", loaded/(cells+more))
			if loaded > 1.1*(alone+second) {
				t.Errorf("after a restart both take %.0f bytes, and %.0f before", loaded,
					alone+second)
			}
			runtime.KeepAlive(s)
			must(t, again.check())
			decideAll(t, s, at)
			endFirst(t, s, "m000", at)
			decideAll(t, s, at)
			if s.counts.By[Running] != 2 || s.counts.By[Done] != 1 {
				t.Error(s.counts)
			}
			runtime.KeepAlive(records)
			runtime.KeepAlive(again)
		})
	}
}

// heldAfter is how many bytes are held after something that weren't before.
func heldAfter(do func()) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools had
	runtime.ReadMemStats(&before)
	do()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return float64(after.HeapAlloc) - float64(before.HeapAlloc)
}
