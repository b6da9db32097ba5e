package sched

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// TestAttemptsShareTheirCommand: a long command that is retried without end doesn't make a record
// that grows without end, and each attempt is shown with the command that it ran.
func TestAttemptsShareTheirCommand(t *testing.T) {
	for _, test := range []struct {
		name, cmd string
		kept      int
		atMost    int // bytes
	}{
		{"the same", "run " + strings.Repeat("x", 100_000), keptAttempts, 250_000},
		{"another each time", "run {ATTEMPT} " + strings.Repeat("x", 100_000), 42, 5 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			w.every = 50
			check(t, w.pool("x", 1, "a"))
			ids, err := w.submit(JobSpec{Class: "x", Cmd: test.cmd, MaxFailures: -1})
			check(t, err)
			for range 150 {
				w.ends(t, ids[0], &statepb.Attempt{Cause: statepb.Cause_TIMED_OUT})
				check(t,
					w.do(w.s.PlanMachines([]MachineSpec{{Addr: "a", Class: "x", Slots: 1}}, w.now)))
				check(t, w.do(w.s.PlanMove([]string{"a"}, "x", w.now))) // it was set aside
				check(t, w.pass(time.Minute))
			}
			j := w.s.Job(ids[0])
			if n, size := len(j.Attempts), proto.Size(j); n != test.kept || size > test.atMost {
				t.Errorf("%d attempts in %d bytes", n, size)
			}
			for i, a := range j.Attempts {
				if got, want := CommandRun(j, i),
					strings.ReplaceAll(test.cmd, "{ATTEMPT}", fmt.Sprint(a.Number)); got != want {
					t.Fatalf("attempt %d ran %s", a.Number, oneLine(got, 50))
				}
			}
		})
	}
}

// TestLongRecords: what is longer than a record may be in a snapshot is there in pieces, and blocks
// of history end before they are too long. Restored, all is as it was.
func TestLongRecords(t *testing.T) {
	w := newWorld()
	check(t, w.do(w.s.PlanTag("t")))
	cmd := []byte(strings.Repeat("x", 700_000))
	for i := range 10 { // of a version that took such commands, and kept one with each attempt
		j := &statepb.Job{Id: w.s.nextID, Class: "x", Cmd: cmd, Status: Failed, EndedAt: 1}
		if i == 3 {
			j.Status, j.EndedAt = Held, 0
			for n := range int32(100) {
				j.Attempts = append(j.Attempts,
					&statepb.Attempt{Number: n + 1, Machine: "a", Cause: statepb.Cause_TIMED_OUT,
						CmdRun: cmd})
			}
		}
		check(t, w.apply(&Change{JobSubmitted: &statepb.JobSubmitted{Job: j}}))
	}
	if n := len(w.s.history.blocks); n != 4 || len(w.s.history.pending) != 1 {
		t.Errorf("%d blocks, and %d jobs in none", n, len(w.s.history.pending))
	}
	records, err := frozen(w.s)
	check(t, err)
	for _, b := range records {
		if len(b) > pieceBytes+100 {
			t.Errorf("a record of %d bytes", len(b))
		}
	}
	s, err := restored(records, nil)
	check(t, err)
	check(t, s.check())
	if !slices.Equal(dump(w.s), dump(s)) {
		t.Error("the restored state is another")
	}
}

// TestManyLeftOver: a snapshot may have more ended jobs that are in no block than make one by now.
func TestManyLeftOver(t *testing.T) {
	records, err := frozen(NewState())
	check(t, err)
	const n = 20
	state := &statepb.Record{State: &statepb.State{NextId: n + 1}}
	index := &statepb.Record{Index: &statepb.Index{Status: make([]byte, n+1),
		Class: make([]uint32, n+1), Machine: make([]uint32, n+1), Place: make([]uint32, n+1),
		Names: []string{"", "x"}}}
	records = records[:0]
	add := func(r *statepb.Record) {
		b, err := proto.Marshal(r)
		check(t, err)
		records = append(records, b)
	}
	for id := 1; id <= n; id++ {
		index.Index.Status[id], index.Index.Class[id] = byte(Done), 1
	}
	add(state)
	add(index)
	for id := uint64(1); id <= n; id++ {
		add(&statepb.Record{Job: &statepb.Job{Id: id, Class: "x",
			Cmd: []byte(strings.Repeat("x", 100_000)), Status: Done}})
	}
	s, err := restored(records, nil)
	check(t, err)
	check(t, s.check())
	for id := uint64(1); id <= n; id++ {
		if j := s.Job(id); j == nil || j.Id != id {
			t.Errorf("job %d is %v", id, oneLine(j.String(), 50))
		}
	}
}
