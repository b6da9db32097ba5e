package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// nightOfAll is a pool with jobs of all shapes at random: slots, needs, pins, inputs, orders,
// stages, gangs, limits, times, retries; which are moved, put first, paused and canceled, while
// machines reboot and the daemon is started again.
type nightOfAll struct {
	*world
	r     *rand.Rand
	ends  map[string]time.Time // of the runs that go on, by token
	cuts  map[string]time.Time // machines that are away, and until when
	ready map[uint64]*readyJob
	pause map[uint64]time.Time // jobs that were paused, and when they go on; zero: they do again
	went  time.Time            // when it was last looked at what runs
	sent  map[uint64]int32     // the newest attempt of each job that is known to have begun
	seen  map[string]int       // what happened how often
}

// readyJob is one that waits though what it needs could be free.
type readyJob struct {
	since time.Time
	item  item // as it stood in the queue then
	class string
	ahead int // jobs that come before it, and were sent meanwhile
}

const (
	longestRun   = 10 * time.Minute
	longestPause = 5 * time.Minute
	// longestDelay is what there is between two runs: inputs are read, machines are made ready,
	// and after a failure another machine is preferred for so long.
	longestDelay = 10 * time.Minute
)

// TestNightsOfAllShapes: no job waits for longer, though what it needs could be free, than those
// take that come before it, one after the other, and what ran before; and all end.
func TestNightsOfAllShapes(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(*nights / 3) {
		n := &nightOfAll{world: newWorld(), r: rand.New(rand.NewPCG(seed, 81)),
			ends: map[string]time.Time{}, cuts: map[string]time.Time{},
			ready: map[uint64]*readyJob{}, sent: map[uint64]int32{},
			pause: map[uint64]time.Time{}, seen: seen}
		n.every = 20
		if err := n.pass(t); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for _, what := range []string{"gang", "each", "with", "pin", "inputs", "missing", "stages",
		"at most", "later", "after", "paused", "moved", "next", "canceled", "reboot", "restart",
		"failed", "waited"} {
		if seen[what] == 0 {
			t.Errorf("in none of the nights there was: %s", what)
		}
	}
	t.Log(seen)
}

// pass lets a night pass until all have ended.
func (n *nightOfAll) pass(t *testing.T) error {
	check(t, n.do(n.s.PlanResource("license", fmt.Sprint(1+n.r.IntN(4)), false)))
	for i := range 4 + n.r.IntN(4) {
		check(t, n.do(n.s.PlanMachines([]MachineSpec{{Addr: fmt.Sprintf("m%d", i),
			Class: []string{"x", "x", "y"}[i%3], Slots: 4,
			Resources: map[string]string{"gpu": "0-3", "mem": "64G"}}}, n.now)))
		check(t, n.connect(fmt.Sprintf("m%d", i)))
	}
	submitted := 0
	for range 20_000 {
		if submitted < 120 && n.r.IntN(2) == 0 {
			submitted++
			n.submits(t)
		}
		n.meddles(t, submitted < 120)
		n.goesOn(t)
		check(t, n.settle())
		if err := n.look(); err != nil {
			return err
		}
		if submitted == 120 && len(n.cuts) == 0 {
			if len(n.s.live) == 0 && n.s.counts.Unfinished() == 0 {
				return nil
			}
			n.frees(t)
		}
		if err := n.world.pass(time.Duration(1+n.r.IntN(60)) * time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d jobs are left: %v", len(n.s.live), n.s.Counts())
}

func (n *nightOfAll) pick(of ...string) string { return of[n.r.IntN(len(of))] }
func (n *nightOfAll) one(of int) bool          { return n.r.IntN(of) == 0 }

// happens counts what happens if it does.
func (n *nightOfAll) happens(what string, does bool) bool {
	if does {
		n.seen[what]++
	}
	return does
}

// may carries a plan out unless it is refused.
func (n *nightOfAll) may(t *testing.T, p Plan, err error) bool {
	t.Helper()
	if _, refused := err.(*Error); refused {
		return false
	}
	check(t, n.do(p, err))
	return true
}

// submits a job or stages of any shape.
func (n *nightOfAll) submits(t *testing.T) {
	if n.one(15) {
		n.submitsStages(t)
		return
	}
	spec := JobSpec{Class: n.pick("x", "y"), Cmd: fmt.Sprintf("work %d", n.s.nextID),
		Slots: []int{0, 0, 0, 2, 4}[n.r.IntN(5)], MaxFailures: n.r.IntN(3),
		Needs: n.pick("", "", "gpu=1", "gpu=2", "gpu=4", "license=1", "license=1,gpu=1",
			"mem=40G")}
	if spec.Exclusive = n.one(20); spec.Exclusive {
		spec.Slots = 0
	}
	spec.Pin = n.happens("pin", n.one(8))
	if n.one(3) {
		spec.Timeout = longestRun
	}
	if n.happens("gang", n.one(5)) {
		spec.Machines = 2
		spec.Each = n.happens("each", n.one(2))
	}
	if n.happens("with", n.one(8)) {
		spec.With = []string{"O=" + n.pick("x", "y")}
	}
	if n.happens("inputs", n.one(8)) {
		spec.Inputs = []InputSpec{{Path: "/data"}}
	}
	if n.happens("later", n.one(10)) {
		spec.StartAfter = n.now.Add(time.Duration(n.r.IntN(30)) * time.Minute)
	}
	if n.happens("at most", n.one(6)) {
		spec.Tag, spec.AtMost = n.pick("t", "u"), 1+n.r.IntN(3)
	}
	if id := 1 + n.r.Uint64N(n.s.nextID); n.one(5) && n.s.Status(id) != 0 {
		words := []string{fmt.Sprint(id)}
		switch n.r.IntN(3) {
		case 0:
			spec.After.Done = words
		case 1:
			spec.After.Ended = words
		case 2:
			spec.After.Failed = words
		}
		n.happens("after", true)
	}
	p, err := n.s.PlanJobs([]JobSpec{spec}, false)
	n.may(t, p, err)
}

func (n *nightOfAll) submitsStages(t *testing.T) {
	axes := []*statepb.Axis{{Name: "A", Values: numbers(3)}}
	job := func(cmd, needs string) JobSpec {
		return JobSpec{Class: n.pick("x", "y"), Cmd: cmd, Needs: needs, CpPath: "/results",
			MaxFailures: 2, AtMost: n.r.IntN(3)}
	}
	name := fmt.Sprintf("s%d.", n.s.nextID)
	p, _, err := n.s.PlanStages([]StageSpec{
		{Stage: "a", MatrixSpec: MatrixSpec{Name: name + "a", Axes: axes,
			Job: job("first {A}", "gpu=1")}},
		{Stage: "b", After: []int{0}, MatrixSpec: MatrixSpec{Name: name + "b", Axes: axes,
			Job: job("second {A}", "")}},
		{Stage: "c", After: []int{1}, Join: true, MatrixSpec: MatrixSpec{Name: name + "c",
			Job: job("third", "license=1")}},
	}, false, "", 0)
	n.happens("stages", n.may(t, p, err))
}

// meddles does what a user does, and what happens to machines and to the daemon.
func (n *nightOfAll) meddles(t *testing.T, still bool) {
	for _, id := range sortedIDs(keysOf(n.pause)) {
		if at := n.pause[id]; !at.IsZero() && !at.After(n.now) {
			n.pause[id] = time.Time{}
			if n.s.Status(id) == Running {
				n.operate(t, OpGoOn, id)
			}
		}
	}
	for _, addr := range sorted(n.cuts) {
		if !n.cuts[addr].After(n.now) {
			delete(n.cuts, addr)
			n.reboots(t, addr)
		}
	}
	if !still || n.s.nextID < 2 {
		return
	}
	id := 1 + n.r.Uint64N(n.s.nextID-1)
	switch status := n.s.Status(id); n.r.IntN(24) {
	case 0:
		if _, again := n.pause[id]; status == Running && !again {
			n.pause[id] = n.now.Add(time.Duration(n.r.Int64N(int64(longestPause))))
			n.operate(t, OpPause, id)
			n.happens("paused", true)
		}
	case 1:
		if status == Waiting {
			class := n.pick("x", "y")
			p, err := n.s.PlanSet([]uint64{id}, SetSpec{Class: &class})
			n.happens("moved", n.may(t, p, err))
		}
	case 2:
		if status == Waiting {
			p, err := n.s.PlanSet([]uint64{id}, SetSpec{Next: true})
			n.happens("next", n.may(t, p, err))
		}
	case 3:
		if !Final(status) && status != 0 && n.one(3) {
			n.operate(t, OpCancel, id)
			n.happens("canceled", true)
		}
	case 4:
		if len(n.cuts) == 0 && n.one(4) {
			addr := fmt.Sprintf("m%d", n.r.IntN(len(n.s.machines)))
			n.cuts[addr] = n.now.Add(time.Duration(n.r.IntN(300)) * time.Second)
			check(t, n.report(Away{Addr: addr, Reason: "cut"}))
		}
	case 5:
		if n.happens("restart", n.one(3)) {
			n.restarts(t)
		}
	}
}

// reboots reports that a machine is back, without what ran there.
func (n *nightOfAll) reboots(t *testing.T, addr string) {
	n.happens("reboot", true)
	facts := &statepb.Machine{BootId: fmt.Sprint("boot", n.now.UnixNano()), Os: "linux",
		Arch: "amd64", Cores: 4, Cpus: someCPUs(2, 2), LimitsMemory: true}
	news := []Outcome{Connected{Addr: addr, Facts: facts}}
	for _, run := range n.running() {
		if run.Ref.Machine == addr {
			news = append(news, RunLost{Ref: run.Ref, Reason: "it rebooted"})
		}
	}
	check(t, n.report(news...))
}

// restarts has another daemon go on with what the journal has.
func (n *nightOfAll) restarts(t *testing.T) {
	s, err := restored(nil, n.journal)
	check(t, err)
	was := n.s
	n.s, n.fleet = s, newMemory()
	n.s.Resume(n.fleet)
	for _, addr := range n.s.Machines() {
		if n.cuts[addr].IsZero() {
			m := was.machines[addr]
			check(t, n.report(Connected{Addr: addr, Facts: m.Machine}))
		}
	}
}

// goesOn reports what becomes of all that runs.
func (n *nightOfAll) goesOn(t *testing.T) {
	defer func() { n.went = n.now }()
	for _, run := range n.running() {
		r := run.Ref
		if _, there := n.fleet.runs[r.Token]; !there || !n.cuts[r.Machine].IsZero() {
			continue // it went with others, or its machine is away
		}
		end, runs := n.ends[r.Token]
		switch {
		case run.Cancel:
			check(t, n.report(Ended{Ref: r, Result: &statepb.Attempt{
				Cause: statepb.Cause_CANCELED_BY_USER}}))
		case !isRead(&statepb.Attempt{Inputs: run.Inputs}):
			if n.happens("missing", n.one(8)) {
				check(t, n.report(NotStarted{Ref: r, Reason: "its input is not there", Hold: true}))
			} else {
				read := n.read(r)
				delete(n.fleet.runs, r.Token) // it is asked for again
				check(t, n.report(read))
			}
		case run.Prepare:
			delete(n.fleet.runs, r.Token)
			check(t, n.report(Prepared{Ref: r}))
		case !runs:
			n.ends[r.Token] = n.now.Add(time.Duration(n.r.Int64N(int64(longestRun))))
			check(t, n.report(Started{Ref: r, At: n.now}))
		case !n.pause[r.Job].IsZero():
			n.ends[r.Token] = end.Add(n.now.Sub(n.went))
		case !end.After(n.now):
			code := int32(b2i(n.happens("failed", n.one(8))))
			check(t, n.report(Ended{Ref: r, Result: exit(code)}))
		}
	}
}

// frees lets go what waits for somebody, when nobody submits any more.
func (n *nightOfAll) frees(t *testing.T) {
	var ids []uint64
	for id := range n.s.nextID {
		if n.s.Status(id) == Held || n.s.IsBlocked(id) {
			ids = append(ids, id)
		}
	}
	for _, id := range n.s.Matrices() {
		if m, _ := n.s.Matrix(id); m.Held {
			check(t, n.do(n.s.PlanMatrixHeld(id, false), nil))
		}
	}
	if len(ids) > 0 {
		n.operate(t, OpUnhold, ids...)
	}
}

// look checks how long those have waited that could run.
func (n *nightOfAll) look() error {
	troubled := len(n.cuts) > 0
	for _, m := range n.s.machines {
		troubled = troubled || !m.sound()
	}
	waiting := map[uint64]bool{}
	for _, c := range n.s.classes {
		for _, sh := range c.line {
			for _, it := range sh.queue {
				waiting[it.id] = true
				was := n.ready[it.id]
				switch {
				case n.s.atLimit(sh) || troubled: // it can't be free
					delete(n.ready, it.id)
				case was == nil || was.class != c.name || was.item.priority != it.priority ||
					was.item.shape.key != sh.key:
					n.ready[it.id] = &readyJob{since: n.now, item: *it, class: c.name}
				}
			}
		}
	}
	for _, id := range sortedIDs(keysOf(n.ready)) {
		was := n.ready[id]
		if err := n.patient(id, was); err != nil {
			return err
		}
		if !waiting[id] {
			delete(n.ready, id)
		}
	}
	for id, j := range n.s.live {
		if a := last(j.Job); a != nil && a.Number > n.sent[id] {
			n.sent[id] = a.Number
			it := item{priority: j.Priority, id: id}
			for _, other := range n.ready {
				if it.before(&other.item) {
					other.ahead++
				}
			}
		}
	}
	return nil
}

// patient says that a job hasn't waited for too long.
func (n *nightOfAll) patient(id uint64, was *readyJob) error {
	wait := n.now.Sub(was.since)
	n.happens("waited", wait > longestRun)
	most := time.Duration(was.ahead+1) * (longestRun + longestPause + longestDelay)
	if wait <= most {
		return nil
	}
	why, err := n.s.Why(id, n.now)
	return fmt.Errorf("job %d (%s) could run for %v, and %d that come before it were sent "+
		"meanwhile: at most %v is right: %v %v", id, NeedsText(n.s.Job(id).Needs), wait, was.ahead,
		most, slices.Concat([]string{why.Summary}, why.Details), err)
}
