package service

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/api"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// nowhere is a journal that keeps nothing, and a fleet that says of each run what the test wants.
type nowhere struct{ runs chan sched.Run }

func (n *nowhere) Commit([][]byte) error { return nil }
func (n *nowhere) Full() bool            { return false }
func (n *nowhere) NeedsSnapshot() bool   { return false }
func (n *nowhere) SnapshotPays() bool    { return false }
func (n *nowhere) Seal() error           { return nil }
func (n *nowhere) StartSnapshot() (func(func(func([]byte) error) error) error, error) {
	return nil, nil
}
func (n *nowhere) Connect(sched.Pool)                    {}
func (n *nowhere) Disconnect(string)                     {}
func (n *nowhere) Start(r sched.Run)                     { n.runs <- r }
func (n *nowhere) Cancel(*statepb.RunRef)                {}
func (n *nowhere) Retime(*statepb.RunRef, time.Duration) {}
func (n *nowhere) Pause(*statepb.RunRef, bool)           {}
func (n *nowhere) Signal(*statepb.RunRef, int)           {}
func (n *nowhere) Copy(sched.Copy)                       {}
func (n *nowhere) StopCopy(uint64)                       {}
func (n *nowhere) Settle(*statepb.Obligation)            {}
func (n *nowhere) Drop(*statepb.RunRef)                  {}
func (n *nowhere) ForgetLogs(uint64)                     {}
func (n *nowhere) Provide(sched.Provider)                {}
func (n *nowhere) Withdraw(string)                       {}
func (n *nowhere) Allocate(sched.Allocation)             {}
func (n *nowhere) Release(uint64)                        {}
func (n *nowhere) Abandon(uint64)                        {}

// desk is a service over a loop that has one machine "a" of two slots in class x.
type desk struct {
	*service
	t    *testing.T
	runs chan sched.Run
}

func newDesk(t *testing.T) *desk {
	n := &nowhere{runs: make(chan sched.Run, 10_000)}
	tokens := 0
	loop := sched.NewLoop(sched.NewState(), n, n, sched.LoopOptions{
		Now: time.Now, Token: func() string { tokens++; return fmt.Sprint("t", tokens) },
	})
	d := &desk{t: t, runs: n.runs, service: &service{ctx: t.Context(), Options: &Options{
		Loop: loop,
		Now:  time.Now,
		Log:  slog.New(slog.DiscardHandler),
		About: api.Status{
			LogDir:   t.TempDir(),
			StateDir: t.TempDir(),
		},
		Timelines: NewTimelines(loop, time.Now),
	}}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := loop.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { d.Timelines.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	d.plan(func(st *sched.State, now time.Time) (sched.Plan, error) {
		return st.PlanMachines([]sched.MachineSpec{{Addr: "a", Class: "x", Slots: 2}}, now)
	})
	loop.Report(sched.Connected{Addr: "a", Facts: &statepb.Machine{BootId: "1"}})
	return d
}

func (d *desk) plan(plan func(*sched.State, time.Time) (sched.Plan, error)) []uint64 {
	d.t.Helper()
	p, _, err := d.Loop.Do(d.t.Context(), "", false, plan)
	if err != nil {
		d.t.Fatal(err)
	}
	return p.IDs
}

// matrix submits one of cells × 1, and lets n of them end, each third of them badly.
func (d *desk) matrix(cells, n int) (id, first uint64) {
	d.t.Helper()
	var values []string
	for i := range cells {
		values = append(values, fmt.Sprint(i))
	}
	ids := d.plan(func(st *sched.State, _ time.Time) (sched.Plan, error) {
		return st.PlanMatrix(sched.MatrixSpec{
			Job: sched.JobSpec{Class: "x", Cmd: "true {I}", Hold: false}, Name: "m",
			Axes: []*statepb.Axis{{Name: "I", Values: values}},
		}, false)
	})
	for i := range n {
		r := <-d.runs
		a := &statepb.Attempt{
			Cause:        statepb.Cause_EXITED,
			Measurements: []string{fmt.Sprintf("loss=%d s", i)},
		}
		if i%3 == 2 {
			a.ExitCode = 1
		}
		d.Loop.Report(sched.Ended{Ref: r.Ref, Result: a})
		// The run is over; what is to be removed of it is.
		d.Loop.Report(sched.Settled{Ref: r.Ref})
	}
	// What was reported has been taken, and both slots have their next job.
	d.sync()
	return ids[0], ids[1]
}

// sync returns when all that was reported has been taken.
func (d *desk) sync() {
	d.t.Helper()
	check(d.t, d.Loop.Read(d.t.Context(), func(*sched.State) {}))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewestJobs(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, first := d.matrix(50, 9)
	var seen []uint64
	args := &api.ListJobsArgs{
		Newest:    true,
		Selectors: []string{":failed", "%m:running"},
		Limit:     2,
		Light:     true,
	}
	for {
		var page api.ListJobsReply
		check(t, d.ListJobs(args, &page))
		for _, j := range page.Jobs {
			if j.Cmd != "true {I}" || j.CmdRun != "" || j.Log != "" || j.Machine != "a" {
				t.Errorf("not what a row shows: %+v", j)
			}
			seen = append(seen, j.JID-first)
		}
		if page.Counts.Failed != 3 || page.Counts.Running != 2 || page.Matched != -1 {
			t.Error(page.Counts, page.Matched)
		}
		if args.Before = page.Next; page.Next == 0 {
			break
		}
	}
	if diff := cmp.Diff([]uint64{10, 9, 8, 5, 2}, seen); diff != "" {
		t.Error(diff)
	}
	var none api.ListJobsReply
	check(t, d.ListJobs(&api.ListJobsArgs{Newest: true, Selectors: []string{":lost"}}, &none))
	if len(none.Jobs) != 0 || none.Next != 0 {
		t.Error("nothing matches:", none)
	}
	if err := d.ListJobs(
		&api.ListJobsArgs{Newest: true, Selectors: []string{":lots"}},
		&none,
	); api.KindOf(
		err,
	) != api.Invalid {
		t.Error(err)
	}
}

func TestMatrixMap(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	id, first := d.matrix(12, 9)
	var m api.MatrixMapReply
	check(t, d.MatrixMap(&api.MatrixMapArgs{Matrix: "m", From: 1}, &m))
	want := []byte{5, 6, 5, 5, 6, 5, 5, 6, 3, 3, 1}
	if diff := cmp.Diff(want, m.Status); diff != "" || m.ID != id || m.Cells != 12 || m.Next != 0 {
		t.Error(diff, m)
	}
	one := api.MatrixMapReply{}
	check(t, d.MatrixMap(&api.MatrixMapArgs{Matrix: "m", From: 4, Max: 1}, &one))
	if len(one.Status) != 1 || one.JID != first+4 || one.Next != 5 {
		t.Errorf("%+v", one)
	}
	for _, from := range []int{12, 1<<32 + 4, math.MaxInt} { // no cell of it, whatever the bits say
		one = api.MatrixMapReply{}
		check(t, d.MatrixMap(&api.MatrixMapArgs{Matrix: "m", From: from}, &one))
		var cells api.MatrixCellsReply
		check(t, d.MatrixCells(&api.MatrixCellsArgs{Matrix: "m", From: from}, &cells))
		if len(one.Status)+len(cells.Cells) > 0 || one.JID != 0 {
			t.Errorf("from cell %d: %+v, %+v", from, one, cells.Cells)
		}
	}
	m = api.MatrixMapReply{}
	check(t, d.MatrixMap(&api.MatrixMapArgs{Matrix: "m", Metric: "loss"}, &m))
	if !slices.Equal(m.Names, []string{"loss"}) || m.Unit != "s" || m.Values[3] != 3 ||
		m.Values[11] == m.Values[11] {
		t.Error(m)
	}
	var light api.ListMatricesReply
	check(t, d.ListMatrices(&api.ListMatricesArgs{Light: true}, &light))
	if got := light.Matrices[0]; got.Vars[0].Values != nil || got.Vars[0].Count != 12 ||
		got.Left == nil {
		t.Errorf("%+v", got)
	}
	var status api.Status
	check(t, d.Status(nil, &status))
	c := status.Classes[0]
	if c.Class != "x" || c.Jobs.Failed != 3 || c.Slots != 2 || c.Connected != 1 || c.Left == nil {
		t.Errorf("%+v", c)
	}
}

func TestTimelineFollows(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.matrix(20, 6)
	ask := func() *api.TimelineReply {
		reply := new(api.TimelineReply)
		check(
			t,
			d.Timeline(
				&api.TimelineArgs{Columns: 10, Spans: 100, Wait: time.Minute},
				reply,
				noWait,
			),
		)
		return reply
	}
	counts := func(r *api.TimelineReply) map[string]int {
		n := map[string]int{}
		for _, s := range r.Spans {
			n[s.Status]++
		}
		return n
	}
	if diff := cmp.Diff(
		map[string]int{"done": 4, "failed": 2, "running": 2},
		counts(ask()),
	); diff != "" {
		t.Error(diff)
	}
	// What ends is in the next picture, and in no other place of it.
	for range 2 {
		d.Loop.Report(
			sched.Ended{
				Ref:    (<-d.runs).Ref,
				Result: &statepb.Attempt{Cause: statepb.Cause_TIMED_OUT},
			},
		)
	}
	d.sync()
	want := map[string]int{"done": 4, "failed": 4, "running": 0}
	r := ask()
	if want["running"] = r.Total - 8; !cmp.Equal(want, counts(r)) &&
		!cmp.Equal(map[string]int{"done": 4, "failed": 4}, counts(r)) {
		t.Error(counts(r), r.Total)
	}
	if r.Ready != 1 || len(r.Rows) != 1 || r.Rows[0].Class != "x" || r.First.IsZero() {
		t.Errorf("%+v", r)
	}
	var narrow api.TimelineReply
	if err := d.Timeline(
		&api.TimelineArgs{Columns: 10, Classes: []string{"nowhere"}, Wait: time.Minute},
		&narrow,
		noWait,
	); api.KindOf(
		err,
	) != api.NotFound {
		t.Error(err)
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, first := d.matrix(3, 3)
	var log api.LogReply
	check(t, d.JobLog(&api.LogArgs{JID: first, Tail: 5}, &log, noWait))
	if len(log.Data) != 0 || log.Offset != 0 || !log.EOF {
		t.Errorf("no log yet: %+v", log)
	}
	check(t, os.MkdirAll(filepath.Dir(log.Path), 0o700))
	check(t, os.WriteFile(log.Path, []byte("hello world"), 0o600))
	for _, test := range []struct {
		tail   int64
		offset int64
		max    int
		data   string
		from   int64
		eof    bool
	}{
		{tail: 5, offset: 3, data: "world", from: 6, eof: true},
		{tail: 500, data: "hello world", eof: true},
		{tail: 8, max: 2, data: "lo", from: 3},
		{offset: 6, data: "world", from: 6, eof: true},
	} {
		var log api.LogReply
		check(
			t,
			d.JobLog(
				&api.LogArgs{JID: first, Tail: test.tail, Offset: test.offset, Max: test.max},
				&log,
				noWait,
			),
		)
		if string(log.Data) != test.data || log.Offset != test.from || log.EOF != test.eof {
			t.Errorf("%+v: %q from %d, %v", test, log.Data, log.Offset, log.EOF)
		}
	}
}

func TestChangesOfADesk(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	id, first := d.matrix(20, 6)
	var c api.ChangesReply
	check(t, d.Changes(&api.ChangesArgs{Since: 0}, &c))
	if len(c.Jobs) != 8 || c.First != first || c.Last != first+7 ||
		!slices.Equal(c.Matrices, []uint64{id}) ||
		!slices.Equal(c.Machines, []string{"a"}) {
		t.Errorf("%+v", c)
	}
	var none api.ChangesReply
	check(
		t,
		d.Changes(&api.ChangesArgs{Since: c.Cursor, Pulse: c.Pulse, Wait: time.Millisecond}, &none),
	)
	if none.Events != 0 || none.Cursor != c.Cursor {
		t.Errorf("%+v", none)
	}
}

// noWait is the turn of a call when nobody else has one.
func noWait() error { return nil }
