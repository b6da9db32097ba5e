package sched

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// TestResubmittedIsShort: to run many cells again takes a few bytes for each, whatever the command,
// and the new jobs are what the old ones were; so they are after a restart.
func TestResubmittedIsShort(t *testing.T) {
	w := newWorld()
	w.every = 1000
	cmd := "run {A} # " + strings.Repeat("x", 10_000)
	values := make([]string, 200)
	for i := range values {
		values[i] = strings.Repeat("v", i%7+1) + strings.Repeat("w", i/7)
	}
	spec := MatrixSpec{Name: "m",
		Job: JobSpec{Class: "x", Cmd: cmd, MaxFailures: 2, Env: map[string]string{"E": "1"},
			Tag: "t"}, Axes: []*statepb.Axis{axis("A", values...)}}
	p, err := w.s.PlanMatrix(spec, false)
	check(t, w.do(p, err))
	id, first := p.IDs[0], p.IDs[1]
	cancel, err := w.s.PlanAtOnce(w.s.CancelMatrix(id))
	check(t, w.do(cancel, err))
	size := func(p Plan) (n int) {
		for _, c := range p.Changes {
			n += proto.Size(c)
		}
		return n
	}
	again, err := planRestart(w.s, id, []Status{Failed, Lost, Canceled}, nil)
	check(t, w.do(again, err))
	for _, c := range again.Changes {
		if c.JobResubmitted.Like != 0 {
			t.Fatalf("a job that its cell says all of is looked up: %v", c.JobResubmitted)
		}
	}
	if n := size(again); len(again.IDs) != len(values) || n > 40*len(values) {
		t.Errorf("%d jobs in %d bytes", len(again.IDs), n)
	}
	clones, err := w.s.PlanAtOnce(Operation{Op: OpClone, Jobs: []uint64{first + 5}, Repeat: 200})
	check(t, w.do(clones, err))
	if n := size(clones); n > 40*200 {
		t.Errorf("200 clones in %d bytes", n)
	}
	for _, test := range []struct {
		id, matrix uint64
		cell       int32
	}{{again.IDs[5], id, 5}, {clones.IDs[7], 0, 0}} {
		got, was := w.s.Job(test.id), w.s.Job(first+5)
		want := shallow(was)
		want.Id, want.Status, want.SubmittedAt, want.RestartOf, want.Matrix, want.Cell = test.id,
			Waiting, w.now.UnixNano(), was.Id, test.matrix, test.cell
		if !proto.Equal(got, want) {
			t.Errorf("job %d isn't like %d: %v", test.id, was.Id, oneLine(got.String(), 300))
		}
	}

	// A matrix that is submitted again runs what was forgotten with its present settings.
	var some []uint64 // all jobs of the cells from 100 on
	for i := range 100 {
		some = append(some, first+100+uint64(i), again.IDs[100+i])
	}
	forget, err := w.s.PlanAtOnce(Operation{Op: OpForget, Jobs: some})
	check(t, w.do(forget, err))
	spec.Job.MaxFailures = 5
	grown, g, err := w.s.PlanMatrixAgain(spec, false, 0)
	check(t, w.do(grown, err))
	if n := size(grown); g.Again != 100 || n > 40*len(values)+2*len(cmd) {
		t.Fatalf("%d jobs in %d bytes", g.Again, n)
	}
	if j := w.s.Job(g.AgainJobs[0]); j.MaxFailures != 5 ||
		string(j.Vars[0].Value) != values[j.Cell] || j.Matrix != id {
		t.Errorf("the new job is %v", oneLine(j.String(), 300))
	}
	s, err := restored(nil, w.journal)
	check(t, err)
	if !slices.Equal(dump(w.s), dump(s)) {
		t.Error("after a restart the jobs are others")
	}
	if got := HighestID(w.journal[len(w.journal)-1]); got != g.AgainJobs[len(g.AgainJobs)-1] {
		t.Errorf("the highest id is %d", got)
	}
}

// planRestart plans to restart cells of a matrix.
func planRestart(
	s *State, matrix uint64, statuses []Status, match func([]uint32) (bool, error),
) (Plan, error) {
	b, err := s.RestartMatrix(matrix, statuses, match)
	if err != nil {
		return Plan{}, err
	}
	return s.PlanAtOnce(b)
}
