package sched

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// why explains a job in one text.
func (w *world) why(t *testing.T, id uint64) string {
	t.Helper()
	r, err := w.s.Why(id, w.now)
	check(t, err)
	text := r.Summary
	for _, d := range r.Details {
		text += "\n- " + d
	}
	if r.Hint != "" {
		text += "\n> " + r.Hint
	}
	return text
}

// TestWhy compares what users read when they ask why a job is where it is.
func TestWhy(t *testing.T) {
	w := newWorld()
	says := func(id uint64, want ...string) {
		t.Helper()
		if diff := cmp.Diff(strings.Join(want, "\n"), w.why(t, id)); diff != "" {
			t.Errorf("job %d (-want +got)\n%s", id, diff)
		}
	}
	ids, err := w.submit(
		JobSpec{Class: "gpu", Cmd: "one", MaxFailures: 1}, JobSpec{Class: "gpu", Cmd: "two"},
		JobSpec{Class: "gpu", Cmd: "three"},
		JobSpec{Class: "gpus", Cmd: "four"}, JobSpec{Class: "gpu", Cmd: "five", Hold: true})
	check(t, err)
	one, two, three, four, five := ids[0], ids[1], ids[2], ids[3], ids[4]
	says(one, "no machine is in class gpu",
		"> `jobserver machine add ADDR gpu` or `jobserver machine setup` adds one")
	says(five, "it is held", "> `jobserver job unhold 5` lets it go on")
	check(t, w.do(w.s.PlanMachines([]MachineSpec{{Addr: "a", Class: "gpu"}}, w.now)))
	says(four, "no machine is in class gpus", "- the classes that have machines are gpu",
		"- did you mean gpu?",
		"> `jobserver machine add ADDR gpus` or `jobserver machine setup` adds one")
	check(t, w.report(Refused{Addr: "a", Reason: "permission denied", Hint: "add the key"}))
	if got := w.why(t, one); !strings.Contains(got, "a is refused: permission denied") {
		t.Error(got)
	}
	check(t, w.connect("a"))
	says(one, "it runs on a, slot 0")
	if got := w.why(t, three); !strings.Contains(got, "1 job") ||
		!strings.Contains(got, "a is busy with job 1") {
		t.Error(got)
	}
	check(t, w.report(Away{Addr: "a", Reason: "connection timed out"}))
	says(one, "it runs on a, slot 0", "- a is away: connection timed out",
		"> it goes on by itself when the machine is back; `jobserver job lost 1` gives it up")
	w.operate(t, OpCancel, two)
	says(two, "it was canceled")
	w.ends(t, one, exit(3))
	says(one, "its retry waits for another 1s, since its attempt exited with code 3",
		"- attempt 1 on a exited with code 3 after 1s")
	check(t, w.connect("a"))
	w.ends(t, three, exit(0))
	says(three, "it has succeeded", "- attempt 1 on a exited with code 0 after 1s")
	check(t, w.pass(time.Second))
	w.ends(t, one, &statepb.Attempt{Cause: statepb.Cause_TIMED_OUT, Duration: int64(time.Minute)})
	says(one, "it timed out, and its one retry is used",
		"- attempt 1 on a exited with code 3 after 1s", "- attempt 2 on a timed out after 1m0s",
		"> `jobserver job log -c 1` and `-e` show what it printed; `jobserver job restart 1` "+
			"runs it again")
	check(t, w.do(w.s.PlanDrain([]string{"a"}, true), nil))
	more, err := w.submit(JobSpec{Class: "gpu", Cmd: "six", CpPath: "/r"})
	check(t, err)
	if got := w.why(t, more[0]); !strings.Contains(got, "a is draining") {
		t.Error(got)
	}
	check(t, w.do(w.s.PlanDrain([]string{"a"}, false), nil))
	w.ends(t, more[0], withResults("out"))
	says(more[0], "its results are being copied from a",
		"- attempt 1 on a exited with code 0 after 1s")
	check(t, w.report(CopyWaits{Job: more[0], Reason: "the disk is full"}))
	says(more[0], "its results wait to be copied from a: the disk is full",
		"- attempt 1 on a exited with code 0 after 1s")
	check(t, w.report(CopyEnded{Job: more[0], Error: "no such file"}))
	says(more[0], "it has succeeded, but its results were not copied: no such file",
		"- attempt 1 on a exited with code 0 after 1s",
		"> `jobserver job recopy 6` copies them again; nothing runs again")
	setup := w.setUp(t,
		SetupSpec{Addrs: []string{"a"}, Keep: true, Steps: []string{"one"}, Reboot: true})
	w.ends(t, setup, exit(0))
	w.ends(t, setup, exit(0))
	says(setup, "a reboots; its setup goes on when it is back",
		"- attempt 1 on a exited with code 0 after 2s")
	if _, err := w.s.Why(99, w.now); kindOfError(err) != NotFound {
		t.Error(err)
	}
}

// TestWhyEndedOddly has sentences where an end isn't a plain exit.
func TestWhyEndedOddly(t *testing.T) {
	begins := func(w *world, id uint64, want string) {
		t.Helper()
		if got := w.why(t, id); !strings.HasPrefix(got, want) {
			t.Errorf("job %d: %q, want the beginning %q", id, got, want)
		}
	}
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work"})
	check(t, err)
	check(t, w.report(RunLost{Ref: w.runOf(ids[0]), Reason: "its supervisor died"}))
	begins(w, ids[0],
		"how it ended can't be known: its supervisor died\n- attempt 1 on a: its supervisor died\n")

	w = newWorld()
	check(t, w.pool("x", 1, "a"))
	setup := w.setUp(t, SetupSpec{Addrs: []string{"a"}, Keep: true, Steps: []string{"one", "two"}})
	w.ends(t, setup, exit(0))
	w.ends(t, setup, exit(4))
	begins(w, setup,
		"its step 2 of 2 exited with code 4\n- attempt 1 on a exited with code 4 after ")
}

// TestEvents compares what followers read of a small day.
func TestEvents(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", MaxFailures: 1, CpPath: "/r", Tag: "t"})
	check(t, err)
	check(t, w.report(Started{Ref: w.runOf(ids[0]), At: w.now}))
	w.ends(t, ids[0], exit(1))
	check(t, w.pass(time.Second))
	w.ends(t, ids[0], withResults("out"))
	check(t, w.report(CopyEnded{Job: ids[0], Dir: "/r/2", Files: 1, Bytes: 10}))
	w.operate(t, OpForget, ids[0])
	check(t, w.do(w.s.PlanVar("KEY", "hunter2", true, false)))
	check(t, w.do(Plan{Changes: []*Change{moved("a", "x-broken", "4 jobs failed")}}, nil))
	check(t, w.do(w.s.PlanRemove([]string{"a"}, false), nil))
	var got []string
	seq := uint64(0)
	for _, e := range w.events {
		if e.Seq <= seq {
			t.Errorf("event %d after %d", e.Seq, seq)
		}
		seq = e.Seq
		line := e.Kind + ": " + e.Text
		if e.Warn {
			line = "! " + line
		}
		got = append(got, line)
	}
	want := []string{
		"machine.added: machine a is in class x with 1 slots",
		"machine.seen: machine a runs linux/amd64 with 4 cores, boot boot1",
		"tag.made: tag t was made",
		"job.submitted: job 2 was submitted to class x: work",
		"job.running: job 2: attempt 1 goes to a, slot 0",
		"job.started: job 2 has started on a",
		"! job.retried: job 2 exited with code 1 on a after 1s, and waits for attempt 2 in 1s",
		"job.running: job 2: attempt 2 goes to a, slot 0",
		"job.copying: job 2 has succeeded on a after 1s; copying 1 results",
		"job.copied: the results of job 2 are in /r/2: 1 files, 10 bytes",
		"job.forgotten: job 2 was forgotten",
		"variable.set: variable KEY was set",
		"! machine.broken: machine a is set aside in class x-broken: 4 jobs failed; it is tried " +
			"with a job that has retries left at " +
			w.now.Add(firstAside).
				Format(time.TimeOnly) + " (`jobserver machine resume -m a` brings it back)",
		"machine.removed: machine a was removed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestFollowEvents: they come in order, from any cursor, and a gap is said.
func TestFollowEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEvents(100)
		seqs := func(since uint64, max int) (first, last uint64, n int, cursor uint64, gap bool) {
			t.Helper()
			events, cursor, gap, err := e.After(t.Context(), since, max)
			check(t, err)
			for i := 1; i < len(events); i++ {
				if events[i].Seq <= events[i-1].Seq {
					t.Errorf("event %d after %d", events[i].Seq, events[i-1].Seq)
				}
			}
			if len(events) > 0 {
				first, last = events[0].Seq, events[len(events)-1].Seq
			}
			return first, last, len(events), cursor, gap
		}
		if _, _, n, cursor, gap := seqs(50, 10); n != 0 || cursor != 100 || !gap {
			t.Error("a cursor of before the start", n, cursor, gap)
		}
		if _, _, n, cursor, gap := seqs(500, 10); n != 0 || cursor != 100 || !gap {
			t.Error("a cursor of another history", n, cursor, gap)
		}
		done := make(chan []Event)
		go func() {
			events, _, _, _ := e.After(t.Context(), 100, 10)
			done <- events
		}()
		synctest.Wait()
		e.publish([]Event{{Seq: 101}, {Seq: 103}}, 104, 0)
		if got := <-done; len(got) != 2 {
			t.Error("who waited got", got)
		}
		if first, last, n, cursor, gap := seqs(101, 10); first != 103 || last != 103 || n != 1 ||
			cursor != 104 || gap {
			t.Error(first, last, n, cursor, gap)
		}
		for seq := uint64(105); seq < 105+3*keptEvents; seq++ {
			e.publish([]Event{{Seq: seq}}, seq, 0)
		}
		newest := uint64(104 + 3*keptEvents)
		if _, _, _, _, gap := seqs(104, 10); !gap {
			t.Error("no gap, though old events are gone")
		}
		if first, last, n, cursor, gap := seqs(newest-keptEvents,
			10); first != newest-keptEvents+1 || n != 10 || last != cursor || gap {
			t.Error(first, last, n, cursor, gap)
		}
		if len(e.ring) > 2*keptEvents {
			t.Errorf("%d events are kept", len(e.ring))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if events, cursor, gap, err := e.After(ctx, newest, 10); len(events) != 0 ||
			cursor != newest || gap || err != nil {
			t.Error("after a wait for nothing:", events, cursor, gap, err)
		}
		if _, _, n, _, _ := seqs(newest-3, 0); n != 1 {
			t.Errorf("%d events for a max of 0", n)
		}
	})
}

// TestWhyCanceled is what is said of jobs that were canceled, at whatever moment.
func TestWhyCanceled(t *testing.T) {
	w := newWorld()
	check(t, w.do(w.s.PlanMachines([]MachineSpec{{Addr: "a", Class: "foo"}}, w.now)))
	check(t, w.connect("a"))
	canceled := func(when, want string, id uint64) {
		t.Helper()
		if got, _, _ := strings.Cut(w.why(t, id), "\n"); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	submit := func(spec JobSpec) uint64 {
		t.Helper()
		spec.Class, spec.Cmd = "foo", "x"
		ids, err := w.submit(spec)
		check(t, err)
		return ids[0]
	}
	running := submit(JobSpec{})
	w.operate(t, OpCancel, running)
	w.ends(t, running, &statepb.Attempt{Cause: statepb.Cause_CANCELED_BY_USER})
	canceled("while it ran", "it was canceled", running)
	again := submit(JobSpec{MaxFailures: 3})
	w.ends(t, again, exit(3))
	w.operate(t, OpCancel, again)
	canceled("before its retry", "it was canceled; its last attempt: exited with code 3", again)
	held := submit(JobSpec{Hold: true})
	w.operate(t, OpCancel, held)
	canceled("while it was held", "it was canceled", held)
}
