package sched

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// What waits for what. Jobs that wait for the same share a gate, which counts what it waits for,
// and a job is in the queue of its class only while its gate is open. Nothing of this is durable
// but what each job waits for, in its record: gates are made of that again on load.
//
// The newest job of a cell counts, and the newest restart of a job; of one that was forgotten, the
// one before, and of one of which nothing is left, how it last was. So each is known by its root:
// the first job of its cell, or the job that was restarted first.
//
// All of it is fed from setMark, the one place where a status changes.

// verdict is what those who wait for a job are told of it.
type verdict uint8

const (
	pending  verdict = iota // it hasn't ended
	stuck                   // it hasn't ended, and can't at present
	good                    // it is done, and its results, if it named any, are on the host
	uncopied                // it is done, and its results could not be copied
	bad                     // it failed, was lost or canceled
	verdicts
)

// tellings counts jobs by verdict.
type tellings [verdicts]int

// door says whether those behind a gate may start.
type door uint8

const (
	doorWaits    door = iota // for what hasn't ended
	doorOpen                 // they may start
	doorBlocked              // they can't, unless what they wait for is run again
	doorUnneeded             // they are to run only if something fails, and nothing did
)

// gate is what some jobs wait for.
type gate struct {
	key      string
	after    *statepb.After
	terms    []*term
	jobs     map[uint64]*job    // live ones that have it
	matrices map[uint64]*matrix // that have it
	door     door
}

// term is one set of jobs that a gate waits for.
type term struct {
	gate     *gate
	when     statepb.When
	roots    tellings // of the jobs that are named one by one
	matrices []*matrix
}

// watched is a job that some terms name.
type watched struct {
	verdict verdict
	terms   []*term
}

// gates is all that is known of who waits for whom.
type gates struct {
	byKey    map[string]*gate
	watch    map[uint64]*watched // by root
	restarts map[uint64][]uint64 // root, and then those that ran it again, ascending; of no matrix
	roots    map[uint64]uint64   // of those that ran another again
	last     map[uint64]verdict  // of roots that are watched, and of which nothing is left
	ending   map[*gate]bool      // whose jobs are to end without running
	// that the newest change has blocked, and nothing that is blocked itself
	blocked []*gate
	cells   []blockedCells // likewise
}

func newGates() gates {
	return gates{
		byKey: map[string]*gate{}, watch: map[uint64]*watched{}, restarts: map[uint64][]uint64{},
		roots: map[uint64]uint64{}, last: map[uint64]verdict{}, ending: map[*gate]bool{},
	}
}

// rootOf is the job by which a job and all that ran it again are known.
func (s *State) rootOf(id uint64) uint64 {
	if c, ok := s.cellOf(id); ok {
		return c.matrix.id(c.cell)
	}
	if root := s.gates.roots[id]; root != 0 {
		return root
	}
	return id
}

// newest is the job that counts for a root: the newest that there is, 0 when nothing is left.
func (s *State) newest(root uint64) uint64 {
	var later []uint64
	if c, ok := s.cellOf(root); ok {
		later = c.matrix.again[c.cell]
	} else {
		later = s.gates.restarts[root]
	}
	for _, id := range slices.Backward(later) {
		if s.index.mark[id] != 0 {
			return id
		}
	}
	if s.index.mark[root] != 0 {
		return root
	}
	return 0
}

// restarted notes that a job of no matrix runs another one again. One that is like a cell and isn't
// in its place is none of these: it begins a root of its own.
func (s *State) restarted(id, of uint64) {
	if _, ok := s.cellOf(of); ok {
		return
	}
	root := s.rootOf(of)
	s.gates.roots[id] = root
	s.gates.restarts[root] = append(s.gates.restarts[root], id)
}

// verdictOf tells of a root what those are told who wait for it.
func (s *State) verdictOf(root uint64) verdict {
	id := s.newest(root)
	if id == 0 {
		if v, known := s.gates.last[root]; known {
			return v
		}
		return bad
	}
	if v := told(s.index.mark[id]); v != pending || !s.isBlocked(id) {
		return v
	}
	return stuck
}

// told is the verdict that a status gives.
func told(mark uint8) verdict {
	switch Status(mark & 0x0f) {
	case Done:
		if statepb.Results(mark>>4) == statepb.Results_RESULTS_FAILED {
			return uncopied
		}
		return good
	case Failed, Lost, Canceled:
		return bad
	}
	return pending
}

// isBlocked says that a job waits for something that can't come at present.
func (s *State) isBlocked(id uint64) bool {
	if s.index.status(id) != Waiting {
		return false
	}
	after, g := (*statepb.After)(nil), (*gate)(nil)
	c, inMatrix := s.cellOf(id)
	if j := s.live[id]; j != nil {
		after, g = j.After, j.gate
	} else if inMatrix {
		after, g = c.matrix.Template.After, c.matrix.gate
	}
	if g != nil && g.door == doorBlocked {
		return true
	}
	return inMatrix && after.GetCells() != 0 && c.matrix.relation.isStuck(c.cell)
}

// mayStart says that nothing that a job waits for keeps it from being dispatched.
func (s *State) mayStart(j *job) bool {
	if j.gate != nil && j.gate.door != doorOpen || !s.isDue(j.Job, j.Id, &j.released, &j.timed) {
		return false
	}
	if j.After.GetCells() == 0 {
		return true
	}
	m := s.matrices[j.Matrix]
	return m == nil || m.relation.isReady(uint32(j.Cell))
}

// gateOf gives the gate of what is waited for, nil when that is nothing but cells.
func (s *State) gateOf(a *statepb.After) *gate {
	if len(a.GetTerms()) == 0 {
		return nil
	}
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(a) // it came from such bytes
	g := s.gates.byKey[string(b)]
	if g == nil {
		g = &gate{key: string(b), after: a, jobs: map[uint64]*job{}, matrices: map[uint64]*matrix{}}
		s.gates.byKey[g.key] = g
		for _, t := range a.Terms {
			s.addTerm(g, t)
		}
		g.door = g.judge()
		s.noteEnding(g)
	}
	return g
}

// addTerm has a gate watch what one of its terms names.
func (s *State) addTerm(g *gate, rec *statepb.Term) {
	t := &term{gate: g, when: rec.When}
	g.terms = append(g.terms, t)
	seen := map[uint64]bool{}
	for _, span := range rec.Jobs {
		for id := span.First; id <= span.Last; id++ {
			root := s.rootOf(id)
			if seen[root] {
				continue
			}
			seen[root] = true
			w := s.gates.watch[root]
			if w == nil {
				w = &watched{verdict: s.verdictOf(root)}
				s.gates.watch[root] = w
			}
			w.terms = append(w.terms, t)
			t.roots[w.verdict]++
		}
	}
	for _, id := range rec.Matrices {
		if m := s.matrices[id]; m != nil {
			m.watchers = append(m.watchers, t)
			t.matrices = append(t.matrices, m)
		}
	}
}

// joinGate and leaveGate keep which live jobs a gate has.
func (s *State) joinGate(j *job) {
	if j.gate == nil && len(j.After.GetTerms()) > 0 {
		j.gate = s.gateOf(j.After)
		j.After = j.gate.after // the same, and kept once
		j.gate.jobs[j.Id] = j
		if j.gate.door == doorBlocked {
			s.retell(j.Id)
		}
	}
}

func (s *State) leaveGate(j *job) {
	if g := j.gate; g != nil {
		j.gate = nil
		delete(g.jobs, j.Id)
		s.dropGate(g)
	}
}

// dropGate forgets a gate that nobody has any more, and what is known only for it.
func (s *State) dropGate(g *gate) {
	if len(g.jobs)+len(g.matrices) > 0 {
		return
	}
	delete(s.gates.byKey, g.key)
	delete(s.gates.ending, g)
	for i, t := range g.terms {
		for _, span := range g.after.Terms[i].Jobs {
			for id := span.First; id <= span.Last; id++ {
				s.unwatch(s.rootOf(id), t)
			}
		}
		for _, m := range t.matrices {
			m.watchers = slices.DeleteFunc(m.watchers, func(o *term) bool { return o == t })
			s.forgetLast(m)
		}
	}
}

func (s *State) unwatch(root uint64, t *term) {
	w := s.gates.watch[root]
	if w == nil {
		return
	}
	w.terms = slices.DeleteFunc(w.terms, func(o *term) bool { return o == t })
	if len(w.terms) == 0 {
		delete(s.gates.watch, root)
		s.forgetRoot(root)
	}
}

// isWatching says that somebody waits for a root, or for the matrix that it is a cell of.
func (s *State) isWatching(root uint64) bool {
	if s.gates.watch[root] != nil {
		return true
	}
	c, ok := s.cellOf(root)
	return ok && len(c.matrix.watchers)+len(c.matrix.followers) > 0
}

// forgetRoot drops what is known of a root for those alone who wait for it.
func (s *State) forgetRoot(root uint64) {
	if s.isWatching(root) || s.newest(root) != 0 {
		return
	}
	if v, known := s.gates.last[root]; known {
		delete(s.gates.last, root)
		if c, ok := s.cellOf(root); ok {
			c.matrix.gone[v]--
		}
	}
	for _, id := range s.gates.restarts[root] {
		delete(s.gates.roots, id)
	}
	delete(s.gates.restarts, root)
}

// forgetLast drops it of all cells of a matrix for which nobody waits any more.
func (s *State) forgetLast(m *matrix) {
	if len(m.watchers)+len(m.followers) > 0 || m.gone == (tellings{}) {
		return
	}
	for c := range m.Cells {
		s.forgetRoot(m.id(c))
	}
}

// forgetting notes how a job was that is about to be forgotten, if it is the last of its root.
func (s *State) forgetting(id uint64) {
	root := s.rootOf(id)
	if s.newest(root) != id || !s.isWatching(root) {
		return
	}
	mark := s.index.mark[id]
	s.index.mark[id] = 0
	left := s.newest(root)
	s.index.mark[id] = mark
	if left != 0 {
		return
	}
	v := told(mark)
	s.gates.last[root] = v
	if c, ok := s.cellOf(root); ok {
		c.matrix.gone[v]++
	}
}

// noted tells those who wait for a job, or for its matrix, that its status has changed.
func (s *State) noted(id uint64) {
	c, inMatrix := s.cellOf(id)
	if len(s.gates.watch) == 0 && (!inMatrix || c.matrix.isLoose()) {
		return
	}
	root := s.rootOf(id)
	if v, known := s.gates.last[root]; known && s.newest(root) != 0 { // it runs again
		delete(s.gates.last, root)
		if inMatrix {
			c.matrix.gone[v]--
		}
	}
	s.retell(id)
}

// retell brings what is told of a job, and of the cell that it runs, up to date. Whether the cell
// waits in vain comes first, as the verdict on it depends on that.
func (s *State) retell(id uint64) {
	c, inMatrix := s.cellOf(id)
	if inMatrix {
		s.restick(c.matrix, c.cell)
	}
	s.rejudge(s.rootOf(id))
	if !inMatrix {
		return
	}
	for _, f := range c.matrix.followers {
		s.cellTold(f, c.cell)
	}
	for _, t := range c.matrix.watchers {
		s.regate(t.gate)
	}
}

// isLoose says that a matrix waits for nothing cell by cell, and nobody for it.
func (m *matrix) isLoose() bool {
	return m.relation == nil && len(m.followers)+len(m.watchers) == 0
}

// rejudge brings what is told of a root up to date.
func (s *State) rejudge(root uint64) {
	w := s.gates.watch[root]
	if w == nil {
		return
	}
	v := s.verdictOf(root)
	if v == w.verdict {
		return
	}
	old := w.verdict
	w.verdict = v
	for _, t := range w.terms {
		t.roots[old]--
		t.roots[v]++
	}
	for _, t := range slices.Clone(w.terms) {
		s.regate(t.gate)
	}
}

// tellingsOf counts the cells of a matrix by what is told of them.
func (m *matrix) tellingsOf() tellings {
	t := m.gone
	by := m.counts.By
	t[good] += by[Done] - m.counts.Uncopied
	t[uncopied] += m.counts.Uncopied
	t[bad] += by[Failed] + by[Canceled] + by[Lost]
	t[pending] += by[Waiting] + by[Held] + by[Running] + by[Copying]
	blocked := 0
	switch {
	case m.gate != nil && m.gate.door == doorBlocked:
		blocked = by[Waiting]
	case m.relation != nil:
		blocked = m.relation.stuckCells
	}
	t[stuck] += blocked
	t[pending] -= blocked
	return t
}

// judge says whether those behind a gate may start.
func (g *gate) judge() door {
	is := doorOpen
	for _, t := range g.terms {
		switch d := t.judge(); {
		case d == doorUnneeded || is == doorUnneeded:
			is = doorUnneeded
		case d == doorBlocked || is == doorBlocked:
			is = doorBlocked
		case d == doorWaits:
			is = doorWaits
		}
	}
	return is
}

func (t *term) all() tellings {
	n := t.roots
	for _, m := range t.matrices {
		for v, k := range m.tellingsOf() {
			n[v] += k
		}
	}
	return n
}

func (t *term) judge() door {
	n := t.all()
	switch {
	case n[stuck] > 0, t.when == statepb.When_ALL_DONE && n[bad]+n[uncopied] > 0:
		return doorBlocked
	case n[pending] > 0:
		return doorWaits
	case t.when == statepb.When_ONE_FAILED && n[bad] == 0:
		return doorUnneeded
	}
	return doorOpen
}

// direct says that what blocks a gate is an end, and not that something waits in vain itself.
func (g *gate) direct() bool {
	for _, t := range g.terms {
		if n := t.all(); n[stuck] > 0 {
			return false
		}
	}
	return true
}

// regate brings a gate up to date, and with it the queues, and those who wait for what is behind
// it.
func (s *State) regate(g *gate) {
	was := g.door
	if g.door = g.judge(); g.door == was || s.gates.byKey[g.key] != g {
		return
	}
	s.noteEnding(g)
	if g.door == doorBlocked && g.direct() {
		s.gates.blocked = append(s.gates.blocked, g)
	}
	for _, id := range slices.Sorted(maps.Keys(g.jobs)) {
		j := g.jobs[id]
		s.enqueue(j)
		if was == doorBlocked || g.door == doorBlocked {
			s.retell(id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.matrices)) {
		m := g.matrices[id]
		s.queueMatrix(m)
		if was == doorBlocked || g.door == doorBlocked {
			s.matrixStuckAnew(m)
		}
	}
}

// noteEnding keeps the list of gates whose jobs are to end without running.
func (s *State) noteEnding(g *gate) {
	if g.door == doorUnneeded || g.door == doorBlocked && g.after.Cancel {
		s.gates.ending[g] = true
	} else {
		delete(s.gates.ending, g)
	}
}

// matrixStuckAnew tells it of all cells of a matrix.
func (s *State) matrixStuckAnew(m *matrix) {
	for _, root := range slices.Sorted(maps.Keys(s.gates.watch)) {
		if c, ok := s.cellOf(root); ok && c.matrix == m {
			s.rejudge(root)
		}
	}
	for _, f := range m.followers {
		for c := range m.Cells {
			s.cellTold(f, c)
		}
	}
	for _, t := range m.watchers {
		s.regate(t.gate)
	}
}

// skips ends what waits behind gates without running. At most some at a time: the rest comes at the
// next look.
func (s *State) skips() (changes []*Change) {
	const most = 1000
	skip := func(id uint64, unneeded bool, why string) {
		changes = append(changes, &Change{JobSkipped: &statepb.JobSkipped{
			Job: id, Unneeded: unneeded, Why: why,
		}})
	}
	for g := range s.gates.ending {
		unneeded, why := g.door == doorUnneeded,
			"not needed: all that it was to run after has succeeded"
		if !unneeded {
			why = "it can't run: " + s.whyDoor(g)
		}
		for _, id := range slices.Sorted(maps.Keys(g.jobs)) {
			if g.jobs[id].Status == Waiting && len(changes) < most {
				skip(id, unneeded, why)
			}
		}
		for _, m := range g.matrices {
			for c := uint32(0); c < m.Cells && len(changes) < most; c++ {
				if !m.Held && !m.isTouched(c) {
					skip(m.id(c), unneeded, why)
				}
			}
		}
		if len(changes) > 0 {
			return changes
		}
	}
	for _, m := range s.order {
		r := m.relation
		if r == nil || r.stuckCells == 0 || !m.Template.After.Cancel {
			continue
		}
		for c := uint32(0); c < m.Cells && len(changes) < most; c++ {
			if r.isStuck(c) {
				skip(m.counting(c), false, "it can't run: "+s.whyCell(m, c))
			}
		}
	}
	return changes
}

// applySkipped ends a job that waits without running it.
func (s *State) applySkipped(c *statepb.JobSkipped, at int64) error {
	return s.change(c.Job, func(j *job) error {
		if j.Status == Waiting || j.Status == Held {
			j.Status, j.EndedAt, j.NotBefore = Canceled, at, 0
			j.Error, j.Unneeded = c.Why, c.Unneeded
		}
		return nil
	})
}

// applyFreed has a job wait for nothing any more.
func (s *State) applyFreed(id uint64) error {
	return s.change(id, func(j *job) error {
		s.leaveGate(j)
		j.After = nil
		s.retell(id)
		return nil
	})
}

// settleGates brings all gates up to date after a load, when every job is in its place.
func (s *State) settleGates() {
	for _, m := range s.order {
		if m.relation != nil {
			s.relate(m)
		}
	}
	for _, root := range slices.Sorted(maps.Keys(s.gates.watch)) {
		s.rejudge(root)
	}
	for _, key := range sorted(s.gates.byKey) {
		s.regate(s.gates.byKey[key])
	}
	s.gates.blocked, s.gates.cells = nil, nil
}

// restartsRecord and lastRecord are what of gates is durable, by id.
func (s *State) restartsRecord() *statepb.Restarts {
	r := &statepb.Restarts{}
	for _, id := range slices.Sorted(maps.Keys(s.gates.roots)) {
		r.Job, r.Of = append(r.Job, id), append(r.Of, s.gates.roots[id])
	}
	return r
}

func (s *State) lastRecord() *statepb.Last {
	r := &statepb.Last{}
	for _, id := range slices.Sorted(maps.Keys(s.gates.last)) {
		r.Job = append(r.Job, id)
		r.Verdict = append(r.Verdict, byte(s.gates.last[id]))
	}
	return r
}
