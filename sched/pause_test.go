package sched

import (
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// lastSteer is the newest pause or signal that was asked for.
func (m *memory) lastSteer() string {
	if len(m.steers) == 0 {
		return ""
	}
	return m.steers[len(m.steers)-1]
}

// eventKinds gives the kinds of the events about a job since the given one.
func (w *world) eventKinds(from int) string {
	var kinds []string
	for _, e := range w.events[from:] {
		kinds = append(kinds, strings.TrimPrefix(e.Kind, "job."))
	}
	return strings.Join(kinds, " ")
}

// TestPause: what is paused keeps its slot, and its time stands still.
func TestPause(t *testing.T) {
	w := newWorld()
	must(t, w.pool("x", 1, "a"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Timeout: time.Hour})
	must(t, err)
	id := ids[0]
	run := func() *statepb.RunRef { return ref(w.s.Job(id)) }
	must(t, w.report(Started{Ref: run(), At: w.now}))
	from := len(w.events)
	w.now = w.now.Add(time.Minute)
	w.operate(t, OpPause, id)
	if got := PauseOf(w.s.Job(id)); got != "pausing" || w.fleet.lastSteer() != "pause t1" {
		t.Errorf("%s, %s", got, w.fleet.lastSteer())
	}
	must(t, w.report(Paused{Ref: run(), On: true}, Paused{Ref: run(), On: true}))
	if got := PauseOf(w.s.Job(id)); got != "paused" {
		t.Error(got)
	}
	for op, says := range map[Op]string{OpPause: "paused already", OpHold: "nothing to hold"} {
		p, err := w.s.PlanAtOnce(Operation{Op: op, Jobs: []uint64{id}})
		must(t, err)
		if p.Fates[0].Changed || !strings.Contains(p.Fates[0].Note, says) {
			t.Errorf("%s of one that is paused: %+v", op, p.Fates[0])
		}
	}
	// Its end isn't known while it is paused: nothing passes a big job because of it.
	m := w.s.machines["a"]
	if _, known := w.s.startOn(nil, m, w.now); known {
		t.Error("it is known when a job ends that is paused")
	}
	w.now = w.now.Add(10 * time.Minute)
	why, err := w.s.Why(id, w.now)
	must(t, err)
	if !strings.Contains(why.Summary, "paused on a since 10m0s") ||
		!strings.Contains(why.Hint, "job continue") {
		t.Errorf("%+v", why)
	}
	again, err := restored(nil, w.journal)
	must(t, err)
	w.s, w.fleet = again, newMemory()
	w.s.Resume(w.fleet)
	must(t, w.connect("a"))
	m = w.s.machines["a"]
	if r := w.s.run(w.s.live[id], last(w.s.Job(id))); r.Pause == nil || !*r.Pause {
		t.Error("a daemon that is started again doesn't pause it")
	}
	w.operate(t, OpGoOn, id)
	if got := PauseOf(w.s.Job(id)); got != "continuing" || w.fleet.lastSteer() != "go on t1" {
		t.Errorf("%s, %s", got, w.fleet.lastSteer())
	}
	must(t, w.report(Paused{Ref: run(), Total: 10 * time.Minute}))
	a := last(w.s.Job(id))
	if PauseOf(w.s.Job(id)) != "" || a.PausedFor != int64(10*time.Minute) || a.ContinuedAt == 0 {
		t.Errorf("%v", a)
	}
	at, known := w.s.startOn(nil, m, w.now)
	if want := a.StartedAt + int64(70*time.Minute); !known || at != want {
		t.Errorf("it is done by %s, not %s", Time(at), Time(want))
	}
	if got := w.eventKinds(from); got != "pausing paused continuing continued" {
		t.Error(got)
	}
}

// TestPauseRefused: what is of an older version is named, and the job goes on.
func TestPauseRefused(t *testing.T) {
	w := newWorld()
	must(t, w.pool("x", 3, "a"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Repeat: 4})
	must(t, err)
	r := ref(w.s.Job(ids[0]))
	must(t, w.report(Started{Ref: r, At: w.now}))
	w.operate(t, OpPause, ids[0])
	from := len(w.events)
	must(t, w.report(Unsteered{Ref: r, Reason: "supervisor 7 is of an older version"}))
	why, err := w.s.Why(ids[0], w.now)
	must(t, err)
	if got := PauseOf(w.s.Job(ids[0])); got != "" || !strings.Contains(strings.Join(why.Details,
		""), "older version") || w.eventKinds(from) != "not-paused" {
		t.Errorf("%q, %+v, %s", got, why, w.eventKinds(from))
	}
	must(t, w.report(Unsteered{Ref: r, Reason: "once more"})) // nobody has asked
	for _, tt := range []struct {
		op   Op
		job  uint64
		says string
	}{
		{OpPause, ids[3], "job hold"},
		{OpGoOn, ids[0], "isn't paused"},
		{OpGoOn, ids[3], "nothing to continue"},
		{OpSignal, ids[1], "not begun"},
		{OpSignal, ids[3], "nothing to send"},
	} {
		p, err := w.s.PlanAtOnce(Operation{Op: tt.op, Jobs: []uint64{tt.job}, Signal: "USR1"})
		must(t, err)
		if p.Fates[0].Changed || !strings.Contains(p.Fates[0].Note, tt.says) {
			t.Errorf("%s: %+v", tt.op, p.Fates[0])
		}
	}
	for word, says := range map[string]string{"": "no signal", "NOPE": "no signal",
		"99": "no signal", "0": "no signal", "-9": "no signal", "stop": "job pause",
		"SIGTSTP": "job pause", "18": "job continue"} {
		_, err := w.s.PlanAtOnce(Operation{Op: OpSignal, Jobs: ids[:1], Signal: word})
		if text := textOf(err); !strings.Contains(text, says) {
			t.Errorf("signal %q: %s", word, text)
		}
	}
	p, err := w.s.PlanAtOnce(Operation{Op: OpSignal, Jobs: ids[:1], Signal: "usr1"})
	must(t, w.do(p, err))
	if got := w.fleet.lastSteer(); got != "signal 10 t1" {
		t.Error(got)
	}
	must(t, w.report(Away{Addr: "a", Reason: "it is off"}))
	p, err = w.s.PlanAtOnce(Operation{Op: OpSignal, Jobs: ids[:1], Signal: "usr1"})
	must(t, err)
	if !strings.Contains(p.Fates[0].Note, "can't be reached") {
		t.Errorf("%+v", p.Fates[0])
	}
	p, err = w.s.PlanAtOnce(Operation{Op: OpPause, Jobs: ids[:1]})
	must(t, err)
	if !p.Fates[0].Changed || !strings.Contains(p.Fates[0].Note, "as soon as a is reached") {
		t.Errorf("%+v", p.Fates[0])
	}
}

// textOf is an error with its hint.
func textOf(err error) string {
	if e, ok := err.(*Error); ok {
		return e.Msg + "; " + e.Next
	}
	return ""
}
