package sched

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"jobserver/sched/statepb"
)

// someCPUs are those of so many cores, each with so many threads, numbered as Linux does: the first
// thread of each core, then the second.
func someCPUs(cores, threads int) (all []*statepb.Cpu) {
	for i := range cores * threads {
		all = append(all, &statepb.Cpu{Number: int32(i), Core: int32(i % cores)})
	}
	return all
}

// TestChoose: whole cores come before threads of cores, and those before threads whose siblings are
// somebody's.
func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		cores, threads int
		taken          []int32
		n              int
		want           string
	}{
		{4, 2, nil, 1, "[0]"},
		{4, 2, []int32{0}, 1, "[1]"},
		{4, 2, []int32{0, 1, 2, 3}, 1, "[4]"},
		{4, 2, nil, 2, "[0 4]"},
		{4, 2, []int32{0}, 2, "[1 5]"},
		{4, 2, nil, 3, "[0 1 4]"},
		{4, 2, []int32{0, 1, 2}, 3, "[3 4 7]"},
		{4, 2, []int32{0, 1, 2, 3}, 4, "[4 5 6 7]"},
		{4, 1, []int32{1}, 2, "[0 2]"},
		{2, 4, nil, 4, "[0 2 4 6]"},
		{2, 4, nil, 6, "[0 1 2 3 4 6]"},
	} {
		all := someCPUs(tt.cores, tt.threads)
		free := slices.DeleteFunc(slices.Clone(all), func(c *statepb.Cpu) bool {
			return slices.Contains(tt.taken, c.Number)
		})
		var got []int32
		for _, c := range choose(all, free, tt.n) {
			got = append(got, c.Number)
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%d of %d cores with %d threads, without %v: %v, want %s", tt.n, tt.cores,
				tt.threads, tt.taken, got, tt.want)
		}
	}
}

// TestPin: cores are a pinned job's own among those that are pinned, in proportion to its slots.
func TestPin(t *testing.T) {
	w := newWorld()
	must(t, w.pool("x", 4, "a")) // with 4 processors
	add := func(spec JobSpec) uint64 {
		t.Helper()
		spec.Class, spec.Cmd = "x", "work {CORES}"
		if !spec.Pin {
			spec.Cmd = "work"
		}
		ids, err := w.submit(spec)
		must(t, err)
		return ids[0]
	}
	one, two := add(JobSpec{Pin: true}), add(JobSpec{Pin: true, Slots: 2})
	if a := last(w.s.Job(one)); string(a.CmdRun) != "work 0" || fmt.Sprint(pinnedTo(a)) != "[0]" {
		t.Errorf("%s: %v", a.CmdRun, pinnedTo(a))
	}
	if a := last(w.s.Job(two)); string(a.CmdRun) != "work 1,3" {
		t.Errorf("%s: %v", a.CmdRun, pinnedTo(a))
	}
	if r := w.s.run(w.s.live[two], last(w.s.Job(two))); fmt.Sprint(r.CPUs) != "[1 3]" ||
		!slices.Contains(r.Env, "JOBSERVER_CORES=1,3") {
		t.Errorf("%v, %v", r.CPUs, r.Env)
	}
	free := add(JobSpec{}) // isn't pinned, and takes a slot and no core
	w.wants(t, free, Running)
	w.wants(t, add(JobSpec{Pin: true}), Waiting) // there is no slot
	w.ends(t, free, &statepb.Attempt{Cause: statepb.Cause_EXITED})
	w.wants(t, free+1, Running)

	w.ends(t, free+1, &statepb.Attempt{Cause: statepb.Cause_EXITED})
	wide := add(JobSpec{Pin: true, Needs: "cores=3"})
	w.wants(t, wide, Waiting)
	why, err := w.s.Why(wide, w.now)
	must(t, err)
	if got := strings.Join(why.Details, " "); !strings.Contains(got, "cores") {
		t.Errorf("%+v", why)
	}
	_, err = w.submit(JobSpec{Class: "x", Cmd: "work", Pin: true, Needs: "cores=5"})
	if err == nil || !strings.Contains(err.Error(), "cores") {
		t.Errorf("five of four cores: %v", err)
	}
}

// TestPinUnknown: where nobody knows which cores there are, none is pinned.
func TestPinUnknown(t *testing.T) {
	w := newWorld()
	must(t, w.do(w.s.PlanMachines([]MachineSpec{{Addr: "a", Class: "x", Slots: 1}}, w.now)))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Pin: true})
	must(t, err)
	must(t, w.report(Connected{Addr: "a", Facts: &statepb.Machine{BootId: "1", Cores: 4}}))
	w.wants(t, ids[0], Waiting)
	if got := w.why(t, ids[0]); !strings.Contains(got, "doesn't say which cores") {
		t.Error(got)
	}
	_, err = w.submit(JobSpec{Class: "x", Cmd: "work", Pin: true})
	if err == nil || !strings.Contains(err.Error(), "doesn't say which cores") {
		t.Error(err)
	}
}

// TestMemoryIsEnforced where the machine can do that, and only there.
func TestMemoryIsEnforced(t *testing.T) {
	w := newWorld()
	must(t, w.do(w.s.PlanMachines([]MachineSpec{{Addr: "a", Class: "x", Slots: 2},
		{Addr: "b", Class: "y", Slots: 2}}, w.now)))
	for addr, can := range map[string]bool{"a": true, "b": false} {
		must(t, w.report(Connected{Addr: addr, Facts: &statepb.Machine{BootId: "1",
			Memory: 8 << 30, LimitsMemory: can}}))
	}
	for class, want := range map[string]int64{"x": 2 << 30, "y": 0} {
		ids, err := w.submit(JobSpec{Class: class, Cmd: "work", Needs: "mem=2G", MaxFailures: 1,
			RetryOn: []string{"oom"}})
		must(t, err)
		if r := w.s.run(w.s.live[ids[0]], last(w.s.Job(ids[0]))); r.Memory != want {
			t.Errorf("in class %s it may use %d, want %d", class, r.Memory, want)
		}
		w.ends(t, ids[0], &statepb.Attempt{Cause: statepb.Cause_EXITED, ExitCode: -1,
			MaxRss: 3 << 30, Signal: "SIGKILL", Error: OutOfMemory + ": it had used up mem=2G"})
		w.wants(t, ids[0], Waiting)
		const more = "took 3G of memory in one process, and had asked for mem=2G, which is only " +
			"accounted on b"
		if got := w.why(t, ids[0]); strings.Contains(got, more) != (want == 0) {
			t.Errorf("in class %s: %s", class, got)
		}
	}
}
