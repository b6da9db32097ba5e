package sched

import (
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// TestClockJumps sets the host's clock while jobs wait, run and wait
// for a retry: everything goes on, about as soon as it would have.
func TestClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"a day back": -24 * time.Hour,
		"a year on": 8760 * time.Hour, "a second back": -time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, d *desk) {
				p, err := d.plan(t.Context(), "", oneJob)
				check(t, err)
				failed := d.takeRun(t)
				d.jump.Add(int64(jump))
				d.Report(Ended{Ref: failed, Result: exit(1)})
				check(t, d.Read(t.Context(), func(*State) {}))
				d.jump.Add(int64(jump))
				begin := time.Now()
				for d.status(t, p.IDs[0]) == Waiting {
					time.Sleep(100 * time.Millisecond)
				}
				if took := time.Since(begin); took > maxBackoff {
					t.Errorf("the retry began after %v", took)
				}
				d.Report(Ended{Ref: d.takeRun(t), Result: exit(0)})
				if got := d.status(t, p.IDs[0]); got != Done {
					t.Errorf("the job is %v", got)
				}
			})
		})
	}
}

// TestClockSet sets the host's clock while something waits for a time, of each kind that there is:
// it comes after about as long as it was to, whatever the clock says. A look each beat is all that
// there is to go by, as the times of a world have no other clock.
func TestClockSet(t *testing.T) {
	setup := func(t *testing.T, w *world, spec SetupSpec) uint64 {
		spec.Addrs, spec.Class = []string{"a"}, "x"
		return w.setUp(t, spec)
	}
	kinds := []struct {
		name  string
		after time.Duration
		// begin makes something wait, and gives what tells whether its time has come.
		begin func(t *testing.T, w *world) (came func() bool)
	}{
		{"a retry", 32 * time.Second, func(t *testing.T, w *world) func() bool {
			ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: -1})
			check(t, err)
			for i := range 6 {
				w.ends(t, ids[0], exit(1))
				if i < 5 {
					check(t, w.pass(backoff(int32(i+1))))
				}
			}
			return func() bool { return w.s.Status(ids[0]) == Running }
		}},
		{"a machine that can't start anything", 15 * time.Minute,
			func(t *testing.T, w *world) func() bool {
				ids, err := w.submit(JobSpec{Class: "x", Cmd: "work"})
				check(t, err)
				for i := range 5 {
					check(t, w.report(NotStarted{Ref: w.runOf(ids[0]), Reason: "no space"}))
					if i < 4 {
						check(t, w.pass(firstRest<<i))
						check(t, w.pass(maxBackoff))
					}
				}
				return func() bool { return w.s.Status(ids[0]) == Running }
			}},
		{"a suspect", 8 * time.Minute, func(t *testing.T, w *world) func() bool {
			check(t, w.pool("x", 1, "b"))
			for range 20 {
				_, err := w.submit(JobSpec{Class: "x", Cmd: "same"})
				check(t, err)
			}
			for _, word := range []string{"a-", "a-", "a-", "a-", "a-", "1m", "a-", "2m", "a-",
				"4m", "a-"} {
				check(t, w.word(word))
			}
			return func() bool { return w.runsOn("a") > 0 }
		}},
		{"a matrix that is held", firstHeld, func(t *testing.T, w *world) func() bool {
			_, err := (&night{world: w}).cells(20, 0)
			check(t, err)
			for range firstNeed + 1 {
				check(t, w.on("a", exit(1)))
			}
			return func() bool { return w.runsOn("a") > 0 }
		}},
		{"a machine that is set aside", firstAside, func(t *testing.T, w *world) func() bool {
			check(t, w.pool("x", 1, "b"))
			for range 30 {
				_, err := w.submit(JobSpec{Class: "x", Cmd: "same", MaxFailures: 3})
				check(t, err)
			}
			for _, word := range []string{"a-", "a-", "a-", "a-", "b+", "a-", "b+", "1m", "a-",
				"b+", "b+", "b+", "b+", "b+", "b+"} {
				check(t, w.word(word))
			}
			if got := w.standing(); len(got) != 1 || got[0] != "a in x-broken" {
				t.Fatal(got)
			}
			return func() bool { return w.runsOn("a") > 0 }
		}},
		{"a retry that passes over a machine", avoidFor, func(t *testing.T, w *world) func() bool {
			check(t, w.pool("x", 1, "b"))
			ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: 1},
				JobSpec{Class: "x", Cmd: "long"})
			check(t, err)
			w.ends(t, ids[0], exit(1))
			return func() bool { return w.s.Status(ids[0]) == Running }
		}},
		{"the time of a setup over its steps", 30 * time.Minute,
			func(t *testing.T, w *world) func() bool {
				id := setup(t, w,
					SetupSpec{Steps: []string{"one", "two"}, Timeout: 30 * time.Minute})
				check(t, w.report(Away{Addr: "a", Reason: "cut"}))
				w.ends(t, id, exit(0))
				return func() bool { return w.s.Status(id) == Failed }
			}},
		{"a reboot", rebootLimit, func(t *testing.T, w *world) func() bool {
			id := setup(t, w, SetupSpec{Steps: []string{"one"}, Reboot: true})
			w.ends(t, id, exit(0))
			check(t, w.report(Away{Addr: "a", Reason: "reboots"}))
			w.ends(t, id, exit(0))
			return func() bool { return w.s.Status(id) == Failed }
		}},
		{"a staggered setup", 20 * time.Minute, func(t *testing.T, w *world) func() bool {
			check(t, w.pool("x", 1, "b"))
			p, err := w.s.PlanSetup(SetupSpec{Addrs: []string{"a", "b"}, Class: "x",
				Steps: []string{"one"}, Stagger: 20 * time.Minute}, w.now)
			check(t, w.do(p, err))
			return func() bool { return w.s.Status(p.IDs[1]) == Running }
		}},
		{"the end of a machine", 2 * time.Hour, func(t *testing.T, w *world) func() bool {
			check(t,
				w.do(w.s.PlanMachines([]MachineSpec{{Addr: "c", Class: "x",
					Until: w.now.Add(2 * time.Hour)}}, w.now)))
			return func() bool { return w.s.machines["c"] == nil }
		}},
		{"a machine out of reach, where a run may live", unreachedFor,
			func(t *testing.T, w *world) func() bool {
				ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: 1})
				check(t, err)
				check(t, w.pool("x", 1, "b"))
				check(t, w.report(Away{Addr: "a", Reason: "cut"}))
				w.operate(t, OpLost, ids[0])
				return func() bool { return w.s.Status(ids[0]) == Running }
			}},
		{"what a machine that was removed owes", owedFor, func(t *testing.T, w *world) func() bool {
			_, err := w.submit(JobSpec{Class: "x", Cmd: "work"})
			check(t, err)
			check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
			check(t, w.report(Away{Addr: "a", Reason: "cut"}))
			return func() bool { return len(w.s.Obligations()) == 0 }
		}},
	}
	for _, kind := range kinds {
		for name, jump := range map[string]time.Duration{
			"an hour on": time.Hour, "a day on": 24 * time.Hour, "an hour back": -time.Hour,
			"a day back": -24 * time.Hour,
		} {
			t.Run(kind.name+", "+name, func(t *testing.T) {
				w := newWorld()
				w.every = 100
				check(t, w.pool("x", 1, "a"))
				came := kind.begin(t, w)
				passed := kind.after / 4
				check(t, w.pass(passed))
				w.now = w.now.Add(jump)
				check(t, w.turn())
				if kind.after > 3*beat {
					check(t, w.pass(kind.after-passed-2*beat))
					if came() {
						t.Errorf("its time came early")
					}
				}
				check(t, w.pass(4*beat))
				if !came() {
					t.Errorf("its time hasn't come after %v", kind.after)
				}
			})
		}
	}
}

// TestSetupMeasuresItsSteps: the time of a setup is what its steps took on their machine, not what
// the host's clock says.
func TestSetupMeasuresItsSteps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"an hour on": time.Hour,
		"a day back": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 1, "a"))
			id := w.setUp(t,
				SetupSpec{Addrs: []string{"a"}, Class: "x", Steps: []string{"one", "two", "three"},
					Timeout: 30 * time.Minute})
			check(t, w.pass(time.Minute))
			w.now = w.now.Add(jump)
			one := exit(0)
			one.Duration = int64(time.Minute)
			w.ends(t, id, one)
			w.wants(t, id, Running)
			if got := w.running()[0].Timeout; got != 29*time.Minute {
				t.Errorf("the second step has %v", got)
			}
			two := exit(0)
			two.Duration = int64(29*time.Minute + time.Second)
			w.ends(t, id, two)
			w.wants(t, id, Failed)
		})
	}
}

// TestClockSetWhileDown starts a daemon again when the clock was set back, and when its machine had
// rebooted long ago.
func TestClockSetWhileDown(t *testing.T) {
	again := func(t *testing.T, w *world, after time.Duration) {
		records, err := frozen(w.s)
		check(t, err)
		w.s, err = restored(records, nil)
		check(t, err)
		w.fleet = newMemory()
		w.now = w.now.Add(after)
		w.s.Resume(w.fleet)
		check(t, w.turn())
	}
	t.Run("a rest, a day back", func(t *testing.T) {
		w := newWorld()
		check(t, w.pool("x", 1, "a"))
		ids, err := w.submit(JobSpec{Class: "x", Cmd: "work"})
		check(t, err)
		check(t, w.report(NotStarted{Ref: w.runOf(ids[0]), Reason: "no space"}))
		again(t, w, -24*time.Hour)
		check(t, w.connect("a"))
		check(t, w.settle())
		check(t, w.pass(2*firstRest))
		w.wants(t, ids[0], Running)
	})
	t.Run("a reboot, an hour on", func(t *testing.T) {
		w := newWorld()
		check(t, w.pool("x", 1, "a"))
		id := w.setUp(t,
			SetupSpec{Addrs: []string{"a"}, Class: "x", Steps: []string{"one"}, Reboot: true})
		w.ends(t, id, exit(0))
		check(t, w.report(Away{Addr: "a", Reason: "reboots"}))
		w.ends(t, id, exit(0))
		again(t, w, time.Hour)
		w.wants(t, id, Running)
		check(t,
			w.report(Connected{Addr: "a", Facts: &statepb.Machine{BootId: "boot2", Os: "linux"}}))
		w.ends(t, id, exit(0))
		w.wants(t, id, Done)
	})
}
