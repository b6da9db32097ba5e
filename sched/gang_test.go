package sched

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// gangPool is a world with three machines in class x, and two in class y.
func gangPool(t *testing.T, slots int) *world {
	t.Helper()
	w := newWorld()
	check(t, w.pool("x", slots, "x0", "x1", "x2"))
	check(t, w.pool("y", slots, "y0", "y1"))
	return w
}

// ranks are the runs of a job's newest attempt that the fleet has, in order.
func (w *world) ranks(job uint64) []Run {
	var all []Run
	for _, r := range runsOf(last(w.s.Job(job))) {
		if run, ok := w.fleet.runs[r.Token]; ok {
			all = append(all, run)
		}
	}
	return all
}

// prepares reports all ranks of a job as ready.
func (w *world) prepares(t *testing.T, job uint64) {
	t.Helper()
	for _, r := range w.ranks(job) {
		if !r.Prepare {
			t.Fatalf("rank %d is to start before all are ready", r.Ref.Rank)
		}
		check(t, w.report(Prepared{Ref: r.Ref}))
	}
	for _, r := range w.ranks(job) {
		if r.Prepare {
			t.Fatalf("rank %d doesn't start, and all are ready", r.Ref.Rank)
		}
		check(t, w.report(Started{Ref: r.Ref, At: w.now}))
	}
}

// rank is one of a job's runs.
func (w *world) rank(job uint64, i int) *statepb.RunRef {
	a := last(w.s.Job(job))
	return runRef(w.s.Job(job), a, runsOf(a)[i])
}

func env(r Run, name string) string {
	for _, v := range r.Env {
		if value, ok := strings.CutPrefix(v, varPrefix+name+"="); ok {
			return value
		}
	}
	return "-"
}

// TestGangIsAllOrNothing: a job gets its machines together, each once, or none of them; the command
// runs on the first, or on each, and finds the others.
func TestGangIsAllOrNothing(t *testing.T) {
	tests := []struct {
		spec JobSpec
		cmd  string // with its variables put in, of each run
		env  string // MACHINES, RANK and Y of each run
		runs int
		busy string // machines
	}{
		{JobSpec{Machines: 2}, "go x0,x1", "x0,x1 - -", 1, "x0 x1"},
		{JobSpec{Machines: 3, Each: true}, "go x0,x1,x2|go x0,x1,x2|go x0,x1,x2",
			"x0,x1,x2 0 -|x0,x1,x2 1 -|x0,x1,x2 2 -", 3, "x0 x1 x2"},
		{JobSpec{With: []string{"Y=y"}}, "go x0", "x0 - y0", 1, "x0 y0"},
		{JobSpec{With: []string{"Y=y*2"}, Machines: 2}, "go x0,x1", "x0,x1 - y0,y1", 1,
			"x0 x1 y0 y1"},
		{JobSpec{With: []string{"Y=x"}}, "go x0", "x0 - x1", 1, "x0 x1"},
	}
	for _, tt := range tests {
		w := gangPool(t, 1)
		tt.spec.Class, tt.spec.Cmd = "x", "go {MACHINES}"
		blocker, err := w.submit(JobSpec{Class: "x", Cmd: "work", Repeat: 3, MaxFailures: 0})
		check(t, err)
		ids, err := w.submit(tt.spec)
		check(t, err)
		id := ids[0]
		w.wants(t, id, Waiting)
		w.ends(t, blocker[0], exit(0))
		if strings.Contains(tt.busy, "x1") {
			w.wants(t, id, Waiting)
		}
		w.ends(t, blocker[1], exit(0))
		w.ends(t, blocker[2], exit(0))
		w.wants(t, id, Running)
		var cmds, envs, busy []string
		for _, r := range w.ranks(id) {
			cmds = append(cmds, string(r.Command))
			envs = append(envs, env(r, "MACHINES")+" "+env(r, "RANK")+" "+env(r, "Y"))
		}
		for _, addr := range w.s.Machines() {
			if w.s.machines[addr].slots[0] == id {
				busy = append(busy, addr)
			}
		}
		if len(cmds) != tt.runs || strings.Join(busy, " ") != tt.busy ||
			strings.Join(cmds, "|") != tt.cmd || strings.Join(envs, "|") != tt.env {
			t.Errorf("%+v: %q with %q, busy %q", tt.spec, cmds, envs, busy)
		}
	}
}

// TestGangEnds is the table of how a job on each of three machines ends, by what happens to its
// ranks, in order.
func TestGangEnds(t *testing.T) {
	type step func(t *testing.T, w *world, id uint64)
	ends := func(i int, code int32) step {
		return func(t *testing.T, w *world, id uint64) {
			check(t, w.report(Ended{Ref: w.rank(id, i), Result: exit(code)}))
		}
	}
	dies := func(i int) step { // as it is told to
		return func(t *testing.T, w *world, id uint64) {
			if r := w.rank(id, i); !w.fleet.runs[r.Token].Cancel {
				t.Fatalf("rank %d isn't told to end", i)
			} else {
				a := &statepb.Attempt{Cause: statepb.Cause_CANCELED_BY_USER}
				check(t, w.report(Ended{Ref: r, Result: a}))
			}
		}
	}
	fails := func(i int) step {
		return func(t *testing.T, w *world, id uint64) {
			check(t, w.report(NotStarted{Ref: w.rank(id, i), Reason: "no room"}))
		}
	}
	lost := func(i int) step {
		return func(t *testing.T, w *world, id uint64) {
			check(t, w.report(RunLost{Ref: w.rank(id, i), Reason: "it rebooted"}))
		}
	}
	begin := func(t *testing.T, w *world, id uint64) { w.prepares(t, id) }
	ready := func(i int) step {
		return func(t *testing.T, w *world, id uint64) {
			check(t, w.report(Prepared{Ref: w.rank(id, i)}))
		}
	}
	away := func(addr string) step {
		return func(t *testing.T, w *world, id uint64) {
			check(t, w.report(Away{Addr: addr, Reason: "cut"}))
		}
	}
	bulk := func(op Op) step {
		return func(t *testing.T, w *world, id uint64) {
			p, err := w.s.PlanAtOnce(Operation{Op: op, Jobs: []uint64{id}})
			if len(p.Fates) != 1 || !p.Fates[0].Changed {
				t.Fatalf("%s: %+v", op, p.Fates)
			}
			check(t, w.do(p, err))
		}
	}
	remove := func(addr string) step {
		return func(t *testing.T, w *world, id uint64) {
			check(t, w.do(w.s.PlanRemove([]string{addr}, false), nil))
		}
	}
	tests := map[string]struct {
		retries  int
		steps    []step
		want     Status
		failures int32
		why      string
		busy     string
	}{
		"all succeed": {steps: []step{begin, ends(0, 0), ends(2, 0), ends(1, 0)}, want: Done},
		"a slot is free when its rank is dead": {
			steps: []step{begin, ends(1, 0)}, want: Running, busy: "x0 x2",
		},
		"the first that fails ends the others": {
			steps: []step{begin, ends(1, 3), dies(0), dies(2)}, want: Failed, failures: 1,
			why: "rank 1 on x1 exited with code 3",
		},
		"what ended before says nothing": {
			steps: []step{begin, ends(0, 0), ends(2, 4), ends(1, 5)}, want: Failed, failures: 1,
			why: "rank 2 on x2 exited with code 4",
		},
		"tried again when all are dead": {
			retries: 1, steps: []step{begin, ends(1, 3), dies(0)}, want: Running, busy: "x2",
		},
		"tried again": {
			retries: 1, steps: []step{begin, ends(1, 3), dies(0), dies(2)}, want: Waiting,
			failures: 1, why: "rank 1 on x1 exited with code 3",
		},
		"not started": {
			steps: []step{ready(0), fails(1)}, want: Waiting,
			why: "rank 1 on x1: could not start: no room",
		},
		"not started after others": {
			steps: []step{ready(0), ready(1), ready(2), ends(0, 0), fails(1), dies(2)},
			want:  Failed, failures: 1, why: "rank 1 on x1: could not start: no room",
		},
		"none started though all were ready": {
			steps: []step{ready(0), ready(1), ready(2), fails(1), fails(2), fails(0)},
			want:  Waiting, why: "rank 1 on x1: could not start: no room",
		},
		"a machine is lost before it is ready": {
			steps: []step{ready(1), away("x1")}, want: Waiting,
			why: "rank 1 on x1: could not start: the machine was lost before it was ready: cut",
		},
		"a machine is away while it runs": {
			steps: []step{begin, away("x1"), ends(0, 1), dies(2)}, want: Running, busy: "x1",
		},
		"given up while a machine is away": {
			steps: []step{begin, away("x1"), ends(0, 1), dies(2), bulk(OpLost)}, want: Failed,
			failures: 1, why: "rank 0 on x0 exited with code 1",
		},
		"all given up": {
			steps: []step{begin, away("x1"), bulk(OpLost)}, want: Lost,
			why: "rank 0 on x0: the user said that it is lost",
		},
		"a rank is lost": {
			steps: []step{begin, lost(2), dies(1), ends(0, 0)}, want: Lost,
			why: "rank 2 on x2: it rebooted",
		},
		"a rank is lost, with retries": {
			retries: 1, steps: []step{begin, lost(2), dies(1), ends(0, 0)}, want: Waiting,
			why: "rank 2 on x2: it rebooted",
		},
		"canceled": {steps: []step{begin, bulk(OpCancel), dies(1), dies(2), dies(0)},
			want: Canceled},
		"canceled before all are ready": {
			steps: []step{ready(0), bulk(OpCancel), fails(1)}, want: Canceled,
		},
		"canceled too late": {
			steps: []step{begin, ends(0, 0), ends(1, 0), bulk(OpCancel), ends(2, 0)}, want: Done,
		},
		"failed before the cancel": {
			steps: []step{begin, ends(0, 7), bulk(OpCancel), dies(1), dies(2)}, want: Failed,
			failures: 1, why: "rank 0 on x0 exited with code 7",
		},
		"its machine is removed": {
			steps: []step{begin, remove("x2"), dies(0), dies(1)}, want: Canceled,
			why: "its machine was removed",
		},
		"its machine is removed, with retries": {
			retries: 1, steps: []step{begin, remove("x0"), dies(1), dies(2)}, want: Waiting,
			why: "was ended as its machine x0 was removed",
		},
		"its machine is removed before all are ready": {
			retries: 1, steps: []step{ready(0), remove("x0")}, want: Waiting,
			why: "was ended as its machine x0 was removed",
		},
		"forgotten": {steps: []step{begin, bulk(OpForget), dies(1), dies(2), dies(0)}, want: 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := gangPool(t, 1)
			id := w.add(t, JobSpec{Machines: 3, Each: true, MaxFailures: tt.retries})
			w.wants(t, id, Running)
			for _, do := range tt.steps {
				do(t, w, id)
			}
			w.wants(t, id, tt.want)
			if j := w.s.Job(id); j != nil && (j.Failures != tt.failures || j.Error != tt.why) {
				t.Errorf("%d failures: %q", j.Failures, j.Error)
			}
			var busy []string
			for _, addr := range w.s.Machines() {
				if w.s.machines[addr].slots[0] == id {
					busy = append(busy, addr)
				}
			}
			if strings.Join(busy, " ") != tt.busy {
				t.Errorf("it has %v", busy)
			}
			// what a restarted daemon makes of it is the same
			again, err := restored(nil, w.journal)
			check(t, err)
			if a, b := fmt.Sprint(dump(w.s)), fmt.Sprint(dump(again)); a != b {
				t.Errorf("the journal makes another state:\n%s\n%s", a, b)
			}
			check(t, again.check())
		})
	}
}

// TestHeldMachines: nothing happens to a job when a machine that is only held for it reboots or is
// away; when it is removed the attempt ends.
func TestHeldMachines(t *testing.T) {
	w := gangPool(t, 1)
	id := w.add(t, JobSpec{With: []string{"SERVER=y"}, MaxFailures: 1})
	w.wants(t, id, Running)
	check(t, w.report(Started{Ref: w.rank(id, 0), At: w.now}))
	check(t, w.report(Away{Addr: "y0", Reason: "it reboots"}))
	check(t, w.report(Connected{Addr: "y0", Facts: &statepb.Machine{BootId: "another"}}))
	w.wants(t, id, Running)
	check(t, w.do(w.s.PlanRemove([]string{"y0"}, false), nil))
	w.wants(t, id, Running)
	if !w.fleet.runs[w.rank(id, 0).Token].Cancel {
		t.Error("it isn't ended")
	}
	check(t, w.report(Ended{Ref: w.rank(id, 0),
		Result: &statepb.Attempt{Cause: statepb.Cause_CANCELED_BY_USER}}))
	w.wants(t, id, Running) // again
	if addr := addressesOf(last(w.s.Job(id)), "SERVER"); addr != "y1" {
		t.Errorf("the second attempt has %q", addr)
	}
	w.ends(t, id, exit(0))
	w.wants(t, id, Done)
}

// TestGangsOfEachOthersClass: two jobs that each want a machine of the other's class don't keep
// each other waiting, however often there are new ones.
func TestGangsOfEachOthersClass(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "x0"))
	check(t, w.pool("y", 1, "y0"))
	var ids []uint64
	for i := range 10 {
		class, other := "x", "y"
		if i%2 == 1 {
			class, other = other, class
		}
		ids = append(ids, w.add(t, JobSpec{Class: class, With: []string{"O=" + other}}))
	}
	for _, id := range ids {
		w.wants(t, id, Running)
		w.ends(t, id, exit(0))
	}
}

// TestGangIsNotStarved: small jobs that keep coming, in all classes that a gang wants, don't keep
// it waiting; and it doesn't take from those which come before it.
func TestGangIsNotStarved(t *testing.T) {
	for _, spec := range []JobSpec{
		{Machines: 3}, {Machines: 3, Each: true}, {With: []string{"Y=y*2"}},
		{Machines: 3, With: []string{"Y=y*2"}}, {Machines: 2, Slots: 2, With: []string{"Y=y"}},
	} {
		for _, timeout := range []time.Duration{0, time.Hour} {
			w := gangPool(t, 2)
			small := func(class string) uint64 {
				return w.add(t, JobSpec{Class: class, Timeout: timeout})
			}
			var before []uint64
			for range 8 {
				before = append(before, small("x"), small("y"))
			}
			spec.Timeout = timeout
			gang := w.add(t, spec)
			for range 8 {
				small("x")
				small("y")
			}
			for range 30 { // one at a time ends, and another one comes
				if w.s.Status(gang) != Waiting {
					break
				}
				r := w.running()[0].Ref
				w.ends(t, r.Job, exit(0))
				check(t, w.pass(time.Second))
				small("x")
				small("y")
			}
			w.wants(t, gang, Running)
			for _, id := range before {
				if w.s.Status(id) == Waiting {
					t.Errorf("%+v: job %d, which comes before it, waits", spec, id)
				}
			}
		}
	}
}

// TestGangsPoolShare: what a gang has of the pool it has once, and until nothing of it may live.
func TestGangsPoolShare(t *testing.T) {
	w := gangPool(t, 1)
	check(t, w.do(w.s.PlanResource("license", "2", false)))
	id := w.add(t, JobSpec{Machines: 3, Each: true, Needs: "license=2"})
	held := func(want int64) {
		t.Helper()
		if got := w.s.heldOf(poolName, "license"); got != want {
			t.Fatalf("%d are held, want %d", got, want)
		}
	}
	w.prepares(t, id)
	held(2)
	check(t, w.report(RunLost{Ref: w.rank(id, 0), Reason: "?"},
		RunLost{Ref: w.rank(id, 2), Reason: "?"}))
	check(t, w.report(Ended{Ref: w.rank(id, 1), Result: exit(1)}))
	w.wants(t, id, Lost)
	held(2) // two of its runs may live
	a := last(w.s.Job(id))
	check(t, w.report(Stopped{Ref: runRef(w.s.Job(id), a, a.Ranks[0])}))
	held(2)
	check(t, w.do(w.s.PlanRemove([]string{"x2"}, true), nil))
	held(0)
}

// TestGangResults: each rank's results are copied from its machine, to a directory of its own, and
// again those that failed to.
func TestGangResults(t *testing.T) {
	w := gangPool(t, 1)
	check(t, w.do(w.s.PlanResource("license", "2", false)))
	id := w.add(t, JobSpec{Machines: 3, Each: true, With: []string{"Y=y"}, Needs: "license=1",
		CpPath: "/results"})
	w.prepares(t, id)
	for i := range 3 {
		r := exit(0)
		if i != 1 {
			r.Results = []string{"out"}
		}
		r.Measurements = []string{fmt.Sprintf("rank%d=1", i), fmt.Sprintf("all=%d", i)}
		check(t, w.report(Ended{Ref: w.rank(id, i), Result: r}))
	}
	w.wants(t, id, Copying)
	if got := strings.Join(last(w.s.Job(id)).Measurements, " "); got !=
		"rank0=1 all=0 rank1=1 rank2=1" {
		t.Errorf("its metrics are %s", got)
	}
	var got []string
	for _, c := range w.fleet.ranks {
		got = append(got, c.Machine.Addr+" "+c.Dest)
	}
	slices.Sort(got)
	if want := "x0 /results/1/r0,x2 /results/1/r2"; strings.Join(got, ",") !=
		strings.ReplaceAll(want, "/1/", fmt.Sprintf("/%d/", id)) {
		t.Errorf("copied are %v", got)
	}
	dir := fmt.Sprintf("/results/%d", id)
	check(t, w.report(CopyEnded{Job: id, Rank: 3, Error: "not there"}))
	w.wants(t, id, Copying)
	check(t, w.report(CopyEnded{Job: id, Rank: 1, Dir: dir + "/r0", Files: 2, Bytes: 10}))
	w.wants(t, id, Done)
	j := w.s.Job(id)
	if j.Results != statepb.Results_RESULTS_FAILED || j.ResultsError != "rank 2: not there" ||
		j.ResultsDir != dir {
		t.Errorf("%v in %s: %s", j.Results, j.ResultsDir, j.ResultsError)
	}
	if n := len(w.fleet.settles); n != 2 {
		t.Errorf("%d runs are to be removed", n)
	}
	p, err := w.s.PlanAtOnce(Operation{Op: OpRecopy, Jobs: []uint64{id}})
	check(t, w.do(p, err))
	check(t, w.report(CopyEnded{Job: id, Rank: 3, Dir: dir + "/r2", Files: 1, Bytes: 1}))
	if j = w.s.Job(id); j.Results != statepb.Results_RESULTS_COPIED ||
		last(j).ResultsFiles != 3 {
		t.Errorf("%v, %d files: %s", j.Results, last(j).ResultsFiles, j.ResultsError)
	}
}

// TestRefusedGangs: what can't be is refused at once, with what there is.
func TestRefusedGangs(t *testing.T) {
	w := gangPool(t, 1)
	tests := []struct {
		spec JobSpec
		want string
		next string
	}{
		{JobSpec{Machines: 4}, "4 machines of class x at once, which has 3", "machine ls"},
		{JobSpec{Machines: 3, With: []string{"A=x"}}, "4 machines of class x", "machine add"},
		{JobSpec{With: []string{"A=y*3"}}, "3 machines of class y at once, which has 2", ""},
		{JobSpec{With: []string{"A=server"}}, "no machine is in class server", "there are x, y"},
		{JobSpec{With: []string{"A=X"}}, "no machine is in class X", "did you mean x?"},
		{JobSpec{Machines: -1}, "-1 machines", "between"},
		{JobSpec{Machines: 5000}, "5000 machines", "between"},
		{JobSpec{Each: true}, "each of which machines", "--machines"},
		{JobSpec{With: []string{"y"}}, "names no class", "--with SERVER=CLASS"},
		{JobSpec{With: []string{"A=y*x"}}, "is no number", "A=y*2"},
		{JobSpec{With: []string{"A=y*0"}}, "is no number", ""},
		{JobSpec{With: []string{"A=y", "A=y"}}, "twice", ""},
		{JobSpec{With: []string{"MACHINE=y"}}, "set by the daemon", ""},
		{JobSpec{With: []string{"MACHINES=y"}}, "has another meaning", ""},
		{JobSpec{With: []string{"2=y"}}, "can't be a variable's name", ""},
		{JobSpec{Machines: 2, Slots: 2}, "x0 has 1 slots", ""},
	}
	for _, tt := range tests {
		tt.spec.Cmd = "work"
		if tt.spec.Class == "" {
			tt.spec.Class = "x"
		}
		_, err := w.s.PlanJobs([]JobSpec{tt.spec}, false)
		if err == nil || !strings.Contains(err.Error(), tt.want) ||
			!strings.Contains(err.(*Error).Next, tt.next) {
			t.Errorf("%+v gives %v (%v), want %q", tt.spec, err, err, tt.want)
		}
	}
	_, err := w.s.PlanMatrix(MatrixSpec{
		Job:  JobSpec{Class: "x", Cmd: "work {RANK}", Machines: 2, Each: true},
		Axes: []*statepb.Axis{{Name: "RANK", Values: []string{"1", "2"}}},
	}, false)
	if err == nil || !strings.Contains(err.Error(), "{RANK} is a variable of the matrix") {
		t.Error(err)
	}
	if _, err = w.s.PlanMatrix(MatrixSpec{
		Job:  JobSpec{Class: "x", Cmd: "work {RANK}"},
		Axes: []*statepb.Axis{{Name: "RANK", Values: []string{"1", "2"}}},
	}, false); err != nil {
		t.Errorf("a variable of an ordinary matrix: %v", err)
	}
}
