package sched

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestLongRequests carries operations out on many jobs: in pieces, others being answered in
// between, and with the same end and the same answer as at once.
func TestLongRequests(t *testing.T) {
	const count = 4*longOperation + 7
	for _, test := range []struct {
		op   Op
		want Status
	}{{OpHold, Held}, {OpUnhold, Waiting}, {OpCancel, Canceled}, {OpForget, 0}, {OpTag, Waiting},
		{OpRetime, Waiting}} {
		t.Run(string(test.op), func(t *testing.T) {
			t.Parallel()
			inBubbleWith(t, false, func(t *testing.T, d *desk) {
				ids := d.submitMany(t, count, test.op == OpUnhold)
				b := Operation{Op: test.op, Jobs: ids, Tag: "t", Timeout: time.Hour}
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
				if between < turns/3 || turns < count/operationPiece {
					t.Errorf("others were answered %d times in between, in %d turns", between,
						turns)
				}
				for _, batch := range d.tape.batches[before:] {
					if len(batch) > operationPiece+10 {
						t.Errorf("a piece has %d changes", len(batch))
					}
				}
				changed := 0
				for i, f := range p.Fates {
					if f.Job != ids[i] {
						t.Fatalf("the fate of job %d, not of %d", f.Job, ids[i])
					}
					if f.Changed {
						changed++
					}
				}
				if len(p.Fates) != count || changed < count-2 { // two run, and can't be held
					t.Errorf("%d fates, %d changed", len(p.Fates), changed)
				}
				if got := d.inStatus(t, test.want, ids); got < count-2 {
					t.Errorf("%d of %d jobs are %s", got, count, StatusName(test.want))
				}
				again, repeated, err := d.Do(t.Context(), "r1", false,
					func(s *State, _ time.Time) (Plan, error) { return s.PlanOperation(b) })
				if err != nil || !repeated || len(again.Changes) > 0 {
					t.Errorf("asked again it is %v, %v: %v", repeated, again, err)
				}
			})
		})
	}
}

// TestLongRequestSurvives kills the daemon at each point of a long request: nothing of it was done,
// or all of it will be.
func TestLongRequestSurvives(t *testing.T) {
	const count = 2 * longOperation
	inBubbleWith(t, false, func(t *testing.T, d *desk) {
		ids := d.submitMany(t, count, false)
		before := len(d.tape.batches)
		_, err := d.plan(t.Context(), "r1",
			func(s *State, _ time.Time) (Plan,
				error) {
				return s.PlanOperation(Operation{Op: OpForget, Jobs: ids})
			})
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
				LoopOptions{Now: time.Now, Token: func() string {
					return "again"
				}})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { d2.done <- d2.Run(ctx) }()
			synctest.Wait()
			want := 0
			if cut == before {
				want = count
			}
			left := 0
			check(t, d2.Read(t.Context(), func(s *State) {
				left = s.counts.Total()
				if len(s.longs) > 0 {
					t.Errorf("after a kill at batch %d it doesn't come to an end", cut-before)
				}
				if done := s.requests.done["r1"] != nil; done != (cut > before) {
					t.Errorf("after a kill at batch %d the request is known: %v", cut-before, done)
				}
			}))
			if running := 2; left != want && left > running {
				// those are forgotten when they have ended
				t.Errorf("after a kill at batch %d there are %d jobs", cut-before, left)
			}
			cancel()
			check(t, <-d2.done)
		}
	})
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
