package sched

import (
	"container/heap"

	"jobserver/sched/statepb"
)

// item is an entry of a class's queue: one waiting job, or all
// the untouched cells of a matrix, of which the lowest is next.
type item struct {
	priority int32
	id       uint64
	pos      int
	job      *job
	matrix   *matrix
}

// record is what the item's next job asks for: of a matrix, what all its cells have in common.
func (it *item) record() *statepb.Job {
	if it.job != nil {
		return it.job.Job
	}
	return it.matrix.Template
}

// before is the order of a queue: higher priority, then lower id, first.
func (it *item) before(o *item) bool {
	if it.priority != o.priority {
		return it.priority > o.priority
	}
	return it.id < o.id
}

func (it *item) place() *int { return &it.pos }

// before is the order of those whose retry is not due: the earliest first.
func (j *job) before(o *job) bool {
	if j.NotBefore != o.NotBefore {
		return j.NotBefore < o.NotBefore
	}
	return j.Id < o.Id
}

func (j *job) place() *int { return &j.late }

// heapedBy is what a heapOf holds: it knows its place there, -1 when it is in none, so that it can be found again.
type heapedBy[T any] interface {
	before(T) bool
	place() *int
}

// heapOf is for container/heap: the first is the one before all others.
type heapOf[T heapedBy[T]] []T

func (h heapOf[T]) Len() int           { return len(h) }
func (h heapOf[T]) Less(i, k int) bool { return h[i].before(h[k]) }
func (h heapOf[T]) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	*h[i].place(), *h[k].place() = i, k
}
func (h *heapOf[T]) Push(x any) {
	t := x.(T)
	*t.place() = len(*h)
	*h = append(*h, t)
}
func (h *heapOf[T]) Pop() any {
	old := *h
	t := old[len(old)-1]
	clear(old[len(old)-1:])
	*h = old[:len(old)-1]
	*t.place() = -1
	return t
}

// enqueue puts a job where its status wants it: in its class's queue, among the delayed, in its machine's
// list of setups, or in none of them.
func (s *State) enqueue(j *job) {
	if j.Setup != nil {
		s.queueSetup(j)
		return
	}
	waits := j.Status == Waiting
	if !waits {
		j.due = false
	}
	delayed := j.NotBefore != 0 && !j.due
	if (!waits || delayed) && j.item != nil {
		heap.Remove(&s.class(j.Class).queue, j.item.pos)
		j.item = nil
	}
	if (!waits || !delayed) && j.late >= 0 {
		heap.Remove(&s.delayed, j.late)
	}
	switch {
	case !waits:
	case delayed:
		if j.late < 0 {
			heap.Push(&s.delayed, j)
		} else {
			heap.Fix(&s.delayed, j.late)
		}
	case j.item == nil:
		j.item = &item{priority: j.Priority, id: j.Id, job: j}
		heap.Push(&s.class(j.Class).queue, j.item)
	}
	if waits {
		s.dirty[j.Class] = true
	}
}

// queueMatrix keeps the matrix's one entry at its lowest untouched cell, and out while it is held.
func (s *State) queueMatrix(m *matrix) {
	q := &s.class(m.Template.Class).queue
	next := m.nextUntouched()
	if m.Held || next == m.Cells {
		s.dequeueMatrix(m)
		return
	}
	id := m.id(next)
	if m.item == nil {
		m.item = &item{priority: m.Template.Priority, id: id, matrix: m}
		heap.Push(q, m.item)
		s.dirty[m.Template.Class] = true
	} else if m.item.id != id {
		m.item.id = id
		heap.Fix(q, m.item.pos)
	}
}

func (s *State) dequeueMatrix(m *matrix) {
	if m.item != nil {
		heap.Remove(&s.class(m.Template.Class).queue, m.item.pos)
		m.item = nil
	}
}

// queueSetup keeps the list of setups that wait for a machine, in the order of their ids.
func (s *State) queueSetup(j *job) {
	m := s.machines[j.Setup.Machine]
	if m == nil {
		return
	}
	if j.Status == Waiting {
		m.setups = insert(m.setups, j.Id)
	} else {
		m.setups = without(m.setups, j.Id)
	}
	s.file(m)
}
