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
// All of it is fed from setMark, the one place where a status changes. What is judged of jobs and
// of gates is in gate_judge.go, which job counts when some ran again or are gone in
// gate_restart.go, and what ends without running in gate_skip.go.

// gate stands before jobs that wait for others.
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
	s.setApart(j)
}

func (s *State) leaveGate(j *job) {
	if g := j.gate; g != nil {
		j.gate = nil
		delete(g.jobs, j.Id)
		s.dropGate(g)
	}
	s.setApart(j)
}

// setApart brings up to date whether a job is apart from its matrix, and tells those who wait for
// the matrix.
func (s *State) setApart(j *job) {
	if !s.noteApart(j) {
		return
	}
	for _, t := range s.matrices[j.Matrix].watchers {
		s.regate(t.gate)
	}
}

// noteApart keeps the list of a matrix's waiting jobs that aren't behind its gate, as each of them
// may wait for something of its own, or for nothing any more. It says whether the list is another.
func (s *State) noteApart(j *job) bool {
	m := s.matrices[j.Matrix]
	if m == nil {
		return false
	}
	was, listed := m.apart[j.Id]
	is := j.Status == Waiting && s.live[j.Id] == j && j.gate != m.gate
	blocked := is && j.gate != nil && j.gate.door == doorBlocked
	if is == listed && blocked == was {
		return false
	}
	m.apartBlocked += b2i(blocked) - b2i(was)
	switch {
	case !is:
		delete(m.apart, j.Id)
	case m.apart == nil:
		m.apart = map[uint64]bool{j.Id: blocked}
	default:
		m.apart[j.Id] = blocked
	}
	return true
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
