package sched

import (
	"slices"
	"sort"
	"strconv"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// matrix is a matrix and what is derived from its record.
type matrix struct {
	*statepb.Matrix
	counts    Counts
	jobs      int                 // that there are: of its cells, and those that ran a cell again
	untouched int                 // cells without a record of their own, all waiting or all held
	next      uint32              // no cell below it is untouched and ready
	top       uint32              // no cell from it on is untouched
	item      *item               // in its class's queue, or nil
	again     map[uint32][]uint64 // cells that were run again: by which jobs, ascending
	homes     []*home             // its ids, in the order of its cells

	holding   int       // jobs of it that hold slots
	released  bool      // the time has come from which it may start
	timed     int64     // that time, if there is a timer for it
	gate      *gate     // what all of it waits for, or nil
	relation  *relation // what its cells wait for, or nil
	watchers  []*term   // that wait for it as a whole
	followers []*matrix // that wait for its cells
	gone      tellings  // how cells were of which nothing is left, while somebody waits for them
	// its jobs that the daemon holds, each for a reason of its own
	heldBack map[uint64]bool
	// its waiting jobs that aren't behind its gate: whether the one that each has keeps it blocked
	apart        map[uint64]bool
	apartBlocked int // how many of them are
}

// home is a run of consecutive ids, and the cells that they are of.
type home struct {
	matrix *matrix
	first  uint64 // id
	from   uint32 // cell
	cells  uint32
	at     int64 // when they were submitted
}

// cell says which cell of which matrix a job runs.
type cell struct {
	matrix *matrix
	cell   uint32
}

// home is the run of ids that was given to a matrix's cells and holds the id, or nil.
func (s *State) home(id uint64) *home {
	i := sort.Search(len(s.homes), func(i int) bool { return s.homes[i].first > id }) - 1
	if i < 0 || id >= s.homes[i].first+uint64(s.homes[i].cells) {
		return nil
	}
	return s.homes[i]
}

// house files ids that a matrix's next cells have.
func (s *State) house(m *matrix, first uint64, cells uint32, at int64) {
	h := &home{matrix: m, first: first, cells: cells, at: at}
	if n := len(m.homes); n > 0 {
		h.from = m.homes[n-1].from + m.homes[n-1].cells
	}
	m.homes = append(m.homes, h)
	i := sort.Search(len(s.homes), func(i int) bool { return s.homes[i].first > first })
	s.homes = slices.Insert(s.homes, i, h)
}

// id is the job that a cell was given first.
func (m *matrix) id(c uint32) uint64 {
	h := m.homeOf(c)
	return h.first + uint64(c-h.from)
}

func (m *matrix) homeOf(c uint32) *home {
	if len(m.homes) == 1 {
		return m.homes[0]
	}
	return m.homes[sort.Search(len(m.homes), func(i int) bool { return m.homes[i].from > c })-1]
}

// cellOf says which cell a job runs.
func (s *State) cellOf(id uint64) (cell, bool) {
	if h := s.home(id); h != nil {
		return cell{h.matrix, h.from + uint32(id-h.first)}, true
	}
	c, ok := s.extra[id]
	return c, ok
}

// counting is the job that counts for a cell: the newest.
func (m *matrix) counting(c uint32) uint64 {
	if again := m.again[c]; len(again) > 0 {
		return again[len(again)-1]
	}
	return m.id(c)
}

// isTouched says whether the cell has, or had, a record of its own.
func (m *matrix) isTouched(c uint32) bool { return m.Touched[c/8]&(1<<(c%8)) != 0 }

// countJobs keeps the number of a matrix's jobs: when none is left the matrix can be forgotten.
func (s *State) countJobs(m *matrix, old, mark uint8) {
	switch {
	case old == 0 && mark != 0:
		m.jobs++
		delete(s.empty, m.Id)
	case old != 0 && mark == 0:
		if m.jobs--; m.jobs == 0 {
			s.empty[m.Id] = true
		}
	}
}

// addRestarted makes the job the one that counts for its cell, in the place of the one before.
func (s *State) addRestarted(m *matrix, id uint64, c uint32) {
	if old := s.index.mark[m.counting(c)]; old != 0 {
		m.counts.add(old, -1)
	}
	m.again[c] = append(m.again[c], id)
	s.extra[id] = cell{m, c}
}

// dropRestarted forgets a job that ran a cell again; if it was the one that counts, the one before
// counts again.
func (s *State) dropRestarted(id uint64, c cell) {
	m := c.matrix
	counted := m.counting(c.cell)
	if again := without(m.again[c.cell], id); len(again) > 0 {
		m.again[c.cell] = again
	} else {
		delete(m.again, c.cell)
	}
	delete(s.extra, id)
	i := sort.Search(len(m.Restarted), func(i int) bool { return m.Restarted[i].Job >= id })
	m.Restarted = slices.Delete(m.Restarted, i, i+1)
	if now := m.counting(c.cell); now != counted && s.index.mark[now] != 0 {
		m.counts.add(s.index.mark[now], 1)
	}
}

// nextUntouched moves next to the first untouched cell that may run as far as the cells are
// concerned that it waits for, or to Cells.
func (m *matrix) nextUntouched() uint32 {
	for m.next < m.Cells && (m.isTouched(m.next) || !m.relation.isReady(m.next)) {
		m.next++
		for m.next%8 == 0 && m.next < m.Cells && m.none(m.next/8) {
			m.next += 8
		}
	}
	m.next = min(m.next, m.Cells)
	return m.next
}

// mayRun says that a cell is untouched, and waits for no other cell.
func (m *matrix) mayRun(c uint32) bool { return !m.isTouched(c) && m.relation.isReady(c) }

// mayRunAny says that some cell may, and that the matrix itself waits for nothing.
func (m *matrix) mayRunAny() bool {
	return (m.gate == nil || m.gate.door == doorOpen) &&
		(m.Template.StartAfter == 0 || m.released) &&
		(m.AtMost == 0 || m.holding < int(m.AtMost)) && m.nextUntouched() < m.Cells
}

// none says that none of the eight cells of a byte of the bitmaps is untouched and ready.
func (m *matrix) none(i uint32) bool {
	left := ^m.Touched[i]
	if m.relation != nil {
		if m.relation.stale {
			return true
		}
		left &= m.relation.ready[i]
	}
	return left == 0
}

// status of the untouched cells.
func (m *matrix) status() Status {
	if m.Held {
		return Held
	}
	return Waiting
}

// job makes the record of an untouched cell.
func (m *matrix) job(c uint32) *statepb.Job {
	j := proto.Clone(m.Template).(*statepb.Job)
	j.Id, j.Matrix, j.Cell = m.id(c), m.Id, int32(c)
	j.Status = m.status()
	j.SubmittedAt = m.homeOf(c).at
	j.Vars = append(j.Vars, CellVars(m.Matrix, c)...)
	return j
}

// CellVars are the variables of a cell: one for each axis in order, then REPEAT, counted from 0,
// and SEED, when there is more than one.
func CellVars(m *statepb.Matrix, c uint32) []*statepb.Var {
	index, repeat := cellIndex(m, c)
	vars := make([]*statepb.Var, 0, len(index)+1)
	for i, a := range m.Axes {
		vars = append(vars, &statepb.Var{Name: a.Name, Value: []byte(a.Values[index[i]])})
	}
	if m.Repeats > 1 {
		vars = append(vars,
			&statepb.Var{Name: "REPEAT", Value: strconv.AppendUint(nil, uint64(repeat), 10)})
		if !slices.ContainsFunc(m.Axes, func(a *statepb.Axis) bool { return a.Name == seedName }) {
			vars = append(vars,
				&statepb.Var{Name: seedName,
					Value: strconv.AppendUint(nil, Seed(m.Seed, repeat), 10)})
		}
	}
	return vars
}

// seedName is a variable of the daemon's own that a matrix may have
// as its own instead: many programs' runs are told apart by it.
const seedName = "SEED"

// Seed is {SEED} in a repeat: a number below 2³¹, the same in every cell, so that cells can be
// compared pair by pair, and the same whenever the repeat is run. It is the output of
// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA
// 2014) for the repeat's place in the sequence that begins at base.
func Seed(base uint64, repeat uint32) uint64 {
	z := base + (uint64(repeat)+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return (z ^ z>>31) >> 33
}

// cellIndex says which value of each axis a cell has, and which repeat it is.
func cellIndex(m *statepb.Matrix, c uint32) (index []uint32, repeat uint32) {
	index = make([]uint32, len(m.Axes))
	if w := int(m.IndexWidth); w > 0 {
		row := m.Index[int(c)*w*(len(index)+1):]
		number := func(i int) (n uint32) {
			for k := w - 1; k >= 0; k-- {
				n = n<<8 | uint32(row[i*w+k])
			}
			return n
		}
		for i := range index {
			index[i] = number(i)
		}
		return index, number(len(index))
	}
	repeats := uint32(max(m.Repeats, 1))
	repeat, c = c%repeats, c/repeats
	for i := len(index) - 1; i >= 0; i-- {
		n := uint32(len(m.Axes[i].Values))
		index[i], c = c%n, c/n
	}
	return index, repeat
}
