package sched

import (
	"google.golang.org/protobuf/encoding/protowire"

	"jobserver/sched/statepb"
)

// Span is an attempt as it stands in time.
type Span struct {
	Job          uint64
	Attempt      int
	Machine      string
	Slot         int
	Began, Ended int64  // ns since 1970, of the dispatch and of the end; 0: it runs
	Status       Status // done, failed, canceled or lost, as the attempt and not the job is; or running
}

// spanStatus is what an attempt came to.
func spanStatus(cause statepb.Cause, succeeded bool) Status {
	switch cause {
	case statepb.Cause_CAUSE_NONE:
		return Running
	case statepb.Cause_EXITED:
		if succeeded {
			return Done
		}
		return Failed
	case statepb.Cause_CANCELED_BY_USER, statepb.Cause_MACHINE_REMOVED:
		return Canceled
	case statepb.Cause_MACHINE_LOST:
		return Lost
	}
	return Failed
}

func spanOf(job uint64, a *statepb.Attempt) Span {
	return Span{
		Job: job, Attempt: int(a.Number), Machine: a.Machine, Slot: int(a.Slot), Began: a.DispatchedAt, Ended: a.EndedAt,
		Status: spanStatus(a.Cause, a.ExitCode == 0 && a.Signal == ""),
	}
}

// SpanPieces is how many pieces Spans has at present; there may be more later.
func (s *State) SpanPieces() int { return len(s.history.blocks) + 1 }

// Spans appends the attempts of a piece of all jobs that have ended, pieces counted from 0: a block of
// history, which takes half a millisecond, or, as the last piece, what is in none yet. A job that
// moves meanwhile may come twice.
func (s *State) Spans(piece int, to []Span) []Span {
	if piece < len(s.history.blocks) {
		if s.history.blocks[piece] == nil {
			return to
		}
		records, err := s.history.open(uint32(piece))
		if err != nil {
			return to // what is wrong with it, those say who need its jobs
		}
		for i, raw := range records {
			// A job that was taken out again, or forgotten, has left its record behind.
			if id := recordID(raw); s.index.status(id) != 0 && s.index.place[id] == uint32(piece)*blockJobs+uint32(i)+1 {
				to = s.spansOf(raw, to)
			}
		}
		return to
	}
	for _, j := range s.history.pending {
		for _, a := range j.Attempts {
			to = append(to, spanOf(j.Id, a))
		}
	}
	for id, j := range s.live {
		for _, a := range j.Attempts {
			if a.Cause != statepb.Cause_CAUSE_NONE && a.EndedAt != 0 {
				to = append(to, spanOf(id, a))
			}
		}
	}
	return to
}

// RunningSpans are the attempts under way.
func (s *State) RunningSpans() []Span {
	var spans []Span
	for _, m := range s.machines {
		for i, id := range m.slots {
			if i > 0 && m.slots[i-1] == id {
				continue // a setup has all slots
			}
			if j := s.live[id]; j != nil && j.Status == Running {
				if a := last(j.Job); a != nil && a.Cause == statepb.Cause_CAUSE_NONE {
					spans = append(spans, spanOf(id, a))
				}
			}
		}
	}
	return spans
}

// spansOf reads the attempts of an encoded job, and nothing else of it: that is several times as fast
// as to decode it.
func (s *State) spansOf(raw []byte, to []Span) []Span {
	job := recordID(raw)
	_ = fields(raw, func(n protowire.Number, value []byte) error { // it was encoded by this program
		if n != fieldAttempts {
			return nil
		}
		sp, cause, succeeded := Span{Job: job}, statepb.Cause_CAUSE_NONE, true
		for len(value) > 0 {
			n, kind, size := protowire.ConsumeTag(value)
			if size < 0 {
				return protowire.ParseError(size)
			}
			value = value[size:]
			if kind == protowire.VarintType {
				v, size := protowire.ConsumeVarint(value)
				if size < 0 {
					return protowire.ParseError(size)
				}
				value = value[size:]
				switch n {
				case 1:
					sp.Attempt = int(v)
				case 3:
					sp.Slot = int(v)
				case 7:
					sp.Began = int64(v)
				case 9:
					sp.Ended = int64(v)
				case 12:
					cause = statepb.Cause(v)
				case 13:
					succeeded = succeeded && v == 0
				}
				continue
			}
			if size = protowire.ConsumeFieldValue(n, kind, value); size < 0 {
				return protowire.ParseError(size)
			}
			if kind == protowire.BytesType && (n == 2 || n == 14) {
				text, _ := protowire.ConsumeBytes(value)
				if n == 14 {
					succeeded = succeeded && len(text) == 0
				} else {
					sp.Machine = s.index.names[s.index.number[string(text)]]
				}
			}
			value = value[size:]
		}
		if sp.Status = spanStatus(cause, succeeded); sp.Status != Running && sp.Ended != 0 {
			to = append(to, sp)
		}
		return nil
	})
	return to
}

// recordID is the id of an encoded job, which is its first field.
func recordID(raw []byte) uint64 {
	n, kind, size := protowire.ConsumeTag(raw)
	if size < 0 || n != 1 || kind != protowire.VarintType {
		return 0
	}
	id, _ := protowire.ConsumeVarint(raw[size:])
	return id
}
