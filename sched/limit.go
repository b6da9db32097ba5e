package sched

import (
	"fmt"
	"strings"

	"jobserver/sched/statepb"
)

// Limits of a matrix or a tag: how many of its jobs hold slots at a time, and after how many
// failures the rest of it doesn't begin.

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
	s.overdone[c.Tag] = true
	if c.FailedOut {
		t.FailedOut = true
		return nil
	}
	if t.MaxFails != c.MaxFails || t.CancelRest != c.CancelRest {
		t.MaxFails, t.CancelRest, t.FailedOut = c.MaxFails, c.CancelRest, false
	}
	if t.AtMost != c.AtMost {
		t.AtMost = c.AtMost
		s.refile()
	}
	return nil
}

// failed is how many of a tag's jobs have failed for good.
func (t *tag) failed() int { return t.counts.By[Failed] + t.counts.By[Lost] }

// failedOut says of a tag that as many of its jobs have failed for good as may, and others wait.
func (t *tag) failedOut() bool {
	return t.MaxFails > 0 && t.failed() >= int(t.FailsFrom+t.MaxFails) && t.counts.By[Waiting] > 0
}

// failOutTag holds what waits of a tag of which too many jobs have failed, or cancels what of it
// hasn't begun. Jobs that come under the tag later meet the same, until the rest is released.
func (s *State) failOutTag(t *tag) (changes []*Change) {
	why := s.whyFailedOut(t)
	if !t.FailedOut {
		changes = append(changes, &Change{TagLimited: &statepb.TagLimited{Tag: t.Id,
			FailedOut: true}})
	}
	for _, id := range t.jobs() {
		switch status := s.Status(id); {
		case t.CancelRest && (status == Waiting || status == Held):
			changes = append(changes, &Change{JobSkipped: &statepb.JobSkipped{Job: id, Why: why}})
		case status == Waiting:
			changes = append(changes, &Change{JobHeld: &statepb.JobHeld{Job: id, Held: true}})
		}
	}
	return changes
}

// whyFailedOut says why the rest of a tag isn't begun.
func (s *State) whyFailedOut(t *tag) string {
	return fmt.Sprintf("%d jobs of its tag %s have failed", t.failed()-int(t.FailsFrom), t.Name)
}

// TagLimits gives how many jobs of a tag may hold slots at a time, how many that have failed for
// good hold the rest, 0 for any number, and whether so many have.
func (s *State) TagLimits(id uint64) (atMost, maxFails int, failedOut bool) {
	t := s.tags[id]
	if t == nil {
		return 0, 0, false
	}
	return int(t.AtMost), int(t.MaxFails), t.FailedOut
}

// releaseTag counts failures anew, since somebody has released a job of a tag.
func (s *State) releaseTag(id uint64) {
	if t := s.tags[id]; t != nil && t.FailedOut {
		t.FailsFrom, t.FailedOut = int32(t.failed()), false
	}
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

// limitTag plans the limits of a tag: how many of its jobs may hold slots at a time, and after how
// many failures the rest isn't begun; 0 leaves one as it is.
func (p *planner) limitTag(spec *JobSpec, tag uint64) error {
	limit := &statepb.TagLimited{Tag: tag}
	if t := p.s.tags[tag]; t != nil {
		limit.AtMost, limit.MaxFails, limit.CancelRest = t.AtMost, t.MaxFails, t.CancelRest
	}
	atMost, maxFails, cancelRest := limit.AtMost, limit.MaxFails, limit.CancelRest
	for _, n := range []struct {
		flag string
		n    int
		put  *int32
	}{{"--at-most", spec.AtMost, &limit.AtMost}, {"--max-fails", spec.MaxFails, &limit.MaxFails}} {
		switch {
		case n.n == 0:
			continue
		case tag == 0:
			return errorf(Invalid, "%s %d: of which jobs?", n.flag, n.n).
				hint("put them under a tag: --tag NAME %s %d", n.flag, n.n)
		case n.n < 0 || n.n > MaxSubmit:
			return errorf(Invalid, "%s %d is not between 1 and %d", n.flag, n.n, MaxSubmit)
		}
		*n.put = int32(n.n)
	}
	if spec.MaxFails > 0 {
		limit.CancelRest = spec.CancelRest
	}
	if limit.AtMost != atMost || limit.MaxFails != maxFails || limit.CancelRest != cancelRest {
		p.add(&Change{TagLimited: limit})
	}
	t := p.s.tags[tag]
	if t != nil && t.FailedOut && limit.MaxFails == maxFails && limit.CancelRest == cancelRest {
		becomes := "held"
		if cancelRest {
			becomes = "canceled"
		}
		p.warn("it is %s: %s (`jobserver job unhold @%s` releases what is held)", becomes,
			p.s.whyFailedOut(t), t.Name)
	}
	return nil
}

// limitText says which limits a tag has got, or that it has come to one.
func (s *State) limitText(c *statepb.TagLimited, name string) string {
	then := "held"
	if t := s.tags[c.Tag]; t != nil && t.CancelRest {
		then = "canceled"
	}
	if c.FailedOut {
		failed := 0
		if t := s.tags[c.Tag]; t != nil {
			failed = t.failed() - int(t.FailsFrom)
		}
		return fmt.Sprintf("%d jobs of tag %s have failed: what waits of it is %s (`jobserver job "+
			"unhold @%s` releases what is held)", failed, name, then, name)
	}
	var parts []string
	if c.AtMost > 0 {
		parts = append(parts, fmt.Sprintf("at most %d jobs of tag %s hold slots at a time",
			c.AtMost, name))
	}
	if c.MaxFails > 0 {
		parts = append(parts, fmt.Sprintf("when %d jobs of tag %s have failed, what waits of it "+
			"is %s", c.MaxFails, name, then))
	}
	return strings.Join(parts, "; ")
}
