package sched

import (
	"math"
	"slices"
	"sort"
)

// maxLooks is how many ids one page looks at, so that the loop is free again after about a
// millisecond however long the history is.
const maxLooks = 200_000

// Page lists the jobs that any of the selectors matches, the newest first: at most limit of those
// with ids below before, where 0 is above all. It stops when it has them or has looked at very many
// ids; next is the before to go on with, and 0 says that there are no more. Unlike for Select,
// matching nothing is no error. What a page costs doesn't grow with the history.
func (s *State) Page(
	words []string,
	before uint64,
	limit int,
) (ids []uint64, next uint64, err error) {
	return s.page(words, before, limit, maxLooks)
}

// PageUp is Page from below: at most limit jobs with ids above after, ascending. next is the after
// to go on with, and 0 says that there are no more.
func (s *State) PageUp(
	words []string,
	after uint64,
	limit int,
) (ids []uint64, next uint64, err error) {
	return s.pageUp(words, after, limit, maxLooks)
}

// pageUp looks from the top of one window of ids after another, each twice as wide as the one
// before: where most jobs match it looks at few beyond those that are wanted.
func (s *State) pageUp(
	words []string,
	after uint64,
	limit, looks int,
) (ids []uint64, next uint64, err error) {
	last := s.nextID - 1
	for width := limit; after < last; width *= 2 {
		if len(ids) == limit || looks <= 0 {
			return ids, after, nil
		}
		width = min(width, looks)
		looks -= width
		top := min(after+uint64(width), last)
		found, err := s.window(words, after, top)
		if err != nil {
			return nil, 0, err
		}
		if more := limit - len(ids); len(found) > more {
			ids = append(ids, found[:more]...)
			return ids, ids[limit-1], nil
		}
		ids, after = append(ids, found...), top
	}
	_, err = s.walks(words, 1) // what is wrong with them is told in any case
	return ids, 0, err
}

// window finds the matching jobs with ids above after, up to top, ascending.
func (s *State) window(words []string, after, top uint64) (found []uint64, err error) {
	width := int(top - after)
	for before := top + 1; before > after+1; {
		ids, next, err := s.page(words, before, width, width*max(len(words), 1))
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if id > after {
				found = append(found, id)
			}
		}
		before = next
	}
	slices.Reverse(found)
	return found, nil
}

func (s *State) page(
	words []string,
	before uint64,
	limit, looks int,
) (ids []uint64, next uint64, err error) {
	if before == 0 || before > s.nextID {
		before = s.nextID
	}
	walks, err := s.walks(words, looks)
	if err != nil {
		return nil, 0, err
	}
	for ; len(ids) < limit && looks > 0; looks -= len(walks) {
		var found, stuck uint64 // the newest job, and where a walk had to stop
		for _, w := range walks {
			switch {
			case w.at >= before && w.looks > 0:
				w.at, w.found = w.next(before, &w.looks)
			case w.at >= before:
				w.at, w.found = before, false
			}
			if w.found {
				found = max(found, w.at)
			} else {
				stuck = max(stuck, w.at)
			}
		}
		switch {
		case found < stuck:
			return ids, stuck, nil
		case found == 0:
			return ids, 0, nil
		}
		ids = append(ids, found)
		before = found
	}
	return ids, before, nil
}

// walk goes down the ids of the jobs that a selector matches.
type walk struct {
	at    uint64 // the newest job found, or how far it has looked; 0: there are no more
	found bool
	looks int // how many ids it may still look at
	next  next
}

// next finds the newest matching job below before. It takes from looks what it looks at; when they
// are used up it gives, not found, the id above which nothing matches.
type next func(before uint64, looks *int) (at uint64, found bool)

// walks gives a walk for each selector; without selectors, one over all jobs.
func (s *State) walks(words []string, looks int) ([]*walk, error) {
	words, since, err := s.splitSince(words)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		all := s.walkRange(1, math.MaxUint64, Selector{since: since})
		return []*walk{{at: math.MaxUint64, looks: looks, next: all}}, nil
	}
	walks := make([]*walk, 0, len(words))
	for _, word := range words {
		sel, err := ParseSelector(word)
		if err != nil {
			return nil, err
		}
		sel.since = since
		n, err := s.walkOf(word, sel)
		if err != nil {
			return nil, err
		}
		walks = append(walks, &walk{at: math.MaxUint64, looks: max(looks/len(words), 1), next: n})
	}
	return walks, nil
}

func (s *State) walkOf(word string, sel Selector) (next, error) {
	switch sel.Base {
	case BaseAll:
		return s.walkRange(1, math.MaxUint64, sel), nil
	case BaseRange:
		return s.walkRange(sel.First, sel.Last, sel), nil
	case BaseClass, BaseMachine:
		if _, known := s.index.number[sel.Name]; known {
			return s.walkRange(1, math.MaxUint64, sel), nil
		}
	case BaseMatrix:
		id, err := s.FindMatrix(sel.Name)
		if err != nil {
			return nil, err
		}
		return s.walkMatrix(s.matrices[id], sel)
	case BaseTag:
		id, err := s.FindTag(sel.Name)
		if err != nil {
			return nil, err
		}
		return s.walkList(s.tags[id].jobs(), sel), nil
	case BaseID:
		if m := s.matrices[sel.First]; m != nil {
			return s.walkMatrix(m, sel)
		}
		if t := s.tags[sel.First]; t != nil {
			return s.walkList(t.jobs(), sel), nil
		}
	}
	ids, err := s.selectOne(word, sel) // one job, or why there is none
	return s.walkList(ids, sel), err
}

// walkList goes down an ascending list.
func (s *State) walkList(ids []uint64, sel Selector) next {
	return func(before uint64, looks *int) (uint64, bool) {
		i, _ := slices.BinarySearch(ids, before)
		for i--; i >= 0; i-- {
			if s.matches(ids[i], sel) {
				return ids[i], true
			}
			if *looks--; *looks <= 0 {
				return ids[i], false
			}
		}
		return 0, false
	}
}

// walkRange goes down the index. Where no job is in one of the statuses, it has nothing to look
// for.
func (s *State) walkRange(first, last uint64, sel Selector) next {
	first = max(first, 1)
	if len(sel.Statuses) > 0 {
		n := 0
		for _, status := range sel.Statuses {
			n += s.counts.By[status]
		}
		if n == 0 {
			return s.walkList(nil, sel)
		}
	}
	matches := s.matcher(sel)
	return func(before uint64, looks *int) (uint64, bool) {
		if last < math.MaxUint64 {
			before = min(before, last+1)
		}
		for id := before; id > first; {
			if id--; matches(id) {
				return id, true
			}
			if *looks--; *looks <= 0 && id > first {
				return id, false
			}
		}
		return 0, false
	}
}

// matcher is matches with what doesn't depend on the job looked up once.
func (s *State) matcher(sel Selector) func(id uint64) bool {
	var wanted uint16
	for _, status := range sel.Statuses {
		wanted |= 1 << status
	}
	if wanted == 0 {
		wanted = math.MaxUint16 &^ 1
	}
	number, column := s.index.number[sel.Name], []uint32(nil)
	switch sel.Base {
	case BaseClass:
		column = s.index.class
	case BaseMachine:
		column = s.index.machine
	}
	mark := s.index.mark
	return func(id uint64) bool {
		return wanted>>(mark[id]&0x0f)&1 != 0 && (column == nil || column[id] == number) &&
			(!sel.Uncopied && sel.since == nil || s.matches(id, sel))
	}
}

// walkMatrix goes down the jobs that count for the cells of a matrix: those of its own ids, and
// those that ran a cell again, which may have any id above.
func (s *State) walkMatrix(m *matrix, sel Selector) (next, error) {
	has, err := m.having(sel.Values)
	if err != nil {
		return nil, err
	}
	again := m.Restarted // ascending by job
	counts := func(id uint64, cell uint32) bool {
		return has(cell) && m.counting(cell) == id && s.matches(id, sel)
	}
	return func(before uint64, looks *int) (uint64, bool) {
		i := sort.Search(len(again), func(i int) bool { return again[i].Job >= before }) - 1
		h := sort.Search(len(m.homes), func(i int) bool { return m.homes[i].first >= before }) - 1
		var offset uint64 // one more than the place in the home
		if h >= 0 {
			offset = min(before-m.homes[h].first, uint64(m.homes[h].cells))
		}
		for {
			for h >= 0 && offset == 0 {
				if h--; h >= 0 {
					offset = uint64(m.homes[h].cells)
				}
			}
			var id uint64
			var cell uint32
			if h >= 0 {
				id, cell = m.homes[h].first+offset-1, m.homes[h].from+uint32(offset-1)
			}
			if i >= 0 && again[i].Job > id {
				id, cell = again[i].Job, again[i].Cell
				i--
			} else {
				offset--
			}
			if id == 0 {
				return 0, false
			}
			if counts(id, cell) {
				return id, true
			}
			if *looks--; *looks <= 0 {
				return id, false
			}
		}
	}, nil
}

// MatrixMap appends the status of the cells of a matrix from a cell on, a byte for each of at most
// n; 0 says that the cell's job was forgotten.
func (s *State) MatrixMap(id uint64, from uint32, n int, to []byte) []byte {
	m := s.matrices[id]
	if m == nil {
		return to
	}
	for c := from; c < m.Cells && n > 0; c++ {
		to = append(to, s.index.mark[m.counting(c)]&0x0f)
		n--
	}
	return to
}

// CellJob is the job that counts for a cell of a matrix, 0 when there is no such cell.
func (s *State) CellJob(id uint64, cell uint32) uint64 {
	if m := s.matrices[id]; m != nil && cell < m.Cells {
		return m.counting(cell)
	}
	return 0
}

// MaxMap is how many cells MatrixMap may be asked for in one read.
const MaxMap = 25_000
