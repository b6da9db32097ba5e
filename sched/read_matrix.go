package sched

import (
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// What readers want to know of a matrix as a whole.

// clock counts how long the newest attempt of a cell has held its slot, which it gives back now:
// the run itself, and what goes before and after it. That, and not how long the command ran, says
// when the others are done.
func (s *State) clock(j *statepb.Job, at int64) {
	m, a := s.matrices[j.Matrix], last(j)
	if m == nil {
		return
	}
	// the clock may have been set
	d := max(time.Duration(at-a.DispatchedAt-pausedBy(a, at)), time.Duration(a.Duration))
	if m.Runs == nil {
		m.Runs = &statepb.Runs{}
	}
	m.Runs.Count++
	m.Runs.Seconds += d.Seconds()
	m.Runs.Squares += d.Seconds() * d.Seconds()
}

// Pace is what can be said of how long the rest of a matrix takes: how long runs that have ended
// held a slot, what is left, and how much of it fits at once.
type Pace struct {
	Runs    *statepb.Runs // nil: none has ended
	Waiting int
	Running []time.Duration // how long those under way have held theirs
	Slots   int             // of the machines of its class that can be given work
}

// Pace looks at a matrix at the time now.
func (s *State) Pace(id uint64, now time.Time) Pace {
	m := s.matrices[id]
	if m == nil {
		return Pace{}
	}
	p := Pace{Runs: m.Runs, Waiting: m.counts.By[Waiting]}
	if c := s.classes[m.Template.Class]; c != nil {
		for _, machine := range c.machines {
			if machine.usable(now) {
				p.Slots += int(machine.Slots)
			}
		}
	}
	for _, machine := range s.machines {
		for _, job := range machine.slots {
			if j := s.live[job]; j != nil && j.Matrix == id &&
				(j.Status == Running || j.Status == Copying) {
				a, at := last(j.Job), now.UnixNano()
				p.Running = append(p.Running,
					max(time.Duration(at-a.DispatchedAt-pausedBy(a, at)), 0))
			}
		}
	}
	slices.Sort(p.Running)
	return p
}

// CellView is a cell of a matrix, and the job that counts for it.
type CellView struct {
	Job          uint64
	Status       Status // 0: it was forgotten
	Index        []uint32
	Repeat       uint32
	Machine      string // of the newest attempt
	Measurements []string
	ResultsDir   string
	Hardware     *statepb.Hardware // of its machine then; nil: not known
	Inputs       []*statepb.Input  // that it was given
}

// CellViews shows at most MaxPage cells of a matrix from a cell on; results has the place of
// results too, when the measurements are in a file there.
func (s *State) CellViews(id uint64, from uint32) []CellView {
	m := s.matrices[id]
	if m == nil {
		return nil
	}
	var views []CellView
	for c := from; c < m.Cells && len(views) < MaxPage; c++ {
		job := m.counting(c)
		v := CellView{Job: job, Status: s.Status(job), Machine: s.index.names[s.index.machine[job]]}
		v.Index, v.Repeat = cellIndex(m.Matrix, c)
		if v.Status == Done {
			s.yield(job, &v)
		}
		views = append(views, v)
	}
	return views
}

// yield adds what a job that is done has left: the measurements of its newest attempt, and of what
// its machine was made, and the place of its results. Of an ended job's record it reads these
// fields alone, which is several times as fast as to decode it.
func (s *State) yield(job uint64, v *CellView) {
	if place := s.index.place[job]; place != 0 && s.live[job] == nil {
		raw, err := s.history.raw(place)
		if err == nil {
			err = v.read(raw)
		}
		if err == nil {
			return
		}
		// what is wrong with it, the way below says
		v.Measurements, v.Hardware, v.Inputs = nil, nil, nil
	}
	j := s.Job(job)
	if a := last(j); a != nil {
		v.Measurements, v.Hardware = slices.Clone(a.Measurements), a.Hardware
		v.Inputs = slices.Clone(InputsOf(a))
	}
	v.ResultsDir = j.ResultsDir
}

// read takes them from the record of an ended job.
func (v *CellView) read(raw []byte) error {
	var hardware []byte
	err := fields(raw, func(n protowire.Number, value []byte) error {
		switch n {
		case fieldResultsDir:
			v.ResultsDir = string(value)
		case fieldAttempts:
			v.Measurements, v.Inputs, hardware = nil, nil, nil
			return fields(value, func(n protowire.Number, value []byte) error {
				switch n {
				case fieldMeasurements:
					v.Measurements = append(v.Measurements, string(value))
				case fieldHardware:
					hardware = value
				case fieldInputs:
					in := &statepb.Input{}
					v.Inputs = append(v.Inputs, in)
					return proto.Unmarshal(value, in)
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && hardware != nil {
		v.Hardware = new(statepb.Hardware)
		err = proto.Unmarshal(hardware, v.Hardware)
	}
	return err
}

// The numbers of the fields that yield reads, as state.proto has them.
const (
	fieldAttempts     = 32 // of Job
	fieldResultsDir   = 37
	fieldCode         = 44
	fieldStdin        = 441
	fieldMeasurements = 23 // of Attempt
	fieldHardware     = 500
	fieldInputs       = 400
	fieldRanks        = 420
)

// fields visits the fields of a record that are texts or records.
func fields(raw []byte, visit func(n protowire.Number, value []byte) error) error {
	for len(raw) > 0 {
		n, kind, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return protowire.ParseError(size)
		}
		raw = raw[size:]
		if kind != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(n, kind, raw); size < 0 {
				return protowire.ParseError(size)
			}
			raw = raw[size:]
			continue
		}
		value, size := protowire.ConsumeBytes(raw)
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := visit(n, value); err != nil {
			return err
		}
		raw = raw[size:]
	}
	return nil
}

// RestartMatrix restarts the cells of a matrix that are in one of the statuses and that match,
// which sees a cell's index into the values of each axis and its repeat; nil matches all.
func (s *State) RestartMatrix(
	id uint64, statuses []Status, match func(row []uint32) (bool, error),
) (Operation, error) {
	m := s.matrices[id]
	var ids []uint64
	for c := range m.Cells {
		job := m.counting(c)
		if !slices.Contains(statuses, s.Status(job)) {
			continue
		}
		if match != nil {
			index, repeat := cellIndex(m.Matrix, c)
			if ok, err := match(append(index, repeat)); err != nil {
				return Operation{}, errorf(Invalid, "%v", err)
			} else if !ok {
				continue
			}
		}
		ids = append(ids, job)
	}
	slices.Sort(ids)
	return Operation{Op: OpRestart, Jobs: ids}, nil
}

// CellRow says which cell of which matrix a job runs: an index into the values of each axis, and
// then the repeat. It is not ok for a job of no matrix.
func (s *State) CellRow(job uint64) (matrix uint64, row []uint32, ok bool) {
	c, ok := s.cellOf(job)
	if !ok {
		return 0, nil, false
	}
	index, repeat := cellIndex(c.matrix.Matrix, c.cell)
	return c.matrix.Id, append(index, repeat), true
}
