package sched

import (
	"fmt"
	"slices"

	"jobserver/sched/statepb"
)

// What failures and successes leave behind for the verdicts of decide_faults.go. All of it is
// durable and follows from the changes alone. What came before what is told by the numbers of
// changes, which no clock can turn round.

// tiding is news of a verdict that a change brought along with something else.
type tiding struct {
	kind    string
	machine string
	text    string
	warn    bool
}

func (s *State) tell(kind, machine string, warn bool, format string, args ...any) {
	s.tidings = append(s.tidings, tiding{kind, machine, fmt.Sprintf(format, args...), warn})
}

// failedOn lists the machines on which a job has failed, of the attempts that are remembered.
func failedOn(j *statepb.Job) []string {
	if j.Avoid == "" {
		return nil
	}
	return machinesFailing(j, failedAttempt)
}

func machinesFailing(j *statepb.Job, counts func(*statepb.Attempt) bool) (addrs []string) {
	for _, a := range j.Attempts {
		if a = culprit(a); counts(a) && !slices.Contains(addrs, a.Machine) {
			addrs = append(addrs, a.Machine)
		}
	}
	return addrs
}

// failedAttempt says that an attempt ended in a way for which the job or the machine is to blame.
func failedAttempt(a *statepb.Attempt) bool {
	switch a.Cause {
	case statepb.Cause_EXITED:
		return a.ExitCode != 0 || a.Signal != ""
	case statepb.Cause_TIMED_OUT, statepb.Cause_NOT_STARTED:
		return true
	}
	return a.MachinesFault
}

// blame counts the failure of an attempt: of its work on its machine, of its job on different
// machines, of its matrix. It may be a trial, which has effects of its own, or the failure of what
// is held already, which has none.
func (s *State) blame(j *job, a *statepb.Attempt, at int64) {
	machine, matrix := s.machines[a.Machine], s.matrices[j.Matrix]
	switch {
	case a.Trial == statepb.Trial_TRIAL_ASIDE && machine != nil && machine.aside():
		machine.TrialPause = nextPause(machine.TrialPause, firstAside, lastTrial)
		machine.TrialAt = at + machine.TrialPause
		machine.LastError = fmt.Sprintf("job %d %s", j.Id, Reason(a))
		s.file(machine)
		return
	case a.Trial == statepb.Trial_TRIAL_HELD && s.faulty(j.Matrix):
		matrix.TrialPause = nextPause(matrix.TrialPause, firstHeld, lastTrial)
		matrix.TrialAt = at + matrix.TrialPause
		return
	case s.faulty(j.Matrix):
		return
	}
	// That a cell which has failed before fails again shows nothing as long as there are others.
	if matrix != nil && (j.Failures == 0 || matrix.untouched == 0) {
		s.addToRow(matrix, &statepb.Failure{
			Job: j.Id, Machine: a.Machine, Error: Reason(a), At: at,
			Far: a.Trial == statepb.Trial_TRIAL_FAR,
		})
	}
	if a.Cause != statepb.Cause_NOT_STARTED {
		// what no machine could start says nothing of this one
		s.blameMachine(j, a, at)
	}
}

// addToRow notes a failure of a matrix's cell.
func (s *State) addToRow(m *matrix, f *statepb.Failure) {
	if len(m.Row) == keptRow {
		m.Row = slices.Delete(m.Row, 0, 1)
	}
	m.Row = append(m.Row, f)
	s.accuse(m)
}

// blameMachine counts a failure against the machine, unless its job has failed on another as well.
func (s *State) blameMachine(j *job, a *statepb.Attempt, at int64) {
	elsewhere := machinesFailing(j.Job, func(o *statepb.Attempt) bool {
		return failedAttempt(o) && !o.MachinesFault && o.Machine != a.Machine
	})
	for _, addr := range elsewhere {
		s.excuse(addr, j.Id)
	}
	m := s.machines[a.Machine]
	if m == nil || m.aside() {
		return
	}
	s.count(m,
		&statepb.Failure{Job: j.Id, Work: workOf(j.Job), Error: Reason(a), At: at,
			Excused: len(elsewhere) > 0})
	m.LastError = fmt.Sprintf("job %d %s", j.Id, Reason(a))
	if !m.suspect() {
		s.contradict(m, workOf(j.Job))
	} else if a.Seq > m.Suspect {
		m.Trials++
		m.LastTrial = a.Seq
		m.RestPause = nextPause(m.RestPause, firstRest, lastRest)
		m.RestUntil = at + m.RestPause
	}
	s.suspectMachine(m)
	s.file(m)
}

// count puts a failure into a machine's row, once for each job.
func (s *State) count(m *machine, f *statepb.Failure) {
	if i := slices.IndexFunc(m.Failures,
		func(o *statepb.Failure) bool { return o.Job == f.Job }); i >= 0 {
		f.Excused = f.Excused || m.Failures[i].Excused
		m.Failures = slices.Delete(m.Failures, i, i+1)
	} else if len(m.Failures) == keptFailures {
		m.Failures = slices.Delete(m.Failures, 0, 1)
	}
	m.Failures = append(m.Failures, f)
}

// suspectMachine makes a machine suspect whose row has reached the need of the works in it.
func (s *State) suspectMachine(m *machine) {
	row, need := 0, firstNeed
	for _, f := range m.Failures {
		if !f.Excused {
			row++
			need = max(need, s.works.need(f.Work))
		}
	}
	if m.suspect() || m.aside() || row < need {
		return
	}
	m.Suspect = s.changes
	s.tell(EventMachineSuspect, m.Addr, true,
		"machine %s is suspect, as %d jobs in a row failed there, the last: %s; it gets one job "+
			"at a time until one succeeds (`%s` ends that)",
		m.Addr, row, m.LastError, resumeCommand(m.Addr))
}

// excuse says of a job's failure on a machine that it is the job's own.
func (s *State) excuse(addr string, job uint64) {
	m := s.machines[addr]
	if m == nil {
		return
	}
	for _, f := range m.Failures {
		if f.Job == job && !f.Excused {
			f.Excused = true
			if m.suspect() && m.blamed() == 0 {
				s.tellCleared(m)
				s.clear(m, false)
			}
			s.file(m)
		}
	}
}

// worked takes note of a success: it clears the machine and the row of the matrix, takes verdicts
// back, bears witness against suspects, and counts the job's failures on other machines against
// them after all.
func (s *State) worked(j *job, a *statepb.Attempt) {
	work := workOf(j.Job)
	for _, r := range runsOf(a) {
		if m := s.machines[r.Machine]; m != nil {
			if m.aside() {
				m.Acquitted = j.Id
			}
			m.Own, m.OwnUntil, m.LastError = 0, 0, ""
			s.tellCleared(m)
			s.clear(m, m.suspect() && a.Seq > m.Suspect)
			s.file(m)
		}
	}
	if m := s.matrices[j.Matrix]; m != nil {
		if cellsOf(m.Row) >= s.works.need(work) {
			s.works.double(work)
		}
		m.Row = nil
		if m.faulty() {
			m.Acquitted = j.Id
		}
		s.accuse(m)
	}
	s.witness(j, work, a)
	for _, addr := range machinesFailing(j.Job, failedAttempt) {
		s.convict(addr, j.Id)
	}
}

// witness notes a success with a work that fails on a suspect of the class, if it was begun after
// that became suspect.
func (s *State) witness(j *job, work string, a *statepb.Attempt) {
	for _, m := range s.class(j.Class).watched {
		if rankOn(a, m.Addr) != nil || !m.suspect() || a.Seq <= m.Suspect ||
			!slices.ContainsFunc(m.Failures, func(f *statepb.Failure) bool {
				return f.Work == work
			}) ||
			slices.ContainsFunc(m.Witnesses, func(w *statepb.Witness) bool {
				return w.Work == work
			}) {
			continue
		}
		m.Witnesses = append(m.Witnesses,
			&statepb.Witness{Work: work, Machine: a.Machine, Seq: s.changes})
	}
}

// contradict takes back what was witnessed of a work: it fails on a machine that is in order, too.
func (s *State) contradict(m *machine, work string) {
	for _, o := range m.class.watched {
		o.Witnesses = slices.DeleteFunc(o.Witnesses, func(w *statepb.Witness) bool {
			return w.Work == work
		})
	}
}

// convict lets a job's failure on a machine count that was excused: it has succeeded elsewhere.
func (s *State) convict(addr string, job uint64) {
	m := s.machines[addr]
	if m == nil {
		return
	}
	for _, f := range m.Failures {
		if f.Job == job && f.Excused {
			f.Excused = false
			s.suspectMachine(m)
			s.file(m)
		}
	}
}

// clear forgets the row of a machine, and that it was suspect. With double, its row has shown too
// little.
func (s *State) clear(m *machine, double bool) {
	works := map[string]bool{}
	for _, f := range m.Failures {
		if double && !f.Excused && !works[f.Work] {
			works[f.Work] = true
			s.works.double(f.Work)
		}
	}
	m.Failures = nil
	s.unsuspect(m)
}

// tellCleared tells that a machine, if it was suspect, isn't any more.
func (s *State) tellCleared(m *machine) {
	if m.suspect() {
		s.tell(EventMachineCleared, m.Addr, false, "machine %s is no longer suspect", m.Addr)
	}
}

// unsuspect ends a suspicion.
func (s *State) unsuspect(m *machine) {
	m.Suspect, m.Trials, m.LastTrial, m.RestUntil, m.RestPause, m.Witnesses = 0, 0, 0, 0, 0, nil
}

// pardon forgets all that is known against a machine.
func (s *State) pardon(m *machine, double bool) {
	s.clear(m, double)
	m.LastError, m.Own, m.OwnSeq, m.OwnUntil, m.OwnDied = "", 0, 0, 0, false
	m.TrialAt, m.TrialPause, m.TrialJob, m.Acquitted = 0, 0, 0, 0
}

// exonerate lets the machines go on that failed with a matrix which is to blame:
// the others of its class were cleared, and these would rest though they are no worse.
func (s *State) exonerate(m *matrix) {
	work := matrixWork(m.Id)
	for _, addr := range sorted(s.machines) {
		one := s.machines[addr]
		before := len(one.Failures)
		one.Failures = slices.DeleteFunc(one.Failures, func(f *statepb.Failure) bool {
			return f.Work == work
		})
		if len(one.Failures) == before {
			continue
		}
		s.tellCleared(one)
		s.unsuspect(one)
		if len(one.Failures) == 0 && one.Own == 0 {
			one.LastError = ""
		}
		s.file(one)
	}
}

// ownDoing notes a failure for which nothing but the machine is to blame: it gets nothing for a
// while.
func (s *State) ownDoing(j *job, a *statepb.Attempt, died bool, at int64) {
	m := s.machines[a.Machine]
	if m == nil {
		return
	}
	m.LastError = fmt.Sprintf("job %d %s", j.Id, Reason(a))
	switch {
	case m.aside():
		if a.Trial == statepb.Trial_TRIAL_ASIDE {
			m.TrialPause = nextPause(m.TrialPause, firstAside, lastTrial)
			m.TrialAt = at + m.TrialPause
		}
	case m.Own == 0 || a.Seq > m.OwnSeq:
		// others that were on their way when the newest was known say no more
		m.Own++
		m.OwnSeq, m.OwnDied = s.changes, died
		m.OwnUntil = at + min(int64(firstRest)<<min(m.Own-1, 10), int64(lastRest))
		s.tell(EventMachineResting, m.Addr, true,
			"machine %s rests until %s, as job %d %s; then it is tried with one job (`%s` ends "+
				"the rest)",
			m.Addr, clockTime(m.OwnUntil), j.Id, Reason(a), resumeCommand(m.Addr))
	}
	s.file(m)
}

// began takes note that a run has begun: the machine can start something after all.
func (s *State) began(a *statepb.Attempt) {
	m := s.machines[a.Machine]
	if m == nil || m.Own == 0 || m.OwnDied || a.Seq <= m.OwnSeq {
		return
	}
	m.Own, m.OwnUntil = 0, 0
	s.tell(EventMachineCleared, m.Addr, false, "machine %s starts jobs again", m.Addr)
	s.file(m)
}

// accuse keeps the list of matrices of which something is to be decided, as enough of their cells
// have failed in a row, or as the system holds them.
func (s *State) accuse(m *matrix) {
	if m.faulty() || !m.Held && len(m.Row) >= firstNeed &&
		cellsOf(m.Row) >= s.works.need(matrixWork(m.Id)) {
		s.accused[m.Id] = true
		s.dirty[m.Template.Class] = true
	} else {
		delete(s.accused, m.Id)
	}
}

// holdFaulty begins, or ends, what holding a matrix means for the rule.
func (s *State) holdFaulty(m *matrix, at int64) {
	m.TrialAt, m.TrialPause, m.TrialJob, m.Acquitted = 0, 0, 0, 0
	if m.faulty() {
		m.TrialPause = int64(firstHeld)
		m.TrialAt = at + m.TrialPause
		s.exonerate(m)
	} else {
		m.Row = nil
	}
	s.accuse(m)
}

// tried notes that a job was dispatched as a trial, so that there is one at a time.
func (s *State) tried(j *job, a *statepb.Attempt) {
	matrix, m := s.matrices[j.Matrix], s.machines[a.Machine]
	for _, r := range a.Ranks {
		r.Seq, r.Trial = a.Seq, a.Trial
		if r.Trial == statepb.Trial_TRIAL_NONE && s.machines[r.Machine].suspect() && !r.Idle {
			r.Trial = statepb.Trial_TRIAL_SUSPECT
		}
	}
	switch {
	case a.Trial == statepb.Trial_TRIAL_ASIDE:
		m.TrialJob = j.Id
	case a.Trial != statepb.Trial_TRIAL_NONE && matrix != nil:
		matrix.TrialJob = j.Id
	case m.suspect():
		a.Trial = statepb.Trial_TRIAL_SUSPECT
	}
}
