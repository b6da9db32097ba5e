package sched

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"jobserver/sched/statepb"
)

// MatrixSpec is a matrix to submit.
type MatrixSpec struct {
	Job  JobSpec // Repeat: how often each cell runs
	Name string
	// MaxFails jobs that have failed for good hold the matrix, or with CancelRest cancel what
	// hasn't begun; 0: none do.
	MaxFails   int
	CancelRest bool
	Axes       []*statepb.Axis
	Seed       uint64 // from which {SEED} follows in each repeat
	// Measurements is the file among each job's results that has its numbers, when none is asked
	// for; "" is none.
	Measurements string
	// Setup are commands that a machine which joins the class has to run first. Those that are in
	// it already are set up by who submits the matrix, as he sees fit.
	Setup []string
	// Cells, unless nil, are the cells: for each its index into the
	// values of each axis and then its repeat. Nil is the whole product.
	Cells [][]uint32

	bare bool // it may have no variables: it is a stage
}

// PlanMatrix submits a matrix. IDs are its own, that of its first job, and the number of its cells.
func (s *State) PlanMatrix(spec MatrixSpec, driver bool) (Plan, error) {
	p := s.planner()
	m, err := p.newMatrix(spec, driver, map[string]uint64{})
	if err != nil {
		return Plan{}, err
	}
	p.IDs = []uint64{m.Id, m.FirstJob, uint64(m.Cells)}
	return p.Plan, nil
}

// newMatrix plans a matrix of its own; made are the tags that the plan has found or made.
func (p *planner) newMatrix(
	spec MatrixSpec, driver bool, made map[string]uint64,
) (*statepb.Matrix, error) {
	m, err := p.matrixOf(spec, driver)
	if err != nil {
		return nil, err
	}
	if err := p.resolveTag(spec.Job.Tag, made); err != nil {
		return nil, err
	}
	m.Template.Tag = made[spec.Job.Tag]
	m.Id, m.FirstJob = p.id(1), p.id(uint64(m.Cells))
	p.add(&Change{MatrixSubmitted: &statepb.MatrixSubmitted{Matrix: m}})
	return m, nil
}

// SampleMatrix says what PlanMatrix would submit: how many cells, and the commands of the first n.
func (s *State) SampleMatrix(
	spec MatrixSpec, driver bool, n int,
) (cells int, commands, warnings []string, err error) {
	p := s.planner()
	m, err := p.matrixOf(spec, driver)
	if err != nil {
		return 0, nil, nil, err
	}
	return int(m.Cells), sample(m, n), p.Warnings, nil
}

// sample are the commands of the first n cells of a matrix that isn't there yet.
func sample(m *statepb.Matrix, n int) (commands []string) {
	one := matrix{Matrix: m}
	one.homes = []*home{{matrix: &one, cells: m.Cells}}
	for c := uint32(0); c < m.Cells && int(c) < n; c++ {
		commands = append(commands, sampleCommand(one.job(c)))
	}
	return commands
}

// sampleCommand is a job's command with the variables that are known before it is dispatched.
func sampleCommand(j *statepb.Job) string {
	cmd, _ := Expand(string(j.Cmd), MaxCommand, func(name string) (string, bool) {
		for _, v := range j.Vars {
			if v.Name == name && !v.Secret {
				return string(v.Value), true
			}
		}
		return "", false
	})
	return cmd
}

// matrixOf checks what a matrix asks for and makes its record, without ids.
func (p *planner) matrixOf(spec MatrixSpec, driver bool) (*statepb.Matrix, error) {
	if err := p.s.checkMatrix(&spec); err != nil {
		return nil, err
	}
	m := &statepb.Matrix{Name: spec.Name, Axes: spec.Axes, Repeats: int32(max(spec.Job.Repeat, 1)),
		Held: spec.Job.Hold, Seed: spec.Seed, Measurements: spec.Measurements}
	for _, step := range spec.Setup {
		m.Setup = append(m.Setup, []byte(step))
	}
	if spec.Job.AtMost < 0 || spec.Job.AtMost > MaxCells || spec.MaxFails < 0 ||
		spec.MaxFails > MaxCells {
		return nil, errorf(Invalid, "--at-most and --max-fails are between 1 and %d", MaxCells)
	}
	m.AtMost, m.MaxFails, m.CancelRest = int32(spec.Job.AtMost), int32(spec.MaxFails),
		spec.CancelRest
	cells := product(spec.Axes, int(m.Repeats))
	if spec.Cells != nil {
		if err := checkCells(spec.Cells, spec.Axes, uint32(m.Repeats)); err != nil {
			return nil, err
		}
		cells = len(spec.Cells)
		m.Index, m.IndexWidth = packIndex(spec.Cells)
	}
	switch {
	case cells == 0:
		return nil, errorf(Invalid, "the matrix has 0 cells")
	case cells > MaxCells:
		return nil, errorf(Invalid, "the matrix has more than %d cells", MaxCells).
			hint("split it into several matrices")
	}
	m.Cells = uint32(cells)
	own := make([]string, len(spec.Axes))
	for i, a := range spec.Axes {
		own[i] = a.Name
	}
	job := spec.Job
	job.Hold = false
	var err error
	if m.Template, err = p.job(&job, spec.Axes, driver); err != nil {
		return nil, err
	}
	if err := p.checkCellsAfter(m); err != nil {
		return nil, err
	}
	used := append(Names(spec.Job.Cmd), Names(spec.Job.CpPath)...)
	for _, in := range spec.Job.Inputs {
		used = append(used, Names(in.Path)...)
	}
	of := p.matrix(m.Template.After.GetCells())
	for _, name := range own {
		// what a stage has of the one that it follows may be in what that has left for it
		followed := spec.bare && slices.ContainsFunc(of.GetAxes(), func(a *statepb.Axis) bool {
			return a.Name == name
		})
		if !slices.Contains(used, name) && !followed {
			p.warn("the command doesn't name {%s}: its jobs find the value in $JOBSERVER_%s", name,
				name)
		}
	}
	return m, nil
}

// product is how many cells the values of all axes make, each run so often; above MaxCells it is
// not exact.
func product(axes []*statepb.Axis, repeats int) int {
	cells := repeats
	for _, a := range axes {
		cells = min(cells*len(a.Values), MaxCells+1) // so that the next product can't overflow
	}
	return cells
}

// checkMatrix checks a matrix's name, setup and axes.
func (s *State) checkMatrix(spec *MatrixSpec) error {
	if len(spec.Setup) > 0 {
		if _, err := (&SetupSpec{Steps: spec.Setup}).steps(); err != nil {
			return err
		}
	}
	if spec.Name != "" {
		if _, err := strconv.ParseUint(spec.Name, 10, 64); err == nil ||
			checkTag(spec.Name) != nil {
			return errorf(Invalid, "%q can't be a matrix's name", spec.Name).
				hint("use letters, digits and dashes, not a number alone")
		}
		if id := s.named[spec.Name]; id != 0 {
			return errorf(Conflict, "matrix %d has the name %q already", id, spec.Name).
				hint("choose another name, or `jobserver matrix rm %d` first", id)
		}
	}
	if spec.Job.Repeat < 0 || spec.Job.Repeat > MaxCells {
		return errorf(Invalid, "a cell can't run %d times", spec.Job.Repeat)
	}
	if len(spec.Axes) == 0 && !spec.bare {
		return errorf(Invalid, "a matrix needs variables with values").
			hint("give them as NAME=V1,V2,…; for a single command use `jobserver job add -x N`")
	}
	seen := map[string]bool{}
	for _, a := range spec.Axes {
		if seen[a.Name] {
			return errorf(Invalid, "the variable %s is given twice", a.Name)
		}
		seen[a.Name] = true
		if err := checkAxis(a); err != nil {
			return err
		}
	}
	return nil
}

// checkAxis refuses what can't be a variable of a matrix.
func checkAxis(a *statepb.Axis) error {
	if err := checkName(a.Name); err != nil && a.Name != seedName {
		return err
	}
	if len(a.Values) == 0 || len(a.Values) == 1 && a.Values[0] == "" {
		return errorf(Invalid, "the variable %s has no values", a.Name).
			hint("give them as %s=V1,V2,…", a.Name)
	}
	for _, v := range a.Values {
		if !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
			return errorf(Invalid, "the variable %s can't have the value %q: it is not valid "+
				"UTF-8, or has a zero byte in it", a.Name, v)
		}
	}
	return nil
}

// checkCells refuses cells that name values which aren't there.
func checkCells(cells [][]uint32, axes []*statepb.Axis, repeats uint32) error {
	for i, c := range cells {
		if len(c) != len(axes)+1 {
			return errorf(Invalid, "cell %d of the matrix has %d numbers for %d variables and "+
				"its repeat", i, len(c), len(axes))
		}
		for k, a := range axes {
			if c[k] >= uint32(len(a.Values)) {
				return errorf(Invalid, "cell %d of the matrix has value %d of %s, which has %d", i,
					c[k], a.Name, len(a.Values))
			}
		}
		if c[len(axes)] >= repeats {
			return errorf(Invalid, "cell %d of the matrix is repeat %d of %d", i, c[len(axes)],
				repeats)
		}
	}
	return nil
}

// packIndex writes the cells as numbers of the least width that holds all of them.
func packIndex(cells [][]uint32) (index []byte, width uint32) {
	var most uint32
	for _, c := range cells {
		most = max(most, slices.Max(c))
	}
	width = 1
	for w := most; w > 0xff; w >>= 8 {
		width++
	}
	for _, c := range cells {
		for _, n := range c {
			for k := uint32(0); k < width; k++ {
				index = append(index, byte(n>>(8*k)))
			}
		}
	}
	return index, width
}
