package sched

import (
	"cmp"
	"slices"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// Span is an attempt as it stands in time.
type Span struct {
	Job          uint64
	Attempt      int
	Machine      string
	Slot         int
	Began, Ended int64 // ns since 1970, of the dispatch and of the end; 0: it runs
	// done, failed, canceled or lost, as the attempt and not the job is; or running
	Status Status
}

// spanStatus gives the outcome of an attempt.
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
		Job:     job,
		Attempt: int(a.Number),
		Machine: a.Machine,
		Slot:    int(a.Slot),
		Began:   a.DispatchedAt,
		Ended:   a.EndedAt,
		Status:  spanStatus(a.Cause, a.ExitCode == 0 && a.Signal == ""),
	}
}

// spansIn are an attempt on each of its machines. One that is done with there before the attempt
// has ended is done with it then.
func spansIn(job uint64, a *statepb.Attempt) []Span {
	whole := spanOf(job, a)
	if len(a.Ranks) == 0 {
		return []Span{whole}
	}
	return spread(whole, a.Ranks)
}

// spread is an attempt on each of the machines of its ranks.
func spread(whole Span, ranks []*statepb.Attempt) []Span {
	all := make([]Span, len(ranks))
	for i, r := range ranks {
		all[i] = whole
		all[i].Machine, all[i].Slot = r.Machine, int(r.Slot)
		if r.EndedAt != 0 && whole.Ended != 0 {
			all[i].Ended = r.EndedAt
		}
	}
	return all
}

// underWay says that an attempt of a job, by its index, is under way. That of a setup goes on when
// one of its steps has ended.
func underWay(j *statepb.Job, i int) bool {
	return j.Attempts[i].Cause == statepb.Cause_CAUSE_NONE ||
		j.Status == Running && i == len(j.Attempts)-1
}

// SpanHistory are the attempts of a state that have ended, as they were at one time. It is read
// outside of the loop, a piece at a time.
type SpanHistory struct {
	blocks [][]byte // of history; they never change
	place  []uint32 // of the jobs in them
	others []Span   // of jobs that are in none
	names  map[string]string
	dec    *zstd.Decoder
}

// SpanHistory takes note of all attempts that have ended. Of a million jobs that takes a
// millisecond.
func (s *State) SpanHistory() *SpanHistory {
	h := &SpanHistory{
		blocks: slices.Clone(s.history.blocks),
		place:  slices.Clone(s.index.place),
		names:  map[string]string{},
	}
	for _, j := range s.history.pending {
		h.addJob(j)
	}
	for _, j := range s.live {
		h.addJob(j.Job)
	}
	return h
}

func (h *SpanHistory) addJob(j *statepb.Job) {
	for i, a := range j.Attempts {
		if !underWay(j, i) && a.EndedAt != 0 {
			h.others = append(h.others, spansIn(j.Id, a)...)
		}
	}
}

// Pieces is how many pieces there are.
func (h *SpanHistory) Pieces() int { return len(h.blocks) + 1 }

// Piece appends the attempts of one, counted from 0. They come about in the order of their ends.
func (h *SpanHistory) Piece(piece int, to []Span) ([]Span, error) {
	if piece == len(h.blocks) {
		return append(to, h.others...), nil
	}
	if h.blocks[piece] == nil {
		return to, nil
	}
	if h.dec == nil {
		// The options are constant and valid, so it can't fail.
		h.dec, _ = zstd.NewReader(
			nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxMemory(1<<30),
		)
	}
	records, err := (&history{blocks: h.blocks, dec: h.dec}).open(uint32(piece))
	if err != nil {
		return to, err
	}
	for i, raw := range records {
		// A job that was taken out again, or forgotten, has left its record behind.
		if id := recordID(
			raw,
		); id < uint64(len(h.place)) &&
			h.place[id] == uint32(piece)*blockJobs+uint32(i)+1 {
			if to, err = h.spansOf(id, raw, to); err != nil {
				return to, err
			}
		}
	}
	return to, nil
}

// Close gives back what reading took.
func (h *SpanHistory) Close() {
	if h.dec != nil {
		h.dec.Close()
	}
}

// RunningSpans are the attempts under way.
func (s *State) RunningSpans() []Span {
	var spans []Span
	for _, m := range s.machines {
		for i, id := range m.slots {
			if slices.Index(m.slots, id) != i {
				continue // it has several slots, and others may be between them
			}
			if j := s.live[id]; j != nil && j.Status == Running {
				a := last(j.Job)
				span := spanOf(id, viewOf(a, cmp.Or(rankOn(a, m.Addr), a)))
				span.Ended, span.Status = 0, Running
				spans = append(spans, span)
			}
		}
	}
	return spans
}

// spansOf reads the attempts of an encoded job, and nothing else of it: that is several times as
// fast as to decode it.
func (h *SpanHistory) spansOf(job uint64, raw []byte, to []Span) ([]Span, error) {
	err := fields(raw, func(n protowire.Number, value []byte) error {
		if n != fieldAttempts {
			return nil
		}
		sp, cause, succeeded := Span{Job: job}, statepb.Cause_CAUSE_NONE, true
		var ranks []*statepb.Attempt
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
			if kind == protowire.BytesType && (n == 2 || n == 14 || n == fieldRanks) {
				text, _ := protowire.ConsumeBytes(value)
				switch n {
				case 14:
					succeeded = succeeded && len(text) == 0
				case fieldRanks:
					r := new(statepb.Attempt)
					if err := proto.Unmarshal(text, r); err != nil {
						return err
					}
					r.Machine = h.name([]byte(r.Machine))
					ranks = append(ranks, r)
				default:
					sp.Machine = h.name(text)
				}
			}
			value = value[size:]
		}
		switch sp.Status = spanStatus(cause, succeeded); {
		case sp.Status == Running || sp.Ended == 0:
		case len(ranks) > 0:
			to = append(to, spread(sp, ranks)...)
		default:
			to = append(to, sp)
		}
		return nil
	})
	return to, err
}

// name is a machine's, one string for all its attempts.
func (h *SpanHistory) name(text []byte) string {
	name, ok := h.names[string(text)]
	if !ok {
		name = string(text)
		h.names[name] = name
	}
	return name
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
