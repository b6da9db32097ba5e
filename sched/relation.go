package sched

import (
	"slices"

	"jobserver/sched/statepb"
)

// A matrix may wait for another one cell by cell: each cell for those of the other that have the
// same values of the variables that both have, and the same repeat. The cells of the other that are
// alike in that are a group, and only groups are counted, so that two matrices of 100,000 cells
// take some bytes for each cell, and the end of a cell costs what its group has cells. Where each
// cell of the other is a group of its own, nothing is counted: what is told of it says all.

// relation says which cells of a matrix wait for which of another one.
type relation struct {
	matrix, of *matrix
	axes       []sharedAxis
	repeats    bool // cells with the same repeat match; else all repeats do
	size       uint64
	keys       keys
	groups     []group    // nil: each cell of the other is a group, which has its number
	first      []uint32   // by group, its first in cells; behind the last is how many cells has
	cells      []uint32   // of matrix, by group
	told       []verdict  // of each cell of the other
	others     [][]uint32 // by group, where it has several, once somebody has asked
	ready      []byte     // bitmap of the cells of matrix that may run
	stuck      []byte     // of those that wait for what can't come at present
	stuckCells int
	stale      bool // either matrix is growing, and relate comes
}

// sharedAxis is a variable that both matrices have.
type sharedAxis struct {
	own, other int // its place
	// for each value of matrix its number in the other, -1: it has no such. nil: the two have the
	// same values
	value []int32
}

// group are the cells of the other matrix that some cells wait for, one at least.
type group struct {
	cells  int32
	unmet  int32  // of these, those that aren't done yet
	lost   int32  // of these, those that can't be at present
	newest uint32 // the last of them
}

// blockedCells are cells that one cell of another matrix keeps from running.
type blockedCells struct {
	matrix *matrix
	cells  []uint32
	by     uint64 // the job that counts for that cell
}

// group is what is counted of a group.
func (r *relation) group(g uint32) group {
	if r.groups != nil {
		return r.groups[g]
	}
	one := group{cells: 1, newest: g}
	one.add(r.told[g], 1)
	return one
}

func (g group) open() bool    { return g.unmet == 0 }
func (g group) blocked() bool { return g.lost > 0 }

// waiting are the cells of matrix that wait for a group.
func (r *relation) waiting(g uint32) []uint32 { return r.cells[r.first[g]:r.first[g+1]] }

func bit(set []byte, c uint32) bool { return set[c/8]&(1<<(c%8)) != 0 }

// setBit says whether that changed anything.
func setBit(set []byte, c uint32, on bool) bool {
	if bit(set, c) == on {
		return false
	}
	set[c/8] ^= 1 << (c % 8)
	return true
}

// isReady and isStuck are for matrices that wait for no other one, too.
func (r *relation) isReady(c uint32) bool { return r == nil || !r.stale && bit(r.ready, c) }
func (r *relation) isStuck(c uint32) bool { return r != nil && !r.stale && bit(r.stuck, c) }

// newRelation pairs the cells of two matrices.
func newRelation(own, of *statepb.Matrix) *relation {
	r := &relation{repeats: own.Repeats > 1 && of.Repeats > 1, size: 1}
	for i, a := range own.Axes {
		for k, b := range of.Axes {
			if a.Name == b.Name {
				r.axes = append(r.axes, sharedAxis{own: i, other: k, value: numbersIn(a, b)})
				r.size *= uint64(len(b.Values))
			}
		}
	}
	if r.repeats {
		r.size *= uint64(of.Repeats)
	}
	r.keys = newKeys(r.size, of.Cells)
	return r
}

// numbersIn gives for each value of an axis its number in another one; nil when they are the same.
func numbersIn(a, b *statepb.Axis) []int32 {
	if slices.Equal(a.Values, b.Values) {
		return nil
	}
	number := make(map[string]int32, len(b.Values))
	for n, v := range b.Values {
		number[v] = int32(n)
	}
	numbers := make([]int32, len(a.Values))
	for n, v := range a.Values {
		at, ok := number[v]
		if !ok {
			at = -1
		}
		numbers[n] = at
	}
	return numbers
}

// keyOfOther names the group of a cell of the other matrix.
func (r *relation) keyOfOther(of *statepb.Matrix, c uint32) uint64 {
	index, repeat := cellIndex(of, c)
	key := uint64(0)
	for _, a := range r.axes {
		key = key*uint64(len(of.Axes[a.other].Values)) + uint64(index[a.other])
	}
	if r.repeats {
		key = key*uint64(of.Repeats) + uint64(repeat)
	}
	return key
}

// groupOf is the group that a cell waits for; false: the other matrix has no such cell.
func (r *relation) groupOf(own, of *statepb.Matrix, c uint32) (uint32, bool) {
	index, repeat := cellIndex(own, c)
	key := uint64(0)
	for _, a := range r.axes {
		value := int32(index[a.own])
		if a.value != nil {
			value = a.value[value]
		}
		if value < 0 {
			return 0, false
		}
		key = key*uint64(len(of.Axes[a.other].Values)) + uint64(value)
	}
	if r.repeats {
		if repeat >= uint32(of.Repeats) {
			return 0, false
		}
		key = key*uint64(of.Repeats) + uint64(repeat)
	}
	return r.keys.find(key)
}

// fill counts the cells of both matrices in their groups. It gives a cell that has no group, or -1.
func (r *relation) fill(own, of *statepb.Matrix) (without int) {
	r.groups = make([]group, 0, of.Cells)
	for c := range of.Cells {
		n := r.keys.put(r.keyOfOther(of, c))
		if int(n) == len(r.groups) {
			r.groups = append(r.groups, group{})
		}
		g := &r.groups[n]
		g.cells++
		g.newest = c
	}
	r.keys.done()
	count := len(r.groups)
	if count == int(of.Cells) {
		r.groups = nil
	} else {
		r.groups = slices.Clip(slices.Clone(r.groups)) // they stay
	}
	without = -1
	r.first = make([]uint32, count+1)
	for c := range own.Cells {
		if g, ok := r.groupOf(own, of, c); ok {
			r.first[g]++
		} else if without < 0 {
			without = int(c)
		}
	}
	end := uint32(0)
	for g := range r.first { // the ends of all for now, which become their beginnings
		end += r.first[g]
		r.first[g] = end
	}
	r.cells = make([]uint32, end)
	for i := range own.Cells {
		c := own.Cells - 1 - i
		if g, ok := r.groupOf(own, of, c); ok {
			r.first[g]--
			r.cells[r.first[g]] = c
		}
	}
	return without
}

// relate pairs the cells of a matrix anew with those that they wait for: when it is submitted or
// loaded, and when either has grown.
func (s *State) relate(m *matrix) {
	of := s.matrices[m.Template.After.GetCells()]
	if of == nil {
		return
	}
	if m.relation == nil {
		of.followers = append(of.followers, m)
	}
	r := newRelation(m.Matrix, of.Matrix)
	r.matrix, r.of = m, of
	r.fill(m.Matrix, of.Matrix)
	r.told = make([]verdict, of.Cells)
	r.ready, r.stuck = make([]byte, len(m.Touched)), make([]byte, len(m.Touched))
	m.relation = r
	for c := range of.Cells {
		r.told[c] = s.verdictOf(of.id(c))
		r.count(c, r.told[c], 1)
	}
	m.next = 0
	for c := range m.Cells {
		g, ok := r.groupOf(m.Matrix, of.Matrix, c)
		setBit(r.ready, c, ok && r.group(g).open())
	}
	for c := range m.Cells {
		s.restick(m, c)
	}
	for _, id := range s.liveOf(m) {
		s.enqueue(s.live[id])
	}
	s.queueMatrix(m)
}

// groupOfOther is the group of a cell of the other matrix.
func (r *relation) groupOfOther(c uint32) uint32 {
	if r.groups == nil {
		return c
	}
	g, _ := r.keys.find(r.keyOfOther(r.of.Matrix, c))
	return g
}

// count counts a cell of the other matrix in its group, or takes it back.
func (r *relation) count(c uint32, v verdict, n int32) {
	if r.groups != nil {
		r.groups[r.groupOfOther(c)].add(v, n)
	}
}

// add counts a cell of the other matrix, or takes it back.
func (g *group) add(v verdict, n int32) {
	if v != good {
		g.unmet += n
	}
	if v == bad || v == uncopied || v == stuck {
		g.lost += n
	}
}

// unrelate ends the relation of a matrix that is forgotten.
func (s *State) unrelate(m *matrix) {
	r := m.relation
	if r == nil {
		return
	}
	m.relation = nil
	for i, f := range r.of.followers {
		if f == m {
			r.of.followers = append(r.of.followers[:i], r.of.followers[i+1:]...)
			break
		}
	}
	s.forgetLast(r.of)
}

// cellTold brings what a matrix knows of a cell of the one that it waits for up to date.
func (s *State) cellTold(m *matrix, c uint32) {
	r := m.relation
	if r == nil || r.stale {
		return
	}
	v := s.verdictOf(r.of.id(c))
	old := r.told[c]
	if v == old {
		return
	}
	mine := r.groupOfOther(c)
	was := r.group(mine)
	r.count(c, old, -1)
	r.told[c] = v
	r.count(c, v, 1)
	g := r.group(mine)
	if g.open() == was.open() && g.blocked() == was.blocked() {
		return
	}
	cells := r.waiting(mine)
	if g.blocked() && !was.blocked() && v != stuck {
		s.gates.cells = append(s.gates.cells, blockedCells{m, cells, s.newest(r.of.id(c))})
	}
	for _, own := range cells {
		if setBit(r.ready, own, g.open()) && g.open() {
			m.next = min(m.next, own)
		}
		if j := s.live[m.counting(own)]; j != nil {
			s.enqueue(j)
		}
		s.restuck(m, own)
	}
	s.queueMatrix(m)
	for _, t := range m.watchers {
		s.regate(t.gate)
	}
}

// restick notes whether a cell waits for what can't come at present.
func (s *State) restick(m *matrix, c uint32) bool {
	r := m.relation
	if r == nil || r.stale {
		return false
	}
	g, ok := r.groupOf(m.Matrix, r.of.Matrix, c)
	id := m.counting(c)
	waits := s.index.status(id) == Waiting
	if j := s.live[id]; j != nil && j.After.GetCells() == 0 {
		waits = false // somebody has freed it
	}
	on := waits && (!ok || r.group(g).blocked())
	if !setBit(r.stuck, c, on) {
		return false
	}
	if on {
		r.stuckCells++
	} else {
		r.stuckCells--
	}
	return true
}

// restuck does so, and tells those who wait for that cell.
func (s *State) restuck(m *matrix, c uint32) {
	if !s.restick(m, c) {
		return
	}
	s.rejudge(m.id(c))
	for _, f := range m.followers {
		s.cellTold(f, c)
	}
}
