package sched

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"jobserver/sched/statepb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tape is a journal in memory. Its fields are read between turns only, when the loop is idle.
type tape struct {
	batches    [][][]byte
	seals      []time.Time
	snaps      int
	fail       error         // of the next commit
	full       bool          //
	wants      bool          // a snapshot
	pays       bool          // a snapshot at the end
	stillWants bool          // though one was begun
	hold       chan struct{} // a snapshot waits for it
	snapshot   [][]byte
	snapFail   error
	cantSnap   error         // begin one
	onSnap     func()        // one begins
	busy       chan struct{} // a commit waits for it
	takes      time.Duration // of the bubble's clock, for a commit
}

func (j *tape) Commit(records [][]byte) error {
	if j.busy != nil {
		<-j.busy
	}
	if j.takes > 0 {
		time.Sleep(j.takes)
	}
	if j.fail != nil {
		return j.fail
	}
	j.batches = append(j.batches, records)
	return nil
}
func (j *tape) Full() bool          { return j.full }
func (j *tape) NeedsSnapshot() bool { return j.wants }
func (j *tape) SnapshotPays() bool  { return j.pays }
func (j *tape) Seal() error         { j.seals = append(j.seals, time.Now()); return nil }
func (j *tape) StartSnapshot() (func(func(func([]byte) error) error) error, error) {
	j.snaps++
	if j.cantSnap != nil {
		return nil, j.cantSnap
	}
	j.wants = j.stillWants
	if j.onSnap != nil {
		j.onSnap()
	}
	return func(each func(func([]byte) error) error) error {
		if j.hold != nil {
			<-j.hold
		}
		j.snapshot = nil
		err := each(func(b []byte) error {
			j.snapshot = append(j.snapshot, slices.Clone(b))
			return nil
		})
		return errors.Join(err, j.snapFail)
	}, nil
}

// desk is a loop under test, in a bubble.
type desk struct {
	*Loop
	tape     *tape
	fleet    *memory
	problems []string
	observed []Event
	looks    atomic.Int64 // at the clock
	jump     atomic.Int64 // by which the clock was set, in ns
	cancel   context.CancelFunc
	done     chan error
}

// inBubble runs f with a loop that has one connected machine of two slots, and ends the loop.
func inBubble(t *testing.T, f func(t *testing.T, d *desk)) {
	t.Helper()
	inBubbleWith(t, true, f)
}

func inBubbleWith(t *testing.T, checks bool, f func(t *testing.T, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &desk{tape: &tape{}, fleet: newMemory(), done: make(chan error, 1)}
		var tokens atomic.Int64
		d.Loop = NewLoop(NewState(), d.tape, d.fleet, LoopOptions{
			Now: func() time.Time {
				d.looks.Add(1)
				return time.Now().Add(time.Duration(d.jump.Load()))
			},
			Token:   func() string { return fmt.Sprintf("t%d", tokens.Add(1)) },
			Check:   checks,
			Observe: func(e []Event) { d.observed = append(d.observed, e...) },
			Problem: func(what string, err error) {
				d.problems = append(d.problems, what+": "+err.Error())
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		d.cancel = cancel
		go func() { d.done <- d.Run(ctx) }()
		if _, err := d.plan(t.Context(), "", func(s *State, now time.Time) (Plan, error) {
			return s.PlanMachines([]MachineSpec{{Addr: "a", Class: "x", Slots: 2}}, now)
		}); err != nil {
			t.Fatal(err)
		}
		d.Report(Connected{Addr: "a", Facts: &statepb.Machine{BootId: "1"}})
		synctest.Wait()
		f(t, d)
		cancel()
		if err := <-d.done; err != nil && d.tape.fail == nil {
			t.Errorf("the loop ended: %v", err)
		}
		for _, err := range d.fleet.errs {
			t.Error(err)
		}
	})
}

func (d *desk) plan(
	ctx context.Context, id string, plan func(s *State, now time.Time) (Plan, error),
) (Plan, error) {
	p, _, err := d.Do(ctx, id, true, plan)
	return p, err
}

func oneJob(s *State, _ time.Time) (Plan, error) {
	return s.PlanJobs([]JobSpec{{Class: "x", Cmd: "work", MaxFailures: 3}}, false)
}

func (d *desk) status(t *testing.T, id uint64) (st Status) {
	t.Helper()
	check(t, d.Read(t.Context(), func(s *State) { st = s.Status(id) }))
	return st
}

// takeRun gives a run that was started, and forgets it.
func (d *desk) takeRun(t *testing.T) (r *statepb.RunRef) {
	t.Helper()
	check(t, d.Read(t.Context(), func(*State) {
		for token, run := range d.fleet.runs {
			r = run.Ref
			delete(d.fleet.runs, token)
		}
	}))
	return r
}

func kindOfError(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// TestTurnIsOneBatch: all that waits becomes durable together, and no reply comes before it is.
func TestTurnIsOneBatch(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		before := len(d.tape.batches)
		d.tape.busy = make(chan struct{})
		first := make(chan error, 1)
		go func() { _, err := d.plan(t.Context(), "first", oneJob); first <- err }()
		synctest.Wait() // the first is being committed
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				if _, err := d.plan(t.Context(), fmt.Sprint("r", i), oneJob); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		select {
		case <-first:
			t.Error("a reply came before its batch was durable")
		default:
		}
		if len(d.fleet.runs) != 0 {
			t.Error("a job was started before its batch was durable")
		}
		close(d.tape.busy)
		wg.Wait()
		check(t, <-first)
		synctest.Wait()
		if got := len(d.tape.batches) - before; got != 2 {
			t.Errorf("%d batches, want one for the first, and one for the other 64", got)
		}
		if len(d.fleet.runs) != 2 {
			t.Errorf("%d runs were started in 2 slots", len(d.fleet.runs))
		}
		check(t, d.Read(t.Context(), func(s *State) {
			if n := s.JobCount(); n != 65 {
				t.Errorf("%d jobs", n)
			}
		}))
	})
}

// TestReadsCommitNothing: a turn without changes writes nothing.
func TestReadsCommitNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		before := len(d.tape.batches)
		for range 10 {
			d.status(t, 1)
		}
		d.Report(Measured{Addr: "a"})
		d.Report(Started{Ref: &statepb.RunRef{Job: 99, Token: "of another life"}})
		synctest.Wait()
		if len(d.tape.batches) != before {
			t.Error("something was committed")
		}
	})
}

// TestCommitFails: nobody is told that anything was done, and the loop ends.
func TestCommitFails(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		d.tape.busy = make(chan struct{})
		answers := make(chan error, 70)
		go func() { _, err := d.plan(t.Context(), "", oneJob); answers <- err }()
		synctest.Wait()
		for range 32 { // these wait for the next turn, which never comes
			go func() { _, err := d.plan(t.Context(), "", oneJob); answers <- err }()
			go func() {
				answers <- d.Read(t.Context(), func(*State) {
					t.Error("a read after a failed commit")
				})
			}()
		}
		synctest.Wait()
		d.tape.fail = errors.New("input/output error")
		close(d.tape.busy)
		for range 65 {
			if err := <-answers; kindOfError(err) != Unknown {
				t.Errorf("got %v (%s)", err, kindOfError(err))
			}
		}
		if err := <-d.done; !errors.Is(err, d.tape.fail) {
			t.Errorf("the loop ended with %v", err)
		}
		d.done <- nil
		if len(d.fleet.runs) != 0 {
			t.Error("a run was started that isn't durable")
		}
		if err := d.Read(t.Context(), func(*State) {}); kindOfError(err) != Unknown {
			t.Errorf("a later read: %v", err)
		}
		d.Report(Away{Addr: "a"})
		if n := len(d.inbox.outcomes); n != 0 {
			t.Errorf("%d outcomes are kept for nobody", n)
		}
	})
}

// TestRequestTwice: a request whose id was done is not done
// again, in the same turn or later, and gives what it gave.
func TestRequestTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		d.tape.busy = make(chan struct{})
		type answer struct {
			ids      []uint64
			repeated bool
		}
		answers := make(chan answer, 3)
		ask := func() {
			p, repeated, err := d.Do(t.Context(), "same", true, oneJob)
			if err != nil {
				t.Error(err)
			}
			answers <- answer{p.IDs, repeated}
		}
		go ask()
		go ask()
		synctest.Wait()
		close(d.tape.busy)
		a, b := <-answers, <-answers
		ask()
		c := <-answers
		if a.repeated == b.repeated || !c.repeated || !slices.Equal(a.ids, b.ids) ||
			!slices.Equal(a.ids, c.ids) || len(a.ids) != 1 {
			t.Errorf("got %v, %v and %v", a, b, c)
		}
		check(t, d.Read(t.Context(), func(s *State) {
			if s.JobCount() != 1 {
				t.Errorf("%d jobs", s.JobCount())
			}
		}))
	})
}

// TestFullDisk: new work is refused, what is under way goes on.
func TestFullDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		p, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
		d.tape.full = true
		if _, err := d.plan(t.Context(), "", oneJob); kindOfError(err) != Full {
			t.Errorf("new work: %v", err)
		}
		synctest.Wait()
		d.Report(Ended{Ref: d.takeRun(t), Result: exit(0)})
		if got := d.status(t, p.IDs[0]); got != Done {
			t.Errorf("the job is %s", StatusName(got))
		}
		_, _, err = d.Do(t.Context(), "", false,
			func(s *State, _ time.Time) (Plan, error) { return s.PlanVar("A", "1", false, false) })
		check(t, err)
	})
}

// TestNoMessageIsLost sends from 64 goroutines at once.
// Thousands of jobs aren't checked in each of hundreds of turns.
func TestNoMessageIsLost(t *testing.T) {
	inBubbleWith(t, false, func(t *testing.T, d *desk) {
		const senders, each = 64, 50
		var wg sync.WaitGroup
		var reads atomic.Int64
		for range senders {
			wg.Go(func() {
				for range each {
					p, err := d.plan(t.Context(), "", func(s *State, _ time.Time) (Plan, error) {
						return s.PlanJobs([]JobSpec{{Class: "nowhere", Cmd: "work"}}, false)
					})
					if err != nil {
						t.Error(err)
					}
					if err := d.Read(t.Context(), func(s *State) {
						if s.Status(p.IDs[0]) == Waiting {
							reads.Add(1)
						}
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if reads.Load() != senders*each {
			t.Errorf("%d of %d jobs were there when their reply came", reads.Load(), senders*each)
		}
	})
}

// TestRetriesBackOff: the pauses before the retries of a job double, and the loop wakes up by
// itself.
func TestRetriesBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		p, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
		var pauses []time.Duration
		for range 3 {
			failed := time.Now()
			d.Report(Ended{Ref: d.takeRun(t), Result: exit(1)})
			for id := p.IDs[0]; d.status(t, id) == Waiting; {
				time.Sleep(100 * time.Millisecond)
			}
			pauses = append(pauses, time.Since(failed).Round(time.Second))
		}
		if want := []time.Duration{time.Second, 2 * time.Second,
			4 * time.Second}; !slices.Equal(pauses, want) {
			t.Errorf("pauses %v, want %v", pauses, want)
		}
	})
}

// TestSeal: a second after the last batch the journal is sealed, once.
func TestSeal(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		time.Sleep(time.Minute)
		synctest.Wait()
		d.tape.seals = nil
		begin := time.Now()
		for range 3 {
			_, err := d.plan(t.Context(), "", oneJob)
			check(t, err)
			time.Sleep(600 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(d.tape.seals) != 1 || d.tape.seals[0].Sub(begin) != 2200*time.Millisecond {
			t.Errorf("sealed %v after %v", d.tape.seals, begin)
		}
	})
}

// TestStop: what came before the end is done, what comes after
// is refused, and a snapshot under way is waited for.
func TestStop(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		d.tape.hold = make(chan struct{})
		d.tape.wants = true
		_, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
		d.cancel()
		synctest.Wait()
		select {
		case <-d.done:
			t.Error("the loop ended while a snapshot was being written")
		default:
		}
		if _, err := d.plan(t.Context(), "", oneJob); kindOfError(err) != Stopping {
			t.Errorf("a request after the end: %v", err)
		}
		if _, _, _, err := d.Events().After(t.Context(), d.Events().newest(), 10); !errors.Is(err,
			ErrClosed) {
			t.Errorf("events after the end: %v", err)
		}
		close(d.tape.hold)
	})
}

// TestGivenUp: a request that is given up before its turn is not done; one whose turn is under way
// is waited for.
func TestGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		d.tape.busy = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		inTurn, waiting := make(chan error, 1), make(chan error, 1)
		go func() { _, err := d.plan(ctx, "", oneJob); inTurn <- err }()
		synctest.Wait()
		go func() { _, err := d.plan(ctx, "", oneJob); waiting <- err }()
		synctest.Wait()
		cancel()
		if err := <-waiting; kindOfError(err) != Stopping {
			t.Errorf("the one that waited: %v", err)
		}
		close(d.tape.busy)
		if err := <-inTurn; err != nil {
			t.Errorf("the one in its turn: %v", err)
		}
		check(t, d.Read(t.Context(), func(s *State) {
			if s.JobCount() != 1 {
				t.Errorf("%d jobs", s.JobCount())
			}
		}))
	})
}

// TestPanicIsOneRequests: a plan or a read that panics is an error of its request, and nothing
// else.
func TestPanicIsOneRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		_, err := d.plan(t.Context(), "",
			func(s *State, _ time.Time) (Plan, error) { panic("plan") })
		if kindOfError(err) != Internal {
			t.Error(err)
		}
		if err := d.Read(t.Context(),
			func(s *State) { panic("read") }); kindOfError(err) != Internal {
			t.Error(err)
		}
		if len(d.problems) != 2 {
			t.Errorf("problems: %q", d.problems)
		}
		_, err = d.plan(t.Context(), "", oneJob)
		check(t, err)
	})
}

// TestBytesFromMachines: text that is no UTF-8 in what a
// machine reports doesn't stop the loop, and can be read back.
func TestBytesFromMachines(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		p, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
		synctest.Wait()
		result := exit(1)
		result.Error, result.Results, result.Measurements = "bad \xff",
			[]string{"good", "bad \xc3("},
			[]string{"\x80"}
		d.Report(Ended{Ref: d.takeRun(t), Result: result})
		if got := d.status(t, p.IDs[0]); got != Waiting {
			t.Errorf("the job is %s", StatusName(got))
		}
		var changes [][]byte
		for _, b := range d.tape.batches {
			changes = append(changes, b...)
		}
		var want []string
		check(t, d.Read(t.Context(), func(s *State) { want = dump(s) }))
		s, err := restored(nil, changes)
		check(t, err)
		if !slices.Equal(want, dump(s)) {
			t.Error("the journal makes another state")
		}
		if got := s.Job(p.IDs[0]).Attempts[0].Results[1]; got != "bad \uFFFD(" {
			t.Errorf("%q", got)
		}
	})
}

// TestIdle: a loop with nothing to do doesn't wake up.
func TestIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		_, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
		time.Sleep(time.Minute)
		before := d.looks.Load()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if looks := d.looks.Load() - before; looks > 24*2+5 {
			t.Errorf("it looked at the clock %d times in a day", looks)
		}
	})
}

// newest is the cursor behind all events so far.
func (e *Events) newest() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seq
}
