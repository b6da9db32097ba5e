package sched

import (
	"fmt"
	"testing"

	"jobserver/sched/statepb"
)

// TestTagWork counts how often a place of a tag's list is written while all of its jobs leave it,
// and come back the last first: not more than a few times for each job, however many there are.
func TestTagWork(t *testing.T) {
	for _, n := range []uint64{2_000, 8_000} {
		w := newWorld()
		check(t, w.apply(&Change{TagMade: &statepb.TagMade{Tag: &statepb.Tag{Id: 1, Name: "big"}}}))
		for id := uint64(2); id < 2+n; id++ {
			check(t,
				w.apply(&Change{JobSubmitted: &statepb.JobSubmitted{Job: &statepb.Job{Id: id,
					Class: "x", Cmd: []byte("work"), Tag: 1, Status: Held}}}))
		}
		list, moved := w.s.tags[1], 0
		step := func(c *Change) {
			before := list.Jobs
			check(t, w.apply(c))
			if now := list.Jobs; len(now) != len(before) || len(now) > 0 && &now[0] != &before[0] {
				moved += len(now)
			}
		}
		is := func(id uint64, want Counts) {
			t.Helper()
			in := list.has(id)
			if _, got, _ := w.s.Tag(1); got != want || in != (want.By[Held] == int(n)) ||
				len(list.jobs()) != want.Total() {
				t.Errorf("%+v, job %d: %v, %d are listed", got, id, in, len(list.jobs()))
			}
		}
		var full, none Counts
		full.By[Held] = int(n)
		is(2, full)
		for id := uint64(2); id < 2+n; id++ {
			step(&Change{JobTagged: &statepb.JobTagged{Job: id}})
		}
		is(2, none)
		for id := 1 + n; id > 1; id-- {
			step(&Change{JobTagged: &statepb.JobTagged{Job: id, Tag: 1}})
		}
		is(2, full)
		check(t, w.s.check())
		for id := uint64(2); id < 2+n; id++ {
			step(&Change{JobForgotten: &statepb.JobForgotten{Job: id}})
		}
		is(2, none)
		check(t, w.s.check())
		if per := moved / int(n); per > 20 {
			t.Errorf("%d jobs: %d places were written for each", n, per)
		}
	}
}

// TestTagReads looks at a tag between the changes, also at one that isn't up to date in a snapshot.
func TestTagReads(t *testing.T) {
	w := newWorld()
	check(t, w.do(w.s.PlanTag("few")))
	id := w.s.Tags()[0]
	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work", Repeat: 5})
	check(t, err)
	for _, step := range []struct {
		job  int
		in   bool
		want string
	}{
		{3, true, "[3]"}, {1, true, "[1 3]"}, {3, true, "[1 3]"}, {4, true, "[1 3 4]"},
		{3, false, "[1 4]"}, {3, false, "[1 4]"}, {3, true, "[1 3 4]"}, {1, false, "[3 4]"},
		{4, false, "[3]"},
	} {
		tagged := &statepb.JobTagged{Job: ids[step.job]}
		if step.in {
			tagged.Tag = id
		}
		check(t, w.apply(&Change{JobTagged: tagged}))
		snapshot, err := frozen(w.s)
		check(t, err)
		back, err := restored(snapshot, nil)
		check(t, err)
		for _, s := range []*State{w.s, back} {
			var have []int
			for _, got := range mustSelect(t, s, "@few") {
				for i, job := range ids {
					if job == got {
						have = append(have, i)
					}
				}
			}
			if got := fmt.Sprint(have); got != step.want {
				t.Errorf("after %+v it has %s", step, got)
			}
			check(t, s.check())
		}
	}
}
