package sched

import (
	"slices"

	"jobserver/sched/statepb"
)

// tag is a tag with its jobs. Many may come and go at once, and the list is long: it is brought up
// to date when somebody reads it.
type tag struct {
	*statepb.Tag // its Jobs ascending, as they were before those that moved did
	counts       Counts
	holding      int             // jobs of it that hold slots
	moved        map[uint64]bool // jobs that came, or went (false), since
}

// manyMoved is how many jobs of a short list may have moved before it is brought up to date though
// nobody reads it.
const manyMoved = 1000

// put says that a job is in, or out.
func (t *tag) put(id uint64, in bool) {
	if n := len(t.Jobs); in && len(t.moved) == 0 && (n == 0 || t.Jobs[n-1] < id) {
		t.Jobs = append(t.Jobs, id)
		return
	}
	if t.moved == nil {
		t.moved = map[uint64]bool{}
	}
	t.moved[id] = in
	if len(t.moved) > manyMoved+len(t.Jobs)/4 {
		t.jobs()
	}
}

// has says whether a job is in.
func (t *tag) has(id uint64) bool {
	if in, moved := t.moved[id]; moved {
		return in
	}
	_, in := slices.BinarySearch(t.Jobs, id)
	return in
}

// jobs lists them, ascending. Who got the list before keeps what it had.
func (t *tag) jobs() []uint64 {
	if len(t.moved) == 0 {
		return t.Jobs
	}
	jobs := make([]uint64, 0, len(t.Jobs)+len(t.moved))
	for _, id := range t.Jobs {
		if _, moved := t.moved[id]; !moved {
			jobs = append(jobs, id)
		}
	}
	for id, in := range t.moved {
		if in {
			jobs = append(jobs, id)
		}
	}
	slices.Sort(jobs) // mostly it is sorted already
	t.Jobs, t.moved = jobs, nil
	return jobs
}

// record is what is durable of it.
func (t *tag) record() *statepb.Tag {
	t.jobs()
	return t.Tag
}
