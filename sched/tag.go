package sched

import (
	"maps"
	"slices"
	"sort"

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
// nobody reads it; of a long one it may be a part. So that takes a millisecond or two, and few of
// them for many changes.
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
	if len(t.moved) > manyMoved+len(t.Jobs)/64 {
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
	news := slices.Sorted(maps.Keys(t.moved))
	jobs := make([]uint64, 0, len(t.Jobs)+len(news))
	old := t.Jobs
	for _, id := range news {
		n, found := slices.BinarySearch(old, id)
		jobs = append(jobs, old[:n]...)
		if t.moved[id] {
			jobs = append(jobs, id)
		}
		if found {
			n++
		}
		old = old[n:]
	}
	t.Jobs, t.moved = append(jobs, old...), nil
	return t.Jobs
}

// runOf is the first of the jobs with consecutive ids that end with the given one, which is in.
func (t *tag) runOf(id uint64) uint64 {
	jobs := t.jobs()
	i, found := slices.BinarySearch(jobs, id)
	if !found {
		return id
	}
	// Ids grow by one at least, so that from the first of the run on they grow with their places.
	n := sort.Search(i, func(k int) bool { return jobs[k] == id-uint64(i-k) })
	return jobs[n]
}

// record gives what is durable of it.
func (t *tag) record() *statepb.Tag {
	t.jobs()
	return t.Tag
}
