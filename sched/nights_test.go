package sched

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

var nights = flag.Int("nights", 60, "how many nights TestNights draws")

// TestNights draws pools of 1 to 100 machines and what goes wrong in a night: machines that fail
// everything, for good or for a while, blocks of bad cells, commands that fail, reboots, and
// connections that are cut. In the end nothing that could run waits, no machine that is well is set
// aside, and at no time was one idle beside a job that it may have: check says so at each step.
func TestNights(t *testing.T) {
	for seed := range *nights {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			drawNight(t, rand.New(rand.NewPCG(uint64(seed), 7)), seed%3 == 0)
		})
	}
}

// drawn holds the choices that were drawn for a night.
type drawn struct {
	*night
	rnd   *rand.Rand
	bad   map[string][2]time.Duration // machines that fail everything, from when until when
	never map[uint64]bool             // jobs that can't succeed
}

func drawNight(t *testing.T, rnd *rand.Rand, withInputs bool) {
	pick := func(of ...int) int { return of[rnd.IntN(len(of))] }
	size := pick(1, 1, 2, 2, 3, 3, 6, 12, 30, 100)
	d := &drawn{night: newNight(t, size, pick(1, 1, 1, 2, 4)), rnd: rnd,
		bad: map[string][2]time.Duration{}, never: map[uint64]bool{}}
	d.every = 1 + size*size/30 // a check takes time with all there is
	retries := pick(0, 0, 1, 3)
	scale := time.Duration(pick(300, 1_000, 30_000, 600_000)) * time.Millisecond
	quick := time.Duration(pick(50, 1_000, 30_000)) * time.Millisecond
	d.drawMachines(size)
	check(t, d.pool("y", pick(1, 2), "y000", "y001"))
	if withInputs {
		d.inputs = []InputSpec{{Path: "/data"}, {Path: "/{JID}", Name: "own"}}
	}
	for range pick(1, 1, 2) {
		d.drawJobs(t, retries, max(40, min(size*6, 300)))
	}
	long := uint64(rnd.IntN(200)) // one takes hours
	d.outcome = func(r Run, at time.Duration) (bool, time.Duration) {
		took := time.Duration(float64(scale) * (0.7 + 0.6*rnd.Float64()))
		if r.Ref.Job == long {
			took += 2 * time.Hour
		}
		if when, is := d.bad[r.Ref.Machine]; d.never[r.Ref.Job] || is && at >= when[0] &&
			at < when[1] {
			return false, time.Duration(float64(quick) * (0.7 + 0.6*rnd.Float64()))
		}
		return true, took
	}
	d.drawTroubles(size, scale)
	if withInputs {
		d.drawMissing()
	}
	check(t, d.run())
	d.judge(t, retries)
	if t.Failed() {
		t.Logf("%d machines, %d retries, runs of %v, bad %v", size, retries, scale, d.bad)
		for _, e := range d.events {
			if slices.Contains([]string{
				EventMachineSuspect, EventMachineCleared, EventMachineBroken, EventMachineResting,
				EventMatrixHeld, EventMatrixUnheld,
			}, e.Kind) {
				t.Log(e.At.Sub(d.began), e.Text)
			}
		}
	}
}

// drawMachines draws those that fail: never all of them for good.
func (d *drawn) drawMachines(size int) {
	for i := range size {
		addr := fmt.Sprintf("m%03d", i)
		switch {
		case d.rnd.IntN(8) == 0 && i < size/3:
			d.bad[addr] = [2]time.Duration{0, 1 << 62}
		case d.rnd.IntN(8) == 0:
			from := time.Duration(d.rnd.IntN(3600)) * time.Second
			d.bad[addr] = [2]time.Duration{from, from + time.Duration(d.rnd.IntN(1800))*time.Second}
		}
	}
}

// drawJobs submits a matrix of which a block of cells is bad, or commands of which some are.
func (d *drawn) drawJobs(t *testing.T, retries, count int) {
	from := d.rnd.IntN(count)
	to := min(count, from+d.rnd.IntN(count/2))
	if d.rnd.IntN(3) == 0 {
		to = from
	}
	var first uint64
	var err error
	gangs := d.rnd.IntN(3) == 0
	if !gangs && d.rnd.IntN(4) > 0 {
		first, err = d.cells(count, retries)
	} else {
		var specs []JobSpec
		for i := range count {
			spec := JobSpec{Class: "x", Cmd: fmt.Sprintf("work %d", i%d.pickSome()),
				MaxFailures: retries, Inputs: d.inputs}
			if gangs {
				d.drawGang(&spec)
			}
			specs = append(specs, spec)
		}
		var ids []uint64
		if ids, err = d.submit(specs...); err == nil {
			first = ids[0]
		}
	}
	check(t, err)
	for i := from; i < to; i++ {
		d.never[first+uint64(i)] = true
	}
}

// drawGang asks for several machines, now and then also of the other class, and the reverse.
func (d *drawn) drawGang(spec *JobSpec) {
	size := d.sizeOf("x")
	if size > 1 && d.rnd.IntN(3) == 0 {
		spec.Machines = 2 + d.rnd.IntN(min(size-1, 4))
		spec.Each = d.rnd.IntN(2) == 0
	}
	switch d.rnd.IntN(6) {
	case 0:
		spec.With = []string{"O=y"}
	case 1:
		spec.Class, spec.With, spec.Machines, spec.Each = "y", []string{"O=x"}, 0, false
	}
}

func (d *drawn) sizeOf(class string) int { return len(d.s.class(class).machines) }

func (d *drawn) pickSome() int { return 1 + d.rnd.IntN(50) }

// drawMissing has inputs missing until somebody has put them there, and lets those go on that were
// held for it: the first time too early.
func (d *drawn) drawMissing() {
	const there = 90 * time.Minute
	d.missing = func(r Run) bool {
		return r.Ref.Job%7 == 0 && d.now.Sub(d.began) < there
	}
	release := func() error {
		b := Operation{Op: OpUnhold}
		for id, j := range d.s.live {
			if j.HeldWhy != "" {
				b.Jobs = append(b.Jobs, id)
			}
		}
		slices.Sort(b.Jobs)
		return d.do(d.s.PlanAtOnce(b))
	}
	d.then = append(d.then, nightly{there / 2, release})
	for hours := range time.Duration(200) { // jobs that come to it later are held later
		d.then = append(d.then, nightly{there + hours*time.Hour, release})
	}
	slices.SortStableFunc(d.then, func(a, b nightly) int { return int(a.at - b.at) })
}

// drawTroubles draws reboots and cuts.
func (d *drawn) drawTroubles(size int, scale time.Duration) {
	for range d.rnd.IntN(1 + min(size, 20)) {
		addr := fmt.Sprintf("m%03d", d.rnd.IntN(size))
		at := time.Duration(d.rnd.Int64N(int64(20 * scale)))
		back := at + time.Duration(d.rnd.Int64N(int64(time.Hour)))
		reboots := d.rnd.IntN(2) == 0
		d.then = append(d.then,
			nightly{at, func() error { return d.report(Away{Addr: addr, Reason: "cut"}) }},
			nightly{back, func() error { return d.back(addr, reboots) }})
	}
	slices.SortFunc(d.then, func(a, b nightly) int { return int(a.at - b.at) })
}

// back reports that a machine is there again; when it has rebooted, what ran there is lost.
func (d *drawn) back(addr string, reboots bool) error {
	boot := "boot1"
	var news []Outcome
	if reboots {
		boot = fmt.Sprintf("boot%d", d.now.UnixNano())
		for _, r := range d.running() {
			if r.Ref.Machine == addr {
				news = append(news, RunLost{Ref: r.Ref, Reason: "it rebooted"})
			}
		}
	}
	facts := &statepb.Machine{BootId: boot, Os: "linux", Arch: "amd64", Cores: 4}
	return d.report(append([]Outcome{Connected{Addr: addr, Facts: facts}}, news...)...)
}

// judge looks at the morning.
func (d *drawn) judge(t *testing.T, retries int) {
	for _, id := range mustSelect(t, d.s) {
		if st := d.s.Status(id); !Final(st) && !d.never[id] {
			t.Errorf("job %d, which can succeed, is %s in the end", id, StatusName(st))
			break
		}
	}
	for _, addr := range d.aside() {
		if _, bad := d.bad[addr]; !bad {
			t.Errorf("%s, which is well, is set aside in the end: %s", addr,
				d.s.machines[addr].LastError)
		}
	}
}
