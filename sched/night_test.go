package sched

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// night is a pool at work while nobody looks: runs take their time and end as the cells and the
// machines are, until nothing goes on by itself.
type night struct {
	*world
	began time.Time
	limit time.Duration // of the whole night; 0: 100 days
	ends  heapOf[*nightEnd]
	known map[string]bool // tokens of the runs that have an end
	told  map[string]bool // and of those that were told to end
	// outcome says how a run ends that begins so long after the night, and after how long.
	outcome func(r Run, at time.Duration) (ok bool, took time.Duration)
	inputs  []InputSpec // of all jobs
	// missing says that an input of a run isn't there; nil: all are.
	missing func(r Run) bool
	// then lists what happens beside runs, in order.
	then []nightly
}

// nightly is something that happens so long after a night has begun.
type nightly struct {
	at time.Duration
	do func() error
}

type nightEnd struct {
	at    time.Time
	order int
	ref   *statepb.RunRef
	ok    bool
	read  bool // its inputs are read, and it goes on, or isn't started if that isn't ok
	pos   int
}

func (e *nightEnd) before(o *nightEnd) bool {
	if !e.at.Equal(o.at) {
		return e.at.Before(o.at)
	}
	return e.order < o.order
}
func (e *nightEnd) place() *int { return &e.pos }

// newNight is a night of a pool in class x, whose machines are m000, m001 …
func newNight(t testing.TB, machines, slots int) *night {
	w := newWorld()
	w.every = 500
	n := &night{world: w, began: w.now, limit: 2400 * time.Hour, known: map[string]bool{},
		told: map[string]bool{}}
	var addrs []string
	for i := range machines {
		addrs = append(addrs, fmt.Sprintf("m%03d", i))
	}
	must(t, w.pool("x", slots, addrs...))
	return n
}

// run lets the night pass.
func (n *night) run() error {
	for {
		if err := n.settle(); err != nil {
			return err
		}
		if err := n.prepare(); err != nil {
			return err
		}
		for _, r := range n.fleet.runs {
			n.plan(r)
		}
		next := n.s.Wake(n.now)
		if len(n.ends) > 0 && (next.IsZero() || n.ends[0].at.Before(next)) {
			next = n.ends[0].at
		}
		var do func() error
		if len(n.then) > 0 {
			if at := n.began.Add(n.then[0].at); next.IsZero() || !at.After(next) {
				next, do = at, n.then[0].do
				n.then = n.then[1:]
			}
		}
		if next.IsZero() || next.Sub(n.began) > n.limit || n.s.counts.Unfinished() == 0 &&
			do == nil {
			return errors.Join(n.s.check(), n.finals())
		}
		n.now = latest(n.now, next)
		if do != nil {
			if err := do(); err != nil {
				return err
			}
			continue
		}
		if err := n.step(); err != nil {
			return fmt.Errorf("after %v: %w", n.now.Sub(n.began), err)
		}
	}
}

// step reports what ends now, or looks at the time.
func (n *night) step() error {
	if len(n.ends) == 0 || n.ends[0].at.After(n.now) {
		return n.turn()
	}
	e := heap.Pop(&n.ends).(*nightEnd)
	if _, there := n.fleet.runs[e.ref.Token]; !there {
		return n.turn() // it was lost, or given up
	}
	switch {
	case e.read && !e.ok:
		return n.report(NotStarted{Ref: e.ref, Reason: "its input is not there", Hold: true})
	case e.read:
		delete(n.known, e.ref.Token)
		return n.report(n.world.read(e.ref))
	}
	code := int32(1)
	if e.ok {
		code = 0
	}
	if n.told[e.ref.Token] {
		return n.report(Ended{Ref: e.ref, Result: &statepb.Attempt{
			Cause: statepb.Cause_CANCELED_BY_USER,
		}})
	}
	return n.report(Ended{Ref: e.ref, Result: exit(code)})
}

// prepare reports that machines are ready for what isn't to start yet.
func (n *night) prepare() error {
	for {
		var ready []Outcome
		for _, r := range n.running() {
			if r.Prepare && isRead(&statepb.Attempt{Inputs: r.Inputs}) {
				ready = append(ready, Prepared{Ref: r.Ref})
			}
		}
		if len(ready) == 0 {
			return nil
		}
		for _, o := range ready { // as long as it is still wanted
			r := o.(Prepared).Ref
			if run, ok := n.fleet.runs[r.Token]; !ok || !run.Prepare {
				continue
			}
			delete(n.fleet.runs, r.Token) // it is asked for again
			if err := n.report(o); err != nil {
				return err
			}
		}
	}
}

// plan draws the end of a run that has begun.
func (n *night) plan(r Run) {
	if r.Cancel && !n.told[r.Ref.Token] {
		n.told[r.Ref.Token] = true
		heap.Push(&n.ends, &nightEnd{at: n.now.Add(100 * time.Millisecond), ref: r.Ref})
	}
	if n.known[r.Ref.Token] {
		return
	}
	n.known[r.Ref.Token] = true
	order := 0
	fmt.Sscanf(r.Ref.Token, "t%d", &order)
	if !isRead(&statepb.Attempt{Inputs: r.Inputs}) {
		there := n.missing == nil || !n.missing(r)
		heap.Push(&n.ends,
			&nightEnd{at: n.now.Add(time.Second), order: order, ref: r.Ref, ok: there,
				read: true})
		return
	}
	ok, took := n.outcome(r, n.now.Sub(n.began))
	heap.Push(&n.ends, &nightEnd{at: n.now.Add(took), order: order, ref: r.Ref, ok: ok})
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// aside lists the machines that are in no class of work.
func (n *night) aside() (addrs []string) {
	for _, addr := range n.s.Machines() {
		if n.s.machines[addr].aside() {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// cells submits a matrix of class x and gives the id of its first cell.
func (n *night) cells(count, retries int) (uint64, error) {
	p, err := n.s.PlanMatrix(MatrixSpec{
		Job: JobSpec{Class: "x", Cmd: "cell {A}", MaxFailures: retries,
			Inputs: n.inputs},
		Axes: []*statepb.Axis{{Name: "A", Values: numbers(count)}},
	}, false)
	if err := n.do(p, err); err != nil {
		return 0, err
	}
	return p.IDs[1], nil
}

// TestRuleOfBlame is the table of the rule: what becomes of a pool in a night of which something is
// bad.
func TestRuleOfBlame(t *testing.T) {
	always := func(time.Duration) bool { return true }
	none := func(int, int) bool { return false }
	block := func(i, of int) bool { return i >= of/3 && i < 2*of/3 }
	type result struct {
		lost      int // cells that would have succeeded on a good machine, and failed
		burned    int // cells that failed at all
		stuck     int // good cells that never ran
		aside     int // good machines that are set aside
		badAside  int
		wasHeld   bool
		held      bool
		took      time.Duration
		firstHeld int // cells that had failed when the matrix was first held
	}
	allRun := func(r result) error {
		if r.lost+r.stuck+r.aside > 0 || r.held {
			return fmt.Errorf("not all good cells ran, or a good machine is aside")
		}
		return nil
	}
	loses := func(most int) func(result) error {
		return func(r result) error {
			if r.lost > most || r.stuck+r.aside > 0 || r.held {
				return fmt.Errorf("more than %d cells are lost", most)
			}
			return nil
		}
	}
	held := func(after ...int) func(result) error {
		return func(r result) error {
			if !r.held || r.aside > 0 || r.firstHeld < after[0] || r.firstHeld > after[1] {
				return fmt.Errorf("the matrix isn't held after %d to %d failures", after[0],
					after[1])
			}
			return nil
		}
	}
	tests := []struct {
		name    string
		sizes   []int // of the pool
		cells   int   // 0: 60, or 600 with 100 machines
		bad     int   // machines
		badTill time.Duration
		fails   func(i, of int) bool // cells
		long    time.Duration        // the cell before the bad ones takes
		lock    bool                 // all take as long
		dur     time.Duration
		retries int
		command bool // each is a command of its own
		want    func(result) error
	}{
		{name: "all good", sizes: []int{1, 2, 3, 6, 100}, fails: none, want: allRun},
		{name: "bad block", sizes: []int{1, 2, 3, 6, 100}, fails: block, want: allRun},
		{name: "bad block, with retries", sizes: []int{1, 2, 3, 6, 100}, fails: block, retries: 3,
			want: allRun},
		{name: "bad block behind a long cell", sizes: []int{1, 2, 3, 6, 100}, fails: block,
			long: 20 * time.Second, want: allRun},
		{name: "bad block behind 8 hours", sizes: []int{1, 2, 3, 6, 100}, fails: block,
			long: 8 * time.Hour, want: allRun},
		{name: "bad value first", sizes: []int{1, 2, 3, 6, 100}, fails: func(i, of int) bool {
			return i < of/3
		}, want: allRun},
		{name: "every second, in lockstep", sizes: []int{1, 2, 3, 6, 100},
			fails: func(i, _ int) bool {
				return i%2 == 1
			}, lock: true, want: allRun},
		{name: "every second, with retries", sizes: []int{1, 2, 3, 6, 100},
			fails: func(i, _ int) bool {
				return i%2 == 1
			}, lock: true, retries: 3, want: allRun},
		{name: "one bad machine", sizes: []int{2, 3, 6, 100}, bad: 1, fails: none, want: loses(5)},
		{name: "one bad machine, with retries", sizes: []int{2, 3, 6, 100}, bad: 1, fails: none,
			retries: 3, want: allRun},
		{name: "two bad machines", sizes: []int{3, 6, 100}, bad: 2, fails: none, want: loses(10)},
		{name: "two bad machines, with retries", sizes: []int{3, 6, 100}, bad: 2, fails: none,
			retries: 3, want: allRun},
		{name: "bad matrix", sizes: []int{1}, fails: func(int, int) bool {
			return true
		}, want: held(4, 6)},
		{name: "bad matrix", sizes: []int{2}, fails: func(int, int) bool {
			return true
		}, want: held(5, 9)},
		{name: "bad matrix", sizes: []int{3}, fails: func(int, int) bool {
			return true
		}, want: held(5, 11)},
		{name: "bad matrix", sizes: []int{6}, fails: func(int, int) bool {
			return true
		}, want: held(5, 20)},
		{name: "bad matrix", sizes: []int{100}, fails: func(int, int) bool {
			return true
		}, want: held(5, 320)},
		{name: "bad matrix, with retries", sizes: []int{1, 2, 3, 6, 100},
			fails: func(int, int) bool {
				return true
			}, retries: 3, want: held(0, 320)},
		{
			name: "bad for 5 minutes", sizes: []int{1}, cells: 600, bad: 1,
			badTill: 5 * time.Minute, dur: 20 * time.Second, fails: none,
			want: func(r result) error {
				if r.lost > 5 || r.stuck > 0 || r.held || !r.wasHeld {
					return fmt.Errorf("it is not released by itself after at most 5 cells")
				}
				return nil
			},
		},
		{
			name: "bad for 5 minutes, with retries", sizes: []int{2, 3, 6}, cells: 600, bad: 1,
			badTill: 5 * time.Minute, dur: 20 * time.Second,
			fails: none, retries: 3, want: func(r result) error {
				if r.lost+r.stuck+r.aside+r.badAside > 0 {
					return fmt.Errorf("it doesn't come back by itself")
				}
				return nil
			},
		},
		{
			name: "bad for 5 minutes, without retries", sizes: []int{2, 3, 6}, cells: 600, bad: 1,
			badTill: 5 * time.Minute, dur: 20 * time.Second,
			fails: none, want: loses(8),
		},
		{name: "ten bad commands", sizes: []int{1, 2, 3, 6, 100}, fails: func(i, _ int) bool {
			return i < 10
		}, command: true, want: allRun},
		{name: "bad machine, other commands", sizes: []int{2, 3, 6, 100}, bad: 1, fails: none,
			command: true, dur: 20 * time.Second, want: loses(12)},
	}
	for _, test := range tests {
		for _, size := range test.sizes {
			t.Run(fmt.Sprintf("%s, %d machines", test.name, size), func(t *testing.T) {
				n := newNight(t, size, 1)
				of := test.cells
				if of == 0 {
					of = max(60, 6*size)
				}
				first := uint64(1)
				var err error
				if test.command {
					var specs []JobSpec
					for i := range of {
						specs = append(specs,
							JobSpec{Class: "x", Cmd: fmt.Sprint("work ", i),
								MaxFailures: test.retries})
					}
					var ids []uint64
					ids, err = n.submit(specs...)
					first = ids[0]
				} else {
					first, err = n.cells(of, test.retries)
				}
				check(t, err)
				bad := map[string]func(time.Duration) bool{}
				for i := range test.bad {
					bad[fmt.Sprintf("m%03d", i)] = always
					if test.badTill > 0 {
						bad[fmt.Sprintf("m%03d", i)] = func(at time.Duration) bool {
							return at < test.badTill
						}
					}
				}
				rnd := rand.New(rand.NewPCG(1, 1))
				dur := test.dur
				if dur == 0 {
					dur = time.Second
				}
				n.outcome = func(r Run, at time.Duration) (bool, time.Duration) {
					i := int(r.Ref.Job - first)
					ok := !test.fails(i, of)
					if is := bad[r.Ref.Machine]; is != nil && is(at) {
						ok = false
					}
					took := dur
					switch {
					case test.lock:
					case ok && test.long > 0 && i == of/3-1:
						took = test.long
					case ok:
						took = time.Duration(float64(dur) * (0.7 + 0.6*rnd.Float64()))
					default:
						took = time.Duration(
							float64(100*time.Millisecond) * (0.7 + 0.6*rnd.Float64()),
						)
					}
					return ok, took
				}
				check(t, n.run())
				var r result
				for i := range of {
					good := !test.fails(i, of)
					switch n.s.Status(first + uint64(i)) {
					case Failed:
						r.burned++
						if good {
							r.lost++
						}
					case Done:
					default:
						if good {
							r.stuck++
						}
					}
				}
				for _, addr := range n.aside() {
					if is := bad[addr]; is == nil {
						r.aside++
					} else {
						r.badAside++
					}
				}
				for _, id := range n.s.Matrices() {
					m, _ := n.s.Matrix(id)
					r.held = r.held || m.Held
				}
				failed := 0
				for _, e := range n.events {
					if e.Kind == "job.failed" {
						failed++
					}
					if e.Kind == "matrix.held" && !r.wasHeld {
						r.wasHeld, r.firstHeld = true, failed
					}
				}
				r.took = n.now.Sub(n.began)
				t.Logf("%+v", r)
				if err := test.want(r); err != nil {
					t.Error(err)
					for _, e := range n.events {
						if !slices.Contains([]string{"job.running", "job.done", "job.submitted",
							"matrix.submitted", "machine.added", "machine.seen"}, e.Kind) {
							t.Log(e.At.Sub(n.began), e.Kind, e.Text)
						}
					}
				}
			})
		}
	}
}
