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
	// operationPiece is how many jobs a piece has: one or two milliseconds of a turn.
	operationPiece = 150
)

// inPieces says that an operation is one that is carried out in pieces: it concerns many jobs, and
// makes none.
func (b *Operation) inPieces() bool {
	switch b.Op {
	case OpCancel, OpForget, OpHold, OpUnhold, OpRetime, OpTag, OpUntag, OpPause, OpGoOn:
		return len(b.Jobs) >= longOperation
	}
	return false
}

// PlanOperation plans one operation on many jobs for the loop: as PlanAtOnce, whose Fates it has,
// or, when they are very many, so that they are carried out in pieces. Then the Fates are those of
// the plan that Do gives.
func (s *State) PlanOperation(b Operation) (Plan, error) {
	if !b.inPieces() {
		p, err := s.PlanAtOnce(b)
		p.Plan.Fates = p.Fates
		return p.Plan, err
	}
	p := s.planner()
	tag, err := p.prepareOperation(b)
	if err != nil {
		return Plan{}, err
	}
	rec := &statepb.Operation{Op: string(b.Op), Timeout: int64(b.Timeout), Tag: tag}
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
	total uint64
	at    int    // the range that is next
	in    uint32 // how much of that is done
}

func newLong(rec *statepb.Operation) *long {
	l := &long{Operation: rec}
	for _, r := range rec.Jobs {
		l.total += uint64(r.Cells)
	}
	l.skip(rec.Done)
	return l
}

// skip goes on by so many jobs.
func (l *long) skip(n uint64) {
	for n > 0 && l.at < len(l.Jobs) {
		step := min(n, uint64(l.Jobs[l.at].Cells-l.in))
		l.in += uint32(step)
		n -= step
		if l.in == l.Jobs[l.at].Cells {
			l.at, l.in = l.at+1, 0
		}
	}
}

// next are the jobs of the next piece.
func (l *long) next() (ids []uint64) {
	at, in := l.at, l.in
	for at < len(l.Jobs) && len(ids) < operationPiece {
		ids = append(ids, l.Jobs[at].FirstJob+uint64(in))
		if in++; in == l.Jobs[at].Cells {
			at, in = at+1, 0
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
	if l.Done == l.total {
		s.longs = slices.Delete(s.longs, i, i+1)
	}
	return nil
}

// piece plans the next piece of a long request. What has been forgotten meanwhile is passed over.
func (s *State) piece(l *long) (changes []*Change, fates []Fate) {
	ids := l.next()
	step := &Change{OperationStepped: &statepb.OperationStepped{Operation: l.Id,
		Done: l.Done + uint64(len(ids))}}
	ids = slices.DeleteFunc(ids, func(id uint64) bool { return s.Status(id) == 0 })
	p := s.planner()
	b := Operation{Op: Op(l.Op), Timeout: time.Duration(l.Timeout)}
	for _, id := range ids {
		fate := Fate{Job: id, Status: s.Status(id), Changed: true}
		if err := p.operate(b, l.Tag, &fate); err != nil {
			fate.Changed, fate.Note = false, err.Error()
		}
		fates = append(fates, fate)
	}
	return append(p.Changes, step), fates
}
