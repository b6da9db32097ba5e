package matrix

import (
	"context"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/grid"
	"jobserver/stats"
)

// cellSource says which numbers of which cells a table or a plot is about.
type cellSource struct {
	Matrix string `arg:"" name:"ID" predictor:"matrix" help:"The matrix, by id or name."`
	cellFilter
}

// cellFilter narrows the cells of a matrix, and says where their numbers are.
type cellFilter struct {
	Where   []string `name:"where" sep:"none" placeholder:"CONDITION" help:"Only the cells for which this holds, such as 'A<B' or 'MODE!=slow' (repeatable)."`
	Metrics string   `name:"metrics" placeholder:"FILE" help:"Also read metrics from this file (CSV or JSON) in each job's results; defaults to the file that the matrix names."`
}

// load fetches the cells, and says what is wrong with their measurements.
func (s *cellSource) load(ctx context.Context, e *cli.Env) (*stats.Data, *api.Matrix, error) {
	d, err := e.Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	data := &stats.Data{}
	var matrix api.Matrix
	var problems []api.Problem
	var given []api.CellInput
	var match func(*api.Cell) (bool, error)
	kinds, err := machineKinds(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	for from := 0; ; {
		page, err := cli.Ask[api.MatrixCellsReply](ctx, d, "MatrixCells",
			&api.MatrixCellsArgs{Matrix: s.Matrix, From: from, Metrics: s.Metrics})
		if err != nil {
			return nil, nil, err
		}
		if match == nil {
			matrix = page.Matrix
			data.Name, data.Seed = fmt.Sprint(matrix.ID), matrix.Seed
			for _, a := range matrix.Vars {
				data.Axes = append(data.Axes, stats.Axis{Name: a.Name, Values: a.Values})
			}
			if match, err = s.matcher(matrix.Vars); err != nil {
				return nil, nil, api.Wrap(api.Usage, err)
			}
		}
		for i := range page.Cells {
			c := &page.Cells[i]
			if ok, err := match(c); err != nil {
				return nil, nil, api.Wrap(api.Usage, err)
			} else if ok {
				cell := statsCell(c)
				if cell.Kind = kinds[c.Machine]; c.Kind > 0 && c.Kind <= len(page.Hardware) {
					h := &page.Hardware[c.Kind-1]
					cell.Kind = stats.Kind(h.Cores, h.Memory, h.CPUModel)
				}
				data.Cells = append(data.Cells, cell)
			}
		}
		problems = append(problems, page.Problems...)
		given = append(given, page.Inputs...)
		if from = page.Next; from == 0 {
			break
		}
	}
	if len(data.Cells) == 0 {
		return nil, nil, api.Errorf(api.NoMatch, "no cell of matrix %d is left: %s", matrix.ID,
			strings.Join(s.Where, " and "))
	}
	warnProblems(e, problems)
	warnInputs(e, given)
	return data, &matrix, nil
}

// matcher says which cells fulfil the conditions.
func (s *cellSource) matcher(vars []api.Axis) (func(*api.Cell) (bool, error), error) {
	var axes []grid.Axis
	for _, a := range vars {
		axes = append(axes, grid.Axis{Name: a.Name, Values: a.Values})
	}
	var conditions []*grid.Where
	for _, text := range s.Where {
		w, err := grid.Compile(text, axes)
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, w)
	}
	return func(c *api.Cell) (bool, error) {
		for _, w := range conditions {
			if ok, err := w.Match(append(c.Index[:len(axes):len(axes)], c.Repeat)); err != nil ||
				!ok {
				return false, err
			}
		}
		return true, nil
	}, nil
}

func statsCell(c *api.Cell) stats.Cell {
	out := stats.Cell{Job: c.JID, Index: c.Index, Repeat: c.Repeat, Status: c.Status,
		Machine: c.Machine}
	for _, m := range c.Metrics {
		out.Measurements = append(out.Measurements,
			stats.Measurement{Name: m.Name, Value: m.Value, Unit: m.Unit})
	}
	return out
}

// machineKinds says of each machine of the pool what it is: of what an older daemon has recorded,
// that isn't with the cells.
func machineKinds(ctx context.Context, d cli.Daemon) (map[string]string, error) {
	reply, err := cli.Ask[api.ListMachinesReply](ctx, d, "ListMachines", &api.ListMachinesArgs{})
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{}
	for _, m := range reply.Machines {
		kinds[m.Addr] = stats.Kind(m.Cores, m.MemoryBytes, m.CPUModel)
	}
	return kinds, nil
}

// warnProblems tells of measurements that can't be used, each problem once, with the first of its
// jobs.
func warnProblems(e *cli.Env, problems []api.Problem) {
	jobs := map[string][]uint64{}
	var texts []string
	for _, p := range problems {
		if jobs[p.Text] == nil {
			texts = append(texts, p.Text)
		}
		jobs[p.Text] = append(jobs[p.Text], p.JID)
	}
	const shown = 10
	for _, text := range texts[:min(len(texts), shown)] {
		who := fmt.Sprintf("job %d", jobs[text][0])
		if n := len(jobs[text]); n > 1 {
			who += fmt.Sprintf(" and %d more", n-1)
		}
		e.Warn([]string{who + ": " + text})
	}
	if n := len(texts) - shown; n > 0 {
		e.Warn([]string{fmt.Sprintf("%d more metrics can't be used", n)})
	}
}
