package sched

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// Op is a change that can be made to many jobs at once.
type Op string

// The operations.
const (
	OpCancel  Op = "cancel"
	OpForget  Op = "forget"
	OpHold    Op = "hold"
	OpUnhold  Op = "unhold"
	OpClone   Op = "clone"
	OpRestart Op = "restart"
	OpRetime  Op = "set-timeout"
	OpTag     Op = "tag"
	OpUntag   Op = "untag"
	OpRecopy  Op = "recopy"
	OpLost    Op = "lost"
	OpPause   Op = "pause"
	OpGoOn    Op = "continue"
	OpSignal  Op = "signal"
	OpSet     Op = "set"

	opSubmit Op = "submit" // a job very many times
)

// Operation is a request for one operation on many jobs.
type Operation struct {
	Op      Op
	Jobs    []uint64
	Repeat  int           // of clone
	Timeout time.Duration // of set-timeout
	Tag     string        // of tag
	Retry   bool          // of lost
	Signal  string        // of signal: its name or number
	Reason  string        // of cancel and forget; "" : none is given
	Set     SetSpec       // of set
}

// tell completes what is said of a job when all that was made of it is there.
func (f *Fate) tell() {
	if len(f.New) > 1 {
		f.Note = "cloned as " + rangesText(f.New)
	}
}

// rangesText lists ids, as in 3..9, 12.
func rangesText(ids []uint64) string {
	var parts []string
	for i := 0; i < len(ids); {
		first := i
		for i++; i < len(ids) && ids[i] == ids[i-1]+1; i++ {
		}
		if i-first == 1 {
			parts = append(parts, fmt.Sprint(ids[first]))
		} else {
			parts = append(parts, fmt.Sprintf("%d..%d", ids[first], ids[i-1]))
		}
	}
	return strings.Join(parts, ", ")
}

// Fate tells what becomes of one job: changed, or why not.
type Fate struct {
	Job     uint64
	Status  Status // before
	Changed bool
	Note    string
	New     []uint64 // the jobs that were made of it: several when it is cloned several times
}

// PlanAtOnce plans one operation on many jobs. A job for which
// it makes no sense is passed over, and its fate says why; only OpSet is of all jobs or none.
func (s *State) PlanAtOnce(b Operation) (Plan, error) {
	p := s.planner()
	if b.Op == OpSet && b.Set.Next {
		p.firsts = s.firsts(b.Jobs)
	}
	if err := p.atOnce(b); err != nil {
		return Plan{}, err
	}
	return p.Plan, nil
}

// TryOperation tells what an operation would come to for some of its jobs, at most
// OperationPiece of them in a turn; those that have been forgotten meanwhile are passed over. The
// ids of jobs that it would make begin with next, 0 at first; then comes after them.
func (s *State) TryOperation(b Operation, next uint64) (plan Plan, then uint64, err error) {
	p := s.planner()
	p.next, p.quiet = max(p.next, next), next > 0
	b.Jobs = slices.DeleteFunc(slices.Clone(b.Jobs),
		func(id uint64) bool { return s.Status(id) == 0 })
	if err := p.atOnce(b); err != nil {
		return Plan{}, 0, err
	}
	return p.Plan, p.next, nil
}

func (p *planner) atOnce(b Operation) error {
	tag, err := p.prepareOperation(b)
	if err != nil {
		return err
	}
	seen := make(map[uint64]bool, len(b.Jobs))
	for _, id := range b.Jobs {
		if p.s.Status(id) == 0 {
			return errorf(NotFound, "no job %d", id)
		}
		if seen[id] {
			continue // once is enough, and the changes of a plan must fit each other
		}
		seen[id] = true
		fate := Fate{Job: id, Status: p.s.Status(id), Changed: true}
		if err := p.operate(b, tag, &fate); err != nil {
			if b.Op == OpSet {
				return err
			}
			fate.Changed, fate.Note = false, err.Error()
		} else {
			fate.tell()
		}
		p.Fates = append(p.Fates, fate)
	}
	return nil
}

// prepareOperation checks what concerns all jobs of an operation,
// and gives the id of the tag that OpTag puts them under.
func (p *planner) prepareOperation(b Operation) (tag uint64, err error) {
	switch b.Op {
	case OpTag:
		if b.Tag == "" {
			return 0, errorf(Invalid, "the tag's name is empty")
		}
		made := map[string]uint64{}
		err := p.resolveTag(b.Tag, made)
		return made[b.Tag], err
	case OpRetime:
		if b.Timeout < 0 {
			return 0, errorf(Invalid, "the timeout %s is negative", b.Timeout).
				hint("0 takes a timeout away")
		}
	case OpClone, OpRestart:
		if b.Repeat < 0 || b.Repeat > MaxSubmit || len(b.Jobs) > MaxSubmit/max(b.Repeat, 1) {
			return 0, errorf(Invalid, "%d copies of %d jobs are not possible", b.Repeat,
				len(b.Jobs)).
				hint("one request may make %d jobs", MaxSubmit)
		}
	case OpSignal:
		_, err := parseSignal(b.Signal)
		return 0, err
	case OpCancel, OpForget:
		return 0, checkLabel("--reason", b.Reason)
	case OpSet:
		return 0, b.Set.ofJobs()
	case OpHold, OpUnhold, OpUntag, OpRecopy, OpLost, OpPause, OpGoOn:
	default:
		return 0, errorf(Invalid, "%q is no operation on jobs", b.Op)
	}
	return 0, nil
}

// operate plans the operation on one job. An error says why it makes no sense for it.
func (p *planner) operate(b Operation, tag uint64, fate *Fate) error {
	id := fate.Job
	switch b.Op {
	case OpCancel:
		return p.cancel(id, b.Reason)
	case OpForget:
		p.add(&Change{JobForgotten: &statepb.JobForgotten{Job: id, Reason: b.Reason}})
		if fate.Status == Running || fate.Status == Copying {
			fate.Note = "forgotten as soon as it has ended"
		}
	case OpHold:
		if err := only(fate.Status, "hold", Waiting); err != nil {
			return err
		}
		p.add(&Change{JobHeld: &statepb.JobHeld{Job: id, Held: true}})
	case OpUnhold:
		if j := p.s.Job(id); fate.Status == Waiting && j.After != nil {
			p.add(&Change{JobFreed: &statepb.JobFreed{Job: id}})
			fate.Note = "it waits for no other jobs any more"
			return nil
		}
		if err := only(fate.Status, "unhold", Held); err != nil {
			return err
		}
		p.add(&Change{JobHeld: &statepb.JobHeld{Job: id}})
	case OpClone:
		if err := p.resubmittable(p.s.Job(id)); err != nil {
			return err
		}
		for range max(b.Repeat, 1) {
			fate.New = append(fate.New, p.resubmit(p.s.Job(id), false))
		}
	case OpRestart:
		if err := p.resubmittable(p.s.Job(id)); err != nil {
			return err
		}
		canceled := !Final(fate.Status) && p.cancel(id, "") == nil
		again := p.resubmit(p.s.Job(id), true)
		fate.New = append(fate.New, again)
		if canceled {
			fate.Note = fmt.Sprintf("restarted as %d, canceled first", again)
		}
	case OpRetime:
		if err := only(fate.Status, "give a timeout to", Waiting, Held, Running); err != nil {
			return err
		}
		p.add(&Change{JobRetimed: &statepb.JobRetimed{Job: id, Timeout: int64(b.Timeout)}})
	case OpTag, OpUntag:
		if p.s.Job(id).Tag == tag {
			return fmt.Errorf("it is so already")
		}
		p.add(&Change{JobTagged: &statepb.JobTagged{Job: id, Tag: tag}})
	case OpRecopy:
		return p.recopy(id)
	case OpLost:
		return p.lost(id, b.Retry, fate)
	case OpPause, OpGoOn:
		return p.pause(id, b.Op == OpPause, fate)
	case OpSignal:
		return p.signal(id, b.Signal)
	case OpSet:
		return p.set(id, &b.Set)
	}
	return nil
}

// only says that the operation makes sense for jobs in these statuses alone.
func only(status Status, verb string, good ...Status) error {
	for _, g := range good {
		if status == g {
			return nil
		}
	}
	return fmt.Errorf("it is %s: there is nothing to %s", StatusName(status), verb)
}

func (p *planner) cancel(id uint64, reason string) error {
	if err := only(p.s.Status(id), "cancel", Waiting, Held, Running, Copying); err != nil {
		return err
	}
	if j := p.s.live[id]; j != nil && j.Canceling {
		return fmt.Errorf("it is being canceled already")
	}
	p.add(&Change{JobCanceled: &statepb.JobCanceled{Job: id, Reason: reason}})
	return nil
}

func (p *planner) recopy(id uint64) error {
	j := p.s.Job(id)
	if j.Status != Done || j.Results != statepb.Results_RESULTS_FAILED {
		return fmt.Errorf("it has no results that failed to copy")
	}
	if p.s.machines[last(j).Machine] == nil {
		return fmt.Errorf("its machine %s is no longer in the pool; `jobserver machine add` it "+
			"first", last(j).Machine)
	}
	p.add(&Change{Recopy: &statepb.Recopy{Job: id}})
	return nil
}

// lost lets the user say that a run is lost, or results that are to be copied; the daemon can't
// contradict, as it doesn't reach the machine, or hears nothing of this run there: neither that it
// was started nor that it is being ended.
func (p *planner) lost(id uint64, retry bool, fate *Fate) error {
	if err := only(p.s.Status(id), "lose", Running, Copying); err != nil {
		return err
	}
	j := p.s.live[id]
	m, reached := p.s.outOfReach(j)
	addr := m.addr(last(j.Job).Machine)
	switch {
	case j.Status == Copying && reached && (!j.CopyWaiting || copiesNow(last(j.Job))):
		return fmt.Errorf("its machine %s is connected, and its results are being copied; "+
			"`jobserver job rm` stops that", addr)
	case j.Status == Running && reached && !j.Canceling && !breaksUp(last(j.Job)) &&
		!p.s.unanswered(last(j.Job)):
		return fmt.Errorf("its machine %s is connected, so it is known that it runs; `jobserver "+
			"job rm` ends it", addr)
	}
	p.add(&Change{JobLost: &statepb.JobLost{Job: id, Retry: retry}})
	if fate.Status == Running && !j.Canceling && (j.MaxFailures != 0 || retry) {
		fate.Note = twoOf(id, addr)
		if reached {
			fate.Note = "it is tried again when its attempt on " + addr + " has ended"
		}
	}
	return nil
}

// outOfReach is a machine of a job under way that isn't connected, and says whether all are: then
// it is the first one.
func (s *State) outOfReach(j *job) (m *machine, reached bool) {
	ranks := alive(last(j.Job))
	if len(ranks) == 0 { // a setup, between two of its steps
		ranks = ranksOf(last(j.Job))
	}
	if j.Status == Copying {
		ranks = copyingRanks(last(j.Job))
	}
	for _, r := range ranks {
		if m = s.machines[r.Machine]; m == nil || m.link != LinkConnected {
			return m, false
		}
	}
	return m, true
}

// addr is the address of a machine, or the one given where it is in the pool no more.
func (m *machine) addr(otherwise string) string {
	if m == nil {
		return otherwise
	}
	return m.Addr
}

// copiesNow says that some results of a gang are being copied just now.
func copiesNow(a *statepb.Attempt) bool {
	return slices.ContainsFunc(a.Ranks, func(r *statepb.Attempt) bool {
		return r.Copy == statepb.Results_RESULTS_COPYING
	})
}

// twoOf warns of what becomes of a job that is tried again while nobody knows what lives of it.
func twoOf(id uint64, addr string) string {
	return fmt.Sprintf("it is tried again: should its attempt still live on %s, there are two of "+
		"job %d until that machine is reached", addr, id)
}

// answerTime is how long a start may take before its machine is thought to say nothing of it.
const answerTime = time.Minute

// unanswered says that a machine should have said by now whether it has started a run.
func (s *State) unanswered(a *statepb.Attempt) bool {
	return s.looked-a.DispatchedAt > int64(answerTime) &&
		slices.ContainsFunc(runsOf(a), func(r *statepb.Attempt) bool { return !r.StepStarted })
}

// resubmittable refuses to set up a machine that is gone.
func (p *planner) resubmittable(j *statepb.Job) error {
	if j.Setup != nil && p.s.machines[j.Setup.Machine] == nil {
		return fmt.Errorf("its machine %s is no longer in the pool; `jobserver machine setup` "+
			"adds it", j.Setup.Machine)
	}
	return nil
}

// sameWork tells whether two jobs were asked for alike.
func sameWork(a, b *statepb.Job) bool {
	a, b = shallow(a), shallow(b)
	a.Status, a.RestartOf, b.Status, b.RestartOf = 0, 0, 0, 0
	return proto.Equal(a, b)
}

// resubmit plans a new job like the given one. In the same
// cell it takes its place in the matrix, and is held with it.
func (p *planner) resubmit(j *statepb.Job, sameCell bool) uint64 {
	one := &statepb.JobResubmitted{Job: p.id(1), Like: j.Id, Status: Waiting, RestartOf: j.Id}
	if m := p.s.matrices[j.Matrix]; sameCell && m != nil {
		one.Status, one.Matrix, one.Cell = m.status(), j.Matrix, j.Cell
		if sameWork(j, m.job(uint32(j.Cell))) {
			// then the cell says it, and nothing has to be read out of the history, here and at
			// each replay
			one.Like = 0
		}
	}
	p.IDs = append(p.IDs, one.Job)
	p.add(&Change{JobResubmitted: one})
	return one.Job
}

// PlanMatrixHeld holds or releases a whole matrix.
func (s *State) PlanMatrixHeld(id uint64, held bool) Plan {
	return Plan{Changes: []*Change{{MatrixHeld: &statepb.MatrixHeld{Matrix: id, Held: held}}}}
}

// CancelMatrix cancels all jobs of a matrix that haven't ended.
func (s *State) CancelMatrix(id uint64) Operation {
	return Operation{Op: OpCancel, Jobs: s.cells(s.matrices[id],
		Selector{Statuses: []Status{Waiting, Held, Running, Copying}})}
}
