package live

import (
	"context"
	"fmt"
	"slices"

	"jobserver/api"
	"jobserver/stats"
)

// maxCells is how many cells a table is made of for a viewer; the command line makes larger ones.
const maxCells = 100_000

// Cells fetches the cells of a matrix, which is named by its id or name, with their measurements:
// what tables and plots are made of, here as by the command line.
func Cells(ctx context.Context, f *Follower, matrix string) (*stats.Data, error) {
	data := &stats.Data{}
	for from := 0; ; {
		args := &api.MatrixCellsArgs{Matrix: matrix, From: from}
		page, err := Ask[api.MatrixCellsReply](ctx, f, "MatrixCells", args)
		if err != nil {
			return nil, err
		}
		m := &page.Matrix
		if m.Cells > maxCells {
			return nil, api.Errorf(api.Invalid,
				"the matrix has %d cells, too many for a table here", m.Cells).
				WithHint("`jobserver matrix table %d` makes one", m.ID)
		}
		if from == 0 {
			data.Name = fmt.Sprint(m.ID)
			for _, a := range m.Vars {
				data.Axes = append(data.Axes, stats.Axis{Name: a.Name, Values: a.Values})
			}
		}
		for i := range page.Cells {
			c := &page.Cells[i]
			cell := stats.Cell{
				Job: c.JID, Index: c.Index, Repeat: c.Repeat, Status: c.Status, Machine: c.Machine,
			}
			for _, v := range c.Metrics {
				cell.Measurements = append(cell.Measurements,
					stats.Measurement{Name: v.Name, Value: v.Value, Unit: v.Unit})
			}
			data.Cells = append(data.Cells, cell)
		}
		if from = page.Next; from == 0 {
			return data, nil
		}
	}
}

// Metrics are the names of what the cells have measured, in the order in which they come.
func Metrics(data *stats.Data) []string {
	names := []string{}
	for i := range data.Cells {
		for _, m := range data.Cells[i].Measurements {
			if !slices.Contains(names, m.Name) {
				names = append(names, m.Name)
			}
		}
	}
	return names
}

// Rows are the variables that make the rows of a table with these columns: those with several
// values.
func Rows(data *stats.Data, columns []string) (rows []string) {
	for _, a := range data.Axes {
		if len(a.Values) > 1 && !slices.Contains(columns, a.Name) {
			rows = append(rows, a.Name)
		}
	}
	if len(rows)+len(columns) == 0 && len(data.Axes) > 0 {
		rows = []string{data.Axes[0].Name}
	}
	return rows
}
