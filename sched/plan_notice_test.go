package sched

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A notice has its place among the events, and changes nothing.
func TestNotice(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		p, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
		synctest.Wait() // the job is on its way
		since := d.Events().newest()
		for _, n := range []Notice{
			{Kind: NoticeSilent, Job: p.IDs[0], Machine: "a", Text: "nothing from \xff",
				Warn: true},
			{Kind: NoticeAway, Machine: "a", Text: "a is away", Cause: "away"},
			{Kind: NoticeDisk, Text: "this host is full"},
		} {
			_, _, err = d.Do(t.Context(), "", false,
				func(*State, time.Time) (Plan, error) { return PlanNotice(n), nil })
			check(t, err)
		}
		events, _, _, err := d.Events().After(t.Context(), since, 10)
		check(t, err)
		for i := range events {
			events[i].At = time.Time{}
		}
		want := []Event{
			{Seq: since + 1, Kind: "job.silent", Job: p.IDs[0], Attempt: 1, Machine: "a",
				Class: "x", Status: Running, Text: "nothing from \uFFFD", Warn: true},
			{Seq: since + 2, Kind: "machine.away", Machine: "a", Class: "x", Text: "a is away",
				Cause: "away"},
			{Seq: since + 3, Kind: "disk.low", Text: "this host is full"},
		}
		if diff := cmp.Diff(want, events); diff != "" {
			t.Error(diff)
		}
	})
}
