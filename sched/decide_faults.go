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

// Whose fault is it? A machine that fails every job would eat the queue, since it is free again at
// once; a matrix that can't succeed would empty the class, if its failures were counted against the
// machines. What a failure shows depends on what else is known, so the rule is: a verdict needs a
// witness that is newer than the accusation, is tested once more before it is carried out, and is
// taken back by any later success.
//
// The row of a machine are the different jobs that failed there since its last success. A job that
// fails on a second machine counts against neither; when it succeeds elsewhere after all, against
// each on which it failed. Each work, which is a matrix or a command, has a need: how many of its
// failures in a row say anything, at first 4. The rule in seven items:
//
//  1. What is the machine's own doing (it can't start anything, it has no room, a supervisor died)
//     needs no witness: it gets nothing for 1, 2, 4 … 15 minutes. What no machine could start is
//     the job's own failure, and counts against none.
//  2. A machine whose row reaches the need is suspect. It gets one job at a time, at first the far
//     cell of a matrix in its row: the last, then the middle one, then those at the quarters, since
//     bad cells come one after the other. A success clears it, and doubles the need of the works in
//     its row, up to 64.
//  3. After a trial that failed it rests for 1, 2, 4 … 15 minutes, but only while there is a usable
//     machine in its class that isn't suspect. When all are, all are cleared, and the needs
//     doubled: then it is the work.
//  4. It is set aside, in CLASS-broken, only when another machine has succeeded with a work of its
//     row in an attempt that began after it became suspect, and it has failed a trial since, with 4
//     jobs of its row at their end, while the work failed on no machine that isn't suspect. Never
//     the last one.
//  5. A matrix of which as many cells as its need failed since one succeeded, on two machines or on
//     all, has its far cell run on a machine not among them. Nothing stops meanwhile. If the cell
//     fails the matrix is held, and its failures are excused everywhere; if it succeeds, the need
//     doubles.
//  6. Any success takes a verdict back. A matrix that is held so is tried with one cell after 10,
//     20 … 240 minutes, and a machine that is set aside with a job that has retries left after 15 …
//     240 minutes; it isn't counted against the job.
//  7. A retry passes over the machines on which its job failed for 5 minutes, and over those of
//     them that are suspect as long as another is usable. Then it goes anywhere.
//
// Rows, needs, trials and their times are durable, and follow from what happened: apply_faults.go.
// Which machines are usable is not, so that the verdicts themselves are decided here, and the
// trials in decide_trials.go.

const (
	// firstNeed is how many different jobs of a work have to fail in a row before a machine is
	// suspect, or how many cells before a matrix is; maxNeed is how far successes of the suspects
	// can raise that.
	firstNeed = 4
	maxNeed   = 64
	// keptFailures is how many failures of a machine are kept, the newest: those that count, and
	// as many that don't. keptRow is how many of a matrix are, beyond which it is certain enough.
	keptFailures = 2 * maxNeed
	keptRow      = 512
	// finalFailures of a suspect's row have to be final before it is set aside: jobs that
	// are tried again will tell better whose fault that was.
	finalFailures = 4
	// failedTrials is how many trials a suspect has to fail before it is set aside: one shows
	// that it goes on failing, another that it does so when others succeed.
	failedTrials = 2
)

// How long the pauses are, each twice as long as the one before, and at most the last of these.
const (
	// of a suspect, and after what is a machine's own doing
	firstRest, lastRest = time.Minute, 15 * time.Minute
	// until a matrix that is held is tried
	firstHeld, lastTrial = 10 * time.Minute, 240 * time.Minute
	// until a machine that is set aside is tried
	firstAside = 15 * time.Minute
	// that a retry passes over machines on which its job failed
	avoidFor = 5 * time.Minute
	// between two searches for a job to try a machine with
	scanPause = time.Minute
)

// brokenSuffix makes the class in which machines of a class are set aside.
const brokenSuffix = "-broken"

// unknownHostClass is where machines go whose host key isn't the one on record.
const unknownHostClass = "error-unknown-host"

// nextPause is the pause after one of that length, 0 before the first.
func nextPause(before int64, first, longest time.Duration) int64 {
	return min(max(2*before, int64(first)), int64(longest))
}

// workOf names what a job runs, so that failures and successes of the same work can be compared:
// %ID for a matrix, $COMMAND for a short command, #HASH for a long one.
func workOf(j *statepb.Job) string {
	switch {
	case j.Matrix != 0:
		return matrixWork(j.Matrix)
	case len(j.Cmd) <= 2*sha256.Size:
		return "$" + strings.ToValidUTF8(string(j.Cmd), "\uFFFD")
	}
	sum := sha256.Sum256(j.Cmd)
	return "#" + hex.EncodeToString(sum[:])
}

func matrixWork(id uint64) string { return "%" + strconv.FormatUint(id, 10) }

func matrixOfWork(work string) uint64 {
	if number, ok := strings.CutPrefix(work, "%"); ok {
		if id, err := strconv.ParseUint(number, 10, 64); err == nil {
			return id
		}
	}
	return 0
}

// sound says that the machine can be given work and that nothing is known against it; able, that it
// may be suspect.
func (m *machine) sound() bool { return m.able() && !m.suspect() }
func (m *machine) able() bool  { return m.open() && m.Own == 0 && !m.aside() }

// suspect says that a trial is to show whether the machine is at fault.
func (m *machine) suspect() bool { return m.Suspect != 0 }

// aside says that it was set aside, in a class of its own, and will be tried again.
func (m *machine) aside() bool {
	return m.HomeClass != "" && m.Class == m.HomeClass+brokenSuffix
}

// faulty says that a matrix is held because it is to blame.
func (s *State) faulty(matrix uint64) bool {
	m := s.matrices[matrix]
	return m != nil && m.faulty()
}

func (m *matrix) faulty() bool { return m.Held && m.HeldWhy != "" && !m.FailedOut }

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

// restsUntil is when a machine is given work again, 0 for one that isn't at rest.
func (m *machine) restsUntil() int64 {
	until := m.OwnUntil
	if m.suspect() && m.RestUntil > until && m.class.sound > 0 { // it isn't among them itself
		until = m.RestUntil
	}
	return until
}

// judge gives the next verdict that is due in a class, or nil.
func (s *State) judge(c *class) *Change {
	for _, m := range s.accusedIn(c) {
		if ch := s.judgeMatrix(m, c); ch != nil {
			return ch
		}
	}
	suspects := 0
	far := true // all of them had their trial
	for _, m := range c.watched {
		switch {
		case m.aside() && m.Acquitted != 0:
			return &Change{MachineCleared: &statepb.MachineCleared{
				Addr: m.Addr, Class: m.HomeClass,
				Why: fmt.Sprintf("job %d has succeeded there", m.Acquitted),
			}}
		case !m.suspect() || !m.able():
			continue
		}
		if why := s.convicted(m, c); why != "" {
			return moved(m.Addr, c.name+brokenSuffix, why)
		}
		suspects++
		far = far && (m.Trials > 0 || !s.hasFarCell(m))
	}
	if suspects > 0 && suspects == c.able && far {
		return acquit(c)
	}
	return nil
}

// convicted says why a suspect is set aside, or "" while that isn't certain.
func (s *State) convicted(m *machine, c *class) string {
	if m.Trials < failedTrials || c.able < 2 {
		return ""
	}
	final := 0
	for _, f := range m.Failures {
		if !f.Excused && !s.goesOn(f.Job) {
			final++
		}
	}
	if final < finalFailures {
		return ""
	}
	for _, w := range m.Witnesses {
		inRow := slices.ContainsFunc(m.Failures, func(f *statepb.Failure) bool {
			return f.Work == w.Work && !f.Excused
		})
		other := s.machines[w.Machine]
		if inRow && w.Seq < m.LastTrial && other != nil && other != m && other.Class == c.name {
			return fmt.Sprintf("%d jobs in a row failed here, the last: %s; the same work "+
				"succeeded on %s meanwhile",
				m.blamed(), m.LastError, w.Machine)
		}
	}
	return ""
}

// goesOn says that a job which has failed will be tried again, and so will
// tell whose fault that was, better than others of its work.
func (s *State) goesOn(job uint64) bool {
	j := s.live[job]
	return j != nil && j.Status != Copying
}

// acquit clears all machines of a class, each of which fails: it is the work.
func acquit(c *class) *Change {
	cleared := &statepb.MachineCleared{Double: true, Why: "all machines of the class fail alike"}
	for _, m := range c.watched {
		switch {
		case !m.suspect():
		case cleared.Addr == "":
			cleared.Addr = m.Addr
		default:
			cleared.Others = append(cleared.Others, m.Addr)
		}
	}
	if len(c.machines) == 1 {
		cleared.Why = "no other machine of its class could tell whether it is to blame"
	}
	return &Change{MachineCleared: cleared}
}

// accusedIn lists the matrices of a class of which something is to be decided.
func (s *State) accusedIn(c *class) (accused []*matrix) {
	for _, id := range sortedIDs(s.accused) {
		if m := s.matrices[id]; m.Template.Class == c.name {
			accused = append(accused, m)
		}
	}
	return accused
}

// judgeMatrix holds a matrix whose far cell has failed as those before it, and releases one of
// which a cell has succeeded.
func (s *State) judgeMatrix(m *matrix, c *class) *Change {
	if m.faulty() {
		if m.Acquitted != 0 {
			return &Change{MatrixHeld: &statepb.MatrixHeld{
				Matrix: m.Id, Why: fmt.Sprintf("job %d of it has succeeded", m.Acquitted),
			}}
		}
		return nil
	}
	if m.counts.By[Waiting] == 0 {
		return nil // there is nothing to hold
	}
	i := len(m.Row) - 1
	for i >= 0 && !m.Row[i].Far {
		i--
	}
	if i < 0 {
		return s.judgeUntried(m, c)
	}
	row, far := m.Row[:i+1], m.Row[i]
	cells, on := cellsOf(row), machinesOf(row)
	all := c.allAmong(on)
	again := slices.ContainsFunc(row[:i], func(f *statepb.Failure) bool {
		return f.Machine == far.Machine
	})
	if cells <= s.works.need(matrixWork(m.Id)) || !all && (len(on) < 2 || again) {
		return nil
	}
	return held(m.Id,
		fmt.Sprintf("%d of its jobs failed in a row, on %s, and so did job %d, far from them: %s",
			cells-1, severalMachines(on), far.Job, far.Error))
}

// judgeUntried holds a matrix of which every cell has failed, and which would go on without end.
func (s *State) judgeUntried(m *matrix, c *class) *Change {
	cells, on := cellsOf(m.Row), machinesOf(m.Row)
	if m.Template.MaxFailures >= 0 || m.hasFarCell() || cells < s.works.need(matrixWork(m.Id)) ||
		len(on) < 2 && !c.allAmong(on) {
		return nil
	}
	return held(m.Id, fmt.Sprintf("%d of its jobs failed in a row, on %s, and none is left that "+
		"didn't", cells, severalMachines(on)))
}

// severalMachines names a machine, or counts several.
func severalMachines(addrs []string) string {
	if len(addrs) == 1 {
		return addrs[0]
	}
	return fmt.Sprintf("%d machines", len(addrs))
}

// cellsOf counts the different jobs of a row.
func cellsOf(row []*statepb.Failure) int {
	seen := map[uint64]bool{}
	for _, f := range row {
		seen[f.Job] = true
	}
	return len(seen)
}

// machinesOf lists the machines of a row.
func machinesOf(row []*statepb.Failure) (addrs []string) {
	seen := map[string]bool{}
	for _, f := range row {
		if !seen[f.Machine] {
			seen[f.Machine] = true
			addrs = append(addrs, f.Machine)
		}
	}
	return addrs
}

// allAmong says that there are usable machines in the class, and that all of them are in the list.
func (c *class) allAmong(addrs []string) bool {
	if c.able == 0 {
		return false
	}
	n := 0
	for _, m := range c.machines {
		if m.able() {
			if !slices.Contains(addrs, m.Addr) {
				return false
			}
			n++
		}
	}
	return n > 0
}

func held(matrix uint64, why string) *Change {
	return &Change{MatrixHeld: &statepb.MatrixHeld{Matrix: matrix, Held: true, Why: why}}
}

func moved(addr, class, reason string) *Change {
	return &Change{MachineMoved: &statepb.MachineMoved{Addr: addr, Class: class, Reason: reason}}
}
