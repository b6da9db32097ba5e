package sched

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// checkGates judges anew all that jobs wait for.
func (s *State) checkGates() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for root, w := range s.gates.watch {
		if v := s.verdictOf(root); v != w.verdict {
			bad("of job %d %d is told, and %d is right", root, w.verdict, v)
		}
		if len(w.terms) == 0 || s.rootOf(root) != root {
			bad("job %d is watched for nobody", root)
		}
	}
	behind := map[*gate]int{}
	for id, j := range s.live {
		if (j.gate != nil) != (len(j.After.GetTerms()) > 0) {
			bad("job %d waits for %v behind the gate %v", id, j.After, j.gate)
		} else if j.gate != nil {
			if behind[j.gate]++; j.gate.jobs[id] != j || s.gates.byKey[j.gate.key] != j.gate {
				bad("job %d isn't behind its gate", id)
			}
		}
	}
	for _, m := range s.order {
		if m.gate != nil {
			if behind[m.gate]++; m.gate.matrices[m.Id] != m {
				bad("matrix %d isn't behind its gate", m.Id)
			}
		}
		errs = append(errs, s.checkRelation(m))
	}
	for _, g := range s.gates.byKey {
		if n := len(g.jobs) + len(g.matrices); n == 0 || n != behind[g] {
			bad("a gate has %d jobs and matrices, a scan gives %d", n, behind[g])
		}
		errs = append(errs, s.checkGate(g))
	}
	blocked := 0
	for id := range s.nextID {
		blocked += b2i(s.IsBlocked(id))
	}
	if n := s.CountBlocked(); n != blocked {
		bad("%d jobs are counted as blocked, a scan gives %d", n, blocked)
	}
	for root := range s.gates.last {
		if !s.isWatching(root) || s.newest(root) != 0 {
			bad("it is kept for nobody how job %d was", root)
		}
	}
	return errors.Join(errs...)
}

func (s *State) checkGate(g *gate) error {
	for i, t := range g.terms {
		var roots tellings
		seen := map[uint64]bool{}
		for _, span := range g.after.Terms[i].Jobs {
			for id := span.First; id <= span.Last; id++ {
				root := s.rootOf(id)
				if w := s.gates.watch[root]; w == nil || !slices.Contains(w.terms, t) {
					return fmt.Errorf("job %d isn't watched for those who wait for it", id)
				}
				if !seen[root] {
					seen[root] = true
					roots[s.verdictOf(root)]++
				}
			}
		}
		if roots != t.roots {
			return fmt.Errorf("a gate counts %v, a scan gives %v", t.roots, roots)
		}
		for _, m := range t.matrices {
			var cells tellings
			for c := range m.Cells {
				// One that was forgotten before anybody asked for it is no part of the matrix any
				// more.
				if _, known := s.gates.last[m.id(c)]; known || s.newest(m.id(c)) != 0 {
					cells[s.verdictOf(m.id(c))]++
				}
			}
			if got := m.tellingsOf(); cells != got {
				return fmt.Errorf("matrix %d tells %v, a scan gives %v", m.Id, got, cells)
			}
		}
	}
	if d := g.judge(); d != g.door {
		return fmt.Errorf("a gate stands at %d, and %d is right", g.door, d)
	}
	return nil
}

// checkRelation pairs the cells of a matrix anew with those that they wait for.
func (s *State) checkRelation(m *matrix) error {
	r := m.relation
	if of := s.matrices[m.Template.After.GetCells()]; (r != nil) != (of != nil) {
		return fmt.Errorf(
			"matrix %d waits for the cells of matrix %d: %v",
			m.Id,
			m.Template.After.GetCells(),
			r != nil,
		)
	}
	if r == nil {
		return nil
	}
	if r.stale || !slices.Contains(r.of.followers, m) {
		return fmt.Errorf("matrix %d is told nothing of the cells that it waits for", m.Id)
	}
	fresh := newRelation(m.Matrix, r.of.Matrix)
	fresh.matrix, fresh.of = m, r.of
	fresh.fill(m.Matrix, r.of.Matrix)
	fresh.told = r.told // each of which is looked at
	for c := range r.of.Cells {
		v := s.verdictOf(r.of.id(c))
		if v != r.told[c] {
			return fmt.Errorf(
				"matrix %d was told %d of cell %d of matrix %d, and %d is right",
				m.Id,
				r.told[c],
				c,
				r.of.Id,
				v,
			)
		}
		fresh.count(c, v, 1)
	}
	if !slices.Equal(fresh.groups, r.groups) || !slices.Equal(fresh.cells, r.cells) ||
		!slices.Equal(fresh.first, r.first) {
		return fmt.Errorf(
			"the groups of matrix %d are %v, a scan gives %v",
			m.Id,
			r.groups,
			fresh.groups,
		)
	}
	ready, blocked, n := make([]byte, len(m.Touched)), make([]byte, len(m.Touched)), 0
	for c := range m.Cells {
		g, ok := fresh.groupOf(m.Matrix, r.of.Matrix, c)
		setBit(ready, c, ok && fresh.group(g).open())
		id := m.counting(c)
		freed := s.live[id] != nil && s.live[id].After.GetCells() == 0
		if s.index.status(id) == Waiting && !freed && (!ok || fresh.group(g).blocked()) {
			setBit(blocked, c, true)
			n++
		}
	}
	if !bytes.Equal(ready, r.ready) || !bytes.Equal(blocked, r.stuck) || n != r.stuckCells {
		return fmt.Errorf(
			"matrix %d has the cells %x ready and %x blocked, a scan gives %x and %x",
			m.Id,
			r.ready,
			r.stuck,
			ready,
			blocked,
		)
	}
	return nil
}
