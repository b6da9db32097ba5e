package sched

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// setUp submits a setup of a machine and gives its job.
func (w *world) setUp(t *testing.T, spec SetupSpec) uint64 {
	t.Helper()
	p, err := w.s.PlanSetup(spec, w.now)
	check(t, w.do(p, err))
	return p.IDs[0]
}

// TestSetups: what happens between the steps of setups.
func TestSetups(t *testing.T) {
	two := SetupSpec{Addrs: []string{"a"}, Class: "y", Steps: []string{"one", "two"}}
	reboot := SetupSpec{Addrs: []string{"a"}, Class: "y", Steps: []string{"one"}, Reboot: true,
		Verify: "check"}
	with := func(spec SetupSpec, f func(*SetupSpec)) SetupSpec { f(&spec); return spec }
	rebooted := Connected{Addr: "a",
		Facts: &statepb.Machine{BootId: "boot2", Os: "linux", Arch: "amd64", Cores: 4}}
	tests := []struct {
		name  string
		spec  SetupSpec
		life  func(t *testing.T, w *world, id uint64)
		want  Status
		class string
	}{
		{"all steps", two, func(t *testing.T, w *world, id uint64) {
			if r := w.running()[0]; string(r.Command) != "one" || w.s.machines["a"].Class != "x" {
				t.Error(r, w.s.machines["a"])
			}
			w.ends(t, id, exit(0))
			if r := w.running()[0]; string(r.Command) != "two" || r.Ref.Step != 1 ||
				r.Ref.Attempt != 1 {
				t.Error(r)
			}
			w.ends(t, id, exit(0))
		}, Done, "y"},
		{"a step fails", two, func(t *testing.T, w *world, id uint64) { w.ends(t, id, exit(3)) },
			Failed, "x"},
		{"a step is tried again", with(two, func(s *SetupSpec) {
			s.Retries = 1
		}), func(t *testing.T, w *world, id uint64) {
			w.ends(t, id, exit(3))
			w.ends(t, id, exit(0))
			w.ends(t, id, exit(0))
		}, Done, "y"},
		{"but not for ever", with(two, func(s *SetupSpec) {
			s.Retries = 1
		}), func(t *testing.T, w *world, id uint64) {
			w.ends(t, id, exit(3))
			w.ends(t, id, exit(3))
		}, Failed, "x"},
		{"canceled between two steps", two, func(t *testing.T, w *world, id uint64) {
			r := w.runOf(id)
			check(t, w.report(Away{Addr: "a"}))
			w.ends(t, id, exit(0))
			check(t, w.report(Ended{Ref: r, Result: exit(1)})) // once more, and another
			w.operate(t, OpCancel, id)
		}, Canceled, "x"},
		{"given up between two steps", two, func(t *testing.T, w *world, id uint64) {
			check(t, w.report(Away{Addr: "a"}))
			w.ends(t, id, exit(0))
			w.operate(t, OpLost, id)
			check(t, w.pass(time.Hour))
		}, Lost, "x"},
		{"timed out between two steps", with(two, func(s *SetupSpec) {
			s.Timeout = time.Minute
		}), func(t *testing.T, w *world, id uint64) {
			check(t, w.report(Away{Addr: "a"}))
			w.ends(t, id, exit(0))
			check(t, w.pass(time.Minute))
		}, Failed, "x"},
		{"its machine is removed", two, func(t *testing.T, w *world, id uint64) {
			check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
			check(t, w.pool("x", 1, "a"))
		}, Canceled, "x"},
		{"its machine can't start it", two, func(t *testing.T, w *world, id uint64) {
			check(t, w.report(NotStarted{Ref: w.runOf(id), Reason: "no space"}))
		}, Failed, "x"},
		{"a reboot", reboot, func(t *testing.T, w *world, id uint64) {
			w.ends(t, id, exit(0))
			w.ends(t, id, exit(0)) // the command that reboots, before the machine goes
			if len(w.running()) != 0 {
				t.Error("verified before the reboot")
			}
			check(t, w.report(Away{Addr: "a"}))
			check(t, w.pass(5*time.Minute))
			check(t, w.report(rebooted))
			if r := w.running()[0]; string(r.Command) != "check" || r.BootID != "boot2" {
				t.Error(r)
			}
			w.ends(t, id, exit(0))
		}, Done, "y"},
		{"a reboot that ends its own command", reboot, func(t *testing.T, w *world, id uint64) {
			w.ends(t, id, exit(0))
			r := w.runOf(id)
			check(t, w.report(Away{Addr: "a"}))
			check(t, w.report(rebooted, RunLost{Ref: r, Reason: "the machine rebooted"}))
			w.ends(t, id, exit(0))
		}, Done, "y"},
		{"a reboot that kills its own command", reboot, func(t *testing.T, w *world, id uint64) {
			w.ends(t, id, exit(0))
			w.ends(t, id, &statepb.Attempt{Cause: statepb.Cause_EXITED, Signal: "TERM"})
			check(t, w.report(rebooted))
			w.ends(t, id, exit(1))
		}, Failed, "x"},
		{"a reboot that isn't allowed", reboot, func(t *testing.T, w *world, id uint64) {
			w.ends(t, id, exit(0))
			w.ends(t, id, exit(1))
		}, Failed, "x"},
		{"a reboot without return", reboot, func(t *testing.T, w *world, id uint64) {
			w.ends(t, id, exit(0))
			w.ends(t, id, exit(0))
			check(t, w.report(Away{Addr: "a"}))
			check(t, w.pass(rebootLimit))
		}, Failed, "x"},
		{"a step fails that jobs need", with(two, func(s *SetupSpec) { s.Needed = true }),
			func(t *testing.T, w *world, id uint64) {
				if m := w.s.machines["a"]; m.Class != "" {
					t.Error(m)
				}
				w.ends(t, id, exit(1))
			}, Failed, ""},
		{"a step fails that a matrix of its class needs",
			SetupSpec{Addrs: []string{"a"}, Keep: true, Steps: []string{"one", "two"}},
			func(t *testing.T, w *world, id uint64) {
				check(t, w.do(w.s.PlanMatrix(MatrixSpec{
					Job:   JobSpec{Class: "x", Cmd: "run {I}"},
					Axes:  []*statepb.Axis{{Name: "I", Values: []string{"1", "2"}}},
					Setup: []string{"two"}}, false)))
				w.ends(t, id, exit(1))
			}, Failed, ""},
		{"a step fails, and the next setup doesn't", two,
			func(t *testing.T, w *world, id uint64) {
				w.ends(t, id, exit(1))
				again := w.setUp(t,
					SetupSpec{Addrs: []string{"a"}, Keep: true, Steps: []string{"one"}})
				w.ends(t, again, exit(0))
				if m := w.s.machines["a"]; m.SetupError != "" {
					t.Error(m)
				}
			}, Failed, "x"},
		{"of what is set aside, to where it was",
			SetupSpec{Addrs: []string{"a"}, Keep: true, Steps: []string{"one"}},
			func(t *testing.T, w *world, id uint64) {
				w.ends(t, id, exit(0))
				check(t,
					w.do(Plan{Changes: []*Change{moved("a", "x-broken", "it is broken")}}, nil))
				again := w.setUp(t,
					SetupSpec{Addrs: []string{"a"}, Keep: true, Steps: []string{"two"}})
				more := w.setUp(t,
					SetupSpec{Addrs: []string{"a"}, Keep: true, Steps: []string{"three"}})
				w.ends(t, again, exit(0))
				w.ends(t, more, exit(0))
			}, Done, "x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 2, "a"))
			id := w.setUp(t, test.spec)
			test.life(t, w, id)
			w.wants(t, id, test.want)
			if m := w.s.machines["a"]; m != nil && m.Class != test.class {
				t.Errorf("its machine is in class %q, want %q", m.Class, test.class)
			}
			told := 0
			for _, e := range w.events {
				if len(e.Spans) > 0 && e.Spans[0].Job == id {
					told++
				}
			}
			if told != 1 {
				t.Errorf("%d events tell of the end of its attempt", told)
			}
			s, err := restored(nil, w.journal)
			check(t, err)
			if diff := cmp.Diff(dump(w.s), dump(s)); diff != "" {
				t.Errorf("the journal makes another state:\n%s", diff)
			}
		})
	}
}

// TestSetupTakesTurns: a setup waits until what runs on its machine has ended and keeps others out;
// setups go in order; a staggered one lets the machine work until its time.
func TestSetupTakesTurns(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 2, "a", "b"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Repeat: 20})
	check(t, err)
	p, err := w.s.PlanSetup(SetupSpec{Addrs: []string{"a", "b"}, Keep: true,
		Steps: []string{"set up"}, Stagger: time.Hour}, w.now)
	check(t, w.do(p, err))
	onA, onB := func() (n int) { return w.runsOn("a") }, func() int { return w.runsOn("b") }
	for _, id := range ids[:4] {
		w.ends(t, id, exit(0))
	}
	w.wants(t, p.IDs[0], Running)
	w.wants(t, p.IDs[1], Waiting)
	if onA() != 1 || onB() != 2 {
		t.Errorf("%d runs on a, %d on b", onA(), onB())
	}
	second := w.setUp(t, SetupSpec{Addrs: []string{"a"}, Keep: true, Steps: []string{"again"}})
	w.ends(t, p.IDs[0], exit(0))
	w.wants(t, second, Running)
	w.ends(t, second, exit(0))
	if m := w.s.machines["a"]; m.Class != "x" || onA() != 2 {
		t.Errorf("a is in class %q with %d runs", m.Class, onA())
	}
	check(t, w.pass(time.Hour))
	for onB() > 0 && w.s.Status(p.IDs[1]) == Waiting {
		check(t, w.on("b", exit(0)))
	}
	w.wants(t, p.IDs[1], Running)
	held := w.setUp(t, SetupSpec{Addrs: []string{"b"}, Steps: []string{"held"}})
	other := w.setUp(t, SetupSpec{Addrs: []string{"b"}, Steps: []string{"other"}})
	w.operate(t, OpHold, held)
	check(t, w.do(w.s.PlanRemove([]string{"b"}, false), nil))
	for _, id := range []uint64{p.IDs[1], held, other} {
		w.wants(t, id, Canceled)
	}
	if p := w.operate(t, OpRestart, other); p.Fates[0].Changed ||
		!strings.Contains(p.Fates[0].Note, "no longer in the pool") {
		t.Errorf("%+v", p.Fates)
	}
}

// TestSetupsAtATime: so many machines of a request are set up at a time, and not fewer because the
// number is a large one.
func TestSetupsAtATime(t *testing.T) {
	t.Parallel()
	for parallel, want := range map[int]int{
		0: 3, 1: 1, 2: 2, 3: 3, 1<<31 - 1: 3, 1 << 31: 3, 1<<32 - 1: 3, 1 << 32: 3, 1<<32 + 1: 3,
	} {
		w := newWorld()
		check(t, w.pool("x", 2, "a", "b", "c"))
		p, err := w.s.PlanSetup(SetupSpec{Addrs: []string{"a", "b", "c"}, Keep: true,
			Steps: []string{"set up"}, Parallel: parallel}, w.now)
		check(t, w.do(p, err))
		running := 0
		for _, id := range p.IDs {
			if w.s.Status(id) == Running {
				running++
			}
		}
		if running != want {
			t.Errorf("with %d at a time, %d are set up", parallel, running)
		}
	}
}

func (w *world) runsOn(addr string) (n int) {
	for _, r := range w.fleet.runs {
		if r.Ref.Machine == addr {
			n++
		}
	}
	return n
}
