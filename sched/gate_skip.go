package sched

import (
	"maps"
	"slices"

	"jobserver/sched/statepb"
)

// noteEnding keeps the list of gates whose jobs are to end without running.
func (s *State) noteEnding(g *gate) {
	if g.door == doorUnneeded || g.door == doorBlocked && g.after.Cancel {
		s.gates.ending[g] = true
	} else {
		delete(s.gates.ending, g)
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
