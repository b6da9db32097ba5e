package sched

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// TestJoin adds machines to a class whose matrices want a setup of them.
func TestJoin(t *testing.T) {
	w := newWorld()
	commands := func() (all []string) {
		for _, r := range w.running() {
			all = append(all, r.Ref.Machine+": "+string(r.Command))
		}
		slices.Sort(all)
		return all
	}
	want := func(what string, runs ...string) {
		t.Helper()
		if diff := cmp.Diff(runs, commands()); diff != "" {
			t.Fatalf("%s, there runs (-want +got):\n%s", what, diff)
		}
	}
	end := func(code int32) {
		t.Helper()
		for _, r := range w.running() {
			check(t, w.report(Ended{Ref: r.Ref, Result: exit(code)}))
		}
	}
	check(t, w.pool("x", 1, "a"))
	check(t, w.pool("other", 1, "b"))
	matrix := func(name string, values int, setup ...string) {
		t.Helper()
		axis := &statepb.Axis{Name: "I",
			Values: []string{"1", "2", "3", "4", "5", "6", "7", "8"}[:values]}
		p, err := w.s.PlanMatrix(MatrixSpec{Name: name,
			Job: JobSpec{Class: "x", Cmd: name + " {I}"}, Axes: []*statepb.Axis{axis},
			Setup: setup}, false)
		check(t, w.do(p, err))
	}
	matrix("first", 8, "make first")
	matrix("second", 1, "make second", "check")
	matrix("third", 1, "make first") // the same, and once is enough
	matrix("fourth", 1)
	want("who is there is set up by whom the matrix is of", "a: first 1")

	connect := func(addr string) {
		t.Helper()
		check(t,
			w.report(Connected{Addr: addr,
				Facts: &statepb.Machine{BootId: "boot", Os: "linux", Arch: "amd64", Cores: 4}}))
	}
	p, err := w.s.PlanMachines([]MachineSpec{{Addr: "c", Class: "x", Slots: 2}}, w.now)
	if diff := cmp.Diff([]string{"c runs the setup of matrix 1, 10, 12 before it joins class x"},
		p.Warnings); diff != "" || len(p.IDs) != 0 {
		t.Errorf("%v (-want +got):\n%s", p.IDs, diff)
	}
	check(t, w.do(p, err))
	connect("c")
	want("one is added", "a: first 1", "c: make first")
	end(0)
	want("its next step", "a: first 2", "c: make second")
	end(0)
	want("its last step", "a: first 3", "c: check")
	end(0)
	want("it has joined", "a: first 4", "c: first 5", "c: first 6")
	if c := w.s.machines["c"]; c.Class != "x" || c.Slots != 2 {
		t.Errorf("c is %v", c)
	}

	// One that moves leaves its class then, one with a setup of its own has that before, and one
	// whose setup fails is in no class.
	p, err = w.s.PlanMove([]string{"b"}, "x", w.now)
	check(t, w.do(p, err))
	p, err = w.s.PlanSetup(SetupSpec{Addrs: []string{"d"}, Class: "x",
		Steps: []string{"make second", "check"}}, w.now)
	check(t, w.do(p, err))
	if len(p.IDs) != 1 || len(p.Warnings) != 1 {
		t.Errorf("a setup of its own gives %v, %q", p.IDs, p.Warnings)
	}
	connect("d")
	want("others join", "a: first 4", "b: make first", "c: first 5", "c: first 6", "d: make second")
	for _, r := range w.running() {
		switch r.Ref.Machine {
		case "b":
			check(t, w.report(Ended{Ref: r.Ref, Result: exit(1)}))
		case "d":
			check(t, w.report(Ended{Ref: r.Ref, Result: exit(0)}))
		}
	}
	want("one of them has failed", "a: first 4", "c: first 5", "c: first 6", "d: check")
	end(0)
	want("the matrix's after its own", "a: first 7", "c: first 8", "c: second 1", "d: make first")
	for range 20 {
		end(0)
		check(t, w.pass(time.Minute))
	}
	if b, d := w.s.machines["b"].Class, w.s.machines["d"].Class; b != "" || d != "x" {
		t.Errorf("b is in %q and d in %q", b, d)
	}

	// With nothing left to run, nobody has to wait.
	p, err = w.s.PlanMachines([]MachineSpec{{Addr: "e", Class: "x"}}, w.now)
	check(t, w.do(p, err))
	if len(p.Warnings) != 0 || w.s.machines["e"].Class != "x" {
		t.Errorf("e is %v, %q", w.s.machines["e"], p.Warnings)
	}
}
