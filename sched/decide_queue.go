package sched

import (
	"container/heap"
	"slices"
	"sort"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// What waits in a class is grouped by shape: jobs that ask for the same can go to the same
// machines, so that only the first of each has to be tried, and again only with what has become
// free since. A class's line has its shapes in the order of their first jobs. So a dispatch costs
// the same however many wait, and one job that fits nowhere stops nothing behind it.

// shape gathers what waits in a class and asks for the same.
type shape struct {
	key   shapeKey
	class *class
	needs *statepb.Needs
	lots  []lot // that follow from the class and the needs
	queue heapOf[*item]
	// it was tried with all machines up to this place of its class's news; unknown: with none
	tried int
}

// unknown is where a shape stands that has to be tried with all machines.
const unknown = -1

// shapeKey tells shapes apart. The timeout belongs to it as machines may expire.
type shapeKey struct {
	needs   string
	timeout int64
	own     uint64 // a retry passes over machines as no other job does: it is a shape of its own
	// The matrix and the tag of which only so many jobs may hold slots at a time; 0: there is no
	// such limit.
	matrix, tag uint64
}

func (s *State) keyOf(j *statepb.Job, m *matrix) shapeKey {
	k := shapeKey{timeout: takesTime(j)}
	if m != nil && m.AtMost > 0 {
		k.matrix = m.Id
	}
	if t := s.tags[j.Tag]; t != nil && t.AtMost > 0 {
		k.tag = t.Id
	}
	if j.Avoid != "" {
		k.own = j.Id
	}
	if j.Needs != nil {
		b, _ := proto.MarshalOptions{
			Deterministic: true,
		}.Marshal(
			j.Needs,
		) // it came from such bytes
		k.needs = string(b)
	}
	return k
}

// first is the item that comes before all others of the shape.
func (sh *shape) first() *item { return sh.queue[0] }

// atFirst is where a shape whose first item is this one belongs in the line of a class.
func (c *class) atFirst(it *item) int {
	return sort.Search(len(c.line), func(i int) bool { return !c.line[i].first().before(it) })
}

// inLine changes a shape's queue and keeps its place in the line of its class.
func (s *State) inLine(sh *shape, change func()) {
	c := sh.class
	if s.pooled[sh] {
		s.poolGrew() // who comes before whom is another
	}
	if len(sh.queue) > 0 {
		i := c.atFirst(sh.first())
		c.line = slices.Delete(c.line, i, i+1)
	}
	change()
	if len(sh.queue) == 0 {
		delete(c.shapes, sh.key)
		s.unshape(sh)
		return
	}
	c.line = slices.Insert(c.line, c.atFirst(sh.first()), sh)
}

// push puts an item into the queue of its shape.
func (s *State) push(className string, it *item) {
	c, j := s.class(className), it.record()
	key := s.keyOfItem(it)
	sh := c.shapes[key]
	if sh == nil {
		sh = &shape{key: key, class: c, needs: j.Needs, lots: lots(c.name, j.Needs), tried: unknown}
		c.shapes[key] = sh
		s.pool(sh)
		s.span(sh)
		if key.matrix != 0 || key.tag != 0 {
			s.limited[sh] = true
		}
	}
	it.shape = sh
	if it.job != nil {
		j.Needs = sh.needs // the same, and kept once
	}
	s.dirty[c.name] = true
	if len(sh.queue) > 0 && sh.first().before(it) { // it changes nothing about the line
		heap.Push(&sh.queue, it)
		return
	}
	s.inLine(sh, func() { heap.Push(&sh.queue, it) })
}

// pull takes an item out of its queue.
func (s *State) pull(it *item) {
	sh := it.shape
	if it.pos > 0 {
		heap.Remove(&sh.queue, it.pos)
		return
	}
	s.inLine(sh, func() { heap.Remove(&sh.queue, it.pos) })
}

// move gives an item another id.
func (s *State) move(it *item, id uint64) {
	s.inLine(it.shape, func() {
		it.id = id
		heap.Fix(&it.shape.queue, it.pos)
	})
}

// unshape forgets a shape of which nothing waits.
func (s *State) unshape(sh *shape) {
	delete(s.pooled, sh)
	delete(s.limited, sh)
	delete(s.spanning, sh)
	if r := s.reserved; r != nil && r.shape == sh {
		s.unreserveSpanning()
	}
	if r := sh.class.reserved; r != nil && r.shape == sh {
		s.unreserve(sh.class)
	}
}

// pool notes whether a shape needs something of the pool.
func (s *State) pool(sh *shape) {
	if slices.ContainsFunc(
		sh.needs.GetAmounts(),
		func(a *statepb.Amount) bool { return s.ofPool(a.Name) },
	) {
		s.pooled[sh] = true
	} else {
		delete(s.pooled, sh)
	}
}

// poolGrew has those tried again that wait for something of the pool.
func (s *State) poolGrew() {
	for sh := range s.pooled {
		sh.tried = unknown
		s.dirty[sh.class.name] = true
	}
}

// tryAll has all that waits in a class tried with all of its machines.
func (s *State) tryAll(c *class) {
	for _, sh := range c.line {
		sh.tried = unknown
	}
	s.dirty[c.name] = true
}

// grew notes that a machine may be able to take what it could not before.
func (c *class) grew(m *machine) {
	if n := len(c.news); n > 0 && c.news[n-1] == m {
		return
	}
	if len(c.news) > 2*len(c.machines)+8 { // it is no more work to try all of them
		c.forgetNews()
	}
	c.news = append(c.news, m)
}

// forgetNews takes the news as known to the shapes that have seen all of it.
func (c *class) forgetNews() {
	c.newsFrom += len(c.news)
	clear(c.news)
	c.news = c.news[:0]
}

// since tells what is new to a shape, or false when it has to be tried with all machines.
func (c *class) since(sh *shape) ([]*machine, bool) {
	if sh.tried < c.newsFrom || sh.key.own != 0 {
		return nil, false
	}
	return c.news[sh.tried-c.newsFrom:], true
}

// item is an entry of a class's queue: one waiting job, or all
// the untouched cells of a matrix, of which the lowest is next.
type item struct {
	priority int32
	id       uint64
	pos      int
	shape    *shape
	job      *job
	matrix   *matrix
}

// record gives what the item's next job asks for: of a matrix, what all its cells have in common.
func (it *item) record() *statepb.Job {
	if it.job != nil {
		return it.job.Job
	}
	return it.matrix.Template
}

// keyOfItem is the key of the shape that an item belongs to.
func (s *State) keyOfItem(it *item) shapeKey {
	if it.matrix != nil {
		return s.keyOf(it.matrix.Template, it.matrix)
	}
	return s.keyOf(it.job.Job, s.matrices[it.job.Matrix])
}

// stands says that a queued job is where it belongs as it is now.
func (s *State) stands(it *item, j *statepb.Job) bool {
	return it.priority == j.Priority && it.shape.class.name == j.Class &&
		it.shape.key == s.keyOfItem(it)
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

// heapedBy is what a heapOf holds: it knows its place there, -1 when it is in none, so that it can
// be found again.
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

// enqueue puts a job where its status wants it: in its class's queue, among the delayed, in its
// machine's list of setups, or in none of them.
func (s *State) enqueue(j *job) {
	if j.Setup != nil {
		s.queueSetup(j)
		return
	}
	s.joinGate(j)
	waits := j.Status == Waiting && s.mayStart(j)
	if !waits {
		j.due = false
	}
	delayed := j.NotBefore != 0 && !j.due
	lingers := waits && !delayed && s.lingers(j.Job) != nil
	if !lingers {
		delete(s.lingering, j.Id)
	}
	if j.item != nil && (!waits || delayed || lingers || !s.stands(j.item, j.Job)) {
		s.pull(j.item)
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
	case lingers:
		s.lingering[j.Id] = j
	case j.item == nil:
		j.item = &item{priority: j.Priority, id: j.Id, job: j}
		s.push(j.Class, j.item)
	}
	if waits {
		s.dirty[j.Class] = true
	}
}

// queueMatrix keeps the matrix's one entry at its lowest untouched cell, and out while it is held.
func (s *State) queueMatrix(m *matrix) {
	next := m.nextUntouched()
	if m.Held || next == m.Cells || m.gate != nil && m.gate.door != doorOpen ||
		!s.isDue(m.Template, m.Id, &m.released, &m.timed) {
		s.dequeueMatrix(m)
		return
	}
	id := m.id(next)
	if m.item == nil {
		m.item = &item{priority: m.Template.Priority, id: id, matrix: m}
		s.push(m.Template.Class, m.item)
	} else if m.item.id != id {
		s.move(m.item, id)
	}
}

func (s *State) dequeueMatrix(m *matrix) {
	if m.item != nil {
		s.pull(m.item)
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
