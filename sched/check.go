package sched

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"jobserver/sched/statepb"
)

// check tests every invariant of the state: no machine over its slots, at most one live attempt a
// job, terminal states final, no machine idle beside a job that it may have, and every index equal
// to what a full scan gives. It takes time with the state's size, and is for tests.
func (s *State) check() error {
	return errors.Join(s.checkJobs(), s.checkCounts(), s.checkSlots(), s.checkReady(),
		s.checkQueues(), s.checkHistory(), s.checkOwed(), s.checkHeld(), s.checkIdle(),
		s.checkGates(), s.checkProviders())
}

func (s *State) checkJobs() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for id := uint64(1); id < s.nextID; id++ {
		mark := s.index.mark[id]
		j := s.Job(id)
		if (j == nil) != (mark == 0) {
			bad("job %d: mark %x, record %v", id, mark, j)
			continue
		}
		if j == nil {
			continue
		}
		if j.Id != id || uint8(j.Status)|uint8(j.Results)<<4 != mark {
			bad("job %d: its record says %d, %s, %s; its mark %x", id, j.Id, j.Status, j.Results,
				mark)
		}
		if got := s.index.names[s.index.class[id]]; got != j.Class {
			bad("job %d: class %q, in the index %q", id, j.Class, got)
		}
		runs := j.Status == Running || j.Status == Copying
		if s.active[id] != runs {
			bad("job %d is %s, and noted as active: %v", id, StatusName(j.Status), s.active[id])
		}
		if live := s.live[id]; live != nil && Final(j.Status) {
			bad("job %d: %s, and still live", id, j.Status)
		}
		if j.HeldWhy != "" && j.Status != Held && !Final(j.Status) {
			bad("job %d: %s, and held since %s", id, j.Status, j.HeldWhy)
		}
		if m := s.matrices[j.Matrix]; m != nil &&
			m.heldBack[id] != (j.Status == Held && j.HeldWhy != "") {
			bad("job %d: %s since %q, and its matrix says %v", id, j.Status, j.HeldWhy,
				m.heldBack[id])
		}
		if a := last(j); a != nil && slices.ContainsFunc(runsOf(a), func(r *statepb.Attempt) bool {
			return (r.StepStarted || r.Prepared) && !isRead(r)
		}) {
			bad("job %d: it has begun before its inputs were read", id)
		}
		open := 0
		for _, a := range j.Attempts {
			if a.PausedAt != 0 && (a.Cause != statepb.Cause_CAUSE_NONE || j.Status != Running) {
				bad("job %d: attempt %d has ended, and is paused", id, a.Number)
			}
			if a.Cause == statepb.Cause_CAUSE_NONE {
				open++
			}
		}
		if want := j.Status == Running && !s.steps[id]; open > 1 || want != (open == 1) {
			bad("job %d: %s with %d attempts under way", id, j.Status, open)
		}
		if j.Tag != 0 && (s.tags[j.Tag] == nil || !s.tags[j.Tag].has(id)) {
			bad("job %d: its tag %d doesn't have it", id, j.Tag)
		}
	}
	return errors.Join(errs...)
}

func (s *State) checkCounts() error {
	var all Counts
	classes := map[string]Counts{}
	matrices := map[*matrix]*Counts{}
	for _, m := range s.order {
		matrices[m] = new(Counts)
	}
	for id := uint64(1); id < s.nextID; id++ {
		if mark := s.index.mark[id]; mark != 0 {
			all.add(mark, 1)
			class := classes[s.index.names[s.index.class[id]]]
			class.add(mark, 1)
			classes[s.index.names[s.index.class[id]]] = class
			if c, ok := s.cellOf(id); ok && c.matrix.counting(c.cell) == id {
				matrices[c.matrix].add(mark, 1)
			}
		}
	}
	var errs []error
	if all != s.counts {
		errs = append(errs, fmt.Errorf("counts are %v, a scan gives %v", s.counts, all))
	}
	if got := s.CountsByClass(); !maps.Equal(got, classes) {
		errs = append(errs, fmt.Errorf("the classes count %v, a scan gives %v", got, classes))
	}
	errs = append(errs, s.checkHomes(), s.checkSettings())
	for m, c := range matrices {
		if *c != m.counts {
			errs = append(errs,
				fmt.Errorf("matrix %d counts %v, a scan gives %v", m.Id, m.counts, *c))
		}
		untouched := 0
		for c := uint32(0); c < m.Cells; c++ {
			if !m.isTouched(c) {
				untouched++
			}
		}
		if untouched != m.untouched {
			errs = append(errs,
				fmt.Errorf("matrix %d has %d untouched cells, a scan gives %d", m.Id, m.untouched,
					untouched))
		}
	}
	for id, t := range s.tags {
		var c Counts
		jobs := t.jobs()
		for _, job := range jobs {
			c.add(s.index.mark[job], 1)
		}
		if c != t.counts || !slices.IsSorted(jobs) {
			errs = append(errs, fmt.Errorf("tag %d counts %v, a scan gives %v", id, t.counts, c))
		}
	}
	return errors.Join(errs...)
}

// checkHomes checks that the ids of matrices don't overlap, and lead to their cells and back.
func (s *State) checkHomes() error {
	var next uint64
	for _, h := range s.homes {
		if h.first < next || h.cells == 0 || !slices.Contains(h.matrix.homes, h) ||
			s.matrices[h.matrix.Id] != h.matrix {
			return fmt.Errorf("the ids from %d on, of matrix %d, are out of place", h.first,
				h.matrix.Id)
		}
		next = h.first + uint64(h.cells)
	}
	for _, m := range s.order {
		for c := range m.Cells {
			if at, ok := s.cellOf(m.id(c)); !ok || at.matrix != m || at.cell != c {
				return fmt.Errorf("job %d, of cell %d of matrix %d, leads to cell %d", m.id(c), c,
					m.Id, at.cell)
			}
		}
		if h := m.homes[len(m.homes)-1]; h.from+h.cells != m.Cells {
			return fmt.Errorf("matrix %d has ids for %d of %d cells", m.Id, h.from+h.cells, m.Cells)
		}
	}
	return nil
}

// checkSettings checks that matrices know what their jobs were made with.
func (s *State) checkSettings() error {
	for _, m := range s.order {
		for c := range m.Cells {
			id, is := m.counting(c), m.settingsOf(m.Template)
			if n := m.ranBy(c); n > 0 {
				is = m.Ran[n-1]
			}
			if j := s.Job(id); j != nil && !sameSettings(m.settingsOf(j), is) {
				return fmt.Errorf("job %d was made with %v, its matrix says %v", id,
					m.settingsOf(j), is)
			}
		}
	}
	return nil
}

func (s *State) checkSlots() error {
	var errs []error
	for addr, m := range s.machines {
		if m.Addr != addr || !slices.Contains(s.class(m.Class).machines, m) {
			errs = append(errs, fmt.Errorf("machine %s isn't in its class %q", addr, m.Class))
		}
		for slot, id := range m.slots {
			if id == 0 {
				continue
			}
			j := s.live[id]
			var r *statepb.Attempt
			if j != nil && last(j.Job) != nil {
				r = rankOn(last(j.Job), addr)
			}
			if r == nil || r != last(j.Job) && !holds(r) ||
				j.Status != Running && (j.Status != Copying || j.CopyWaiting) {
				errs = append(errs, fmt.Errorf("slot %d of %s is held by job %d, which isn't "+
					"there", slot, addr, id))
			} else if j.Setup == nil && !slices.Contains(slotsGiven(r), int32(slot)) {
				errs = append(errs,
					fmt.Errorf("job %d is in slot %d of %s, not in %v", id, slot, addr,
						slotsGiven(r)))
			}
		}
	}
	for id, j := range s.live {
		if j.Status != Running {
			continue
		}
		for _, r := range ranksOf(last(j.Job)) {
			m := s.machines[r.Machine]
			if holds(r) || r == last(j.Job) {
				if m == nil || !slices.Contains(m.slots, id) {
					errs = append(errs, fmt.Errorf("job %d runs in no slot of %s", id, r.Machine))
				}
			}
		}
		errs = append(errs, checkRanks(j.Job, last(j.Job)))
	}
	return errors.Join(errs...)
}

// checkReady checks that each machine is filed as what it is by now.
func (s *State) checkReady() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	ready, watched := 0, 0
	for name, c := range s.classes {
		ready, watched = ready+len(c.ready), watched+len(c.watched)
		for i, m := range c.ready {
			if m.spot != i || m.Class != name || i > 0 && m.before(c.ready[(i-1)/2]) {
				bad("%s is out of place among the ready machines of class %q, at %d", m.Addr, name,
					i)
			}
		}
		if !slices.IsSortedFunc(c.watched,
			func(a, b *machine) int { return strings.Compare(a.Addr, b.Addr) }) {
			bad("the watched machines of class %q are not in order", name)
		}
	}
	for addr, m := range s.machines {
		isWatched := s.isWatched(m)
		if isReady := !isWatched && m.open() && s.free(m) > 0; isReady != (m.spot >= 0) ||
			m.room != s.free(m) {
			bad("%s is filed with room for %d, at %d; it has room for %d, and is ready: %v", addr,
				m.room, m.spot, s.free(m), isReady)
		} else if isReady {
			ready--
		}
		if isWatched != m.watched || isWatched != slices.Contains(s.class(m.Class).watched, m) {
			bad("%s is to be watched: %v, and is filed so: %v", addr, isWatched, m.watched)
		} else if isWatched {
			watched--
		}
		if m.Until > s.looked && !m.Removing && (s.nextEnd == 0 || m.Until < s.nextEnd) {
			bad("%s expires at %d, the first that does at %d", addr, m.Until, s.nextEnd)
		}
	}
	if ready != 0 || watched != 0 {
		bad("%d machines too many are filed as ready, %d as watched", ready, watched)
	}
	return errors.Join(errs...)
}

func (s *State) checkQueues() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	queued := 0
	for name, c := range s.classes {
		if len(c.line) != len(c.shapes) {
			bad("class %q has %d shapes, %d in its line", name, len(c.shapes), len(c.line))
		}
		for i, sh := range c.line {
			if c.shapes[sh.key] != sh || i > 0 && !c.line[i-1].first().before(sh.first()) {
				bad("a shape of class %q is out of line at %d", name, i)
			}
			n, err := s.checkQueue(c, sh)
			errs, queued = append(errs, err), queued+n
		}
	}
	queued += len(s.delayed) + len(s.lingering)
	for _, m := range s.order {
		mayRun := false
		for c := uint32(0); c < m.Cells && !mayRun && (m.gate == nil || m.gate.door == doorOpen) &&
			s.isDue(m.Template, m.Id, &m.released, &m.timed); c++ {
			mayRun = !m.isTouched(c) && m.relation.isReady(c)
		}
		if (m.item != nil) != (!m.Held && mayRun) {
			bad("matrix %d is queued: %v, held: %v, with %d untouched cells", m.Id, m.item != nil,
				m.Held, m.untouched)
		}
	}
	waiting := 0
	for id, j := range s.live {
		switch {
		case j.Setup != nil:
			m := s.machines[j.Setup.Machine]
			if m != nil && slices.Contains(m.setups, id) != (j.Status == Waiting) {
				bad("setup %d is %s, and in its machine's list: %v", id, j.Status,
					slices.Contains(m.setups, id))
			}
		case j.Status == Waiting && s.mayStart(j):
			waiting++
		case j.item != nil || j.late >= 0:
			bad("job %d is %s, and queued", id, j.Status)
		}
	}
	if waiting != queued {
		bad("%d live jobs wait, %d are queued", waiting, queued)
	}
	return errors.Join(errs...)
}

// checkQueue checks the queue of a shape, and counts its jobs that have a record.
func (s *State) checkQueue(c *class, sh *shape) (queued int, err error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, it := range sh.queue {
		if it.pos != i || i > 0 && sh.queue.Less(i, (i-1)/2) {
			bad("a queue of class %q is no heap at %d", c.name, i)
		}
		if it.shape != sh || s.keyOfItem(it) != sh.key {
			bad("%d is queued in class %q among those of another shape", it.id, c.name)
		}
		if it.job != nil {
			queued++
			if it.job.item != it || it.job.Status != Waiting || it.job.Class != c.name {
				bad("job %d is queued in class %q as %s", it.id, c.name, it.job.Status)
			}
		} else if it.matrix.Held || it.matrix.nextUntouched() == it.matrix.Cells ||
			it.id != it.matrix.id(it.matrix.next) {
			bad("matrix %d is queued at %d", it.matrix.Id, it.id)
		}
	}
	return queued, errors.Join(errs...)
}

func (s *State) checkHistory() error {
	var errs []error
	left := make([]int, len(s.history.blocks))
	for id := uint64(1); id < s.nextID; id++ {
		if place := s.index.place[id]; place != 0 {
			left[(place-1)/blockJobs]++
			if s.live[id] != nil {
				errs = append(errs, fmt.Errorf("job %d is live and in history", id))
			}
		}
	}
	for i, n := range left {
		if n != s.history.left[i] || (n == 0) != (s.history.blocks[i] == nil) {
			errs = append(errs,
				fmt.Errorf("block %d of history has %d jobs left, a scan gives %d", i,
					s.history.left[i], n))
		}
	}
	for _, j := range s.history.pending {
		if s.live[j.Id] != nil || !Final(j.Status) {
			errs = append(errs,
				fmt.Errorf("job %d is %s, live: %v, and among the ended", j.Id, j.Status,
					s.live[j.Id] != nil))
		}
	}
	return errors.Join(errs...)
}

// checkHeld counts anew what jobs, and runs that are still to be ended, hold of each resource, and
// checks that no item is given out twice.
func (s *State) checkHeld() error {
	held := ledger{}
	matrices, tags := map[uint64]int{}, map[uint64]int{}
	for _, j := range s.live {
		if holdsSlots(j.Job) {
			matrices[j.Matrix]++
			tags[j.Tag]++
		}
	}
	for _, m := range s.order {
		if m.holding != matrices[m.Id] {
			return fmt.Errorf("%d jobs of matrix %d hold slots, a scan gives %d", m.holding, m.Id,
				matrices[m.Id])
		}
	}
	for id, t := range s.tags {
		if t.holding != tags[id] {
			return fmt.Errorf("%d jobs of tag %d hold slots, a scan gives %d", t.holding, id,
				tags[id])
		}
	}
	for _, j := range s.live {
		if j.Status == Running || j.Status == Copying && !j.CopyWaiting {
			a := last(j.Job)
			for _, r := range a.Ranks {
				if holds(r) {
					held.book(r.Machine, r.Given, 1)
				}
			}
			if j.Setup == nil && (len(a.Ranks) > 0 || s.machines[a.Machine] != nil) {
				held.book(a.Machine, a.Given, 1)
			}
		}
	}
	for _, o := range s.owed {
		if holdsSlot(o) {
			held.book(o.Run.Machine, o.Given, 1)
		}
	}
	for _, both := range [][2]ledger{{held, s.held}, {s.held, held}} {
		for where, resources := range both[0] {
			for name, h := range resources {
				other := both[1][where][name]
				if other == nil {
					other = &holding{}
				}
				if h.amount != other.amount || !maps.Equal(h.items, other.items) {
					return fmt.Errorf("of %s on %q %v is held, and %v", name, where, h, other)
				}
			}
		}
	}
	for where, resources := range held {
		for name, h := range resources {
			for index, n := range h.items {
				if n > 1 {
					return fmt.Errorf("item %d of %s is given out %d times on %q", index, name, n,
						where)
				}
			}
		}
	}
	return nil
}
