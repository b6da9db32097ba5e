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

// queue is a heap: higher priority, then lower id, first.
type queue []*item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, k int) bool {
	if q[i].priority != q[k].priority {
		return q[i].priority > q[k].priority
	}
	return q[i].id < q[k].id
}
func (q queue) Swap(i, k int) {
	q[i], q[k] = q[k], q[i]
	q[i].pos, q[k].pos = i, k
}
func (q *queue) Push(x any) {
	it := x.(*item)
	it.pos = len(*q)
	*q = append(*q, it)
}
func (q *queue) Pop() any {
	old := *q
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return it
}

// delayHeap holds the waiting jobs whose retry is not due, the earliest first.
type delayHeap []*job

func (h delayHeap) Len() int { return len(h) }
func (h delayHeap) Less(i, k int) bool {
	if h[i].NotBefore != h[k].NotBefore {
		return h[i].NotBefore < h[k].NotBefore
	}
	return h[i].Id < h[k].Id
}
func (h delayHeap) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].late, h[k].late = i, k
}
func (h *delayHeap) Push(x any) {
	j := x.(*job)
	j.late = len(*h)
	*h = append(*h, j)
}
func (h *delayHeap) Pop() any {
	old := *h
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	j.late = -1
	return j
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
