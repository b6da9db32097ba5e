package sched

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
)

// TestLongRequests carries operations out on many jobs: in pieces, others being answered in
// between, and with the same end and the same answer as at once.
func TestLongRequests(t *testing.T) {
	const many = longOperation + 7
	for _, test := range []struct {
		op     Op
		count  int
		repeat int
		want   Status
		made   int // new jobs
	}{
		{OpHold, many, 0, Held, 0}, {OpUnhold, many, 0, Waiting, 0},
		{OpCancel, many, 0, Canceled, 0}, {OpForget, many, 0, 0, 0},
		{OpTag, many, 0, Waiting, 0}, {OpUntag, many, 0, Waiting, 0},
		{OpRetime, many, 0, Waiting, 0}, {OpRecopy, many, 0, Waiting, 0},
		{OpSet, many, 0, Waiting, 0},
		{OpRestart, many, 0, Canceled, many},
		{OpClone, many, 0, Waiting, many}, {OpClone, many, 3, Waiting, 3 * many},
		{OpClone, 7, 1234, Waiting, 7 * 1234}, {OpClone, 1, longOperation, Waiting, longOperation},
	} {
		t.Run(fmt.Sprintf("%s %d %d", test.op, test.count, test.repeat), func(t *testing.T) {
			t.Parallel()
			inBubbleWith(t, false, func(t *testing.T, d *desk) {
				count := test.count
				ids := d.submitMany(t, count, test.op == OpUnhold)
				b := Operation{Op: test.op, Jobs: ids, Tag: "t", Timeout: time.Hour,
					Repeat: test.repeat, Set: SetSpec{Env: map[string]string{"A": "1"}}}
				before := len(d.tape.batches)
				d.tape.takes = time.Millisecond // while it lasts, others get their turn to ask
				done := make(chan Plan, 1)
				go func() {
					p, err := d.plan(context.Background(), "r1",
						func(s *State, _ time.Time) (Plan, error) { return s.PlanOperation(b) })
					if err != nil {
						t.Error(err)
					}
					done <- p
				}()
				between := 0
				var p Plan
				for over := false; !over; {
					select {
					case p = <-done:
						over = true
					default:
						check(t, d.Read(t.Context(), func(s *State) {
							if len(s.longs) > 0 && s.longs[0].Done > 0 {
								between++
							}
						}))
					}
				}
				d.tape.takes = 0
				turns := len(d.tape.batches) - before
				if between < turns/3 || turns < max(count, test.made)/OperationPiece {
					t.Errorf("others were answered %d times in between, in %d turns", between,
						turns)
				}
				for _, batch := range d.tape.batches[before:] {
					if len(batch) > 2*OperationPiece+10 { // a restart is two
						t.Errorf("a piece has %d changes", len(batch))
					}
				}
				changed, made := 0, []uint64(nil)
				for i, f := range p.Fates {
					if f.Job != ids[i] {
						t.Fatalf("the fate of job %d, not of %d", f.Job, ids[i])
					}
					if f.Changed {
						changed++
					}
					made = append(made, f.New...)
					if copies := len(f.New); copies != test.made/count ||
						copies > 1 && !strings.HasPrefix(f.Note, "cloned as ") {
						t.Fatalf("of job %d were made %d: %s", f.Job, copies, f.Note)
					}
				}
				if !slices.Equal(made, p.IDs) || len(p.IDs) != test.made || !slices.IsSorted(made) {
					t.Errorf("%d new jobs, of which %d are told", len(made), len(p.IDs))
				}
				want := count - 2 // two run, and can't be held
				if test.op == OpRecopy || test.op == OpUntag {
					want = 0 // there is nothing to be done
				}
				if len(p.Fates) != count || changed < want || changed > want+2 {
					t.Errorf("%d fates, %d changed", len(p.Fates), changed)
				}
				if got := d.inStatus(t, test.want, ids); got < count-2 {
					t.Errorf("%d of %d jobs are %s", got, count, StatusName(test.want))
				}
				again, repeated, err := d.Do(t.Context(), "r1", false,
					func(s *State, _ time.Time) (Plan, error) { return s.PlanOperation(b) })
				if err != nil || !repeated || len(again.Changes) > 0 ||
					!slices.Equal(again.IDs, p.IDs) {
					t.Errorf("asked again it is %v, %v: %v", repeated, again, err)
				}
			})
		})
	}
}

// TestLongRequestSurvives kills the daemon at each point of a long request: nothing of it was done,
// or all of it will be, and what was made is told to whoever asks again.
func TestLongRequestSurvives(t *testing.T) {
	for _, test := range []struct {
		Operation
		count, made int
		left        int // jobs that haven't ended
	}{
		{Operation{Op: opSubmit, Repeat: 1234}, 0, 1234, 1234},
		{Operation{Op: OpForget}, longOperation, 0, 0},
		{Operation{Op: OpClone, Repeat: 350}, 3, 1050, 1053},
		{Operation{Op: OpRestart}, longOperation, longOperation, longOperation},
		{Operation{Op: OpSet, Set: SetSpec{Next: true}}, longOperation, 0, longOperation},
	} {
		t.Run(string(test.Op), func(t *testing.T) {
			t.Parallel()
			inBubbleWith(t, false, func(t *testing.T, d *desk) {
				survive(t, d, test.Operation, test.count, test.made, test.left)
			})
		})
	}
}

func survive(t *testing.T, d *desk, b Operation, count, made, left int) {
	if count > 0 {
		b.Jobs = d.submitMany(t, count, true)
	}
	before := len(d.tape.batches)
	plan := func(s *State, _ time.Time) (Plan, error) {
		if count == 0 {
			return s.PlanSubmission([]JobSpec{{Class: "x", Cmd: "work", Repeat: b.Repeat}}, false)
		}
		return s.PlanOperation(b)
	}
	p, err := d.plan(t.Context(), "r1", plan)
	if len(p.IDs) != made {
		t.Errorf("%d jobs were made, not %d", len(p.IDs), made)
	}
	check(t, err)
	for cut := before; cut <= len(d.tape.batches); cut++ {
		var records [][]byte
		for _, b := range d.tape.batches[:cut] {
			records = append(records, b...)
		}
		s, err := restored(nil, records)
		check(t, err)
		if cut%2 == 0 { // and from a snapshot
			snap, err := frozen(s)
			check(t, err)
			s, err = restored(snap, nil)
			check(t, err)
		}
		d2 := &desk{tape: &tape{}, fleet: newMemory(), done: make(chan error, 1)}
		d2.Loop = NewLoop(s, d2.tape, d2.fleet,
			LoopOptions{Now: time.Now, Token: func() string { return "again" }})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { d2.done <- d2.Run(ctx) }()
		synctest.Wait()
		want, ids := left, made
		if cut == before {
			want, ids = count, 0
		}
		check(t, d2.Read(t.Context(), func(s *State) {
			if len(s.longs) > 0 {
				t.Errorf("after a kill at batch %d it doesn't come to an end", cut-before)
			}
			if n := s.counts.Unfinished(); n != want {
				t.Errorf("after a kill at batch %d there are %d jobs, not %d", cut-before, n, want)
			}
			done := s.requests.done["r1"]
			if (done != nil) != (cut > before) || len(done.GetIds()) != ids {
				t.Errorf("after a kill at batch %d it is known: %v, with %d jobs", cut-before,
					done != nil, len(done.GetIds()))
			}
		}))
		cancel()
		check(t, <-d2.done)
	}
}

// TestLongSet changes settings of many jobs in pieces: what it makes of them is what it makes of
// one of them at once, and those that it doesn't fit when their turn comes are passed over.
func TestLongSet(t *testing.T) {
	class, cmd, path, needs, priority, slots, retries := "y", "other", "/r", "gpu", 7, 2, 3
	hour, at, exclusive, none := time.Hour, time.Unix(2_000_000_000, 5), true, ""
	for name, spec := range map[string]SetSpec{
		"class": {Class: &class}, "command": {Cmd: &cmd}, "results": {CpPath: &path},
		"priority": {Priority: &priority}, "timeout": {Timeout: &hour}, "slots": {Slots: &slots},
		"retries": {MaxFailures: &retries}, "start": {StartAfter: &at}, "needs": {Needs: &needs},
		"exclusive": {Exclusive: &exclusive}, "next": {Next: true},
		"environment": {Env: map[string]string{"A": "1", "B": ""}},
		"after":       {After: &AfterSpec{Done: []string{"1"}, Unmet: "cancel"}},
		"all": {Class: &class, Cmd: &cmd, Priority: &priority, Slots: &slots, Needs: &none,
			After: &AfterSpec{}, StartAfter: &time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			_, err := w.submit(JobSpec{Class: "x", Cmd: "first", Priority: 4})
			check(t, err)
			ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Repeat: longOperation + 1})
			check(t, err)
			b := Operation{Op: OpSet, Jobs: ids, Set: spec}
			want, err := w.s.PlanAtOnce(b)
			check(t, err)
			p, err := w.s.PlanOperation(b)
			check(t, w.do(p, err))
			w.operate(t, OpCancel, ids[longOperation])
			var got []*Change
			var fates []Fate
			for len(w.s.longs) > 0 {
				changes, some := w.s.piece(w.s.longs[0])
				check(t, w.do(Plan{Changes: changes}, nil))
				got, fates = append(got, changes[:len(changes)-1]...), append(fates, some...)
			}
			last := fates[longOperation]
			if last.Changed || !strings.Contains(last.Note, "canceled") {
				t.Errorf("of a job that was canceled meanwhile it is said: %+v", last)
			}
			for i, c := range want.Changes[:longOperation] {
				if fates[i].Job != ids[i] || !fates[i].Changed || c.JobSet == nil ||
					!proto.Equal(got[i].JobSet, c.JobSet) {
					t.Fatalf("job %d gets %v, %+v, not %v", ids[i], got[i], fates[i], c)
				}
			}
		})
	}
}

// TestNext: jobs that are put before all others stay in their order among themselves, and one that
// is before them already stays there.
func TestNext(t *testing.T) {
	w := newWorld()
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "a", Priority: 9}, JobSpec{Class: "x", Cmd: "b"},
		JobSpec{Class: "x", Cmd: "c", Priority: 5}, JobSpec{Class: "x", Cmd: "d"})
	check(t, err)
	for range 2 { // the second time there is nothing to raise
		p, err := w.s.PlanSet(ids[1:3], SetSpec{Next: true})
		check(t, w.do(p, err))
		var order []int32
		for _, id := range ids {
			order = append(order, w.s.Job(id).Priority)
		}
		if want := []int32{9, 10, 10, 0}; !slices.Equal(order, want) {
			t.Errorf("the priorities are %v, not %v", order, want)
		}
	}
	w.operate(t, OpCancel, ids[:2]...)
	p, err := w.s.PlanSet(ids[2:3], SetSpec{Next: true})
	check(t, w.do(p, err))
	if n := w.s.Job(ids[2]).Priority; n != 10 {
		t.Errorf("a job that was before all others has the priority %d then, not 10", n)
	}
}

// submitMany submits jobs, and gives their ids.
func (d *desk) submitMany(t *testing.T, count int, hold bool) []uint64 {
	p, err := d.plan(t.Context(), "", func(s *State, _ time.Time) (Plan, error) {
		return s.PlanJobs([]JobSpec{{Class: "x", Cmd: "work", Repeat: count, Hold: hold}}, false)
	})
	check(t, err)
	return p.IDs
}

// inStatus counts those of the jobs that are in a status.
func (d *desk) inStatus(t *testing.T, want Status, ids []uint64) (n int) {
	check(t, d.Read(t.Context(), func(s *State) {
		for _, id := range ids {
			if s.Status(id) == want {
				n++
			}
		}
	}))
	return n
}
