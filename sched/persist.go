package sched

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// pieceBytes is the length of the pieces in which a snapshot has a record that is longer: the jobs
// of a tag, or the cells of a matrix that ran again, have no limit, and the journal's records have.
const pieceBytes = 16 << 20

// inPieces passes records on, those that are too long in pieces.
func inPieces(yield func([]byte) error) func([]byte) error {
	return func(b []byte) error {
		if len(b) <= pieceBytes {
			return yield(b)
		}
		for len(b) > 0 {
			n := min(len(b), pieceBytes)
			piece, err := proto.Marshal(&statepb.Record{Piece: &statepb.Piece{Data: b[:n],
				More: len(b) > n}})
			if err == nil {
				err = yield(piece)
			}
			if err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	}
}

// freezeTables writes all that is neither a job nor the index.
func (s *State) freezeTables(put func(*statepb.Record) error) error {
	var err error
	and := func(r *statepb.Record) { err = errors.Join(err, put(r)) }
	for _, m := range s.order {
		and(&statepb.Record{Matrix: m.Matrix})
	}
	for _, id := range s.Tags() {
		and(&statepb.Record{Tag: s.tags[id].record()})
	}
	for _, addr := range sorted(s.machines) {
		and(&statepb.Record{Machine: s.machines[addr].Machine})
	}
	for _, v := range s.Vars() {
		and(&statepb.Record{Var: v})
	}
	for _, name := range sorted(s.resources) {
		and(&statepb.Record{Resource: s.resources[name]})
	}
	for _, addr := range sorted(s.providers) {
		and(&statepb.Record{Provider: s.providers[addr].Provider})
	}
	for _, a := range s.allAsked() {
		and(&statepb.Record{Allocation: a.Allocation})
	}
	if r := s.restartsRecord(); len(r.Job) > 0 {
		and(&statepb.Record{Restarts: r})
	}
	if r := s.lastRecord(); len(r.Job) > 0 {
		and(&statepb.Record{Last: r})
	}
	if r := s.places.record(); r != nil {
		and(&statepb.Record{Places: r})
	}
	for _, o := range s.Obligations() {
		and(&statepb.Record{Obligation: o})
	}
	for _, l := range s.longs {
		and(&statepb.Record{Operation: l.Operation})
	}
	return errors.Join(err,
		s.works.each(func(w *statepb.Work) error { return put(&statepb.Record{Work: w}) }),
		s.requests.each(func(r *statepb.RequestDone) error {
			return put(&statepb.Record{Request: r})
		}))
}

// Restorer rebuilds a state from a snapshot's records and the changes after it.
type Restorer struct {
	s       *State
	jobs    []*statepb.Job
	pieces  []byte // of a record that goes on
	started bool   // changes are being applied
}

// NewRestorer begins with the state before the first change.
func NewRestorer() *Restorer { return &Restorer{s: NewState()} }

// Record takes a snapshot's next record.
func (r *Restorer) Record(b []byte) error {
	rec := new(statepb.Record)
	if err := proto.Unmarshal(b, rec); err != nil {
		return fmt.Errorf("decode a record of the snapshot: %w", err)
	}
	s := r.s
	switch {
	case rec.Piece != nil:
		r.pieces = append(r.pieces, rec.Piece.Data...)
		if rec.Piece.More {
			return nil
		}
		whole := r.pieces
		r.pieces = nil
		return r.Record(whole)
	case rec.State != nil:
		s.nextID, s.changes, s.at = rec.State.NextId, rec.State.Changes, rec.State.At
		s.index.grow(s.nextID)
	case rec.Matrix != nil:
		m := s.addMatrix(rec.Matrix)
		if int(m.Cells+7)/8 != len(m.Touched) ||
			m.homes[len(m.homes)-1].from+m.homes[len(m.homes)-1].cells != m.Cells {
			return fmt.Errorf("matrix %d has %d cells, and a bitmap of %d bytes or ids that "+
				"don't fit them", m.Id, m.Cells, len(m.Touched))
		}
	case rec.Tag != nil:
		s.tags[rec.Tag.Id] = &tag{Tag: rec.Tag}
		s.tagNames[rec.Tag.Name] = rec.Tag.Id
	case rec.Machine != nil:
		s.addMachine(rec.Machine)
	case rec.Var != nil:
		s.vars[rec.Var.Name] = rec.Var
	case rec.Resource != nil:
		s.resources[rec.Resource.Name] = rec.Resource
	case rec.Provider != nil:
		s.addProvider(rec.Provider)
	case rec.Allocation != nil:
		s.allocations[rec.Allocation.Id] = &allocation{Allocation: rec.Allocation}
	case rec.Restarts != nil:
		for i, id := range rec.Restarts.Job {
			s.restarted(id, rec.Restarts.Of[i])
		}
	case rec.Last != nil:
		for i, id := range rec.Last.Job {
			s.gates.last[id] = verdict(rec.Last.Verdict[i])
		}
	case rec.Places != nil:
		for _, path := range rec.Places.Path {
			s.places.add(path)
		}
	case rec.Obligation != nil:
		s.owe(rec.Obligation)
	case rec.Work != nil:
		if rec.Work.Need > 0 {
			s.works.set(rec.Work.Key, int(rec.Work.Need))
		}
	case rec.Request != nil:
		s.requests.add(rec.Request)
	case rec.Operation != nil:
		s.longs = append(s.longs, newLong(rec.Operation))
	case rec.Index != nil:
		return r.index(rec.Index)
	case rec.Job != nil:
		r.jobs = append(r.jobs, rec.Job)
	case rec.Block != nil:
		h := s.history
		for len(h.blocks) <= int(rec.Block.Number) {
			h.blocks, h.left = append(h.blocks, nil), append(h.left, 0)
		}
		h.blocks[rec.Block.Number], h.left[rec.Block.Number] = rec.Block.Data, int(rec.Block.Count)
	}
	return nil
}

func (r *Restorer) index(rec *statepb.Index) error {
	x := r.s.index
	n := len(rec.Status)
	if rec.First+uint64(n) > uint64(len(x.mark)) || len(rec.Class) != n || len(rec.Machine) != n ||
		len(rec.Place) != n {
		return fmt.Errorf("the index of ids from %d on doesn't fit the state", rec.First)
	}
	if rec.First == 0 {
		x.names = rec.Names
		for i, name := range x.names {
			x.number[name] = uint32(i)
		}
	}
	copy(x.mark[rec.First:], rec.Status)
	copy(x.class[rec.First:], rec.Class)
	copy(x.machine[rec.First:], rec.Machine)
	copy(x.place[rec.First:], rec.Place)
	return nil
}

// loaded derives from the snapshot's records what they don't hold.
func (r *Restorer) loaded() error {
	s := r.s
	r.started = true
	r.learnPlaces()
	for _, m := range s.order {
		for _, again := range m.Restarted {
			m.again[again.Cell] = append(m.again[again.Cell], again.Job)
			s.extra[again.Job] = cell{m, again.Cell}
		}
		for c := uint32(0); c < m.Cells; c++ {
			if !m.isTouched(c) {
				m.untouched++
			}
		}
	}
	for id := uint64(1); id < s.nextID; id++ {
		mark := s.index.mark[id]
		if mark == 0 {
			continue
		}
		s.counts.add(mark, 1)
		s.index.countsOf(id).add(mark, 1)
		if c, ok := s.cellOf(id); ok {
			s.countJobs(c.matrix, 0, mark)
			if c.matrix.counting(c.cell) == id {
				c.matrix.counts.add(mark, 1)
			}
		}
	}
	for _, m := range s.order {
		if m.jobs == 0 {
			s.empty[m.Id] = true
		}
		s.accuse(m)
	}
	for _, t := range s.tags {
		for _, id := range t.Jobs {
			t.counts.add(s.index.mark[id], 1)
		}
	}
	for _, m := range s.order {
		s.joinMatrix(m)
		s.relate(m)
	}
	for root, v := range s.gates.last {
		if c, ok := s.cellOf(root); ok {
			c.matrix.gone[v]++
		}
	}
	for _, m := range s.order {
		s.queueMatrix(m)
	}
	for _, rec := range r.jobs {
		if err := s.adopt(rec); err != nil {
			return err
		}
	}
	r.jobs = nil
	s.settleGates()
	for _, m := range s.order {
		if m.MaxFails > 0 {
			s.overdone[m.Id] = true
		}
	}
	for id, t := range s.tags {
		if t.MaxFails > 0 {
			s.overdone[id] = true
		}
	}
	return nil
}

// learnPlaces takes CP_PATHs from what there is, where an older version has kept none.
func (r *Restorer) learnPlaces() {
	if len(r.s.places.paths) > 0 {
		return
	}
	for _, m := range r.s.order {
		r.s.places.add(m.Template.GetCpPath())
	}
	for _, rec := range r.jobs {
		r.s.places.add(rec.CpPath)
	}
}

// adopt files a job of a snapshot.
func (s *State) adopt(rec *statepb.Job) error {
	if Final(rec.Status) {
		return s.putAway(rec)
	}
	j := &job{Job: rec, late: -1}
	s.live[j.Id] = j
	s.noteHeldBack(rec)
	s.setActive(j.Id, rec.Status)
	s.enqueue(j)
	s.noteCopying(j)
	if rec.Status == Waiting && rec.Avoid != "" {
		s.avoids(j)
	}
	a := last(rec)
	holds := rec.Status == Running || rec.Status == Copying && !rec.CopyWaiting
	if holds && (len(a.GetRanks()) > 0 || s.machines[a.GetMachine()] != nil) {
		s.occupy(rec)
		for _, r := range ranksOf(a) {
			if m := s.machines[r.Machine]; m != nil {
				s.file(m)
			}
		}
	}
	if rec.Status == Running && rec.Setup != nil && a.Cause != 0 {
		s.steps[j.Id] = true
	}
	return nil
}

// Change takes the journal's next change.
func (r *Restorer) Change(b []byte) error {
	if !r.started {
		if err := r.loaded(); err != nil {
			return err
		}
	}
	c := new(Change)
	if err := proto.Unmarshal(b, c); err != nil {
		return fmt.Errorf("decode change %d of the journal: %w", r.s.changes+1, err)
	}
	err := r.s.Apply(c)
	r.s.effects = nil // whoever resumes the state asks for all of them
	return err
}

// State gives the rebuilt state.
func (r *Restorer) State() (*State, error) {
	if !r.started {
		if err := r.loaded(); err != nil {
			return nil, err
		}
	}
	r.s.effects = nil
	return r.s, nil
}
