package sched

import (
	"fmt"

	"jobserver/sched/statepb"
)

// Limits of a matrix or a tag: how many of its jobs hold slots at a time, and of a matrix, after
// how many failures the rest of it doesn't begin.

// holdsSlots says that a job has slots of its machine; setups aren't counted.
func holdsSlots(j *statepb.Job) bool {
	return j.Setup == nil && (j.Status == Running || j.Status == Copying && !j.CopyWaiting)
}

// countHolder counts a job among those that hold slots, or not any more.
func (s *State) countHolder(j *statepb.Job, n int) {
	if m := s.matrices[j.Matrix]; m != nil {
		m.holding += n
	}
	if t := s.tags[j.Tag]; t != nil {
		t.holding += n
	}
	if n < 0 {
		s.lookAtLimited()
	}
}

// lookAtLimited has those looked at again that wait for others of their matrix or tag to end.
func (s *State) lookAtLimited() {
	for sh := range s.limited {
		sh.tried = unknown
		s.dirty[sh.class.name] = true
	}
}

// atLimit says that as many jobs of a shape's matrix or tag hold slots as may.
func (s *State) atLimit(sh *shape) bool {
	if m := s.matrices[sh.key.matrix]; m != nil && m.AtMost > 0 && m.holding >= int(m.AtMost) {
		return true
	}
	t := s.tags[sh.key.tag]
	return t != nil && t.AtMost > 0 && t.holding >= int(t.AtMost)
}

// whyLimit says that a job waits for others of its matrix or tag, "" when it doesn't.
func (s *State) whyLimit(j *statepb.Job) string {
	if m := s.matrices[j.Matrix]; m != nil && m.AtMost > 0 && m.holding >= int(m.AtMost) {
		return fmt.Sprintf(
			"%d jobs of matrix %d hold slots, which is as many as may at a time",
			m.holding,
			m.Id,
		)
	}
	if t := s.tags[j.Tag]; t != nil && t.AtMost > 0 && t.holding >= int(t.AtMost) {
		return fmt.Sprintf(
			"%d jobs of tag %s hold slots, which is as many as may at a time",
			t.holding,
			t.Name,
		)
	}
	return ""
}

// refile puts what waits where it belongs, since a limit has changed.
func (s *State) refile() {
	for _, j := range s.live {
		if j.item != nil {
			s.enqueue(j)
		}
	}
	for _, m := range s.order {
		if m.item != nil && m.item.shape.key != s.keyOf(m.Template, m) {
			s.dequeueMatrix(m)
			s.queueMatrix(m)
		}
	}
	s.lookAtLimited()
}

func (s *State) applyTagLimited(c *statepb.TagLimited) error {
	t := s.tags[c.Tag]
	if t == nil {
		return fmt.Errorf("no tag %d", c.Tag)
	}
	t.AtMost = c.AtMost
	s.refile()
	return nil
}

// failedOut says of a matrix that as many of its jobs have failed for good as may.
func (m *matrix) failedOut() bool {
	failed := m.counts.By[Failed] + m.counts.By[Lost]
	return m.MaxFails > 0 && !m.Held && failed >= int(m.FailsFrom+m.MaxFails) &&
		m.counts.By[Waiting] > 0
}

// failOut holds a matrix of which too many jobs have failed, or cancels what of it hasn't begun.
func (s *State) failOut(m *matrix) []*Change {
	why := fmt.Sprintf("%d of its jobs have failed", m.counts.By[Failed]+m.counts.By[Lost])
	changes := []*Change{{MatrixHeld: &statepb.MatrixHeld{
		Matrix: m.Id, Held: true, FailedOut: true, Why: why,
	}}}
	if !m.CancelRest {
		return changes
	}
	for c := range m.Cells {
		if id := m.counting(c); s.Status(id) == Waiting || s.Status(id) == Held {
			changes = append(changes, &Change{JobSkipped: &statepb.JobSkipped{Job: id, Why: why}})
		}
	}
	return changes
}

// limitTag plans how many jobs of a tag may hold slots at a time; 0 leaves that as it is.
func (p *planner) limitTag(atMost int, tag uint64) error {
	switch {
	case atMost == 0:
		return nil
	case tag == 0:
		return errorf(Invalid, "--at-most %d: of which jobs?", atMost).
			hint("put them under a tag: --tag NAME --at-most %d", atMost)
	case atMost < 0 || atMost > MaxSubmit:
		return errorf(Invalid, "--at-most %d is not between 1 and %d", atMost, MaxSubmit)
	}
	limit := &statepb.TagLimited{Tag: tag, AtMost: int32(atMost)}
	p.add(&Change{TagLimited: limit})
	return nil
}
