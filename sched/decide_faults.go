package sched

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// Whose fault is it? A machine that fails every job would eat the queue, since it is free again at once; a
// matrix that can't succeed would empty the class, if its failures were counted against the machines. So four
// failures in a row, of different jobs, only make a machine suspect. Other machines of its class decide: if
// one has succeeded with the same matrix or command, the suspect is set aside in CLASS-broken; until then, and
// while the jobs themselves are still to be tried again, it rests. If most of the machines become suspect, the work is to blame: a matrix is held, and all of them go
// on: from then on its failures count against nobody, those that are still to come neither. A machine that rests though nobody can tell is tried with one job after a while.
//
// A failure that follows a job over machines counts once, against the first; and when the job has failed on
// most machines of the class, or on four, it is the job's own: it counts against none of them, but against
// its matrix. When the job succeeds somewhere after all, it counts against all on which it failed. So that
// this is soon known, a retry goes to a machine on which the job hasn't failed yet, where there is one. A sweep
// needs this care: cells with one bad value come one after the other, and fail at once on whichever machine is free.

const (
	// failuresInRow is how many different jobs have to fail in a row before a machine is suspect, and how many
	// jobs of a matrix of which none has succeeded have to fail everywhere before it is held.
	failuresInRow = 4
	// everywhere is how many machines are enough to say that a job fails everywhere, of a class that has more.
	everywhere = 4
	// keptFailures is how many failures of a machine are kept, the newest.
	keptFailures = 32
	// rest is how long a suspect gets no job, unless others clear it.
	rest = 10 * time.Minute
)

// brokenSuffix makes the class in which machines of a class are set aside.
const brokenSuffix = "-broken"

// unknownHostClass is where machines go whose host key isn't the one on record.
const unknownHostClass = "error-unknown-host"

// workOf names what a job runs, so that failures and successes of the same work can be compared: %ID for a
// matrix, $COMMAND for a short command, #HASH for a long one.
func workOf(j *statepb.Job) string {
	switch {
	case j.Matrix != 0:
		return "%" + strconv.FormatUint(j.Matrix, 10)
	case len(j.Cmd) <= 2*sha256.Size:
		return "$" + strings.ToValidUTF8(string(j.Cmd), "\uFFFD")
	}
	sum := sha256.Sum256(j.Cmd)
	return "#" + hex.EncodeToString(sum[:])
}

func matrixOfWork(work string) uint64 {
	if number, ok := strings.CutPrefix(work, "%"); ok {
		if id, err := strconv.ParseUint(number, 10, 64); err == nil {
			return id
		}
	}
	return 0
}

// failedOn lists the machines on which a job has failed, of the attempts that are remembered.
func failedOn(j *statepb.Job) []string {
	if j.Avoid == "" {
		return nil
	}
	var addrs []string
	for _, a := range j.Attempts {
		if failedAttempt(a) && !slices.Contains(addrs, a.Machine) {
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
	return false
}

// blame counts a failure against the machine, once for each job; or against the job, when it has failed
// elsewhere as well. It is called before the job's Avoid is set to the machine of this attempt.
func (s *State) blame(j *job, a *statepb.Attempt, at int64) {
	failed := failedOn(j.Job)
	first := len(failed) == 0 || failed[0] == a.Machine
	m := s.machines[a.Machine]
	if m == nil || s.faulty(j.Matrix) {
		return
	}
	why := Reason(a)
	m.LastError = fmt.Sprintf("job %d %s", j.Id, why)
	i := slices.IndexFunc(m.Failures, func(f *statepb.Failure) bool { return f.Job == j.Id })
	if i < 0 {
		if n := len(m.Failures); n == keptFailures {
			m.Failures = slices.Delete(m.Failures, 0, 1)
		}
		m.Failures = append(m.Failures, &statepb.Failure{Job: j.Id, Work: workOf(j.Job), Error: why, Excused: !first})
		i = len(m.Failures) - 1
	}
	m.Failures[i].At = at
	s.file(m)

	if most := s.most(m.Class); len(failed) >= most {
		for _, addr := range failed {
			s.excuse(addr, j.Id, true)
		}
		again := slices.ContainsFunc(j.Attempts[:len(j.Attempts)-1], func(o *statepb.Attempt) bool {
			return o.Machine == a.Machine && failedAttempt(o)
		})
		if len(failed) == most && !again {
			s.accuse(j)
		}
	}
}

// faulty says that a matrix is held because it is to blame.
func (s *State) faulty(matrix uint64) bool {
	m := s.matrices[matrix]
	return m != nil && m.Held && m.HeldWhy != ""
}

// exonerate lets the machines go on that failed with a matrix which is to blame: the others of its class were cleared, and these
// would rest though they are no worse.
func (s *State) exonerate(m *matrix) {
	work := "%" + strconv.FormatUint(m.Id, 10)
	for _, one := range s.class(m.Template.Class).machines {
		before := len(one.Failures)
		one.Failures = slices.DeleteFunc(one.Failures, func(f *statepb.Failure) bool { return f.Work == work })
		if len(one.Failures) == before {
			continue
		}
		if len(one.Failures) == 0 {
			one.LastError = ""
		}
		s.file(one)
	}
}

// most is how many machines of a class are the most of it, and so
// are enough to say that a job fails everywhere: at least two.
func (s *State) most(class string) int {
	return min(max(len(s.class(class).machines)/2+1, 2), everywhere)
}

// excuse says of a job's failure on a machine whether it is the job's own.
func (s *State) excuse(addr string, job uint64, excused bool) {
	m := s.machines[addr]
	if m == nil {
		return
	}
	for _, f := range m.Failures {
		if f.Job == job && f.Excused != excused {
			f.Excused = excused
			s.file(m)
		}
	}
}

// accuse counts a job that has failed everywhere against its matrix.
func (s *State) accuse(j *job) {
	if m := s.matrices[j.Matrix]; m != nil {
		m.Apart++
		s.suspectMatrix(m)
	}
}

// suspectMatrix keeps the list of matrices that should be held:
// jobs of it fail wherever they go, and none has succeeded.
func (s *State) suspectMatrix(m *matrix) {
	if m.Apart >= failuresInRow && !m.Held {
		s.accused[m.Id] = true
	} else {
		delete(s.accused, m.Id)
	}
}

// worked clears the machine, remembers that the work can
// succeed there, and lets the job's failures on others count.
func (s *State) worked(j *job, a *statepb.Attempt) {
	for _, addr := range failedOn(j.Job) {
		s.excuse(addr, j.Id, false)
	}
	m := s.machines[a.Machine]
	if m == nil {
		return
	}
	m.Failures = nil
	s.works.add(workOf(j.Job), a.Machine) // others may be judged by it
	s.file(m)
}

// blamed counts the jobs that failed on the machine in a row, and not elsewhere.
func (m *machine) blamed() int {
	n := 0
	for _, f := range m.Failures {
		if !f.Excused {
			n++
		}
	}
	return n
}

func (m *machine) suspect() bool { return m.blamed() >= failuresInRow }

// restsUntil is when a suspect is tried again, 0 for others.
func (m *machine) restsUntil() int64 {
	if !m.suspect() {
		return 0
	}
	return m.Failures[len(m.Failures)-1].At + int64(rest)
}

// judge says what becomes of the suspects of a class, or nil.
func (s *State) judge(c *class) *Change {
	if strings.HasSuffix(c.name, brokenSuffix) || c.name == unknownHostClass || c.name == "" {
		return nil
	}
	if !slices.ContainsFunc(c.watched, (*machine).suspect) {
		return nil
	}
	var suspects []*machine
	others := 0 // that could tell
	for _, m := range c.machines {
		if !m.suspect() {
			if m.link == LinkConnected && !m.Draining && !m.Removing {
				others++
			}
			continue
		}
		reason := fmt.Sprintf("%d jobs in a row failed here, the last: %s", m.blamed(), m.LastError)
		if len(c.machines) == 1 {
			return moved(m.Addr, c.name+brokenSuffix, reason)
		}
		for _, f := range m.Failures {
			if f.Excused || s.goesOn(f.Job) {
				continue
			}
			if other := s.cleared(f.Work, m.Addr, c); other != "" {
				return moved(m.Addr, c.name+brokenSuffix, reason+"; the same work succeeded on "+other)
			}
		}
		suspects = append(suspects, m)
	}
	if len(suspects) < 2 || len(suspects) <= others {
		return nil
	}
	return s.acquit(suspects)
}

// goesOn says that a job which has failed will be tried again, and so will tell whose fault that was, better than others of its work.
func (s *State) goesOn(job uint64) bool {
	j := s.live[job]
	return j != nil && j.Status != Copying
}

// cleared is a machine of the class, not this one, that has succeeded with the work and hasn't failed with it since: with a matrix of
// which some cells succeed and others fail everywhere, a success alone tells nothing.
func (s *State) cleared(work, addr string, c *class) string {
	for _, other := range s.works.others(work, addr, c) {
		if !slices.ContainsFunc(s.machines[other].Failures, func(f *statepb.Failure) bool { return f.Work == work && !f.Excused }) {
			return other
		}
	}
	return ""
}

// acquit clears machines that fail alike. A matrix that failed on
// two of them is held first, so that it doesn't go on failing.
func (s *State) acquit(suspects []*machine) *Change {
	on := map[uint64]string{} // matrix to the machine on which it failed
	for _, m := range suspects {
		for _, f := range m.Failures {
			matrix := s.matrices[matrixOfWork(f.Work)]
			if matrix == nil || matrix.Held {
				continue
			}
			if first := on[matrix.Id]; first != "" && first != m.Addr {
				return held(matrix.Id, fmt.Sprintf("%d jobs in a row failed on %s and on %s, the last: %s", failuresInRow, first, m.Addr, f.Error))
			}
			on[matrix.Id] = m.Addr
		}
	}
	cleared := &statepb.MachineCleared{Addr: suspects[0].Addr}
	for _, m := range suspects[1:] {
		cleared.Others = append(cleared.Others, m.Addr)
	}
	return &Change{MachineCleared: cleared}
}

// judgeMatrix holds a matrix of which jobs fail wherever they go, and none has succeeded.
func (s *State) judgeMatrix(id uint64) *Change {
	m := s.matrices[id]
	if m == nil || m.counts.By[Done]+m.counts.By[Copying] > 0 {
		return nil
	}
	return held(id, fmt.Sprintf("%d of its jobs failed wherever they ran, and none has succeeded", m.Apart))
}

func held(matrix uint64, why string) *Change {
	return &Change{MatrixHeld: &statepb.MatrixHeld{Matrix: matrix, Held: true, Why: why}}
}

func moved(addr, class, reason string) *Change {
	return &Change{MachineMoved: &statepb.MachineMoved{Addr: addr, Class: class, Reason: reason}}
}
