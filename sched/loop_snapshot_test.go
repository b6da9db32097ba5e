package sched

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSnapshotWhileRunning: the state goes on while a snapshot is written, one is written at a
// time, it stands for the moment at which it began, and one that fails is reported and tried again
// later.
func TestSnapshotWhileRunning(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		d.tape.hold = make(chan struct{})
		d.tape.wants = true
		_, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
		synctest.Wait()
		var want []string
		check(t, d.Read(t.Context(), func(s *State) { want = dump(s) }))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		d.tape.wants = true
		for range 3 {
			_, err := d.plan(t.Context(), "", oneJob)
			check(t, err)
		}
		if d.tape.snaps != 1 {
			t.Errorf("%d snapshots at once", d.tape.snaps)
		}
		d.tape.snapFail = errors.New("no space")
		close(d.tape.hold)
		synctest.Wait()
		if want := "write a snapshot: no space"; len(d.problems) != 1 || d.problems[0] != want {
			t.Errorf("problems: %q", d.problems)
		}
		got, err := restored(d.tape.snapshot, nil)
		check(t, err)
		if !slices.Equal(dump(got), want) {
			t.Errorf("the snapshot holds another state:\n%q\n%q", dump(got), want)
		}
		d.tape.snapFail = nil
		d.status(t, 1) // the loop sees it, whenever it wakes up
		time.Sleep(2 * time.Minute)
		d.status(t, 1) // any turn
		synctest.Wait()
		if d.tape.snaps != 2 || len(d.problems) != 1 {
			t.Errorf("%d snapshots, problems %q", d.tape.snaps, d.problems)
		}
	})
}

// TestReadsWhileFreezing: while the state is being frozen, which takes a while with very many jobs,
// those who only look are answered after each step, and those who change something afterwards.
func TestReadsWhileFreezing(t *testing.T) {
	const steps = 6
	inBubbleWith(t, false, func(t *testing.T, d *desk) {
		d.submitMany(t, steps*freezeJobs, true)
		var want []string
		check(t, d.Read(t.Context(), func(s *State) { want = dump(s) }))
		synctest.Wait() // the loop looks at the tape no more
		reads, changed := 0, false
		var look func(s *State)
		ask := func(r *request) { // from the loop's own goroutine
			r.reply = make(chan reply, 1)
			d.mu.Lock()
			d.inbox.requests = append(d.inbox.requests, r)
			d.mu.Unlock()
		}
		look = func(*State) {
			if changed {
				return
			}
			reads++
			ask(&request{read: look})
		}
		d.tape.onSnap = func() {
			ask(&request{plan: func(s *State, now time.Time) (Plan, error) {
				changed = true
				return oneJob(s, now)
			}})
			ask(&request{read: look})
		}
		d.tape.wants = true
		d.poke()
		synctest.Wait()
		if reads < steps || reads > steps+5 || !changed {
			t.Errorf("%d reads were answered in between; the change was made: %v", reads, changed)
		}
		got, err := restored(d.tape.snapshot, nil)
		check(t, err)
		if !slices.Equal(dump(got), want) {
			t.Error("the snapshot holds another state")
		}
	})
}

// TestSnapshotNotBegun: it is tried again a while later, and not at each turn until then.
func TestSnapshotNotBegun(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		d.tape.cantSnap, d.tape.wants = errors.New("no space"), true
		for range 3 {
			_, err := d.plan(t.Context(), "", oneJob)
			check(t, err)
		}
		synctest.Wait()
		if want := "begin a snapshot: no space"; d.tape.snaps != 1 || len(d.problems) != 1 ||
			d.problems[0] != want {
			t.Errorf("%d attempts, problems %q", d.tape.snaps, d.problems)
		}
		d.status(t, 1)
		time.Sleep(snapshotPause / 2)
		synctest.Wait()
		d.tape.cantSnap = nil
		d.status(t, 1)                            // too early for another
		time.Sleep(snapshotPause/2 + time.Second) // it wakes up by itself
		synctest.Wait()
		if d.tape.snaps != 2 || len(d.problems) != 1 {
			t.Errorf("%d attempts, problems %q", d.tape.snaps, d.problems)
		}
	})
}

// TestSnapshotKeepsFailing: it is tried less and less often, and announced once until one succeeds.
func TestSnapshotKeepsFailing(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		d.tape.wants, d.tape.stillWants, d.tape.snapFail = true, true,
			errors.New("a record is too long")
		_, err := d.plan(t.Context(), "", oneJob)
		check(t, err)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := d.tape.snaps; n < 10 || n > 40 {
			t.Errorf("%d attempts in a day", n)
		}
		var told []Event
		for _, e := range d.observed {
			if e.Kind == NoticeUnsaved {
				told = append(told, e)
			}
		}
		if len(told) != 1 || !told[0].Warn || told[0].Cause != "a record is too long" ||
			!strings.Contains(told[0].Text, "no snapshot") {
			t.Errorf("told of: %+v", told)
		}
		d.tape.stillWants, d.tape.snapFail = false, nil
		d.status(t, 1)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		before := d.tape.snaps
		d.tape.wants, d.tape.stillWants, d.tape.snapFail = true, true, errors.New("again")
		d.status(t, 1)
		time.Sleep(2 * snapshotPause)
		synctest.Wait()
		if d.tape.snaps != before+2 {
			t.Errorf("%d attempts after one that succeeded", d.tape.snaps-before)
		}
	})
}

// TestSnapshotAtTheEnd: an orderly stop leaves a snapshot where that pays, and the loop ends when
// it is written.
func TestSnapshotAtTheEnd(t *testing.T) {
	for _, pays := range []bool{true, false} {
		inBubble(t, func(t *testing.T, d *desk) {
			_, err := d.plan(t.Context(), "", oneJob)
			check(t, err)
			synctest.Wait()
			d.tape.pays = pays
			d.cancel()
			check(t, <-d.done)
			if (d.tape.snapshot != nil) != pays {
				t.Errorf("it pays: %v, and there is one: %v", pays, d.tape.snapshot != nil)
			}
			if pays {
				s, err := restored(d.tape.snapshot, nil)
				check(t, err)
				if s.JobCount() != 1 {
					t.Errorf("it has %d jobs", s.JobCount())
				}
			}
			d.done <- nil
		})
	}
}
