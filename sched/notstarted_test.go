package sched

import (
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// notStarts reports that a job could not be started, until it has ended or waits for more than a minute. It says where it was tried.
func (w *world) notStarts(t *testing.T, id uint64, most int) (tried []string) {
	t.Helper()
	for range most {
		r := w.runOf(id)
		if r == nil {
			break
		}
		tried = append(tried, r.Machine)
		check(t, w.report(NotStarted{Ref: r, Reason: "execute /bin/sh: argument list too long"}))
		check(t, w.pass(time.Minute))
	}
	return tried
}

// TestNeverStarts: a job that can't be started anywhere fails after a few attempts, though nothing ever ran.
func TestNeverStarts(t *testing.T) {
	for _, test := range []struct {
		name     string
		machines []string
		retries  int
		tries    int
		want     Status
	}{
		{"the only machine", []string{"a"}, 0, 5, Failed},
		{"of four", []string{"a", "b", "c", "d"}, 0, 5, Failed},
		{"with retries", []string{"a"}, 2, 7, Failed},
		{"that are without limit", []string{"a"}, -1, 30, Running},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			check(t, w.pool("x", 1, test.machines...))
			ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: test.retries})
			check(t, err)
			if tried := w.notStarts(t, ids[0], 30); len(tried) != test.tries {
				t.Errorf("it was tried on %v", tried)
			}
			w.wants(t, ids[0], test.want)
			if j := w.s.Job(ids[0]); test.want == Failed {
				e := w.events[len(w.events)-1]
				if j.Error != "could not be started: execute /bin/sh: argument list too long" || last(j).Error == "" || e.Kind != "job.failed" {
					t.Errorf("%q, and %+v", j.Error, e)
				}
			}
		})
	}
}

// TestStartsElsewhere: a machine with a full disk fails no job that another could run, also while that one is away. A start
// that worked begins the count anew.
func TestStartsElsewhere(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a", "b"))
	check(t, w.report(Away{Addr: "b", Reason: "no route"}))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work"})
	check(t, err)
	if tried := w.notStarts(t, ids[0], 20); len(tried) != 20 {
		t.Errorf("it was tried on %v", tried)
	}
	check(t, w.report(NotStarted{Ref: w.runOf(ids[0]), Reason: "no space"}))
	check(t, w.connect("b"))
	check(t, w.pass(time.Minute))
	if r := w.runOf(ids[0]); r == nil || r.Machine != "b" {
		t.Fatalf("it runs as %v", r)
	}
	w.ends(t, ids[0], exit(0))
	w.wants(t, ids[0], Done)

	ids, err = w.submit(JobSpec{Class: "x", Cmd: "other", MaxFailures: -1})
	check(t, err)
	w.notStarts(t, ids[0], 4)
	r := w.runOf(ids[0])
	check(t, w.report(RunLost{Ref: r, Reason: "the machine has rebooted"}, Settled{Ref: r}))
	check(t, w.pass(time.Minute))
	if tried := w.notStarts(t, ids[0], 4); len(tried) != 4 {
		t.Errorf("it was tried on %v", tried)
	}
	if j := w.s.Job(ids[0]); j.Failures != 0 || strings.Contains(j.Error, "could not") || last(j).Cause != statepb.Cause_CAUSE_NONE {
		t.Errorf("after a reboot between: %d failures, %q", j.Failures, j.Error)
	}
}
