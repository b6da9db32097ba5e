package sched

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jobserver/sched/statepb"
)

// TestMachineRemovedTellsOfJobs: the removal of a machine ends jobs in several ways, and each is
// told of.
func TestMachineRemovedTellsOfJobs(t *testing.T) {
	t.Parallel()
	w := newWorld()
	check(t, w.pool("x", 6, "a"))
	p, err := w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "cell"},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1"}}}}, false)
	check(t, w.do(p, err))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "gives up", Notify: true},
		JobSpec{Class: "x", Cmd: "goes on", MaxFailures: 1},
		JobSpec{Class: "x", Cmd: "copies", CpPath: "/r"},
		JobSpec{Class: "x", Cmd: "is to be forgotten"})
	check(t, err)
	result := exit(0)
	result.Results = []string{"r"}
	check(t, w.report(Ended{Ref: w.runOf(ids[2]), Result: result}))
	w.operate(t, OpForget, ids[3])
	setup, err := w.s.PlanSetup(SetupSpec{Addrs: []string{"a"}, Class: "x",
		Steps: []string{"set up"}}, w.now)
	check(t, w.do(setup, err))

	w.events = nil
	check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
	how := "was ended as its machine was removed"
	want := []Event{
		{Kind: "machine.removed", Machine: "a", Text: "machine a was removed"},
		{Kind: "job.canceled", Job: 2, Attempt: 1, Machine: "a", Matrix: 1, Status: Canceled,
			Ended: true, Cause: how, Warn: true,
			Uprooted: true, Text: "job 2 was ended, as its machine a was removed"},
		{Kind: "job.canceled", Job: 3, Attempt: 1, Machine: "a", Status: Canceled, Notify: true,
			Ended: true, Cause: how, Warn: true,
			Uprooted: true, Text: "job 3 was ended, as its machine a was removed"},
		{Kind: "job.retried", Job: 4, Attempt: 1, Machine: "a", Status: Waiting, Ended: true,
			Cause: how, Warn: true,
			Uprooted: true,
			Text:     "job 4 was ended, as its machine a was removed, and waits for attempt 2"},
		{Kind: "job.copy-failed", Job: 5, Attempt: 1, Machine: "a", Status: Done, Warn: true,
			Uprooted: true, Text: "the results of job 5 were not copied: the machine was removed " +
				"before its results were copied"},
		{Kind: "job.forgotten", Job: 6, Uprooted: true, Text: "job 6 has ended and was forgotten"},
		{Kind: "job.canceled", Job: 7, Status: Canceled, Warn: true, Uprooted: true,
			Text: "setup 7 was canceled, as its machine a was removed"},
	}
	for _, e := range w.events {
		if e.Seq != w.events[0].Seq || !e.At.Equal(w.now) {
			t.Errorf("not of the same change: %+v", e)
		}
		if e.Ended != (len(e.Spans) == 1) || e.Ended && (e.Spans[0].Job != e.Job ||
			e.Spans[0].Machine != "a" || e.Spans[0].Status != Canceled) {
			t.Errorf("what ends an attempt says when it was: %+v", e)
		}
	}
	if diff := cmp.Diff(want, w.events,
		cmpopts.IgnoreFields(Event{}, "Seq", "At", "Class", "Spans")); diff != "" {
		t.Error(diff)
	}
	w.events = nil
	check(t, w.pool("x", 1, "b"))
	for _, e := range w.events {
		if e.Uprooted {
			t.Errorf("told of a second time: %+v", e)
		}
	}
}

// TestEventsOfOneChange: a page of events never ends between two of the same change, as the cursor
// couldn't say so.
func TestEventsOfOneChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEvents(10)
		e.publish([]Event{{Seq: 11}, {Seq: 12, Job: 1}, {Seq: 12, Job: 2}, {Seq: 12, Job: 3},
			{Seq: 13}}, 14, 0)
		var seen []int
		for cursor := uint64(10); cursor < 14; {
			events, next, gap, err := e.After(t.Context(), cursor, 2)
			if err != nil || gap || next <= cursor {
				t.Fatal(next, gap, err)
			}
			seen = append(seen, len(events))
			cursor = next
		}
		if diff := cmp.Diff([]int{4, 1}, seen); diff != "" {
			t.Error(diff)
		}
	})
}
