package sched

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"jobserver/sched/statepb"
)

// TestTooMuch: a request that would write more than the journal takes is refused, and nothing of it
// is done; so is one whose single change is too long. Others go on.
func TestTooMuch(t *testing.T) {
	inBubbleWith(t, false, func(t *testing.T, d *desk) {
		for what, plan := range map[string]func(s *State, now time.Time) (Plan, error){
			"copies of a long command": func(s *State, _ time.Time) (Plan, error) {
				return s.PlanJobs([]JobSpec{{Class: "x", Cmd: strings.Repeat("x", 100_000),
					Repeat: 5500, Hold: true}}, false)
			},
			"many changes": func(*State, time.Time) (p Plan, _ error) {
				value := make([]byte, 1<<20)
				for range 257 {
					p.Changes = append(p.Changes,
						&Change{VarSet: &statepb.VarSet{Name: "A", Value: value}})
				}
				return p, nil
			},
			"a long change": func(*State, time.Time) (p Plan, _ error) {
				return Plan{Changes: []*Change{{VarSet: &statepb.VarSet{Name: "A",
					Value: make([]byte, 61<<20)}}}}, nil
			},
		} {
			before := len(d.tape.batches)
			_, err := d.plan(t.Context(), what, plan)
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Kind != Invalid ||
				!strings.Contains(refusal.Next, "split") || len(d.tape.batches) != before {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
	})
}

// TestFullTurn: requests that together are too much for one batch are done in several, each once
// and in order.
func TestFullTurn(t *testing.T) {
	inBubbleWith(t, false, func(t *testing.T, d *desk) {
		d.tape.busy = make(chan struct{})
		go func() { _, _ = d.plan(t.Context(), "", oneJob) }()
		synctest.Wait()
		before := len(d.tape.batches)
		value := make([]byte, 20<<20)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				_, repeated, err := d.Do(t.Context(), fmt.Sprint(i), true,
					func(s *State, now time.Time) (Plan, error) {
						p, err := oneJob(s, now)
						p.Changes = append(p.Changes,
							&Change{VarSet: &statepb.VarSet{Name: "A", Value: value}})
						return p, err
					})
				if err != nil || repeated {
					t.Errorf("request %d: repeated %v, %v", i, repeated, err)
				}
			})
			wg.Go(func() { check(t, d.Read(t.Context(), func(*State) {})) })
		}
		synctest.Wait()
		close(d.tape.busy)
		wg.Wait()
		synctest.Wait()
		for _, batch := range d.tape.batches[before:] {
			size := 0
			for _, record := range batch {
				size += len(record)
			}
			if size > turnBytes+len(value)+1<<10 {
				t.Errorf("a batch of %d bytes", size)
			}
		}
		if n := len(d.tape.batches) - before; n < 4 {
			t.Errorf("%d batches", n)
		}
		check(t, d.Read(t.Context(), func(s *State) {
			if n := s.JobCount(); n != 11 {
				t.Errorf("%d jobs", n)
			}
		}))
	})
}

// TestFullTurnStops: what a full turn has put off is answered when the loop ends.
func TestFullTurnStops(t *testing.T) {
	inBubbleWith(t, false, func(t *testing.T, d *desk) {
		d.tape.busy = make(chan struct{})
		go func() { _, _ = d.plan(t.Context(), "", oneJob) }()
		synctest.Wait()
		answers := make(chan error, 10)
		for range cap(answers) {
			go func() {
				_, err := d.plan(t.Context(), "", func(*State, time.Time) (Plan, error) {
					return Plan{Changes: []*Change{{VarSet: &statepb.VarSet{Name: "A",
						Value: make([]byte, 40<<20)}}}}, nil
				})
				answers <- err
			}()
		}
		synctest.Wait()
		d.tape.fail = errors.New("input/output error")
		close(d.tape.busy)
		for range cap(answers) {
			if err := <-answers; kindOfError(err) != Unknown {
				t.Errorf("got %v", err)
			}
		}
		if err := <-d.done; !errors.Is(err, d.tape.fail) {
			t.Errorf("the loop ended with %v", err)
		}
		d.done <- nil
	})
}
