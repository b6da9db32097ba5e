package sched

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"jobserver/sched/statepb"
)

// growMatrix submits a matrix again under its name, with other values, repeats, retries or
// priority.
func (d *driver) growMatrix(t *rapid.T) {
	spec := MatrixSpec{Name: "m",
		Job: JobSpec{Class: "x", Cmd: "cell {A} {B} {REPEAT} {SEED}", MaxFailures: 1}}
	if id := d.s.MatrixNamed("m"); id != 0 {
		m, _ := d.s.Matrix(id)
		spec.Job.Class, spec.Job.Cmd, spec.Job.CpPath = m.Template.Class, string(m.Template.Cmd),
			m.Template.CpPath
	}
	spec.Job.Repeat = rapid.IntRange(1, 3).Draw(t, "repeat")
	spec.Job.MaxFailures = rapid.IntRange(0, 1).Draw(t, "retries")
	spec.Job.Priority = rapid.IntRange(0, 1).Draw(t, "priority")
	if hash := rapid.SampledFrom([]string{"", "c1", "c2"}).Draw(t, "code"); hash != "" {
		spec.Job.Code = &statepb.Code{Hash: hash}
	}
	spec.Measurements = rapid.SampledFrom([]string{"", "out.csv"}).Draw(t, "measurements")
	spec.Setup = rapid.SampledFrom([][]string{nil, {"make"}, {"make", "check"}}).Draw(t, "setup")
	axis := func(name string, from ...string) *statepb.Axis {
		values := rapid.SliceOfNDistinct(rapid.SampledFrom(from), 1, 3, rapid.ID[string]).
			Draw(t, name)
		return &statepb.Axis{Name: name, Values: values}
	}
	// in another order than before
	spec.Axes = []*statepb.Axis{axis("B", "x", "y", "z"), axis("A", "1", "2", "3", "4")}
	if rapid.Bool().Draw(t, "chosen") {
		spec.Cells = [][]uint32{{0, 0, 0},
			{uint32(len(spec.Axes[0].Values)) - 1, uint32(len(spec.Axes[1].Values)) - 1,
				uint32(spec.Job.Repeat) - 1}}
	}
	if d.s.MatrixNamed("m") == 0 {
		p, err := d.s.PlanMatrix(spec, false)
		d.may(t, p, err)
		return
	}
	p, g, err := d.s.PlanMatrixAgain(spec, false, 2)
	if d.may(t, p, err); err != nil {
		return
	}
	// Right after that there is nothing left to do, and it says the same of every cell.
	p, after, err := d.s.PlanMatrixAgain(spec, false, 2)
	if err != nil || len(p.Changes) != 0 || after.New+after.Again != 0 || after.Done != g.Done ||
		after.Canceled != g.Canceled ||
		after.Active < g.New || after.Gone != g.Gone {
		t.Fatalf("after %+v it is %+v: %v", g, after, err)
	}
}

// ended runs everything that waits, each with the exit code that is given for its command.
func (w *world) ended(code func(cmd string) int32) error {
	for range 100 {
		runs := w.running()
		if len(runs) == 0 {
			return nil
		}
		for _, r := range runs {
			if err := w.report(Ended{Ref: r.Ref,
				Result: exit(code(string(r.Command)))}); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("it has no end")
}

func TestGrow(t *testing.T) {
	w := newWorld()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.pool("x", 2, "a", "b"))
	spec := MatrixSpec{Name: "m", Job: JobSpec{Class: "x", Cmd: "run {I} {J}"},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1", "2"}},
			{Name: "J", Values: []string{"a", "b"}}}}
	p, err := w.s.PlanMatrix(spec, false)
	must(w.do(p, err))
	must(w.ended(func(cmd string) int32 {
		if cmd == "run 2 b" {
			return 1
		}
		return 0
	}))
	// so that the new ids don't follow the old ones
	_, err = w.submit(JobSpec{Class: "y", Cmd: "between"})
	must(err)

	// One value more, one value less, and what failed.
	spec.Axes = []*statepb.Axis{{Name: "J", Values: []string{"b", "c"}},
		{Name: "I", Values: []string{"2", "1"}}}
	p, g, err := w.s.PlanMatrixAgain(spec, false, 10)
	must(err)
	want := Growth{Matrix: 1, New: 2, Again: 1, Done: 1, Gone: 2, FirstJob: 7,
		AgainJobs: []uint64{9}, Sample: []string{"run 2 b", "run 2 c", "run 1 c"}}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	must(w.do(p, nil))
	ran := []string{}
	must(w.ended(func(cmd string) int32 { ran = append(ran, cmd); return 0 }))
	if diff := cmp.Diff([]string{"run 2 c", "run 1 c", "run 2 b"}, ran); diff != "" {
		t.Errorf("it ran (-want +got):\n%s", diff)
	}
	_, counts := w.s.Matrix(1)
	if counts.By[Done] != 6 || counts.Total() != 6 {
		t.Errorf("counts are %v", counts)
	}
	if diff := cmp.Diff([]uint64{2, 3, 4, 7, 8, 9}, w.s.Cells(1)); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	views := w.s.CellViews(1, 3)
	if len(views) != 3 || views[0].Job != 9 || views[2].Job != 8 ||
		fmt.Sprint(views[2].Index) != "[0 2]" {
		t.Errorf("cells are %+v", views)
	}

	// More repeats: the first of each is there.
	spec.Job.Repeat = 2
	p, g, err = w.s.PlanMatrixAgain(spec, false, 1)
	must(err)
	if g.New != 4 || g.Done != 4 || g.Gone != 2 || g.Again != 0 {
		t.Errorf("with repeats it is %+v", g)
	}
	must(w.do(p, nil))
	must(w.ended(func(string) int32 { return 0 }))
	j := w.s.Job(g.FirstJob)
	vars := map[string]string{}
	for _, v := range j.Vars {
		vars[v.Name] = string(v.Value)
	}
	if diff := cmp.Diff(map[string]string{"I": "2", "J": "b", "REPEAT": "1",
		"SEED": fmt.Sprint(Seed(0, 1))}, vars); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}

	// Settings alone: nothing runs, and a matrix forgotten is gone with all its ids.
	spec.Job.Timeout = time.Hour
	p, _, err = w.s.PlanMatrixAgain(spec, false, 0)
	must(w.do(p, err))
	spec.Measurements, spec.Setup = "out.csv", []string{"make"}
	p, _, err = w.s.PlanMatrixAgain(spec, false, 0)
	must(w.do(p, err))
	if m, _ := w.s.Matrix(1); m.Template.Timeout != int64(time.Hour) ||
		m.Measurements != "out.csv" ||
		m.Cells != 10 {
		t.Errorf("the matrix is %v", m)
	}
	// A change of a daemon that knew of no such file leaves it.
	must(w.s.Apply(&Change{MatrixGrown: &statepb.MatrixGrown{Matrix: 1,
		Template: w.s.matrices[1].Template}}))
	if m, _ := w.s.Matrix(1); m.Measurements != "out.csv" || len(m.Setup) != 1 {
		t.Errorf("its measurements are in %q, and its setup is %q", m.Measurements, m.Setup)
	}
	forget, err := w.s.PlanAtOnce(w.s.ForgetMatrix(1))
	must(w.do(forget, err))
	if m, _ := w.s.Matrix(1); m != nil || len(w.s.homes) != 0 {
		t.Errorf("it is there still: %v", m)
	}
}

func TestGrowRefusals(t *testing.T) {
	w := newWorld()
	base := func() MatrixSpec {
		return MatrixSpec{Name: "m", Job: JobSpec{Class: "x", Cmd: "run {I}", CpPath: "/r"},
			Axes: []*statepb.Axis{{Name: "I", Values: []string{"1"}}}}
	}
	p, err := w.s.PlanMatrix(base(), false)
	if err := w.do(p, err); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(s *MatrixSpec){
		"another command: run {I}, not go {I}": func(s *MatrixSpec) { s.Job.Cmd = "go {I}" },
		"another set of variables: [I], not [I J]": func(s *MatrixSpec) {
			s.Axes = append(s.Axes, &statepb.Axis{Name: "J", Values: []string{"1"}})
		},
		"another class: x, not y":                  func(s *MatrixSpec) { s.Job.Class = "y" },
		"another place for its results: /r, not /": func(s *MatrixSpec) { s.Job.CpPath = "/" },
		"another environment: , not A=b": func(s *MatrixSpec) {
			s.Job.Env = map[string]string{"A": "b"}
		},
		"another seed: 0, not 7":   func(s *MatrixSpec) { s.Seed = 7 },
		"under another tag than t": func(s *MatrixSpec) { s.Job.Tag = "t" },
		"no matrix":                func(s *MatrixSpec) { s.Name = "n" },
		"cell 0 of the matrix has value 5 of I": func(s *MatrixSpec) {
			s.Cells = [][]uint32{{5, 0}}
		},
	} {
		s := base()
		change(&s)
		if _, _, err := w.s.PlanMatrixAgain(s, false, 0); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestSeed holds {SEED} to the published outputs of splitmix64 for the seeds 0 and 1.
func TestSeed(t *testing.T) {
	for _, c := range []struct {
		base   uint64
		repeat uint32
		want   uint64
	}{{0, 0, 0xe220a8397b1dcdaf}, {0, 1, 0x6e789e6aa1b965f4}, {1, 0, 0x910a2dec89025cc1}} {
		if got := Seed(c.base, c.repeat); got != c.want>>33 {
			t.Errorf("Seed(%d, %d) is %d, want %d", c.base, c.repeat, got, c.want)
		}
	}
}

func TestPace(t *testing.T) {
	w := newWorld()
	if err := w.pool("x", 2, "a"); err != nil {
		t.Fatal(err)
	}
	p, err := w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "run {I}", CpPath: "/r"},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1", "2", "3", "4"}}}}, false)
	if err := w.do(p, err); err != nil {
		t.Fatal(err)
	}
	// What counts is how long its slot was held, before the command and after it; it can't be less
	// than the command took.
	want := func(runs int64, seconds float64, waiting int, running string) {
		t.Helper()
		got := w.s.Pace(1, w.now.Add(4*time.Second))
		if got.Runs.GetCount() != runs || got.Runs.GetSeconds() != seconds ||
			got.Waiting != waiting || got.Slots != 2 || fmt.Sprint(got.Running) != running {
			t.Errorf("its pace is %+v", got)
		}
	}
	r := exit(0)
	r.Duration = int64(10 * time.Second)
	first := w.running()[0].Ref
	check(t, w.pass(12*time.Second))
	check(t, w.report(Ended{Ref: first, Result: r}))
	want(1, 12, 1, "[4s 16s]")
	r = exit(0)
	r.Duration, r.Results = int64(20*time.Second), []string{"out"}
	check(t, w.report(Ended{Ref: w.running()[0].Ref, Result: r}))
	want(1, 12, 1, "[4s 16s]") // its results are copied
	check(t, w.report(CopyWaits{Job: 3, Reason: "the disk is full"}))
	want(2, 32, 0, "[4s 4s]")
	check(t, w.report(CopyEnded{Job: 3, Dir: "/r/3"}))
	want(2, 32, 0, "[4s 4s]")
}

// TestYield compares the short way to what a job has left with its whole record.
func TestYield(t *testing.T) {
	w := newWorld()
	if err := w.pool("x", 50, "a"); err != nil {
		t.Fatal(err)
	}
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "run", CpPath: "/results", MaxFailures: 1,
		Repeat: blockJobs + 20})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; len(w.running()) > 0 || len(w.fleet.copies) > 0; n++ {
		for _, run := range w.running() {
			r := exit(0)
			r.Measurements = []string{fmt.Sprintf("n=%d", n), "job=" + fmt.Sprint(run.Ref.Job)}
			if n%3 == 0 {
				r.Results = []string{"out"}
			}
			if err := w.report(Ended{Ref: run.Ref, Result: r}); err != nil {
				t.Fatal(err)
			}
		}
		for job := range w.fleet.copies {
			delete(w.fleet.copies, job)
			if err := w.report(CopyEnded{Job: job,
				Dir: fmt.Sprintf("/results/%d", job)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.pass(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	blocks := 0
	for _, id := range ids {
		j := w.s.Job(id)
		var got CellView
		w.s.yield(id, &got)
		want := CellView{Measurements: last(j).Measurements, ResultsDir: j.ResultsDir,
			Hardware: last(j).Hardware}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" ||
			w.s.Status(id) != Done || got.Hardware.GetCores() == 0 {
			t.Fatalf("job %d, %v: %s", id, w.s.Status(id), diff)
		}
		if w.s.index.place[id] != 0 {
			blocks++
		}
	}
	if blocks < blockJobs {
		t.Errorf("%d jobs are in blocks", blocks)
	}
}

func BenchmarkGrow100k(b *testing.B) {
	values := func(n int) (v []string) {
		for i := range n {
			v = append(v, fmt.Sprint(i))
		}
		return v
	}
	s := NewState()
	spec := MatrixSpec{Name: "m", Job: JobSpec{Class: "x", Cmd: "run {I} {J}"},
		Axes: []*statepb.Axis{{Name: "I", Values: values(1000)}, {Name: "J", Values: values(100)}}}
	p, err := s.PlanMatrix(spec, false)
	if err == nil {
		err = s.Apply(p.Changes[0])
	}
	if err != nil {
		b.Fatal(err)
	}
	spec.Axes[0] = &statepb.Axis{Name: "I", Values: values(1001)}
	b.ReportAllocs()
	for b.Loop() {
		if _, g, err := s.PlanMatrixAgain(spec, false, 10); err != nil || g.New != 100 {
			b.Fatal(g, err)
		}
	}
}

// BenchmarkCellViews100k reads all cells of a matrix whose jobs have ended with a metric each.
func BenchmarkCellViews100k(b *testing.B) {
	w := newWorld()
	w.every = 1 << 30
	if err := w.pool("x", 1000, "a"); err != nil {
		b.Fatal(err)
	}
	axis := &statepb.Axis{Name: "I"}
	for i := range 100_000 {
		axis.Values = append(axis.Values, fmt.Sprint(i))
	}
	p, err := w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "run {I}"},
		Axes: []*statepb.Axis{axis}}, false)
	if err := w.do(p, err); err != nil {
		b.Fatal(err)
	}
	for range 100 {
		var outcomes []Outcome
		for _, run := range w.running() {
			r := exit(0)
			r.Measurements = []string{"throughput=12.5 MB/s"}
			outcomes = append(outcomes, Ended{Ref: run.Ref, Result: r})
		}
		if err := w.report(outcomes...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for from := uint32(0); from < 100_000; from += MaxPage {
			for _, v := range w.s.CellViews(1, from) {
				n += len(v.Measurements)
			}
		}
		if n != 100_000 {
			b.Fatal(n)
		}
	}
}

// TestGrowTellsWhatRan lets a sweep grow with other code and other variables: it names what the
// cells that are done ran, and how many.
func TestGrowTellsWhatRan(t *testing.T) {
	clean := &statepb.Code{Hash: "aaaaaaaaaaaaaaaa", Commit: "0d33"}
	edited := &statepb.Code{Hash: "bbbbbbbbbbbbbbbb", Commit: "0d33", Diff: "d1"}
	edited2 := &statepb.Code{Hash: "cccccccccccccccc", Commit: "0d33", Diff: "d2"}
	w := newWorld()
	check(t, w.pool("x", 2, "a"))
	values := []string{"1", "2", "3"}
	for i, step := range []struct {
		code *statepb.Code
		q    string
		end  int32    // what the new cells exit with
		want []string // warnings
	}{
		{code: clean, q: "1"},
		{code: edited, q: "1", want: []string{"the code is not what it was: cells that are done " +
			"ran: 3 commit 0d33; now it is commit 0d33 with changes"}},
		{code: clean, q: "1", want: []string{"the code is not what it was: cells that are done " +
			"ran: 1 commit 0d33 with changes, 3 commit 0d33; now it is commit 0d33"}},
		{code: clean, q: "1", end: 1, want: []string{"the code is not what it was: cells that " +
			"are done ran: 1 commit 0d33 with changes, 4 commit 0d33; now it is commit 0d33"}},
		{code: edited2, q: "2", want: []string{ // what failed runs with it again
			"the code is not what it was: cells that are done ran: 4 commit 0d33, 1 commit 0d33 " +
				"with changes (bbbbbbbbbbbb); now it is commit 0d33 with changes (cccccccccccc)",
			"the variable q is not what it was: cells that are done ran with: 5 q=1; " +
				"now it is q=2"}},
		{q: "2", want: []string{
			"the code is not what it was: cells that are done ran: 4 commit 0d33, 1 commit 0d33 " +
				"with changes (bbbbbbbbbbbb), 2 commit 0d33 with changes (cccccccccccc); now it " +
				"is no code of their own",
			"the variable q is not what it was: cells that are done ran with: 5 q=1, 2 q=2; now " +
				"it is q=2"}},
	} {
		check(t, w.do(w.s.PlanVar("q", step.q, false, false)))
		spec := MatrixSpec{Name: "m", Job: JobSpec{Class: "x", Cmd: "run {A} {q}", Code: step.code},
			Axes: []*statepb.Axis{{Name: "A", Values: values}}}
		var p Plan
		var err error
		if i == 0 {
			p, err = w.s.PlanMatrix(spec, false)
		} else {
			p, _, err = w.s.PlanMatrixAgain(spec, false, 0)
		}
		check(t, w.do(p, err))
		if diff := cmp.Diff(step.want, p.Warnings); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i+1, diff)
		}
		check(t, w.ended(func(string) int32 { return step.end }))
		values = append(values, fmt.Sprint(len(values)+1))

		// A restart has what its job had, and nothing is forgotten over a snapshot.
		if i == 2 {
			w.operate(t, OpRestart, w.s.Cells(1)[0])
			check(t, w.ended(func(string) int32 { return 0 }))
		}
		snapshot, err := frozen(w.s)
		check(t, err)
		back, err := restored(snapshot, nil)
		check(t, err)
		if diff := cmp.Diff(dump(w.s), dump(back)); diff != "" {
			t.Errorf("step %d, restored (-was +is):\n%s", i+1, diff)
		}
	}
}

// TestGrowKeepsWhatRan: a matrix notes what its cells ran with, and nothing that none of them did.
func TestGrowKeepsWhatRan(t *testing.T) {
	w := newWorld()
	spec := MatrixSpec{Name: "m", Job: JobSpec{Class: "x", Cmd: "run {A} {q}"},
		Axes: []*statepb.Axis{axis("A", "1", "2")}}
	check(t, w.do(w.s.PlanVar("q", "0", false, false)))
	check(t, w.do(w.s.PlanMatrix(spec, false)))
	for i := range 10 {
		check(t, w.do(w.s.PlanVar("q", fmt.Sprint(i+1), false, false)))
		p, _, err := w.s.PlanMatrixAgain(spec, false, 0)
		check(t, w.do(p, err))
	}
	if m := w.s.matrices[1]; len(m.Ran) != 0 {
		t.Errorf("%d settings are kept of a matrix that never ran", len(m.Ran))
	}
}
