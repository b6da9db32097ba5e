package sched

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"jobserver/sched/statepb"
)

// What the random requests and outcomes do with providers and allocations.

var someProviders = []string{"slurm:p", "slurm:me@login/q"}

// TestSlurmStateMachine is TestStateMachine with less of what has nothing to do with Slurm.
func TestSlurmStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &driver{world: newWorld(), refs: map[string]*statepb.RunRef{}}
		p, err := d.s.PlanProvider(ProviderSpec{Addr: someProviders[0], Class: "x",
			Time: ptr(time.Hour), Slots: ptr(2), Backlog: ptr(3)}, d.now)
		d.must(t, d.do(p, err))
		t.Repeat(map[string]func(*rapid.T){
			"":         func(t *rapid.T) { d.must(t, d.turn()) },
			"submit":   d.submitSome,
			"submit2":  d.submitSome,
			"matrix":   d.submitMatrix,
			"operate":  d.operate,
			"machines": d.changeMachines,
			"setup":    d.setUp,
			"slurm":    d.providers,
			"pilots":   d.allocations,
			"pilots2":  d.allocations,
			"pilots3":  d.allocations,
			"pilots4":  d.allocations,
			"link":     d.link,
			"run":      d.outcome,
			"run2":     d.outcome,
			"stale":    d.stale,
			"copy":     d.copyOutcome,
			"settle":   d.settleSome,
			"time":     d.time,
			"snapshot": d.snapshotNow,
			"rebuild":  d.rebuild,
		})
	})
}

// providers adds and changes providers, and takes them away.
func (d *driver) providers(t *rapid.T) {
	addr := rapid.SampledFrom(someProviders).Draw(t, "provider")
	switch rapid.IntRange(0, 7).Draw(t, "how") {
	case 0, 1, 2, 3:
		spec := ProviderSpec{Addr: addr, Class: rapid.SampledFrom([]string{"x", "x", "y"}).
			Draw(t, "class"),
			Slots:   ptr(rapid.IntRange(1, 3).Draw(t, "slots")),
			Max:     ptr(rapid.IntRange(1, 3).Draw(t, "max")),
			Backlog: ptr(rapid.IntRange(1, 3).Draw(t, "backlog")),
			Idle: ptr(time.Duration(rapid.IntRange(0, 5).Draw(t, "idle")) *
				time.Minute)}
		if rapid.IntRange(0, 3).Draw(t, "long") > 0 || d.s.providers[addr] == nil {
			spec.Time = ptr(time.Duration(rapid.SampledFrom([]int{2, 30, 90}).
				Draw(t, "minutes")) * time.Minute)
		}
		if rapid.IntRange(0, 3).Draw(t, "each") == 0 {
			spec.Jobs = ptr(*spec.Slots + rapid.IntRange(0, 2).Draw(t, "jobs"))
		}
		spec.Args = rapid.SampledFrom([][]string{nil, {"--gres=gpu:2"}, {"--mem=4G"},
			{"--exclusive"}, {""}}).Draw(t, "args")
		p, err := d.s.PlanProvider(spec, d.now)
		d.may(t, p, err)
	case 4:
		d.may(t, d.s.PlanProvidersRemoved([]string{addr}, rapid.Bool().Draw(t, "force")), nil)
	case 5:
		d.may(t, d.s.PlanProvidersDrained([]string{addr}, true), nil)
	default:
		d.may(t, d.s.PlanProvidersDrained([]string{addr}, false), nil)
	}
}

// allocations has Slurm do something with one that was asked for, or that there is not.
func (d *driver) allocations(t *rapid.T) {
	id := rapid.Uint64Range(1, max(d.s.nextID, 2)).Draw(t, "no allocation")
	if all := d.s.allAsked(); len(all) > 0 && rapid.IntRange(0, 9).Draw(t, "stray") > 0 {
		id = rapid.SampledFrom(all).Draw(t, "allocation").Id
	}
	o := Allocated{ID: id, Job: fmt.Sprint(id), State: rapid.SampledFrom([]string{"PENDING",
		"RUNNING", "RUNNING", "RUNNING", "SUSPENDED", "COMPLETING", "odd"}).Draw(t, "state")}
	a := d.s.allocations[id]
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		d.must(t, d.report(AllocationRefused{ID: id, Words: "no"}))
		return
	case 1, 2:
		if a == nil {
			return
		}
		d.must(t, d.report(AllocationGone{ID: id, State: rapid.SampledFrom([]string{"COMPLETED",
			"CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "UNKNOWN", "NOT_SUBMITTED"}).
			Draw(t, "end")}))
		return
	case 3:
		if a != nil {
			d.must(t, d.report(ProviderSeen{Addr: a.Provider,
				Problem: rapid.SampledFrom([]string{"", "", "slurmctld is down"}).
					Draw(t, "problem")}))
		}
		return
	}
	if a != nil && a.Node != "" && o.State == "PENDING" {
		o.State = "RUNNING" // it was told not to be queued again
	}
	if o.State != "PENDING" && o.State != "odd" {
		o.Node = "n" + o.Job
		for i := range several(a) {
			o.Nodes = append(o.Nodes, fmt.Sprint(o.Node, i))
		}
		o.End = d.now.Add(time.Duration(rapid.IntRange(-1, 90).Draw(t, "left")) * time.Minute)
	}
	d.must(t, d.report(o))
	if m := d.s.pilotOf(id); m != nil && rapid.IntRange(0, 3).Draw(t, "answers") > 0 {
		d.must(t, d.report(Connected{Addr: m.Addr, Facts: &statepb.Machine{
			BootId: "node", Os: "linux", Memory: 8 << 30, Cores: 4}}))
	} else if m != nil {
		d.must(t, d.report(Away{Addr: m.Addr, Reason: "srun: error"}))
	}
}

// several is for how many machines an allocation is, if it is for jobs on several.
func several(a *allocation) int32 {
	if a == nil {
		return 0
	}
	return a.Machines
}

func (s *State) pilotOf(id uint64) *machine {
	if a := s.allocations[id]; a != nil {
		return s.pilot(a)
	}
	return nil
}
