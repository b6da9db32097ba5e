package sched

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// A matrix that is submitted again under its name is the same sweep, perhaps with more values. A
// cell is its command, its values and its repeat: what of it is done stays, and only cells that are
// new, have failed, were lost or were forgotten run. The new ones get consecutive ids of their own.

// Growth tells what submitting a matrix again comes to.
type Growth struct {
	Matrix    uint64
	New       int // cells that it didn't have
	Again     int // failed, lost or forgotten: they run again
	Done      int
	Active    int // waiting, held, running, copying
	Canceled  int // they stay so
	Gone      int // cells of the matrix that the grid doesn't have any more; they stay as they are
	FirstJob  uint64
	AgainJobs []uint64 // the new jobs of those that run again
	Sample    []string // the commands of the first that would run
	Settings  bool     // of its cells are others now: priority, time limit, retries …
}

// PlanMatrixAgain submits a matrix whose name is that of one that is there. IDs are the matrix's,
// the first new job's, the number of new cells, and then the jobs that run a cell again.
func (s *State) PlanMatrixAgain(spec MatrixSpec, driver bool, sample int) (Plan, Growth, error) {
	if s.named[spec.Name] == 0 {
		return Plan{}, Growth{}, errorf(NotFound, "no matrix %q", spec.Name)
	}
	p := s.planner()
	_, g, err := p.again(spec, driver, sample, false)
	if err != nil {
		return Plan{}, Growth{}, err
	}
	p.IDs = append([]uint64{g.Matrix, g.FirstJob, uint64(g.New)}, g.AgainJobs...)
	return p.Plan, g, nil
}

// again plans what submitting a matrix again comes to, and gives its record as it will be. With
// all, whatever has ended runs again as it is asked for now, and what waits runs as that.
func (p *planner) again(
	spec MatrixSpec, driver bool, sample int, all bool,
) (*statepb.Matrix, Growth, error) {
	s := p.s
	m := s.matrices[s.named[spec.Name]]
	named := spec.Name
	spec.Name = ""
	want, err := p.matrixOf(spec, driver)
	if err != nil {
		return nil, Growth{}, err
	}
	want.Name, want.Id = named, m.Id
	if err := m.sameMatrix(want, all); err != nil {
		return nil, Growth{}, err
	}
	if tag := spec.Job.Tag; tag != "" {
		if id, err := s.FindTag(tag); err != nil || id != m.Template.Tag {
			return nil, Growth{}, errorf(Conflict, "matrix %d is under another tag than %s",
				m.Id, tag).hint("leave the tag out; `jobserver tag set %%%d %s` changes it", m.Id,
				tag)
		}
	}
	want.Template.Tag = m.Template.Tag
	if !waitsFor(m.Template.After, want.Template.After) {
		e := errorf(Conflict, "matrix %d (%s) waits for other jobs than it is to wait for now",
			m.Id, named)
		if !waitsFor(m.Template.After, spec.Job.stage) {
			return nil, Growth{}, e.hint("`jobserver matrix rm %d` forgets it, and then it is "+
				"submitted anew", m.Id)
		}
		return nil, Growth{}, e.hint("that was decided when it was submitted first: leave it out; "+
			"`jobserver job set %%%d:waiting --after JID` changes what its jobs wait for", m.Id)
	}
	want.Template.After = m.Template.After // that is decided when it is submitted first
	if !all {
		p.otherSettings(m, want)
	}
	g := newGrowth(m, want)
	if total := uint64(m.Cells) + uint64(len(g.added)); total > MaxCells {
		return nil, Growth{}, errorf(Invalid,
			"matrix %d would have %d cells; at most %d are possible", m.Id, total, MaxCells).
			hint("begin a new matrix")
	}
	out := g.compare(s, all)
	if all && g.running > 0 {
		return nil, Growth{}, errorf(Conflict, "%d jobs of matrix %d (%s) run at present, and are "+
			"to run again", g.running, m.Id, named).
			hint("wait for them (`jobserver wait %%%d`), or end them: `jobserver rm %%%d:running`",
				m.Id, m.Id)
	}
	out.Settings = !proto.Equal(want.Template, m.Template) || !m.sameEnds(want)
	if len(g.added) > 0 || out.Settings {
		p.add(&Change{MatrixGrown: g.change(p, &out)})
	}
	out.New = len(g.added)
	for _, c := range g.again {
		if old := m.counting(c); !Final(s.Status(old)) && s.Status(old) != 0 {
			p.add(&Change{JobCanceled: &statepb.JobCanceled{Job: old}})
		}
		j := g.job(c)
		j.Id, j.Status, j.RestartOf = p.id(1), Waiting, m.counting(c)
		if s.index.mark[j.RestartOf] == 0 {
			j.RestartOf = 0
		}
		if m.Held {
			j.Status = Held
		}
		if len(out.Sample) < sample {
			out.Sample = append(out.Sample, sampleCommand(j))
		}
		out.AgainJobs = append(out.AgainJobs, j.Id)
		if g.repeats != m.Repeats && len(g.added) == 0 {
			// the cells don't know of the repeats that the job knows of
			p.add(&Change{JobSubmitted: &statepb.JobSubmitted{Job: j}})
			continue
		}
		p.add(&Change{JobResubmitted: &statepb.JobResubmitted{Job: j.Id, Matrix: j.Matrix,
			Cell: j.Cell, Status: j.Status, RestartOf: j.RestartOf}})
	}
	for i := range g.added {
		if len(out.Sample) == sample {
			break
		}
		out.Sample = append(out.Sample, sampleCommand(g.job(m.Cells+uint32(i))))
	}
	return g.merged(), out, nil
}

// sameMatrix refuses a name that stands for another matrix.
func (m *matrix) sameMatrix(want *statepb.Matrix, all bool) error {
	a, b := m.Template, want.Template
	other := func(what, is, wanted string) error {
		return errorf(Conflict, "matrix %d has the name %q already, and another %s: %s, not %s",
			m.Id, m.Name, what, oneLine(is, 200), oneLine(wanted, 200)).
			hint("choose another name for another sweep, or `jobserver matrix rm %d` first", m.Id)
	}
	names := func(m *statepb.Matrix) string {
		var all []string
		for _, a := range m.Axes {
			all = append(all, a.Name)
		}
		slices.Sort(all)
		return fmt.Sprint(all)
	}
	env := func(j *statepb.Job, value func(*statepb.Var) string) string {
		var text bytes.Buffer
		for _, v := range j.Env {
			fmt.Fprintf(&text, "%s=%s ", v.Name, value(v))
		}
		return text.String()
	}
	// A secret may have been renewed: the sweep is the same.
	compared := func(v *statepb.Var) string {
		if v.Secret {
			return ""
		}
		return string(v.Value)
	}
	switch {
	case !all && !bytes.Equal(a.Cmd, b.Cmd):
		return other("command", string(a.Cmd), string(b.Cmd))
	case names(m.Matrix) != names(want):
		return other("set of variables", names(m.Matrix), names(want))
	case a.Class != b.Class:
		return other("class", a.Class, b.Class)
	case !all && (a.CpPath != b.CpPath || a.Flat != b.Flat):
		return other("place for its results", a.CpPath, b.CpPath)
	case !all && !slices.EqualFunc(a.Inputs, b.Inputs, sameInput):
		return other("set of inputs", inputsText(a), inputsText(b))
	case !all && env(a, compared) != env(b, compared):
		return other("environment", env(a, ShownValue), env(b, ShownValue))
	case a.Cwd != b.Cwd:
		return other("working directory", a.Cwd, b.Cwd)
	case a.Stdin != b.Stdin:
		return other("standard input", a.StdinName, b.StdinName)
	case a.Driver != b.Driver:
		return other("way to run", fmt.Sprint("driver ", a.Driver), fmt.Sprint("driver ", b.Driver))
	case m.Seed != want.Seed:
		return other("seed", fmt.Sprint(m.Seed), fmt.Sprint(want.Seed))
	}
	return nil
}

// growth compares the cells that a matrix has with those that it is to have.
type growth struct {
	old     *matrix
	want    *statepb.Matrix
	axes    []*statepb.Axis // the matrix's own, with new values at their ends
	repeats int32
	wanted  []bool     // of the old cells
	added   [][]uint32 // rows of the new ones
	again   []uint32   // old cells that run again
	running int        // of them, those that do now
}

func newGrowth(m *matrix, want *statepb.Matrix) *growth {
	g := &growth{old: m, want: want, repeats: max(m.Repeats, want.Repeats),
		wanted: make([]bool, m.Cells)}
	place := make([]int, len(m.Axes))          // of each old axis among the new ones
	values := make([][]uint32, len(want.Axes)) // new value: its number in the merged axis
	for i, a := range m.Axes {
		place[i] = slices.IndexFunc(want.Axes, func(b *statepb.Axis) bool {
			return b.Name == a.Name
		})
		merged := &statepb.Axis{Name: a.Name, Values: slices.Clone(a.Values)}
		number := make(map[string]uint32, len(a.Values))
		for k, v := range a.Values {
			number[v] = uint32(k)
		}
		for _, v := range want.Axes[place[i]].Values {
			n, ok := number[v]
			if !ok {
				n = uint32(len(merged.Values))
				number[v] = n
				merged.Values = append(merged.Values, v)
			}
			values[place[i]] = append(values[place[i]], n)
		}
		g.axes = append(g.axes, merged)
	}
	known := make(map[string]int, m.Cells) // the old cells by their rows; -1: a new one
	row := make([]uint32, len(m.Axes)+1)
	for c := range m.Cells {
		index, repeat := cellIndex(m.Matrix, c)
		copy(row, index)
		row[len(index)] = repeat
		known[string(rowKey(row))] = int(c)
	}
	for c := range want.Cells {
		index, repeat := cellIndex(want, c)
		for i, at := range place {
			row[i] = values[at][index[at]]
		}
		row[len(index)] = repeat
		key := rowKey(row)
		switch at, ok := known[string(key)]; {
		case !ok:
			known[string(key)] = -1
			g.added = append(g.added, slices.Clone(row))
		case at >= 0:
			g.wanted[at] = true
		}
	}
	return g
}

func rowKey(row []uint32) []byte {
	key := make([]byte, 0, 32)
	for _, n := range row {
		key = append(key, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	return key
}

// compare says what becomes of the old cells. With all, those too run again that have ended well,
// and those that wait with a record of their own, which says how they were to run.
func (g *growth) compare(s *State, all bool) Growth {
	out := Growth{Matrix: g.old.Id}
	for c := range g.old.Cells {
		if !g.wanted[c] {
			out.Gone++
			continue
		}
		id := g.old.counting(c)
		switch status := s.Status(id); {
		case all && (status == Running || status == Copying):
			g.running++
			continue
		case all && (Final(status) || s.live[id] != nil):
			g.again = append(g.again, c)
			continue
		}
		switch s.Status(id) {
		case Done:
			out.Done++
		case Canceled:
			out.Canceled++
		case Waiting, Held, Running, Copying:
			out.Active++
		case Failed, Lost, statepb.Status_UNKNOWN:
			g.again = append(g.again, c)
		}
	}
	out.Again = len(g.again)
	return out
}

// merged is the record of the matrix as it will be.
func (g *growth) merged() *statepb.Matrix {
	m := &statepb.Matrix{Id: g.old.Id, Name: g.old.Name, Axes: g.old.Axes, Repeats: g.old.Repeats,
		Cells: g.old.Cells, Index: g.old.Index, IndexWidth: g.old.IndexWidth,
		Template: g.want.Template}
	if len(g.added) > 0 {
		m.Axes, m.Repeats, m.Cells = g.axes, g.repeats, g.old.Cells+uint32(len(g.added))
		m.Index, m.IndexWidth = packIndex(g.rows())
	}
	return m
}

// rows lists the rows of all cells, old and new.
func (g *growth) rows() [][]uint32 {
	all := make([][]uint32, 0, int(g.old.Cells)+len(g.added))
	for c := range g.old.Cells {
		index, repeat := cellIndex(g.old.Matrix, c)
		all = append(all, append(index, repeat))
	}
	return append(all, g.added...)
}

// change is the durable fact, with the ids of the new cells.
func (g *growth) change(p *planner, out *Growth) *statepb.MatrixGrown {
	c := &statepb.MatrixGrown{
		Matrix: g.old.Id, Template: g.want.Template, Axes: g.old.Axes, Repeats: g.old.Repeats,
		Index: g.old.Index, IndexWidth: g.old.IndexWidth,
		Measurements: &g.want.Measurements, Setup: g.want.Setup,
	}
	if len(g.added) > 0 {
		c.Axes, c.Repeats = g.axes, g.repeats
		c.Index, c.IndexWidth = packIndex(g.rows())
		c.Added = &statepb.Range{FirstJob: p.id(uint64(len(g.added))), Cells: uint32(len(g.added))}
		out.FirstJob = c.Added.FirstJob
	}
	return c
}

// job is a cell as it would be submitted now, without an id.
func (g *growth) job(c uint32) *statepb.Job {
	row := []uint32(nil)
	if c < g.old.Cells {
		index, repeat := cellIndex(g.old.Matrix, c)
		row = append(index, repeat)
	} else {
		row = g.added[c-g.old.Cells]
	}
	one := &statepb.Matrix{Axes: g.axes, Repeats: g.repeats, Seed: g.old.Seed}
	one.Index, one.IndexWidth = packIndex([][]uint32{row})
	j := proto.CloneOf(g.want.Template)
	j.Matrix, j.Cell = g.old.Id, int32(c)
	j.Vars = append(j.Vars, CellVars(one, 0)...)
	return j
}

// applyMatrixGrown gives a matrix its new cells, and what has no record yet the new settings.
func (s *State) applyMatrixGrown(c *statepb.MatrixGrown, at int64) error {
	m := s.matrices[c.Matrix]
	if m == nil {
		return fmt.Errorf("no matrix %d", c.Matrix)
	}
	if c.Template == nil || c.Template.Class != m.Template.Class ||
		c.Template.Tag != m.Template.Tag {
		return fmt.Errorf("matrix %d can't change its class or tag", c.Matrix)
	}
	c = proto.CloneOf(c)
	added := c.Added
	if added == nil {
		s.retemplate(m, c.Template)
		m.setEnds(c)
		return nil
	}
	if err := s.take(added.FirstJob, uint64(added.Cells)); err != nil {
		return err
	}
	if added.Cells == 0 ||
		int(m.Cells+added.Cells)*int(c.IndexWidth)*(len(c.Axes)+1) != len(c.Index) {
		return fmt.Errorf("matrix %d grows by %d cells with an index of %d bytes", m.Id,
			added.Cells, len(c.Index))
	}
	s.retemplate(m, c.Template)
	m.setEnds(c)
	for _, f := range append(slices.Clip(m.followers), m) {
		if f.relation != nil {
			f.relation.stale = true
		}
	}
	s.slim(m.Matrix, c.Axes)
	m.Axes, m.Repeats, m.Index, m.IndexWidth = c.Axes, c.Repeats, c.Index, c.IndexWidth
	added.SubmittedAt = at
	m.More = append(m.More, added)
	s.house(m, added.FirstJob, added.Cells, at)
	m.Cells += added.Cells
	s.populate(m, added.FirstJob, added.Cells)
	s.relate(m)
	for _, f := range slices.Clone(m.followers) {
		s.relate(f)
		s.matrixStuckAnew(f)
	}
	s.matrixStuckAnew(m)
	return nil
}

// sameEnds says that the same goes before the cells and is read after them.
func (m *matrix) sameEnds(want *statepb.Matrix) bool {
	return m.Measurements == want.Measurements && slices.EqualFunc(m.Setup, want.Setup, bytes.Equal)
}

// setEnds says what goes before the cells from now on, and where their numbers are; an older
// daemon's change says nothing of it.
func (m *matrix) setEnds(c *statepb.MatrixGrown) {
	if c.Measurements != nil {
		m.Measurements, m.Setup = c.GetMeasurements(), c.Setup
	}
}

// retemplate gives the cells without a record of their own
// other settings; a priority is also a place in the queue.
func (s *State) retemplate(m *matrix, template *statepb.Job) {
	template.After = m.Template.After // what it waits for stays as it was submitted
	m.keepSettings(template)
	m.Template = template
	if m.item != nil &&
		(m.item.priority != template.Priority || m.item.shape.key != s.keyOf(template, m)) {
		s.dequeueMatrix(m)
	}
	s.queueMatrix(m) // also what was not to start before a time
}
