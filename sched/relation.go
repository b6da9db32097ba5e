package sched

import (
	"slices"

	"jobserver/sched/statepb"
)

// A matrix may wait for another one cell by cell: each cell for those of the other that have the
// same values of the variables that both have, and the same repeat. The cells of the other that are
// alike in that are a group, and only groups are counted, so that two matrices of 100,000 cells
// take some bytes for each cell, and the end of a cell costs what its group has cells.

// relation says which cells of a matrix wait for which of another one.
type relation struct {
	matrix, of *matrix
	axes       []sharedAxis
	repeats    bool // cells with the same repeat match; else all repeats do
	size       uint64
	dense      []uint32          // key to group+1, where there are few keys
	sparse     map[uint64]uint32 // key to group+1, else
	groups     []group
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
	own, other int     // its place
	value      []int32 // for each value of matrix its number in the other, -1: it has no such
}

// group are the cells of the other matrix that some cells wait for.
type group struct {
	first, last uint32 // of relation.cells
	cells       int32  // of the other
	unmet       int32  // of these, those that aren't done yet
	lost        int32  // of these, those that can't be at present
	newest      uint32 // the last of them
}

// blockedCells are cells that one cell of another matrix keeps from running.
type blockedCells struct {
	matrix *matrix
	cells  []uint32
	by     uint64 // the job that counts for that cell
}

func (g *group) open() bool    { return g.cells > 0 && g.unmet == 0 }
func (g *group) blocked() bool { return g.cells == 0 || g.lost > 0 }

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
			if a.Name != b.Name {
				continue
			}
			number := make(map[string]int32, len(b.Values))
			for n, v := range b.Values {
				number[v] = int32(n)
			}
			shared := sharedAxis{own: i, other: k, value: make([]int32, len(a.Values))}
			for n, v := range a.Values {
				at, ok := number[v]
				if !ok {
					at = -1
				}
				shared.value[n] = at
			}
			r.axes = append(r.axes, shared)
			r.size *= uint64(len(b.Values))
		}
	}
	if r.repeats {
		r.size *= uint64(of.Repeats)
	}
	if r.size <= 4*uint64(of.Cells)+1024 {
		r.dense = make([]uint32, r.size)
	} else {
		r.sparse = make(map[uint64]uint32, of.Cells)
	}
	return r
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
		value := a.value[index[a.own]]
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
	return r.lookup(key)
}

func (r *relation) lookup(key uint64) (uint32, bool) {
	n := uint32(0)
	if r.dense != nil {
		n = r.dense[key]
	} else {
		n = r.sparse[key]
	}
	return n - 1, n > 0
}

// group gives the group of a key, a new one if there is none.
func (r *relation) group(key uint64) uint32 {
	if g, ok := r.lookup(key); ok {
		return g
	}
	r.groups = append(r.groups, group{})
	n := uint32(len(r.groups))
	if r.dense != nil {
		r.dense[key] = n
	} else {
		r.sparse[key] = n
	}
	return n - 1
}

// fill counts the cells of both matrices in their groups. It gives a cell that has no group, or -1.
func (r *relation) fill(own, of *statepb.Matrix) (without int) {
	for c := range of.Cells {
		g := &r.groups[r.group(r.keyOfOther(of, c))]
		g.cells++
		g.newest = c
	}
	without = -1
	for c := range own.Cells {
		if g, ok := r.groupOf(own, of, c); ok {
			r.groups[g].last++
		} else if without < 0 {
			without = int(c)
		}
	}
	at := uint32(0)
	for i := range r.groups {
		g := &r.groups[i]
		g.first, at, g.last = at, at+g.last, at
	}
	r.groups = slices.Clip(slices.Clone(r.groups)) // they stay
	r.cells = make([]uint32, at)
	for c := range own.Cells {
		if g, ok := r.groupOf(own, of, c); ok {
			r.cells[r.groups[g].last] = c
			r.groups[g].last++
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
	for i := range r.groups {
		r.groups[i].unmet = r.groups[i].cells
	}
	for c := range of.Cells {
		r.told[c] = s.verdictOf(of.id(c))
		g := &r.groups[r.groupOfOther(c)]
		g.add(r.told[c], 1)
		g.add(pending, -1)
	}
	m.next = 0
	for c := range m.Cells {
		g, ok := r.groupOf(m.Matrix, of.Matrix, c)
		setBit(r.ready, c, ok && r.groups[g].open())
	}
	for c := range m.Cells {
		s.restick(m, c)
	}
	for _, id := range s.liveOf(m) {
		s.enqueue(s.live[id])
	}
	s.queueMatrix(m)
}

func (r *relation) groupOfOther(c uint32) uint32 {
	return r.group(r.keyOfOther(r.of.Matrix, c))
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
	r.told[c] = v
	g := &r.groups[r.groupOfOther(c)]
	open, blocked := g.open(), g.blocked()
	g.add(old, -1)
	g.add(v, 1)
	if g.open() == open && g.blocked() == blocked {
		return
	}
	cells := r.cells[g.first:g.last]
	if g.blocked() && !blocked && v != stuck {
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
	on := waits && (!ok || r.groups[g].blocked())
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
