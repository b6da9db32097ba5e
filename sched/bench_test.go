package sched

import (
	"cmp"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// must ends a benchmark's preparation that went wrong.
func must(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// run1 applies changes without a journal, and gives no effect to anybody.
func (s *State) run1(b testing.TB, at time.Time, changes ...*Change) {
	b.Helper()
	for _, c := range changes {
		c.At = at.UnixNano()
		if d := c.Dispatched; d != nil {
			n := 0
			giveTokens(d.Attempt, func() string {
				n++
				return fmt.Sprintf("%012x%04x", s.changes, n)
			})
		}
		must(b, s.Apply(c))
	}
}

// cluster is a state with connected machines of one slot.
func cluster(b testing.TB, machines int, at time.Time) *State {
	b.Helper()
	s := NewState()
	for i := range machines {
		addr := fmt.Sprintf("m%03d", i)
		s.run1(b, at,
			&Change{MachineAdded: &statepb.MachineAdded{Machine: &statepb.Machine{Addr: addr,
				Class: "x", Slots: 1}}})
		s.run1(b, at, s.React(Connected{Addr: addr, Facts: &statepb.Machine{BootId: "1"}}, at)...)
	}
	return s
}

// decideAll applies what Decide wants and asks when to look again, as the loop does.
func decideAll(b testing.TB, s *State, at time.Time) (n int) {
	for {
		c := s.Decide(at)
		if len(c) == 0 {
			s.Wake(at)
			return n
		}
		n += len(c)
		s.run1(b, at, c...)
	}
}

// bigMatrix submits a matrix of n cells and gives its first job.
func bigMatrix(b testing.TB, s *State, n int, at time.Time) uint64 {
	b.Helper()
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	p, err := s.PlanMatrix(MatrixSpec{
		Job: JobSpec{Class: "x", Cmd: "python train.py --seed {SEED} --rate 0.001",
			CpPath: "/home/user/results/{SEED}", MaxFailures: 3, Dir: "/home/user"},
		Axes: []*statepb.Axis{{Name: "SEED", Values: values}},
	}, false)
	must(b, err)
	s.run1(b, at, p.Changes...)
	return p.IDs[1]
}

// endFirst ends what runs on a machine, and on the others that it has, as the fleet would report
// it, and meets the obligations.
func endFirst(b testing.TB, s *State, addr string, at time.Time) {
	id := s.machines[addr].slots[0]
	j := s.live[id].Job
	var refs []*statepb.RunRef
	for _, run := range runsOf(last(j)) {
		refs = append(refs, runRef(j, last(j), run))
	}
	if len(refs) > 1 {
		for _, r := range refs {
			s.run1(b, at, s.React(Prepared{Ref: r}, at)...)
		}
	}
	for _, r := range refs {
		s.run1(b, at, s.React(Started{Ref: r, At: at}, at)...)
		s.run1(b, at, s.React(Ended{Ref: r, Result: &statepb.Attempt{
			Cause: statepb.Cause_EXITED, Duration: int64(time.Minute), UserCpu: 1e9 + int64(id),
			MaxRss: 1 << 20, OutLen: int64(id), OutCrc: uint32(id) * 2654435761,
			MachineStartedAt: at.UnixNano(), MachineEndedAt: at.UnixNano() + int64(id),
		}}, at)...)
		s.run1(b, at, s.React(Settled{Ref: r}, at)...)
	}
	s.takeEffects()
}

// withHistory is a state in which n jobs have ended on 100 machines, and more of their matrix wait.
func withHistory(b testing.TB, n, waiting int) (*State, time.Time) {
	b.Helper()
	at := time.Unix(1_700_000_000, 0)
	s := cluster(b, 100, at)
	for left := n + waiting; left > 0; left -= MaxCells {
		bigMatrix(b, s, min(left, MaxCells), at)
	}
	decideAll(b, s, at)
	for i := range n {
		at = at.Add(time.Millisecond)
		endFirst(b, s, fmt.Sprintf("m%03d", i%100), at)
		decideAll(b, s, at)
	}
	return s, at
}

// million is made once: it takes many seconds.
var million = sync.OnceValues(func() (*State, time.Time) {
	return withHistory(&testing.B{}, 1_000_000, 0)
})

// anotherMillion is a copy of it that may be changed, with the machines connected and more jobs
// waiting.
func anotherMillion(b *testing.B, waiting int) (*State, time.Time) {
	b.Helper()
	old, at := million()
	records, err := frozen(old)
	must(b, err)
	s, err := restored(records, nil)
	must(b, err)
	for _, addr := range s.Machines() {
		s.run1(b, at, s.React(Connected{Addr: addr, Facts: &statepb.Machine{BootId: "1"}}, at)...)
	}
	bigMatrix(b, s, waiting, at)
	decideAll(b, s, at)
	return s, at
}

// BenchmarkApplyEnded is one job more, from its end to the dispatch of the next, with more and more
// history.
func BenchmarkApplyEnded(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 1_000_000} {
		b.Run(fmt.Sprint("history=", n), func(b *testing.B) {
			var s *State
			var at time.Time
			if n < 1_000_000 {
				s, at = withHistory(b, n, b.N+100)
			} else {
				s, at = anotherMillion(b, b.N+100)
			}
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				at = at.Add(time.Millisecond)
				endFirst(b, s, fmt.Sprintf("m%03d", (n+i)%100), at)
				decideAll(b, s, at)
			}
		})
	}
}

// BenchmarkDispatch fills machines from a queue of 100,000 jobs, which may need something, and may
// stand behind one that needs more than is free; the time is that of one dispatch.
func BenchmarkDispatch(b *testing.B) {
	for _, bench := range dispatches {
		for _, machines := range []int{4, 500} {
			b.Run(fmt.Sprintf("%s/machines=%d", bench.name, machines), func(b *testing.B) {
				at := time.Unix(1_700_000_000, 0)
				s := bench.prepare(b, machines, 100_000+b.N, at)
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					at = at.Add(time.Millisecond)
					endFirst(b, s, "m000", at)
					decideAll(b, s, at)
				}
			})
		}
	}
}

// dispatches are queues that should cost the same.
var dispatches = []struct {
	name    string
	prepare func(b testing.TB, machines, waiting int, at time.Time) *State
}{
	{"plain", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := cluster(b, machines, at)
		waits(b, s, at, JobSpec{Repeat: waiting})
		return s
	}},
	{"needs", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := equippedCluster(b, machines, at)
		waits(b, s, at, JobSpec{Repeat: waiting, Needs: "gpu=1,mem=8G"})
		return s
	}},
	{"shapes", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := equippedCluster(b, machines, at)
		var specs []JobSpec
		for i := range 100 {
			specs = append(specs,
				JobSpec{Repeat: waiting / 100, Needs: fmt.Sprintf("gpu=1,mem=%dG", i+1)})
		}
		waits(b, s, at, specs...)
		return s
	}},
	{"after", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := cluster(b, machines, at)
		waits(b, s, at, JobSpec{Hold: true})
		first := fmt.Sprint(s.nextID - 1)
		// these don't start
		waits(b, s, at, JobSpec{Repeat: waiting / 2, After: AfterSpec{Done: []string{first}}})
		waits(b, s, at, JobSpec{Repeat: waiting / 2, After: AfterSpec{Ended: []string{first}}},
			JobSpec{Repeat: waiting})
		return s
	}},
	{"reserved", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := equippedCluster(b, machines, at)
		s.run1(b, at,
			&Change{MachineAdded: &statepb.MachineAdded{Machine: &statepb.Machine{Addr: "big",
				Class: "x", Slots: 2}}})
		s.run1(b, at, s.React(Connected{Addr: "big", Facts: &statepb.Machine{BootId: "1"}}, at)...)
		waits(b, s, at, JobSpec{Priority: 2}, JobSpec{Priority: 1, Slots: 2},
			JobSpec{Repeat: waiting, Needs: "gpu=1"})
		return s
	}},
	{"pool", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := equippedCluster(b, machines, at)
		resource := func(name, value string) {
			p, err := s.PlanResource(name, value, false)
			must(b, err)
			s.run1(b, at, p.Changes...)
		}
		resource("license", fmt.Sprint(machines+1))
		resource("seat", "1")
		waits(b, s, at, JobSpec{Priority: 2},
			JobSpec{Priority: 1, Repeat: 3, Needs: "seat=1,license=1"},
			JobSpec{Repeat: waiting / 2, Needs: "license=1"},
			JobSpec{Repeat: waiting / 2, Needs: "gpu=1,license=1"})
		return s
	}},
	{"gangs", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := cluster(b, machines, at)
		waits(b, s, at, JobSpec{Repeat: waiting, Machines: 2, Each: true})
		return s
	}},
	{"behind a gang", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := cluster(b, machines, at)
		waits(b, s, at, JobSpec{Priority: 2, Timeout: time.Hour, Repeat: machines},
			JobSpec{Priority: 1, Machines: 3}, JobSpec{Priority: 1, Machines: 4, Each: true},
			JobSpec{Repeat: waiting, Timeout: time.Second})
		return s
	}},
	{"behind two classes", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := otherClass(b, cluster(b, machines, at), machines, at)
		waits(b, s, at, JobSpec{Class: "y", Timeout: time.Hour, Repeat: machines},
			JobSpec{Priority: 2, Timeout: time.Hour, Repeat: machines},
			JobSpec{Priority: 1, With: []string{"S=y*2"}},
			JobSpec{Repeat: waiting, Timeout: time.Second})
		return s
	}},
	{"gangs of two classes", func(b testing.TB, machines, waiting int, at time.Time) *State {
		s := otherClass(b, cluster(b, machines, at), machines, at)
		waits(b, s, at, JobSpec{Repeat: waiting, With: []string{"S=y"}})
		return s
	}},
}

// otherClass adds as many machines of class y.
func otherClass(b testing.TB, s *State, machines int, at time.Time) *State {
	b.Helper()
	for i := range machines {
		addr := fmt.Sprintf("y%03d", i)
		s.run1(b, at,
			&Change{MachineAdded: &statepb.MachineAdded{Machine: &statepb.Machine{Addr: addr,
				Class: "y", Slots: 1}}})
		s.run1(b, at, s.React(Connected{Addr: addr, Facts: &statepb.Machine{BootId: "1"}}, at)...)
	}
	return s
}

// equippedCluster is a cluster whose machines have GPUs and memory.
func equippedCluster(b testing.TB, machines int, at time.Time) *State {
	s := cluster(b, machines, at)
	for _, addr := range s.Machines() {
		p, err := s.PlanMachines([]MachineSpec{{Addr: addr, Class: "x",
			Resources: map[string]string{"gpu": "4", "mem": "256G"}}}, at)
		must(b, err)
		s.run1(b, at, p.Changes...)
	}
	return s
}

// waits submits jobs and dispatches what can be.
func waits(b testing.TB, s *State, at time.Time, specs ...JobSpec) {
	b.Helper()
	for i := range specs {
		specs[i].Class, specs[i].Cmd = cmp.Or(specs[i].Class, "x"), "work"
	}
	p, err := s.PlanJobs(specs, false)
	must(b, err)
	s.run1(b, at, p.Changes...)
	decideAll(b, s, at)
}

// BenchmarkEncode makes the journal's record of a job's end.
func BenchmarkEncode(b *testing.B) {
	c := &Change{At: 1_700_000_000_000_000_000, Ended: &statepb.Ended{
		Run: &statepb.RunRef{Machine: "user@node000.cluster.example", Job: 1_000_000, Attempt: 1,
			Token: "0123456789abcdef01234567"},
		Result: &statepb.Attempt{
			Cause: statepb.Cause_EXITED, Duration: int64(time.Hour), UserCpu: int64(time.Hour),
			MaxRss: 1 << 30, OutLen: 1 << 20, OutCrc: 1 << 31,
			MachineStartedAt: 1_700_000_000_000_000_000, MachineEndedAt: 1_700_003_600_000_000_000,
			Results: []string{"/home/user/out/model.bin"},
		},
	}}
	b.ReportAllocs()
	for b.Loop() {
		record, err := encode(c)
		must(b, err)
		b.SetBytes(int64(len(record)))
	}
}

// BenchmarkSubmitMatrix100k plans, encodes and applies a matrix of 100,000 jobs.
func BenchmarkSubmitMatrix100k(b *testing.B) {
	at := time.Unix(1_700_000_000, 0)
	b.ReportAllocs()
	for b.Loop() {
		s := NewState()
		bigMatrix(b, s, 100_000, at)
	}
}

// BenchmarkRestore1M reads a snapshot with a million ended jobs.
func BenchmarkRestore1M(b *testing.B) {
	s, _ := million()
	records, err := frozen(s)
	must(b, err)
	size := 0
	for _, r := range records {
		size += len(r)
	}
	b.SetBytes(int64(size))
	b.ReportMetric(float64(size)/1e6, "MB-snapshot")
	b.ReportAllocs()
	for b.Loop() {
		got, err := restored(records, nil)
		must(b, err)
		if got.JobCount() < 1_000_000 {
			b.Fatal(got.JobCount())
		}
	}
}

// BenchmarkFreeze1M is how long no change is made for a snapshot of a million ended jobs.
func BenchmarkFreeze1M(b *testing.B) {
	s, _ := million()
	b.ReportAllocs()
	for b.Loop() {
		for f := s.Freeze(); !f.Step(); {
		}
	}
}

// BenchmarkListLast40With1M decodes the last 40 jobs.
func BenchmarkListLast40With1M(b *testing.B) {
	s, _ := million()
	b.ReportAllocs()
	for b.Loop() {
		for _, id := range s.Newest(40, false) {
			if s.Job(id) == nil {
				b.Fatal(id)
			}
		}
	}
}

// BenchmarkPageOf1M decodes a page of ended jobs from the middle of history.
func BenchmarkPageOf1M(b *testing.B) {
	s, _ := million()
	b.ReportAllocs()
	for b.Loop() {
		for id := uint64(500_000); id < 500_000+MaxPage; id++ {
			if s.Job(id) == nil {
				b.Fatal(id)
			}
		}
	}
}

// BenchmarkSelectDoneWith1M selects all that are done.
func BenchmarkSelectDoneWith1M(b *testing.B) {
	s, _ := million()
	b.ReportAllocs()
	for b.Loop() {
		if ids, err := s.Select([]string{":done"}); err != nil || len(ids) != 1_000_000 {
			b.Fatal(len(ids), err)
		}
	}
}

// TestCostIsFlat: one job more costs as many allocations and bytes with much history as with
// little, and the memory of a state with a long history stays small. Counts, not times: they
// don't depend on what else the machine does.
func TestCostIsFlat(t *testing.T) {
	cost := func(history int) (allocs, bytes float64) {
		const jobs = 4 * blockJobs // whole blocks: compression is paid once for each
		s, at := withHistory(t, history, jobs+200)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range jobs {
			at = at.Add(time.Millisecond)
			endFirst(t, s, fmt.Sprintf("m%03d", (history+i)%100), at)
			decideAll(t, s, at)
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / jobs,
			float64(after.TotalAlloc-before.TotalAlloc) / jobs
	}
	fewAllocs, fewBytes := cost(1_000)
	manyAllocs, manyBytes := cost(10_000)
	t.Logf("one job: %.0f allocations of %.0f bytes after 1,000 jobs, %.0f of %.0f after 10,000",
		fewAllocs, fewBytes, manyAllocs, manyBytes)
	if manyAllocs > 1.3*fewAllocs || manyBytes > 1.3*fewBytes {
		t.Errorf("one job costs %.0f allocations of %.0f bytes after 10,000 jobs, %.0f of %.0f "+
			"after 1,000", manyAllocs, manyBytes, fewAllocs, fewBytes)
	}
}

// TestHistoryIsKeptTight: a block has no more memory than its bytes need.
func TestHistoryIsKeptTight(t *testing.T) {
	s, _ := withHistory(t, 4*blockJobs, 100)
	for i, block := range s.history.blocks {
		if len(block) == 0 || cap(block) > len(block)+len(block)/4 {
			t.Errorf("block %d of history has %d bytes, in memory for %d", i, len(block),
				cap(block))
		}
	}
}

// BenchmarkCellsAfter100k plans, encodes and applies a matrix of 100,000 cells, each of which waits
// for a cell of another one.
func BenchmarkCellsAfter100k(b *testing.B) {
	at := time.Unix(1_700_000_000, 0)
	values := make([]string, 100_000)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	axes := []*statepb.Axis{{Name: "A", Values: values}}
	s := cluster(b, 500, at)
	p, err := s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "first"}, Axes: axes}, false)
	must(b, err)
	s.run1(b, at, p.Changes...)
	first := fmt.Sprint(p.IDs[0])
	b.ReportAllocs()
	for b.Loop() {
		p, err := s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "second",
			After: AfterSpec{Cells: first}}, Axes: axes}, false)
		must(b, err)
		s.run1(b, at, p.Changes...)
	}
}

// BenchmarkSelectIDs is what `add --wait` of 3,000 jobs asks for again and again.
func BenchmarkSelectIDs(b *testing.B) {
	s, _ := million()
	var words []string
	for id := uint64(500_000); len(words) < 3000; id++ {
		if s.index.status(id) != 0 {
			words = append(words, fmt.Sprint(id))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Select(words); err != nil {
			b.Fatal(err)
		}
	}
}
