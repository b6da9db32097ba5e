package service

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/grid"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/stats"
)

// matrixSpec is a matrix to submit as the scheduler takes it.
func matrixSpec(m *api.MatrixSpec) (sched.MatrixSpec, error) {
	job, err := jobSpec(&m.Job)
	if err != nil {
		return sched.MatrixSpec{}, err
	}
	if err := api.Wrap(api.Invalid, stats.CheckFile(m.Metrics)); err != nil {
		return sched.MatrixSpec{}, err
	}
	if m.Metrics != "" && job.CpPath == "" {
		return sched.MatrixSpec{}, api.Errorf(api.Invalid,
			"the metrics are to be in %s among the results, and no results are kept", m.Metrics).
			WithHint("give a CP_PATH, and print RESULTS: with the file")
	}
	spec := sched.MatrixSpec{Job: job, Name: m.Name, Seed: m.Seed, Measurements: m.Metrics,
		Setup:    m.Setup,
		MaxFails: m.MaxFails, CancelRest: m.CancelRest}
	for _, a := range m.Vars {
		spec.Axes = append(spec.Axes, &statepb.Axis{Name: a.Name, Values: a.Values})
	}
	if m.Cells == nil {
		return spec, nil
	}
	width := len(m.Vars) + 1
	if len(m.Cells)%width != 0 {
		return sched.MatrixSpec{}, api.Errorf(api.Invalid, "the cells of the matrix are cut off")
	}
	spec.Cells = make([][]uint32, 0, len(m.Cells)/width)
	for row := range slices.Chunk(m.Cells, width) {
		spec.Cells = append(spec.Cells, row)
	}
	return spec, nil
}

// AddMatrix submits a matrix, or says what would be submitted.
func (s *service) AddMatrix(args *api.AddMatrixArgs, reply *api.AddMatrixReply) error {
	spec, err := matrixSpec(&args.Matrix)
	if err != nil {
		return err
	}
	if !args.DryRun {
		if err := s.hasCode(args.Matrix.Job.Code); err != nil {
			return err
		}
		if err := s.hasStdin(args.Matrix.Job.Stdin); err != nil {
			return err
		}
	}
	driver := s.About.Driver != ""
	again := func(st *sched.State) bool {
		return args.Again && spec.Name != "" && st.MatrixNamed(spec.Name) != 0
	}
	grow := func(st *sched.State) (sched.Plan, error) {
		plan, g, err := st.PlanMatrixAgain(spec, driver, sampleCells)
		if err == nil {
			reply.ID, reply.Cells, reply.Sample, reply.Growth = g.Matrix, g.New+g.Again, g.Sample,
				growthOf(g)
		}
		return plan, err
	}
	if args.DryRun {
		return s.read(func(st *sched.State) (err error) {
			if again(st) {
				var plan sched.Plan
				plan, err = grow(st)
				reply.Warnings = plan.Warnings
				return err
			}
			reply.Cells, reply.Sample, reply.Warnings, err = st.SampleMatrix(spec, driver,
				sampleCells)
			return err
		})
	}
	done, err := s.do(args.RequestID, true, "submit a matrix to class "+spec.Job.Class,
		func(st *sched.State, _ time.Time) (sched.Plan, error) {
			if again(st) {
				return grow(st)
			}
			return st.PlanMatrix(spec, driver)
		})
	if err != nil {
		return err
	}
	reply.ID, reply.FirstJID, reply.Warnings = done.IDs[0], done.IDs[1], done.Warnings
	if reply.Repeated = done.repeated; reply.Repeated || reply.Growth == nil {
		// the new cells, and those that run again
		reply.Cells = int(done.IDs[2]) + len(done.IDs[3:])
	}
	return nil
}

func growthOf(g sched.Growth) *api.Growth {
	return &api.Growth{New: g.New, Again: g.Again, Done: g.Done, Active: g.Active,
		Canceled: g.Canceled, Gone: g.Gone, FirstJID: g.FirstJob, JIDs: g.AgainJobs,
		Settings: g.Settings}
}

// rerun is the operation that restarts cells of a matrix.
func rerun(
	st *sched.State, id uint64, args *api.ChangeMatrixArgs,
) (sched.Operation, error) {
	statuses := []sched.Status{sched.Failed, sched.Lost, sched.Canceled, sched.Done}
	switch {
	case args.Failed:
		statuses = []sched.Status{sched.Failed, sched.Lost}
	case args.Lost:
		statuses = []sched.Status{sched.Lost}
	}
	var match func([]uint32) (bool, error)
	if args.Where != "" {
		m, _ := st.Matrix(id)
		var axes []grid.Axis
		for _, a := range m.Axes {
			axes = append(axes, grid.Axis{Name: a.Name, Values: a.Values})
		}
		where, err := grid.Compile(args.Where, axes)
		if err != nil {
			return sched.Operation{}, api.Wrap(api.Invalid, err)
		}
		match = where.Match
	}
	return st.RestartMatrix(id, statuses, match)
}

// leftOf is how long the rest of a matrix takes, nil when that is not known.
func leftOf(st *sched.State, id uint64, now time.Time) *api.TimeLeft {
	p := st.Pace(id, now)
	if p.Runs == nil || p.Waiting+len(p.Running) == 0 {
		return nil
	}
	runs := stats.Runs{N: p.Runs.Count, Sum: p.Runs.Seconds, Sq: p.Runs.Squares}
	left := stats.Predict(runs, p.Waiting, p.Running, p.Slots)
	if !left.Known {
		return nil
	}
	return &api.TimeLeft{Seconds: left.Time.Seconds(), Error: left.Error.Seconds()}
}

// leftOfJobs is how long the rest of several jobs takes: the longest of their matrices. It is nil
// when some of what is left is of no matrix, or nothing is known of one of them.
func leftOfJobs(st *sched.State, ids []uint64, now time.Time) *api.TimeLeft {
	var longest *api.TimeLeft
	seen := map[uint64]bool{}
	for _, id := range ids {
		if status := st.Status(id); sched.Final(status) || status == sched.Copying {
			continue
		}
		m := st.MatrixOf(id)
		if seen[m] {
			continue
		}
		seen[m] = true
		left := leftOf(st, m, now)
		if left == nil {
			return nil
		}
		if longest == nil || left.Seconds > longest.Seconds {
			longest = left
		}
	}
	return longest
}

// Limits of one page of cells, and of a file of measurements.
const (
	cellPage            = 20 * sched.MaxPage
	maxMeasurementsFile = 16 << 20
	maxProblems         = 100
)

// cellNumber is a cell's number as the scheduler has it; beyond all cells it stays there.
func cellNumber(n int) uint32 { return uint32(min(max(n, 0), sched.MaxCells)) }

// MatrixCells gives the cells of a matrix with their measurements. The state is read in small
// pieces; files of results are read outside of it.
func (s *service) MatrixCells(args *api.MatrixCellsArgs, reply *api.MatrixCellsReply) error {
	if err := api.Wrap(api.Invalid, stats.CheckFile(args.Metrics)); err != nil {
		return err
	}
	from := args.From
	given := inputTally{}
	for len(reply.Cells) < cellPage {
		var views []sched.CellView
		total := 0
		err := s.read(func(st *sched.State) error {
			id, err := st.FindMatrix(args.Matrix)
			if err != nil {
				return err
			}
			reply.Matrix = wire.Matrix(st, id)
			total = reply.Matrix.Cells
			views = st.CellViews(id, cellNumber(from))
			return nil
		})
		if err != nil {
			return err
		}
		for i := range views {
			given.add(views[i].Inputs)
			reply.Cells = append(reply.Cells,
				cellOf(&views[i], cmp.Or(args.Metrics, reply.Matrix.Metrics), reply))
		}
		from += len(views)
		if from >= total {
			reply.Inputs = given.list()
			return nil
		}
	}
	reply.Next, reply.Inputs = from, given.list()
	return nil
}

// cellOf is a cell as clients see it. What can't be read as a measurement is a problem.
func cellOf(v *sched.CellView, file string, reply *api.MatrixCellsReply) api.Cell {
	c := api.Cell{JID: v.Job, Index: v.Index, Repeat: v.Repeat, Machine: v.Machine}
	if v.Status != 0 {
		c.Status = sched.StatusName(v.Status)
	}
	problem := func(text string) {
		if len(reply.Problems) < maxProblems {
			reply.Problems = append(reply.Problems, api.Problem{JID: v.Job, Text: text})
		}
	}
	c.Kind = kindOf(v.Hardware, reply)
	for _, line := range v.Measurements {
		m, err := stats.ParseMeasurement(line)
		if err != nil {
			problem(err.Error())
			continue
		}
		c.Metrics = append(c.Metrics, api.Measurement{Name: m.Name, Value: m.Value, Unit: m.Unit})
	}
	if file == "" || v.Status != sched.Done {
		return c
	}
	if v.ResultsDir == "" {
		problem("it has no results")
		return c
	}
	measurements, problems, err := measurementsFile(v.ResultsDir, file)
	if err != nil {
		problem(fmt.Sprintf("%s: %v", file, err))
	}
	for _, p := range problems {
		problem(fmt.Sprintf("%s: %s", file, p))
	}
	for _, m := range measurements {
		c.Metrics = append(c.Metrics, api.Measurement{Name: m.Name, Value: m.Value, Unit: m.Unit})
	}
	return c
}

// kindOf is the place of a machine's hardware in a reply, where each kind is once.
func kindOf(h *statepb.Hardware, reply *api.MatrixCellsReply) int {
	if h == nil {
		return 0
	}
	kind := api.Hardware{Cores: int(h.Cores), Memory: h.Memory, CPUModel: h.CpuModel}
	at := slices.Index(reply.Hardware, kind)
	if at < 0 {
		at = len(reply.Hardware)
		reply.Hardware = append(reply.Hardware, kind)
	}
	return at + 1
}

// measurementsFile reads a file of a job's results, which may be anything: it never leads out of
// them.
func measurementsFile(dir, name string) ([]stats.Measurement, []string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, errors.New("the results are no longer there")
	}
	defer root.Close()
	info, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, errors.New("there is no such file among the results")
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("it is not a file")
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMeasurementsFile+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(data) > maxMeasurementsFile:
		return nil, nil, fmt.Errorf("it has more than %d MiB", maxMeasurementsFile>>20)
	}
	return stats.ParseFile(data)
}
