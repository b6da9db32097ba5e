package sched

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"jobserver/sched/statepb"
)

// TestStateMachine drives a state with random requests, outcomes (also stale, repeated and
// contradictory ones) and time. After each step every invariant holds; now and then the state is
// rebuilt from its journal, and from a snapshot and the journal after it, and goes on as the
// rebuilt one.
func TestStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &driver{world: newWorld(), refs: map[string]*statepb.RunRef{}}
		d.begin(t)
		t.Repeat(map[string]func(*rapid.T){
			"":          func(t *rapid.T) { d.must(t, d.turn()) },
			"submit":    d.submitSome,
			"matrix":    d.submitMatrix,
			"operation": d.operate,
			"matrices":  d.changeMatrix,
			"grow":      d.growMatrix,
			"machines":  d.changeMachines,
			"gpus":      d.resources,
			"free":      d.free,
			"set":       d.set,
			"setup":     d.setUp,
			"slurm":     d.providers,
			"pilots":    d.allocations,
			"pilots2":   d.allocations,
			"link":      d.link,
			"run":       d.outcome,
			"run2":      d.outcome,
			"run3":      d.outcome,
			"stale":     d.stale,
			"copy":      d.copyOutcome,
			"settle":    d.settleSome,
			"time":      d.time,
			"vars":      d.vars,
			"snapshot":  d.snapshotNow,
			"rebuild":   d.rebuild,
			"pages":     d.pages,
		})
	})
}

// driver makes random steps in a world.
type driver struct {
	*world
	refs     map[string]*statepb.RunRef // every run that was ever asked for, by token
	snapshot [][]byte
	at       int // how much of the journal the snapshot stands for
	boots    int
}

// begin makes a pool; now and then with a history that is long enough for a block of it to be
// compressed.
func (d *driver) begin(t *rapid.T) {
	d.must(t, d.pool("x", 2, "a", "b"))
	if rapid.IntRange(0, 7).Draw(t, "history") == 0 {
		ids, err := d.submit(JobSpec{Class: "x", Cmd: "old", Hold: true, Repeat: blockJobs + 3})
		d.must(t, err)
		p, err := d.s.PlanAtOnce(Operation{Op: OpCancel, Jobs: ids})
		d.must(t, d.do(p, err))
	}
}

var someMachines = []string{"a", "b", "u@c:22", "local:d"}

// someMachine draws an address, of a pilot if there are any.
func (d *driver) someMachine(t *rapid.T) string {
	addrs := someMachines
	for _, addr := range d.s.Machines() {
		if IsSlurm(addr) {
			addrs = append(slices.Clip(addrs), addr)
		}
	}
	return rapid.SampledFrom(addrs).Draw(t, "machine")
}

func (d *driver) must(t *rapid.T, err error) {
	t.Helper()
	for token, r := range d.fleet.runs {
		d.refs[token] = r.Ref
	}
	if err != nil {
		t.Fatal(err)
	}
}

// may carries out a plan that may be refused; what is refused changes nothing.
func (d *driver) may(t *rapid.T, p Plan, err error) {
	t.Helper()
	if err != nil {
		if _, ok := err.(*Error); !ok {
			t.Fatalf("%v is not for users", err)
		}
		return
	}
	d.must(t, d.do(p, nil))
}

func (d *driver) spec(t *rapid.T) JobSpec {
	return JobSpec{
		Class: rapid.SampledFrom([]string{"x", "x", "y"}).
			Draw(t, "class"),
		Cmd: rapid.SampledFrom([]string{"work", "other {V}", "third {JID} {TAG}"}).Draw(t, "cmd"),
		CpPath: rapid.SampledFrom([]string{"", "/results"}).
			Draw(t, "cp"), MaxFailures: rapid.IntRange(-1, 3).Draw(t, "retries"),
		Timeout: time.Duration(rapid.IntRange(0, 2).Draw(t, "timeout")) * time.Hour,
		Hold:    rapid.IntRange(0, 9).Draw(t, "hold") == 0,
		Tag: rapid.SampledFrom([]string{"", "", "t1", "t2"}).
			Draw(t, "tag"), Priority: rapid.IntRange(-1, 1).Draw(t, "priority"),
		Repeat: rapid.IntRange(0, 3).Draw(t, "repeat"), Exclusive: rapid.IntRange(0, 9).
			Draw(t, "exclusive") == 0,
		Needs: rapid.SampledFrom([]string{"", "", "gpu", "gpu=2", "license=1", "license=2,gpu=1",
			"mem=2G"}).Draw(t, "needs"),
		Inputs: rapid.SampledFrom([][]InputSpec{nil, nil, nil, {{Path: "/data"}},
			{{Path: "{AFTER_RESULTS}/m"}, {Path: "/{CLASS}/m", Name: "n"}}}).Draw(t, "inputs"),
		Pin: rapid.IntRange(0, 4).Draw(t, "pin") == 0,
	}
}

// after waits for something now and then.
func (d *driver) after(t *rapid.T, spec *JobSpec) {
	if rapid.IntRange(0, 2).Draw(t, "after") > 0 {
		return
	}
	words := []string{fmt.Sprint(rapid.Uint64Range(1, max(d.s.nextID, 2)).Draw(t, "job"))}
	if ids := d.s.Matrices(); len(ids) > 0 && rapid.Bool().Draw(t, "whole") {
		words = append(words, fmt.Sprintf("%%%d", rapid.SampledFrom(ids).Draw(t, "of")))
	}
	switch rapid.IntRange(0, 3).Draw(t, "when") {
	case 0, 1:
		spec.After.Done = words
	case 2:
		spec.After.Ended = words
	case 3:
		spec.After.Failed = words
	}
	spec.After.Unmet = rapid.SampledFrom([]string{"", "", "cancel"}).Draw(t, "unmet")
}

// free lets some jobs run without what they wait for.
func (d *driver) free(t *rapid.T) {
	p, err := d.s.PlanAtOnce(Operation{Op: OpUnhold,
		Jobs: slices.DeleteFunc(d.someJobs(t), func(id uint64) bool {
			return d.s.Status(id) == 0
		})})
	d.may(t, p, err)
}

// set changes settings of jobs, or of a matrix.
func (d *driver) set(t *rapid.T) {
	var spec SetSpec
	if rapid.Bool().Draw(t, "priority") {
		n := rapid.IntRange(-1, 2).Draw(t, "to")
		spec.Priority = &n
	}
	if rapid.Bool().Draw(t, "timeout") {
		n := time.Duration(rapid.IntRange(0, 2).Draw(t, "hours")) * time.Hour
		spec.Timeout = &n
	}
	if rapid.Bool().Draw(t, "needs") {
		needs := rapid.SampledFrom([]string{"", "gpu", "license=1"}).Draw(t, "new needs")
		spec.Needs = &needs
	}
	if ids := d.s.Matrices(); len(ids) > 0 && rapid.Bool().Draw(t, "matrix") {
		n := rapid.IntRange(0, 2).Draw(t, "at most")
		spec.AtMost = &n
		p, err := d.s.PlanMatrixSet(rapid.SampledFrom(ids).Draw(t, "which"), spec)
		d.may(t, p, err)
		return
	}
	if rapid.Bool().Draw(t, "class") {
		class := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "to class")
		spec.Class = &class
	}
	if rapid.IntRange(0, 3).Draw(t, "wait") == 0 {
		at := d.now.Add(time.Duration(rapid.IntRange(-1, 2).Draw(t, "minutes")) * time.Minute)
		spec.StartAfter = &at
	}
	if rapid.IntRange(0, 3).Draw(t, "after") == 0 {
		spec.After = &AfterSpec{Done: []string{fmt.Sprint(rapid.Uint64Range(1,
			max(d.s.nextID, 2)).Draw(t, "after job"))}}
	}
	spec.Next = rapid.IntRange(0, 3).Draw(t, "next") == 0
	ids := d.someJobs(t)
	slices.Sort(ids)
	p, err := d.s.PlanSet(slices.Compact(ids), spec)
	d.may(t, p, err)
}

// wide asks for several slots now and then.
func (d *driver) wide(t *rapid.T) JobSpec {
	spec := d.spec(t)
	d.after(t, &spec)
	if spec.Tag != "" {
		spec.AtMost = rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "at most")
		spec.MaxFails = rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "max fails")
		spec.CancelRest = rapid.Bool().Draw(t, "cancel rest")
	}
	if rapid.IntRange(0, 5).Draw(t, "later") == 0 {
		spec.StartAfter = d.now.Add(time.Duration(rapid.IntRange(-1, 3).Draw(t,
			"start")) * time.Minute)
	}
	if spec.MaxFailures != 0 && rapid.IntRange(0, 3).Draw(t, "retry on") == 0 {
		spec.RetryOn = []string{"exit=1", "lost"}
	}
	if rapid.IntRange(0, 2).Draw(t, "gang") == 0 {
		spec.Machines = rapid.IntRange(1, 2).Draw(t, "gang of")
		spec.Each = spec.Machines > 1 && rapid.Bool().Draw(t, "each")
		spec.With = rapid.SampledFrom([][]string{nil, nil, {"O=x"}, {"O=y"}, {"O=x", "P=y*2"}}).
			Draw(t, "with")
	}
	if !spec.Exclusive {
		spec.Slots = rapid.SampledFrom([]int{0, 0, 0, 2, 3}).Draw(t, "slots")
	}
	return spec
}

// resources changes what machines and the pool have.
func (d *driver) resources(t *rapid.T) {
	if rapid.Bool().Draw(t, "pool") {
		p, err := d.s.PlanResource("license", rapid.SampledFrom([]string{"1", "2", "3"}).
			Draw(t, "licenses"), rapid.IntRange(0, 5).Draw(t, "unset") == 0)
		d.may(t, p, err)
		return
	}
	addr := rapid.SampledFrom(someMachines).Draw(t, "machine")
	m, ok := d.s.Machine(addr)
	if !ok {
		return
	}
	p, err := d.s.PlanMachines([]MachineSpec{{Addr: addr, Class: m.Class,
		Resources: map[string]string{
			"gpu": rapid.SampledFrom([]string{"", "1", "2", "0,3,5", "auto"}).Draw(t, "gpus"),
		}}}, d.now)
	d.may(t, p, err)
}

func (d *driver) submitSome(t *rapid.T) {
	p, err := d.s.PlanJobs([]JobSpec{d.wide(t), d.wide(t)}, rapid.IntRange(0, 9).
		Draw(t, "driver") == 0)
	d.may(t, p, err)
	if err == nil {
		d.must(t,
			d.apply(&Change{RequestDone: &statepb.RequestDone{Id: fmt.Sprintf("r%d",
				len(d.journal)), Ids: p.IDs}}))
	}
}

func (d *driver) submitMatrix(t *rapid.T) {
	spec := MatrixSpec{Job: d.wide(t),
		Axes: []*statepb.Axis{{Name: "A", Values: []string{"1", "2", "3"}},
			{Name: "B", Values: []string{"x", "y"}}}}
	spec.Job.Cmd = "cell {A} {B} {REPEAT}"
	if rapid.Bool().Draw(t, "chosen") {
		spec.Cells = [][]uint32{{2, 1, 0}, {0, 0, 0}}
	}
	if ids := d.s.Matrices(); len(ids) > 0 && rapid.Bool().Draw(t, "cells") {
		spec.Job.After.Cells = fmt.Sprint(rapid.SampledFrom(ids).Draw(t, "cells of"))
	}
	spec.Name = rapid.SampledFrom([]string{"", "m"}).Draw(t, "name")
	spec.MaxFails, spec.CancelRest = rapid.IntRange(0, 2).Draw(t, "max fails"), rapid.Bool().
		Draw(t, "cancel rest")
	if spec.Name != "" {
		// growMatrix grows it, and counts on it that nothing but that happens to its new cells
		spec.Job.After.Unmet, spec.Job.After.Failed, spec.MaxFails = "", nil, 0
	}
	p, err := d.s.PlanMatrix(spec, false)
	d.may(t, p, err)
}

// someJobs draws ids, that there are for the most part.
func (d *driver) someJobs(t *rapid.T) []uint64 {
	return rapid.SliceOfN(rapid.Uint64Range(1, max(d.s.nextID, 2)), 1, 6).Draw(t, "jobs")
}

func (d *driver) operate(t *rapid.T) {
	b := Operation{
		Op: rapid.SampledFrom([]Op{OpCancel, OpCancel, OpForget, OpForget, OpHold, OpUnhold,
			OpClone, OpRestart, OpRestart, OpRetime, OpTag, OpPause, OpPause, OpGoOn, OpSignal,
			OpUntag, OpRecopy, OpRecopy, OpLost}).Draw(t, "op"),
		Jobs: slices.DeleteFunc(d.someJobs(t), func(id uint64) bool {
			return d.s.Status(id) == 0
		}), Repeat: 1,
		Timeout: time.Hour, Tag: rapid.SampledFrom([]string{"t1", "t3"}).
				Draw(t, "tag"), Retry: rapid.Bool().Draw(t, "retry"), Signal: "USR1",
	}
	p, err := d.s.PlanAtOnce(b)
	d.may(t, p, err)
}

func (d *driver) changeMatrix(t *rapid.T) {
	ids := d.s.Matrices()
	if len(ids) == 0 {
		return
	}
	id := rapid.SampledFrom(ids).Draw(t, "matrix")
	switch rapid.IntRange(0, 4).Draw(t, "how") {
	case 0:
		d.may(t, d.s.PlanMatrixHeld(id, true), nil)
	case 1:
		d.may(t, d.s.PlanMatrixHeld(id, false), nil)
	case 2:
		p, err := d.s.PlanAtOnce(d.s.CancelMatrix(id))
		d.may(t, p, err)
	case 3:
		statuses := rapid.SampledFrom([][]Status{{Failed, Lost, Canceled, Done}, {Failed, Lost},
			{Lost}}).Draw(t, "statuses")
		var match func([]uint32) (bool, error)
		if rapid.Bool().Draw(t, "where") {
			match = func(row []uint32) (bool, error) { return row[0] == 0, nil }
		}
		p, err := planRestart(d.s, id, statuses, match)
		d.may(t, p, err)
	case 4:
		p, err := d.s.PlanAtOnce(d.s.ForgetMatrix(id))
		d.may(t, p, err)
	}
}

func (d *driver) changeMachines(t *rapid.T) {
	addr := d.someMachine(t)
	switch rapid.IntRange(0, 7).Draw(t, "how") {
	case 0, 1, 2, 3:
		spec := MachineSpec{Addr: addr, Class: rapid.SampledFrom([]string{"x", "y"}).
			Draw(t, "class"), Slots: rapid.IntRange(1, 4).Draw(t, "slots")}
		if rapid.IntRange(0, 9).Draw(t, "expires") == 0 {
			spec.Until = d.now.Add(30 * time.Minute)
		}
		p, err := d.s.PlanMachines([]MachineSpec{spec}, d.now)
		d.may(t, p, err)
	case 4:
		d.may(t, d.s.PlanRemove([]string{addr, addr}, rapid.Bool().Draw(t, "force")), nil)
	case 5:
		p, err := d.s.PlanMove([]string{addr}, rapid.SampledFrom([]string{"x", "y", "z"}).
			Draw(t, "class"), d.now)
		d.may(t, p, err)
	case 6:
		d.may(t, d.s.PlanDrain([]string{addr}, true), nil)
	case 7:
		d.may(t, d.s.PlanDrain([]string{addr}, false), nil)
	}
}

func (d *driver) setUp(t *rapid.T) {
	p, err := d.s.PlanSetup(SetupSpec{
		Addrs: []string{d.someMachine(t)},
		Class: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "class"),
		Keep:  rapid.Bool().Draw(t, "keep"), Slots: rapid.IntRange(0, 3).
			Draw(t, "slots"), Steps: []string{"one", "two {MACHINE}"},
		Retries: rapid.IntRange(0, 1).
			Draw(t, "retries"),
		Stagger: time.Duration(rapid.IntRange(0, 1).Draw(t, "stagger")) * time.Minute,
		Timeout: time.Duration(rapid.IntRange(0, 1).Draw(t, "timeout")) * time.Minute,
		Reboot:  rapid.Bool().Draw(t, "reboot"),
	}, d.now)
	d.may(t, p, err)
}

// link connects a machine, as it was or after a reboot, or loses it.
func (d *driver) link(t *rapid.T) {
	addr := d.someMachine(t)
	switch rapid.IntRange(0, 15).Draw(t, "link") {
	case 0:
		d.must(t, d.report(Away{Addr: addr, Reason: "cut"}))
	case 1:
		d.must(t,
			d.report(Refused{Addr: addr, Reason: "unknown host key",
				HostKey: rapid.Bool().Draw(t, "key")}))
	case 2:
		d.boots++
		fallthrough
	default:
		c := Connected{Addr: addr,
			Facts: &statepb.Machine{BootId: fmt.Sprintf("boot%d", d.boots), Os: "linux",
				Memory: 3 << 30}}
		for _, id := range rapid.SampledFrom([][]string{nil, {"GPU-a"}, {"GPU-b", "GPU-a"}}).Draw(t,
			"devices") {
			c.Facts.Devices = append(c.Facts.Devices, &statepb.Item{Id: id, Vendor: vendorNVIDIA})
		}
		for _, token := range sorted(d.refs) {
			if r := d.refs[token]; r.Machine == addr && rapid.IntRange(0, 9).Draw(t, "there") == 0 {
				c.Runs = append(c.Runs, r)
			}
		}
		d.must(t, d.report(c))
	}
}

func (d *driver) result(t *rapid.T) *statepb.Attempt {
	r := exit(rapid.SampledFrom([]int32{0, 0, 0, 1}).Draw(t, "code"))
	r.Cause = rapid.SampledFrom([]statepb.Cause{1, 1, 1, 1, 2, 3}).Draw(t, "cause")
	r.Signal = rapid.SampledFrom([]string{"", "", "", "KILL"}).Draw(t, "signal")
	r.Results = rapid.SampledFrom([][]string{nil, {"out"}, {"bad\xff"}}).Draw(t, "results")
	return r
}

// outcomeOf draws what becomes of a run.
func (d *driver) outcomeOf(t *rapid.T, r *statepb.RunRef) Outcome {
	if run, ok := d.fleet.runs[r.Token]; ok && !isRead(&statepb.Attempt{Inputs: run.Inputs}) {
		switch rapid.IntRange(0, 5).Draw(t, "reading") {
		case 0, 1, 2:
			return d.read(r)
		case 3:
			return NotStarted{Ref: r, Reason: "its input is not there", Hold: true}
		}
		return NotStarted{Ref: r, Reason: "no room"}
	}
	switch rapid.IntRange(0, 12).Draw(t, "outcome") {
	case 0, 1, 2:
		return Started{Ref: r, At: d.now}
	case 10:
		return Paused{Ref: r, On: rapid.Bool().Draw(t, "on"), Total: time.Minute,
			Left: rapid.IntRange(0, 1).Draw(t, "left")}
	case 11:
		return Unsteered{Ref: r, Signal: rapid.SampledFrom([]int{0, 10}).Draw(t, "signal"),
			Reason: "it is of an older version"}
	case 12:
		return Prepared{Ref: r}
	case 3:
		return NotStarted{Ref: r, Reason: "no room"}
	case 4:
		return RunLost{Ref: r, Reason: "it rebooted"}
	}
	return Ended{Ref: r, Result: d.result(t)}
}

func (d *driver) outcome(t *rapid.T) {
	runs := d.running()
	if len(runs) == 0 {
		return
	}
	r := rapid.SampledFrom(runs).Draw(t, "run")
	if !r.Prepare {
		d.must(t, d.report(d.outcomeOf(t, r.Ref)))
		return
	}
	if !isRead(&statepb.Attempt{Inputs: r.Inputs}) {
		d.must(t, d.report(d.outcomeOf(t, r.Ref)))
		return
	}
	switch rapid.IntRange(0, 9).Draw(t, "ready") {
	case 0:
		d.must(t, d.report(NotStarted{Ref: r.Ref, Reason: "no room"}))
	case 1:
		d.must(t, d.report(RunLost{Ref: r.Ref, Reason: "it rebooted"}))
	default:
		d.must(t, d.report(Prepared{Ref: r.Ref}))
	}
}

// stale reports something of any run that there ever was, perhaps with another step or token.
func (d *driver) stale(t *rapid.T) {
	if len(d.refs) == 0 {
		return
	}
	r := proto.CloneOf(d.refs[rapid.SampledFrom(sorted(d.refs)).Draw(t, "token")])
	r.Step += int32(rapid.IntRange(0, 1).Draw(t, "step"))
	o := d.outcomeOf(t, r)
	for range 2 { // what is still wanted of a run is only ever reported by the fleet that was asked
		if _, wanted := d.fleet.runs[r.Token]; !wanted || r.Step != d.refs[r.Token].Step {
			d.must(t, d.apply(d.s.React(o, d.now)...))
		}
	}
	d.must(t, d.turn())
}

func (d *driver) copyOutcome(t *rapid.T) {
	job, rank := rapid.Uint64Range(1, max(d.s.nextID, 2)).Draw(t, "job"), int32(0)
	if ids := sortedIDs(keysOf(d.fleet.copies)); len(ids) > 0 {
		job = rapid.SampledFrom(ids).Draw(t, "copy")
	}
	if rapid.Bool().Draw(t, "of a gang") {
		rank = int32(rapid.IntRange(1, 2).Draw(t, "rank"))
	}
	switch rapid.IntRange(0, 3).Draw(t, "outcome") {
	case 0:
		d.must(t, d.report(CopyWaits{Job: job, Rank: rank, Reason: "the disk is full"}))
	case 1:
		d.must(t, d.report(CopyEnded{Job: job, Rank: rank, Error: "not there"}))
	default:
		d.must(t, d.report(CopyEnded{Job: job, Rank: rank, Dir: "/results/1/r0", Files: 1,
			Bytes: 10}))
	}
}

func keysOf[V any](m map[uint64]V) map[uint64]bool {
	keys := map[uint64]bool{}
	for k := range m {
		keys[k] = true
	}
	return keys
}

func (d *driver) settleSome(t *rapid.T) {
	for _, token := range sorted(d.fleet.settles) {
		switch rapid.IntRange(0, 5).Draw(t, "settled") {
		case 0:
		case 1:
			why := rapid.SampledFrom([]string{"", "permission denied", "busy"}).Draw(t, "unremoved")
			d.must(t, d.report(Stopped{Ref: d.fleet.settles[token].Run, Unremoved: why}))
		default:
			d.must(t,
				d.report(Settled{Ref: d.fleet.settles[token].Run}, Settled{Ref: d.refs[token]}))
		}
	}
}

func (d *driver) time(t *rapid.T) {
	d.must(t,
		d.pass(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 10 * time.Second,
			time.Minute, 20 * time.Minute}).Draw(t, "time")))
}

func (d *driver) vars(t *rapid.T) {
	p, err := d.s.PlanVar("V", "value", rapid.Bool().Draw(t, "secret"), rapid.IntRange(0, 3).
		Draw(t, "unset") == 0)
	d.may(t, p, err)
}

func (d *driver) snapshotNow(t *rapid.T) {
	records, err := frozen(d.s)
	if err != nil {
		t.Fatal(err)
	}
	d.snapshot, d.at = records, len(d.journal)
}

// rebuild compares the state with what its journal makes, and what the snapshot and the rest of the
// journal make, and goes on as one of these, as a daemon that was started again does.
func (d *driver) rebuild(t *rapid.T) {
	whole, err := restored(nil, d.journal)
	if err != nil {
		t.Fatal(err)
	}
	part := whole
	if d.snapshot != nil {
		if part, err = restored(d.snapshot, d.journal[d.at:]); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(d.s)
	if diff := cmp.Diff(want, dump(whole)); diff != "" {
		t.Fatalf("the journal makes another state:\n%s", diff)
	}
	if diff := cmp.Diff(want, dump(part)); diff != "" {
		t.Fatalf("the snapshot and the journal after it make another state:\n%s", diff)
	}
	if !rapid.Bool().Draw(t, "restart") {
		return
	}
	before := d.fleet
	d.s, d.fleet = part, newMemory()
	d.s.Resume(d.fleet)
	for token := range before.runs {
		if _, ok := d.fleet.runs[token]; !ok {
			t.Fatalf("run %s is not taken up again", token)
		}
	}
	if diff := cmp.Diff(sorted(before.settles), sorted(d.fleet.settles)); diff != "" {
		t.Fatalf("other obligations after a restart:\n%s", diff)
	}
	if diff := cmp.Diff(sortedIDs(keysOf(before.slurm)),
		sortedIDs(keysOf(d.fleet.slurm))); diff != "" {
		t.Fatalf("other allocations after a restart:\n%s", diff)
	}
	d.must(t, d.turn())
}
