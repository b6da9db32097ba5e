package sched

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// Apply makes the change part of the state. It depends on nothing but the state and the change, and
// keeps nothing of the change's memory that the caller could alter. An error means that the change
// doesn't fit the state, and that the state must not be used any more: the rules never produce such
// a change, so it comes from a journal that isn't ours or from a fault of ours.
func (s *State) Apply(c *Change) error {
	s.changes++
	s.at = c.At
	s.uprooted, s.tidings = s.uprooted[:0], s.tidings[:0]
	s.gates.blocked, s.gates.cells = s.gates.blocked[:0], s.gates.cells[:0]
	switch {
	case c.JobSubmitted != nil:
		return s.submit(proto.CloneOf(c.JobSubmitted.Job), c.At)
	case c.JobResubmitted != nil:
		return s.applyResubmitted(c.JobResubmitted, c.At)
	case c.MatrixSubmitted != nil:
		return s.applyMatrix(c.MatrixSubmitted.Matrix, c.At)
	case c.JobHeld != nil:
		return s.applyHeld(c.JobHeld)
	case c.JobCanceled != nil:
		return s.applyCanceled(c.JobCanceled.Job, c.JobCanceled.Reason, c.At)
	case c.JobForgotten != nil:
		return s.applyForgotten(c.JobForgotten.Job, c.JobForgotten.Reason, c.At)
	case c.JobRetimed != nil:
		return s.change(c.JobRetimed.Job, func(j *job) error {
			j.Timeout = c.JobRetimed.Timeout
			s.retimed(j)
			return nil
		})
	case c.JobTagged != nil:
		return s.applyTagged(c.JobTagged.Job, c.JobTagged.Tag)
	case c.JobLost != nil:
		return s.applyJobLost(c.JobLost, c.At)
	case c.JobRefused != nil:
		return s.change(c.JobRefused.Job, func(j *job) error {
			if j.Status != Waiting {
				return fmt.Errorf("job %d doesn't wait to be started", j.Id)
			}
			j.Status, j.EndedAt, j.NotBefore, j.Error = Failed, c.At, 0, c.JobRefused.Error
			return nil
		})
	case c.Recopy != nil:
		return s.applyRecopy(c.Recopy.Job)
	case c.MatrixHeld != nil:
		return s.applyMatrixHeld(c.MatrixHeld, c.At)
	case c.MatrixGrown != nil:
		return s.applyMatrixGrown(c.MatrixGrown, c.At)
	case c.MatrixForgotten != nil:
		return s.applyMatrixForgotten(c.MatrixForgotten.Matrix)
	case c.Dispatched != nil:
		return s.applyDispatched(c.Dispatched)
	case c.Prepared != nil:
		return s.applyPrepared(c.Prepared)
	case c.Started != nil:
		return s.applyStarted(c.Started, c.At)
	case c.Ended != nil:
		return s.applyEnded(c.Ended, c.At)
	case c.NotStarted != nil:
		return s.applyNotStarted(c.NotStarted, c.At)
	case c.InputsRead != nil:
		return s.applyInputsRead(c.InputsRead)
	case c.AttemptLost != nil:
		return s.applyAttemptLost(c.AttemptLost, c.At)
	case c.CopyEnded != nil:
		return s.applyCopyEnded(c.CopyEnded, c.At)
	case c.CopyWaits != nil:
		return s.applyCopyWaits(c.CopyWaits, c.At)
	case c.Settled != nil:
		return s.applySettled(c.Settled)
	case c.Stopped != nil:
		return s.applyStopped(c.Stopped)
	case c.SetupFailed != nil:
		return s.applySetupFailed(c.SetupFailed, c.At)
	case c.MachineAdded != nil:
		return s.applyMachineAdded(c.MachineAdded.Machine)
	case c.MachineRemoved != nil:
		return s.applyMachineRemoved(c.MachineRemoved, c.At)
	case c.MachineMoved != nil:
		return s.applyMachineMoved(c.MachineMoved, c.At)
	case c.MachineDrained != nil:
		return s.changeMachine(c.MachineDrained.Addr, func(m *machine) {
			m.Draining = c.MachineDrained.Draining
		})
	case c.MachineSeen != nil:
		return s.applyMachineSeen(c.MachineSeen.Facts)
	case c.MachineCleared != nil:
		return s.applyMachineCleared(c.MachineCleared)
	case c.ProviderSet != nil:
		return s.applyProviderSet(c.ProviderSet.Provider)
	case c.ProviderDrained != nil:
		return s.changeProvider(c.ProviderDrained.Addr, func(p *provider) { p.Draining = true })
	case c.ProviderRemoved != nil:
		return s.applyProviderRemoved(c.ProviderRemoved, c.At)
	case c.ProviderResumed != nil:
		return s.applyProviderResumed(c.ProviderResumed.Addr)
	case c.AllocationAsked != nil:
		return s.applyAllocationAsked(c.AllocationAsked.Allocation, c.At)
	case c.AllocationSeen != nil:
		return s.applyAllocationSeen(c.AllocationSeen, c.At)
	case c.AllocationRefused != nil:
		return s.applyAllocationRefused(c.AllocationRefused)
	case c.AllocationReleased != nil:
		return s.applyAllocationReleased(c.AllocationReleased)
	case c.AllocationEnded != nil:
		return s.applyAllocationEnded(c.AllocationEnded, c.At)
	case c.AttemptExpired != nil:
		return s.applyAttemptExpired(c.AttemptExpired)
	case c.OperationBegun != nil:
		return s.applyOperationBegun(c.OperationBegun)
	case c.OperationStepped != nil:
		return s.applyOperationStepped(c.OperationStepped)
	case c.ClockSet != nil:
		return s.applyClockSet(c.ClockSet)
	case c.VarSet != nil:
		if c.VarSet.Unset {
			delete(s.vars, c.VarSet.Name)
		} else {
			s.vars[c.VarSet.Name] = &statepb.Var{Name: c.VarSet.Name,
				Value: slices.Clone(c.VarSet.Value), Secret: c.VarSet.Secret}
		}
		return nil
	case c.TagMade != nil:
		return s.applyTag(c.TagMade.Tag)
	case c.JobSkipped != nil:
		return s.applySkipped(c.JobSkipped, c.At)
	case c.JobSet != nil:
		return s.applyJobSet(c.JobSet)
	case c.MatrixSet != nil:
		return s.applyMatrixSet(c.MatrixSet)
	case c.TagLimited != nil:
		return s.applyTagLimited(c.TagLimited)
	case c.JobPaused != nil:
		return s.applyJobPaused(c.JobPaused)
	case c.RunPaused != nil:
		return s.applyRunPaused(c.RunPaused, c.At)
	case c.JobSignaled != nil:
		return s.applySignaled(c.JobSignaled)
	case c.JobFreed != nil:
		return s.applyFreed(c.JobFreed.Job)
	case c.ResourceSet != nil:
		return s.applyResource(c.ResourceSet)
	case c.IdsReserved != nil:
		s.nextID = max(s.nextID, c.IdsReserved.Next)
		s.index.grow(s.nextID)
		return nil
	case c.RequestDone != nil:
		s.requests.add(c.RequestDone)
		return nil
	case c.Noticed != nil:
		return nil
	}
	return fmt.Errorf("change %d is of no kind that this version knows", s.changes)
}

// change applies f to a job and files it anew.
func (s *State) change(id uint64, f func(j *job) error) error {
	j, err := s.touch(id)
	if err != nil {
		return err
	}
	if err := f(j); err != nil {
		return err
	}
	return s.settle(j)
}

// take checks that the ids of something new are the next ones, and hands them out.
func (s *State) take(id, count uint64) error {
	if id != s.nextID {
		return fmt.Errorf("id %d is given where %d is next", id, s.nextID)
	}
	s.newID(count)
	return nil
}

// applyResubmitted makes a job like one that is there. What is changed of that one
// in the same request, which may cancel it, is nothing that its settings hold.
func (s *State) applyResubmitted(c *statepb.JobResubmitted, at int64) error {
	var j *statepb.Job
	if like := s.Job(c.Like); like != nil {
		j = proto.CloneOf(shallow(like))
	} else if m := s.matrices[c.Matrix]; c.Like == 0 && m != nil && uint32(c.Cell) < m.Cells {
		j = m.job(uint32(c.Cell))
	} else {
		return fmt.Errorf("job %d is like job %d or cell %d of matrix %d, which isn't there", c.Job,
			c.Like, c.Cell, c.Matrix)
	}
	j.Id, j.Matrix, j.Cell, j.Status, j.RestartOf = c.Job, c.Matrix, c.Cell, c.Status, c.RestartOf
	return s.submit(j, at)
}

// submit makes a new job of a record, which is the state's from now on.
func (s *State) submit(rec *statepb.Job, at int64) error {
	if err := s.take(rec.Id, 1); err != nil {
		return err
	}
	j := &job{Job: rec, late: -1}
	j.SubmittedAt = at
	s.places.add(j.CpPath)
	if j.Matrix != 0 {
		m := s.matrices[j.Matrix]
		if m == nil || uint32(j.Cell) >= m.Cells {
			return fmt.Errorf("job %d is of a cell that isn't there: %d of matrix %d", j.Id, j.Cell,
				j.Matrix)
		}
		s.addRestarted(m, j.Id, uint32(j.Cell))
		m.Restarted = append(m.Restarted,
			&statepb.Restarted{Job: j.Id, Cell: uint32(j.Cell),
				Ran: m.settingsNumber(m.settingsOf(j.Job))})
	}
	if t := s.tags[j.Tag]; t != nil {
		t.put(j.Id, true)
	}
	j.Elders = s.eldersOf(j.Job)
	s.live[j.Id] = j
	if j.RestartOf != 0 && j.Matrix == 0 {
		s.restarted(j.Id, j.RestartOf)
	}
	return s.settle(j)
}

func (s *State) applyMatrix(rec *statepb.Matrix, at int64) error {
	if err := s.take(rec.Id, 1); err != nil {
		return err
	}
	if err := s.take(rec.FirstJob, uint64(rec.Cells)); err != nil {
		return err
	}
	m := proto.Clone(rec).(*statepb.Matrix)
	m.SubmittedAt = at
	s.places.add(m.Template.GetCpPath())
	one := s.addMatrix(m)
	s.joinMatrix(one)
	s.populate(one, m.FirstJob, m.Cells)
	s.relate(one)
	return nil
}

// joinMatrix files a matrix with what it waits for.
func (s *State) joinMatrix(m *matrix) {
	if m.gate = s.gateOf(m.Template.After); m.gate != nil {
		m.gate.matrices[m.Id] = m
	}
}

// populate makes the jobs of new cells, which are the matrix's last, known everywhere.
func (s *State) populate(m *matrix, first uint64, cells uint32) {
	m.Touched = append(m.Touched, make([]byte, int(m.Cells+7)/8-len(m.Touched))...)
	m.untouched += int(cells)
	m.top = m.Cells
	class := s.index.intern(m.Template.Class)
	t := s.tags[m.Template.Tag]
	for id := first; id < first+uint64(cells); id++ {
		s.index.class[id] = class
		s.setMark(id, uint8(m.status()), m.Template.Tag)
		if t != nil {
			t.Jobs = append(t.Jobs, id)
		}
	}
	s.queueMatrix(m)
}

// addMatrix files a matrix's record.
func (s *State) addMatrix(rec *statepb.Matrix) *matrix {
	s.slim(rec, rec.Axes)
	m := &matrix{Matrix: rec, again: map[uint32][]uint64{}, top: rec.Cells}
	cells := m.Cells
	for _, r := range m.More {
		cells -= r.Cells
	}
	s.house(m, m.FirstJob, cells, m.SubmittedAt)
	for _, r := range m.More {
		s.house(m, r.FirstJob, r.Cells, r.SubmittedAt)
	}
	s.matrices[m.Id] = m
	s.order = append(s.order, m)
	if m.Name != "" {
		s.named[m.Name] = m.Id
	}
	return m
}

func (s *State) applyHeld(c *statepb.JobHeld) error {
	return s.change(c.Job, func(j *job) error {
		switch {
		case c.Held && j.Status == Waiting:
			j.Status, j.HeldWhy, j.Error = Held, c.Why, cmp.Or(c.Why, j.Error)
		case c.Held && j.Status == Held && c.Why != "": // it was to be a trial of its matrix
			j.HeldWhy, j.Error = c.Why, c.Why
			s.noteHeldBack(j.Job)
			s.retell(j.Id)
		case !c.Held && j.Status == Held:
			j.Status, j.HeldWhy = Waiting, ""
			s.releaseTag(j.Tag)
		}
		return nil
	})
}

func (s *State) applyCanceled(id uint64, reason string, at int64) error {
	return s.change(id, func(j *job) error {
		if reason != "" && !Final(j.Status) {
			j.Reason = reason
		}
		switch j.Status {
		case Waiting, Held:
			j.Status, j.EndedAt = Canceled, at
		case Running:
			j.Canceling = true
			if s.steps[id] { // between two steps of a setup nothing runs
				s.endSetup(j, Canceled, at)
				break
			}
			s.askCancel(j)
		case Copying: // the fleet stops the copy; until then it goes on
			j.Canceling = true
			s.ask(func(f Fleet) { f.StopCopy(id) })
		}
		return nil
	})
}

// applyForgotten forgets an ended job at once, and cancels another so that it is forgotten when it
// has ended.
func (s *State) applyForgotten(id uint64, reason string, at int64) error {
	j, err := s.touch(id)
	if err != nil {
		return err
	}
	j.Forget = true
	if Final(j.Status) && j.Results == statepb.Results_RESULTS_FAILED {
		s.oweRuns(j.Job) // they were kept for a recopy
	}
	if Final(j.Status) {
		return s.settle(j)
	}
	return s.applyCanceled(id, reason, at)
}

func (s *State) applyTagged(id, tagID uint64) error {
	if tagID != 0 && s.tags[tagID] == nil {
		return fmt.Errorf("no tag %d", tagID)
	}
	return s.change(id, func(j *job) error {
		mark := s.index.mark[id]
		if holdsSlots(j.Job) {
			s.countHolder(j.Job, -1)
			defer func() { s.countHolder(j.Job, 1) }()
		}
		if t := s.tags[j.Tag]; t != nil {
			t.put(id, false)
			t.counts.add(mark, -1)
		}
		j.Tag = tagID
		if t := s.tags[tagID]; t != nil {
			t.put(id, true)
			t.counts.add(mark, 1)
			s.overdone[tagID] = true
		}
		return nil
	})
}

func (s *State) applyMatrixHeld(c *statepb.MatrixHeld, at int64) error {
	m := s.matrices[c.Matrix]
	if m == nil {
		return fmt.Errorf("no matrix %d", c.Matrix)
	}
	if !c.Held && m.Acquitted != 0 { // held because of failures that have shown too little
		s.works.double(matrixWork(m.Id))
	}
	m.Held, m.HeldWhy = c.Held, ""
	m.FailedOut = c.FailedOut
	if c.Held {
		m.HeldWhy = c.Why
	} else {
		m.FailsFrom = int32(m.counts.By[Failed] + m.counts.By[Lost])
		s.releaseTag(m.Template.Tag)
	}
	s.holdFaulty(m, at)
	from, to := Waiting, Held
	if !c.Held {
		from, to = Held, Waiting
	}
	for i := uint32(0); i < m.Cells; i++ {
		if !m.isTouched(i) {
			s.setMark(m.id(i), uint8(to), m.Template.Tag)
		}
	}
	s.queueMatrix(m)
	for _, id := range s.liveOf(m) {
		if j := s.live[id]; j.Status == from {
			j.Status, j.HeldWhy = to, ""
			if err := s.settle(j); err != nil {
				return err
			}
		}
	}
	return nil
}

// liveOf lists the live jobs of a matrix, ascending.
func (s *State) liveOf(m *matrix) []uint64 {
	var ids []uint64
	for id, j := range s.live {
		if j.Matrix == m.Id {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// applyMatrixForgotten forgets a matrix whose jobs have all been forgotten.
func (s *State) applyMatrixForgotten(id uint64) error {
	m := s.matrices[id]
	if m == nil {
		return fmt.Errorf("no matrix %d", id)
	}
	if m.jobs > 0 {
		return fmt.Errorf("matrix %d has jobs still", id)
	}
	if m.item != nil {
		return fmt.Errorf("matrix %d is queued still", id)
	}
	s.unrelate(m)
	if g := m.gate; g != nil {
		m.gate = nil
		delete(g.matrices, id)
		s.dropGate(g)
	}
	delete(s.matrices, id)
	delete(s.empty, id)
	delete(s.accused, id)
	s.order = slices.DeleteFunc(s.order, func(k *matrix) bool { return k == m })
	s.homes = slices.DeleteFunc(s.homes, func(h *home) bool { return h.matrix == m })
	for _, r := range m.Restarted {
		delete(s.extra, r.Job)
	}
	if s.named[m.Name] == id {
		delete(s.named, m.Name)
	}
	return nil
}

func (s *State) applyTag(rec *statepb.Tag) error {
	if err := s.take(rec.Id, 1); err != nil {
		return err
	}
	if _, taken := s.tagNames[rec.Name]; taken {
		return fmt.Errorf("tag %q is there already", rec.Name)
	}
	s.tags[rec.Id] = &tag{Tag: proto.Clone(rec).(*statepb.Tag)}
	s.tagNames[rec.Name] = rec.Id
	return nil
}

// requests remembers what the newest requests were answered, so that a repeated one is done once.
type requests struct {
	done  map[string]*statepb.RequestDone
	order []string // a ring once it is full
	next  int
}

func newRequests() requests { return requests{done: map[string]*statepb.RequestDone{}} }

func (r *requests) add(d *statepb.RequestDone) {
	d = proto.Clone(d).(*statepb.RequestDone)
	if len(r.order) < maxRequest {
		r.order = append(r.order, d.Id)
	} else {
		delete(r.done, r.order[r.next])
		r.order[r.next] = d.Id
		r.next = (r.next + 1) % maxRequest
	}
	r.done[d.Id] = d
}

// each visits them, oldest first.
func (r *requests) each(f func(*statepb.RequestDone) error) error {
	for i := range r.order {
		if err := f(r.done[r.order[(r.next+i)%len(r.order)]]); err != nil {
			return err
		}
	}
	return nil
}
