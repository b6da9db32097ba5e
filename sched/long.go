package sched

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// A request for very many jobs would stop everything while it is carried out. So what it asks for
// is made durable first, as one change, OperationBegun; then it is carried out in pieces, one in
// each turn, and others get theirs in between. Whoever asked is answered when all of it is durable.
// Since the intention is, it is all or nothing for him: a daemon that dies in between goes on when
// it is started again. Each job is judged when its turn comes.

const (
	// longOperation is from how many jobs on an operation is carried out in pieces.
	longOperation = 1000
	// OperationPiece is how many jobs a piece has: one or two milliseconds of a turn.
	OperationPiece = 150
)

// inPieces says that an operation is carried out in pieces: it concerns many jobs, and its record
// has all of it. What goes by how machines are connected now (that jobs are lost, signals) is done
// at once.
func (b *Operation) inPieces() bool {
	switch b.Op {
	case OpCancel, OpForget, OpHold, OpUnhold, OpRetime, OpTag, OpUntag, OpPause, OpGoOn,
		OpClone, OpRestart, OpRecopy, OpSet:
		return len(b.Jobs)*b.copies() >= longOperation
	}
	return false
}

// copies is how often the operation is done with each job.
func (b *Operation) copies() int {
	if b.Op == OpClone {
		return max(b.Repeat, 1)
	}
	return 1
}

// PlanOperation plans one operation on many jobs for the loop: as PlanAtOnce, whose Fates it has,
// or, when they are very many, so that they are carried out in pieces. Then the Fates are those of
// the plan that Do gives, and OpSet is of those jobs that it fits when their turn comes: whoever
// wants it for all or none tries it first, with TryOperation.
func (s *State) PlanOperation(b Operation) (Plan, error) {
	if !b.inPieces() {
		return s.PlanAtOnce(b)
	}
	p := s.planner()
	tag, err := p.prepareOperation(b)
	if err != nil {
		return Plan{}, err
	}
	rec := &statepb.Operation{Op: string(b.Op), Timeout: int64(b.Timeout), Tag: tag,
		Repeat: int32(b.copies()), Reason: b.Reason}
	if b.Op == OpSet {
		if rec.Set, err = p.settings(&b); err != nil {
			return Plan{}, err
		}
	}
	jobs := b.Jobs
	if !slices.IsSorted(jobs) {
		jobs = slices.Clone(jobs)
		slices.Sort(jobs)
	}
	for i, id := range jobs {
		n := len(rec.Jobs)
		switch {
		case s.Status(id) == 0:
			return Plan{}, errorf(NotFound, "no job %d", id)
		case i > 0 && id == jobs[i-1]:
		case n > 0 && id == rec.Jobs[n-1].FirstJob+uint64(rec.Jobs[n-1].Cells):
			rec.Jobs[n-1].Cells++
		default:
			rec.Jobs = append(rec.Jobs, &statepb.Range{FirstJob: id, Cells: 1})
		}
	}
	p.add(&Change{OperationBegun: &statepb.OperationBegun{Operation: rec}})
	return p.Plan, nil
}

// long is a request that is carried out in pieces: its record, and the ranges of it that are still
// to be done.
type long struct {
	*statepb.Operation
	copies uint64 // of each job: what is done and in total counts each of them
	total  uint64
	at     int    // the range that is next
	in     uint32 // how many jobs of that are done
	copy   uint64 // how many copies of the next job are made
}

func newLong(rec *statepb.Operation) *long {
	l := &long{Operation: rec, copies: uint64(max(rec.Repeat, 1))}
	for _, r := range rec.Jobs {
		l.total += uint64(r.Cells) * l.copies
	}
	l.skip(rec.Done)
	return l
}

// skip goes on by so much.
func (l *long) skip(n uint64) {
	l.copy += n
	for n = l.copy / l.copies; n > 0 && l.at < len(l.Jobs); {
		step := min(n, uint64(l.Jobs[l.at].Cells-l.in))
		l.in += uint32(step)
		n -= step
		if l.in == l.Jobs[l.at].Cells {
			l.at, l.in = l.at+1, 0
		}
	}
	l.copy %= l.copies
}

// share says how much of a job is in a piece.
type share struct {
	job    uint64
	copies int
}

// next are the jobs of the next piece, and how long it is.
func (l *long) next() (shares []share, n uint64) {
	at, in, copied := l.at, l.in, l.copy
	for at < len(l.Jobs) && n < OperationPiece {
		copies := min(l.copies-copied, OperationPiece-n)
		shares = append(shares, share{l.Jobs[at].FirstJob + uint64(in), int(copies)})
		n += copies
		if copied += copies; copied < l.copies {
			break
		}
		copied = 0
		if in++; in == l.Jobs[at].Cells {
			at, in = at+1, 0
		}
	}
	return shares, n
}

// ids are the jobs that were made so far, and are still there.
func (s *State) madeBy(l *long) (ids []uint64) {
	for _, r := range l.Made {
		for id := r.FirstJob; id < r.FirstJob+uint64(r.Cells); id++ {
			if s.Status(id) != 0 {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func (s *State) applyOperationBegun(c *statepb.OperationBegun) error {
	rec := proto.CloneOf(c.Operation)
	rec.Id = s.changes
	s.longs = append(s.longs, newLong(rec))
	return nil
}

func (s *State) applyOperationStepped(c *statepb.OperationStepped) error {
	i := slices.IndexFunc(s.longs, func(l *long) bool { return l.Id == c.Operation })
	if i < 0 || c.Done < s.longs[i].Done || c.Done > s.longs[i].total {
		return fmt.Errorf("no request %d that goes on at %d", c.Operation, c.Done)
	}
	l := s.longs[i]
	l.skip(c.Done - l.Done)
	l.Done = c.Done
	if made := c.Made; made != nil {
		newest := &statepb.Range{}
		if n := len(l.Made); n > 0 {
			newest = l.Made[n-1]
		}
		if made.FirstJob == newest.FirstJob+uint64(newest.Cells) {
			newest.Cells += made.Cells
		} else {
			l.Made = append(l.Made, proto.CloneOf(made))
		}
	}
	if l.Done == l.total {
		s.longs = slices.Delete(s.longs, i, i+1)
	}
	return nil
}

// piece plans the next piece of a long request. What has been forgotten meanwhile is passed over.
func (s *State) piece(l *long) (changes []*Change, fates []Fate) {
	shares, n := l.next()
	step := &statepb.OperationStepped{Operation: l.Id, Done: l.Done + n}
	p := s.planner()
	p.quiet = true
	b := Operation{Op: Op(l.Op), Timeout: time.Duration(l.Timeout), Reason: l.Reason}
	if l.Set != nil {
		b.Set, p.firsts = setOf(l.Set), l.Set.First
	}
	for _, share := range shares {
		if l.Submit != nil {
			for range share.copies {
				p.submit(l.Submit)
			}
			continue
		}
		fate := Fate{Job: share.job, Status: s.Status(share.job), Changed: true}
		if fate.Status == 0 {
			continue
		}
		b.Repeat = share.copies
		if err := p.operate(b, l.Tag, &fate); err != nil {
			fate.Changed, fate.Note = false, err.Error()
		}
		fates = append(fates, fate)
	}
	if len(p.IDs) > 0 {
		step.Made = &statepb.Range{FirstJob: p.IDs[0], Cells: uint32(len(p.IDs))}
	}
	return append(p.Changes, &Change{OperationStepped: step}), fates
}
