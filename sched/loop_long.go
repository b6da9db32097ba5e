package sched

import (
	"slices"

	"jobserver/sched/statepb"
)

// asked is who waits for the end of a request that is carried out in pieces, and what became of its
// jobs so far.
type asked struct {
	requests []*request
	fates    []Fate
	made     uint64 // new jobs that are submitted
}

// add adds what became of the jobs of a piece. Of one whose clones are in several pieces there is
// one fate.
func (a *asked) add(fates []Fate) {
	for _, f := range fates {
		if n := len(a.fates); n > 0 && a.fates[n-1].Job == f.Job {
			f.New = append(a.fates[n-1].New, f.New...)
			a.fates = a.fates[:n-1]
		}
		a.fates = append(a.fates, f)
	}
}

// unfinished is the error for those who wait when the loop stops.
func (a *asked) unfinished(err error) error {
	if err != nil {
		return errorf(Unknown, "the daemon stops, as its journal failed: %v", err).
			hint("look at the disk, then start `jobserver serve` again: it goes on with what has " +
				"begun")
	}
	return errorf(Stopping, "the daemon is stopping, and has done this for %d jobs so far",
		uint64(len(a.fates))+a.made).
		hint("`jobserver serve` goes on with it when it is started again")
}

// begin begins a request whose plan is to be carried out in pieces, and says whether it is one.
func (t *turn) begin(r *request, changes []*Change) bool {
	if len(changes) == 0 || changes[len(changes)-1].OperationBegun == nil {
		return false
	}
	changes[len(changes)-1].OperationBegun.Operation.Request = r.id
	t.apply(changes)
	if t.err == nil {
		r.waits = true
		t.l.asked[t.l.state.changes] = &asked{requests: []*request{r}}
	}
	return true
}

// Asked says that a request was carried out, or is being carried out.
func (s *State) Asked(id string) bool {
	return id != "" && (s.requests.done[id] != nil ||
		slices.ContainsFunc(s.longs, func(l *long) bool { return l.Request == id }))
}

// joins lets a request wait for the end of the same one, which is under way.
func (t *turn) joins(r *request) bool {
	for _, l := range t.l.state.longs {
		if r.id == "" || l.Request != r.id {
			continue
		}
		a := t.l.asked[l.Id]
		if a == nil {
			a = &asked{}
			t.l.asked[l.Id] = a
		}
		r.waits, r.answer.repeated = true, true
		a.requests = append(a.requests, r)
		return true
	}
	return false
}

// goOn carries out the next piece of the oldest long request, and gives those who waited for its
// end when that was the last.
func (t *turn) goOn() []*request {
	s := t.l.state
	if t.err != nil || len(s.longs) == 0 || t.size >= turnBytes {
		return nil
	}
	l := s.longs[0]
	defer func() {
		if len(s.longs) > 0 {
			t.l.poke()
		}
	}()
	if t.begun(l) {
		return nil // it is durable first
	}
	changes, fates := s.piece(l)
	t.apply(changes)
	a := t.l.asked[l.Id]
	if a != nil {
		a.add(fates)
		if l.Submit != nil {
			a.made = l.Done
		}
	}
	if t.err != nil || l.Done < l.total {
		return nil
	}
	made := s.madeBy(l)
	if l.Request != "" {
		t.apply([]*Change{{RequestDone: &statepb.RequestDone{Id: l.Request, Ids: made}}})
	}
	if a == nil {
		return nil
	}
	delete(t.l.asked, l.Id)
	for i := range a.fates {
		a.fates[i].tell()
	}
	for _, r := range a.requests {
		r.waits = false
		r.answer.plan.Fates, r.answer.plan.IDs = a.fates, made
	}
	return a.requests
}

// begun says that a long request has begun in this very turn.
func (t *turn) begun(l *long) bool { return l.Id > t.from }
