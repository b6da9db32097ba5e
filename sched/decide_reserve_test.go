package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// equipped is a world with one machine of a class for each list of resources.
func equipped(t *testing.T, slots int, resources ...map[string]string) *world {
	t.Helper()
	w := newWorld()
	for i, r := range resources {
		addr := fmt.Sprintf("m%d", i)
		check(
			t,
			w.do(
				w.s.PlanMachines(
					[]MachineSpec{{Addr: addr, Class: "x", Slots: slots, Resources: r}},
					w.now,
				),
			),
		)
		check(t, w.connect(addr))
	}
	return w
}

// add submits one job that needs something.
func (w *world) add(t *testing.T, spec JobSpec) uint64 {
	t.Helper()
	if spec.Class == "" {
		spec.Class = "x"
	}
	spec.Cmd = "work"
	ids, err := w.submit(spec)
	check(t, err)
	return ids[0]
}

func (w *world) given(t *testing.T, job uint64) *statepb.Attempt {
	t.Helper()
	w.wants(t, job, Running)
	return last(w.s.Job(job))
}

// TestGiven: jobs get what they ask for, of slots, items and amounts, and give it back.
func TestGiven(t *testing.T) {
	w := equipped(t, 8, map[string]string{"gpu": "0,1,2,3", "mem": "64G"})
	a := w.add(t, JobSpec{Needs: "gpu=2,mem=32G", Slots: 3})
	b := w.add(t, JobSpec{Needs: "gpu=2"})
	c := w.add(t, JobSpec{Needs: "gpu=1"})
	d := w.add(t, JobSpec{Needs: "mem=40G"})
	if got := w.given(
		t,
		a,
	); fmt.Sprint(got.Given.Slots) != "[0 1 2]" || GrantText(got.Given.Grants[0]) != "0,1" ||
		got.Given.Grants[1].Amount != 32<<30 {
		t.Error(got)
	}
	if got := w.given(t, b); got.Slot != 3 || GrantText(got.Given.Grants[0]) != "2,3" {
		t.Error(got)
	}
	w.wants(t, c, Waiting)
	w.wants(t, d, Waiting)
	r := w.fleet.runs[w.runOf(a).Token]
	for _, want := range []string{"JOBSERVER_GPU=0,1", "JOBSERVER_MEM=34359738368",
		"JOBSERVER_SLOTS=0,1,2", "CUDA_VISIBLE_DEVICES=0,1",
		"CUDA_DEVICE_ORDER=PCI_BUS_ID", "ROCR_VISIBLE_DEVICES=0,1"} {
		if !slices.Contains(r.Env, want) {
			t.Errorf("the environment has no %s: %v", want, r.Env)
		}
	}
	w.ends(t, a, exit(0))
	if got := w.given(t, c); GrantText(got.Given.Grants[0]) != "0" {
		t.Error(got)
	}
	w.given(t, d)
}

// TestGPUEnv: devices are told by their ids where those are known, to the library of their maker,
// unless the job says so itself.
func TestGPUEnv(t *testing.T) {
	a := &statepb.Attempt{
		Given: &statepb.Given{
			Grants: []*statepb.Grant{{Name: "gpu", Amount: 2, Items: []*statepb.Item{
				{
					Index:  1,
					Id:     "GPU-a",
					Vendor: vendorNVIDIA,
				},
				{Index: 3, Id: "GPU-b", Vendor: vendorNVIDIA},
			}}},
		},
	}
	if got := strings.Join(
		gpuEnv(&statepb.Job{}, a),
		" ",
	); got != "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=GPU-a,GPU-b" {
		t.Error(got)
	}
	own := &statepb.Job{Env: []*statepb.Var{{Name: "CUDA_VISIBLE_DEVICES", Value: []byte("7")}}}
	if got := strings.Join(gpuEnv(own, a), " "); got != "CUDA_DEVICE_ORDER=PCI_BUS_ID" {
		t.Error(got)
	}
	for _, it := range a.Given.Grants[0].Items {
		it.Vendor = vendorAMD
	}
	if got := strings.Join(
		gpuEnv(&statepb.Job{}, a),
		" ",
	); got != "ROCR_VISIBLE_DEVICES=GPU-a,GPU-b" {
		t.Error(got)
	}
}

// TestRefusedNeeds: what no machine could ever have is refused at once, with what there is.
func TestRefusedNeeds(t *testing.T) {
	w := equipped(t, 2, map[string]string{"gpu": "2"}, nil)
	check(t, w.do(w.s.PlanResource("license", "3", false)))
	tests := []struct {
		spec JobSpec
		want string
	}{
		{JobSpec{Needs: "gpu=3"}, "m0 has gpu=2, m1 has no gpu"},
		{JobSpec{Slots: 3}, "m0 has 2 slots"},
		{JobSpec{Needs: "license=4"}, "the pool has license=3"},
		{JobSpec{Needs: "gpus=1"}, "no machine of class x has a resource"},
		{JobSpec{Needs: "cores=64"}, "has cores=4"},
		{JobSpec{Slots: 2, Exclusive: true}, "all slots"},
		{JobSpec{Slots: -1}, "can't take -1 slots"},
	}
	for _, tt := range tests {
		tt.spec.Class, tt.spec.Cmd = "x", "work"
		_, err := w.s.PlanJobs([]JobSpec{tt.spec}, false)
		if err == nil || !strings.Contains(err.Error(), tt.want) || err.(*Error).Next == "" {
			t.Errorf("%+v gives %v, want %q", tt.spec, err, tt.want)
		}
	}
	for _, spec := range []JobSpec{{Class: "x", Needs: "gpu=2,license=3", Slots: 2},
		{Class: "none", Needs: "gpu=9,what=1"}} {
		spec.Cmd = "work"
		if _, err := w.s.PlanJobs([]JobSpec{spec}, false); err != nil {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	if _, err := w.s.PlanResource(
		"gpu",
		"2",
		false,
	); err == nil ||
		!strings.Contains(err.Error(), "m0 has a resource gpu") {
		t.Error(err)
	}
	if _, err := w.s.PlanMachines(
		[]MachineSpec{{Addr: "m1", Class: "x", Resources: map[string]string{"license": "1"}}},
		w.now,
	); err == nil {
		t.Error("a machine has what the pool has")
	}
}

// TestReserved: small jobs that keep coming don't starve a big one, and pass it only where they
// don't delay it.
func TestReserved(t *testing.T) {
	hour := time.Hour
	t.Run("a slot that is free is kept", func(t *testing.T) {
		w := equipped(t, 4, nil)
		var small []uint64
		for range 4 {
			small = append(small, w.add(t, JobSpec{}))
		}
		big := w.add(t, JobSpec{Slots: 4})
		later := w.add(t, JobSpec{})
		for _, id := range small {
			w.ends(t, id, exit(0))
			w.wants(t, later, Waiting)
		}
		w.wants(t, big, Running)
		w.ends(t, big, exit(0))
		w.wants(t, later, Running)
	})
	t.Run("who ends in time passes", func(t *testing.T) {
		w := equipped(t, 4, nil)
		long := w.add(t, JobSpec{Timeout: 2 * hour})
		big := w.add(t, JobSpec{Slots: 4})
		short := w.add(t, JobSpec{Timeout: hour})
		tooLong := w.add(t, JobSpec{Timeout: 3 * hour})
		w.wants(t, short, Running)
		w.wants(t, tooLong, Waiting)
		w.ends(t, short, exit(0))
		w.ends(t, long, exit(0))
		w.wants(t, big, Running)
		w.wants(t, tooLong, Waiting)
	})
	t.Run("who takes nothing that it lacks passes", func(t *testing.T) {
		w := equipped(t, 4, map[string]string{"gpu": "2"})
		holder := w.add(t, JobSpec{Needs: "gpu=1"})
		big := w.add(t, JobSpec{Needs: "gpu=2"})
		cpu1, cpu2, cpu3 := w.add(t, JobSpec{}), w.add(t, JobSpec{}), w.add(t, JobSpec{})
		gpu := w.add(t, JobSpec{Needs: "gpu=1"})
		w.wants(t, cpu1, Running)
		w.wants(t, cpu2, Running)
		w.wants(t, cpu3, Waiting) // the last slot is the big one's
		w.wants(t, gpu, Waiting)
		w.ends(t, holder, exit(0))
		w.wants(t, big, Running)
	})
	t.Run("another machine is free for the rest", func(t *testing.T) {
		w := equipped(t, 2, nil, nil, nil)
		a, b := w.add(t, JobSpec{}), w.add(t, JobSpec{})
		c := w.add(t, JobSpec{})
		big := w.add(t, JobSpec{Slots: 2})
		d := w.add(t, JobSpec{})
		w.wants(t, big, Waiting)
		w.wants(t, d, Running)
		kept := w.s.class("x").reserved.machines[0].Addr
		if m := last(w.s.Job(d)).Machine; m == kept {
			t.Errorf("it went to %s, which is kept", m)
		}
		for _, id := range []uint64{a, b, c} {
			if w.s.Status(id) == Running && last(w.s.Job(id)).Machine == kept {
				w.ends(t, id, exit(0))
			}
		}
		if w.s.Status(big) != Running || last(w.s.Job(big)).Machine != kept {
			t.Error("the big one isn't where it was to be")
		}
	})
	t.Run("a reservation goes elsewhere when its machine does", func(t *testing.T) {
		for _, how := range []string{"drain", "away", "removed", "canceled"} {
			w := equipped(t, 2, nil, nil)
			a, b := w.add(t, JobSpec{}), w.add(t, JobSpec{})
			big := w.add(t, JobSpec{Slots: 2})
			c := w.add(t, JobSpec{})
			kept := w.s.class("x").reserved.machines[0].Addr
			w.wants(t, c, Running)
			d := w.add(t, JobSpec{})
			w.wants(t, d, Waiting)
			switch how {
			case "drain":
				check(t, w.do(w.s.PlanDrain([]string{kept}, true), nil))
			case "away":
				check(t, w.report(Away{Addr: kept, Reason: "cut"}))
				check(t, w.pass(awayFor+time.Second))
			case "removed":
				check(t, w.do(w.s.PlanRemove([]string{kept}, false), nil))
			case "canceled":
				w.operate(t, OpCancel, big)
				w.wants(t, d, Running)
				continue
			}
			for _, id := range []uint64{a, b, c} {
				if w.s.Status(id) == Running && last(w.s.Job(id)).Machine != kept {
					w.ends(t, id, exit(0))
				}
			}
			if w.s.Status(big) != Running {
				y, _ := w.s.Why(big, w.now)
				t.Errorf("%s: %v; %+v", how, y, w.s.class("x").reserved)
			}
		}
	})
	t.Run("what the pool has is kept across classes", func(t *testing.T) {
		w := equipped(t, 4, nil)
		check(t, w.do(w.s.PlanResource("license", "2", false)))
		check(t, w.pool("y", 4, "other"))
		holder := w.add(t, JobSpec{Class: "y", Needs: "license=1"})
		big := w.add(t, JobSpec{Needs: "license=2"})
		small := w.add(t, JobSpec{Class: "y", Needs: "license=1"})
		w.wants(t, small, Waiting)
		w.ends(t, holder, exit(0))
		w.wants(t, big, Running)
		w.ends(t, big, exit(0))
		w.wants(t, small, Running)
	})
	t.Run("one that can't run keeps nothing", func(t *testing.T) {
		w := equipped(t, 2, nil)
		check(t, w.do(w.s.PlanResource("license", "1", false)))
		w.add(t, JobSpec{Class: "none", Needs: "license=1"})
		w.wants(t, w.add(t, JobSpec{Needs: "license=1"}), Running)
	})
}

// TestManyMisfits: jobs that fit no machine stop nobody behind them, however many there are.
func TestManyMisfits(t *testing.T) {
	w := newWorld()
	w.every = 1000
	check(
		t,
		w.do(
			w.s.PlanMachines(
				[]MachineSpec{{Addr: "a", Class: "x", Slots: 1, Until: w.now.Add(time.Hour)}},
				w.now,
			),
		),
	)
	check(t, w.connect("a"))
	_, err := w.submit(JobSpec{Class: "x", Cmd: "long", Timeout: 2 * time.Hour, Repeat: 20_000})
	check(t, err)
	w.wants(t, w.add(t, JobSpec{Timeout: time.Minute}), Running)
}

// TestNightsOfShapes: pools at random have jobs of all shapes at random, in the order of their ids.
// All of them end, however many small ones keep coming: a job waits no longer than those that were
// before it take, one after the other.
func TestNightsOfShapes(t *testing.T) {
	for seed := range uint64(30) {
		shapedNight(t, rand.New(rand.NewPCG(seed, 18)))
	}
}

func shapedNight(t *testing.T, r *rand.Rand) {
	w := newWorld()
	w.every = 50
	check(t, w.do(w.s.PlanResource("license", fmt.Sprint(1+r.IntN(4)), false)))
	for i := range 3 + r.IntN(5) {
		addr := fmt.Sprintf("m%d", i)
		check(
			t,
			w.do(
				w.s.PlanMachines(
					[]MachineSpec{{Addr: addr, Class: []string{"x", "x", "y"}[i%3], Slots: 4,
						Resources: map[string]string{"gpu": "0-3", "scratch": "100"}}},
					w.now,
				),
			),
		)
		check(t, w.connect(addr))
	}
	const longest = 10 * time.Minute
	ends, since, bound := map[uint64]time.Time{}, map[uint64]time.Time{}, map[uint64]int{}
	submitted := 0
	for step := 0; step < 20_000; step++ {
		if submitted < 150 && r.IntN(2) == 0 {
			spec := JobSpec{
				Class: []string{"x", "y"}[r.IntN(2)],
				Cmd:   "work",
				Slots: []int{1, 1, 1, 2, 4}[r.IntN(5)],
				Needs: []string{"", "", "gpu=1", "gpu=2", "gpu=4", "license=1", "license=1,gpu=1",
					"scratch=60"}[r.IntN(8)],
			}
			if spec.Exclusive = r.IntN(20) == 0; spec.Exclusive {
				spec.Slots = 0
			}
			if r.IntN(3) == 0 {
				spec.Timeout = longest
			}
			waiting := w.s.counts.By[Waiting]
			ids, err := w.submit(spec)
			check(t, err)
			since[ids[0]], bound[ids[0]] = w.now, waiting
			submitted++
		}
		for _, run := range w.running() {
			if _, known := ends[run.Ref.Job]; !known {
				ends[run.Ref.Job] = w.now.Add(time.Duration(1+r.IntN(600)) * time.Second)
				if wait, most := w.now.Sub(
					since[run.Ref.Job],
				), time.Duration(
					bound[run.Ref.Job]+1,
				)*(longest+2*time.Minute); wait > most {
					t.Fatalf("job %d waited %v, at most %v is right", run.Ref.Job, wait, most)
				}
			}
			if !ends[run.Ref.Job].After(w.now) {
				check(t, w.report(Ended{Ref: run.Ref, Result: exit(0)}))
			}
		}
		if submitted == 150 && len(w.s.live) == 0 {
			return
		}
		check(t, w.pass(time.Duration(1+r.IntN(60))*time.Second))
	}
	for id, j := range w.s.live {
		t.Logf("job %d %v %v %v", id, j.Class, j.Status, NeedsText(j.Needs))
	}
	t.Fatalf("%d jobs are left: %v", len(w.s.live), w.s.Counts())
}

// TestWhyNeeds: why says what is lacking, who has it, and for whom a machine is reserved.
func TestWhyNeeds(t *testing.T) {
	w := equipped(t, 4, map[string]string{"gpu": "2"})
	check(t, w.do(w.s.PlanResource("license", "1", false)))
	holder := w.add(t, JobSpec{Needs: "gpu=2,license=1", Timeout: time.Hour})
	gpu := w.add(t, JobSpec{Needs: "gpu=1"})
	license := w.add(t, JobSpec{Needs: "license=1"})
	wide := w.add(t, JobSpec{Slots: 4})
	small := w.add(t, JobSpec{Needs: "gpu=1"})
	alone := w.add(t, JobSpec{Exclusive: true})
	tests := []struct {
		job  uint64
		want string
	}{
		{gpu, fmt.Sprintf("m0 has gpu=0 left, of 2: job %d has 2", holder)},
		{license, fmt.Sprintf("the pool has license=0 left: job %d has 1", holder)},
		{wide, "m0 has 3 free slots of the 4 that the job needs"},
		{alone, "the job wants it for itself"},
		{small, "jobs of class x come before it"},
	}
	for _, tt := range tests {
		r, err := w.s.Why(tt.job, w.now)
		check(t, err)
		if text := r.Summary + "; " + strings.Join(
			r.Details,
			"; ",
		); !strings.Contains(
			text,
			tt.want,
		) {
			t.Errorf("job %d: %s, want %q", tt.job, text, tt.want)
		}
	}
	plain := w.add(t, JobSpec{}) // passes gpu, which has it reserved
	w.wants(t, plain, Running)
	r, err := w.s.Why(gpu, w.now)
	check(t, err)
	if text := strings.Join(
		r.Details,
		"; ",
	); !strings.Contains(
		text,
		"m0 is reserved for it, and free in 1h0m0s at the latest",
	) {
		t.Error(text)
	}
}

// TestDispatchIsFlat: what a dispatch costs depends neither on how many wait nor on how many
// machines there are, in memory and in machines that are looked at.
func TestDispatchIsFlat(t *testing.T) {
	for _, bench := range dispatches {
		t.Run(bench.name, func(t *testing.T) {
			cost := func(machines, waiting int) (allocs, looks float64) {
				at := time.Unix(1_700_000_000, 0)
				s := bench.prepare(t, machines, waiting, at)
				one := func() {
					at = at.Add(time.Millisecond)
					endFirst(t, s, "m000", at)
					decideAll(t, s, at)
				}
				one() // what is reserved is looked for once
				const runs = 200
				before, sent := s.looks, s.used
				allocs = testing.AllocsPerRun(runs, one)
				if s.used-sent < runs {
					t.Fatalf("%d jobs were sent in %d rounds", s.used-sent, runs)
				}
				return allocs, float64(s.looks-before) / float64(runs)
			}
			few, fewLooks := cost(4, 1_000)
			many, manyLooks := cost(500, 10_000)
			t.Logf("%.0f allocations, and %.0f; %.1f looks at machines, and %.1f", few, many,
				fewLooks, manyLooks)
			if many > 1.3*few || manyLooks > 1.3*fewLooks {
				t.Errorf("a dispatch costs %.0f allocations and %.1f looks with much, %.0f and "+
					"%.1f with little", many, manyLooks, few, fewLooks)
			}
		})
	}
}
