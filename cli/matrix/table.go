package matrix

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/stats"
	"jobserver/view"
)

// Table is `matrix table ID`.
type Table struct {
	cellSource
	Rows string `name:"rows" predictor:"axis" placeholder:"A,B" help:"The variables that make the rows, or machine or REPEAT; by default those that don't make columns."`
	Cols string `name:"cols" predictor:"axis" placeholder:"A,B" help:"The variables that make the columns."`
	Cell string `name:"cell" placeholder:"STAT(METRIC)" help:"What the cells show: mean, median, min, max, std, ci95 or n of a metric over repeats. A metric alone shows its mean with the 95 % confidence interval. Separate several with commas; by default all metrics."`
	Flat bool   `name:"flat" help:"Print one row for each job with its variables, metrics, times and machine, for programs."`
	By   string `name:"by" enum:",machine" default:"" placeholder:"machine" help:"Show each machine separately."`
}

// The formats that only tables have.
const (
	formatMarkdown = "md"
	formatLaTeX    = "latex"
)

// Formats are the values of -o.
func (c *Table) Formats() []string {
	return []string{string(view.Table), string(view.Wide), string(view.CSV), string(view.JSON),
		string(view.JSONL), formatMarkdown, formatLaTeX}
}

// Run prints the table.
func (c *Table) Run(ctx context.Context, e *cli.Env) error {
	if c.Flat {
		return c.flat(ctx, e)
	}
	q := stats.Query{Rows: names(c.Rows), Cols: names(c.Cols)}
	if c.Cell != "" {
		columns, err := stats.ParseColumns(c.Cell)
		if err != nil {
			return api.Wrap(api.Usage, err)
		}
		q.Columns = columns
	}
	data, matrix, err := c.load(ctx, e)
	if err != nil {
		return err
	}
	if c.Rows == "" {
		q.Rows = defaultRows(data, q.Cols)
	}
	if c.By != "" && !slices.Contains(q.Rows, c.By) && !slices.Contains(q.Cols, c.By) {
		q.Rows = append(q.Rows, c.By)
	}
	table, err := data.Pivot(q)
	if err != nil {
		return api.Wrap(api.Usage, err)
	}
	e.Warn(table.Warnings)
	return writePivot(e, table, matrix)
}

// flat prints a row for each job.
func (c *Table) flat(ctx context.Context, e *cli.Env) error {
	switch format := string(e.Format()); {
	case c.Rows != "" || c.Cols != "" || c.Cell != "" || c.By != "":
		return api.Errorf(api.Usage, "--flat prints all of each job, and sums nothing up").
			WithHint("leave --rows, --cols, --cell and --by out; --where narrows the jobs")
	case format == formatMarkdown || format == formatLaTeX:
		return api.Errorf(api.Usage, "--flat is for programs, and can't be written as %s", format).
			WithHint("-o csv, json or jsonl")
	}
	data, matrix, err := c.load(ctx, e)
	if err != nil {
		return err
	}
	return c.writeFlat(ctx, e, data, matrix.ID)
}

// names are the words between commas.
func names(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// defaultRows are the variables that have more than one value in the sweep and make no columns.
func defaultRows(d *stats.Data, cols []string) []string {
	var rows []string
	for a, axis := range d.Axes {
		varies := slices.ContainsFunc(d.Cells, func(c stats.Cell) bool {
			return c.Index[a] != d.Cells[0].Index[a]
		})
		if varies && !slices.Contains(cols, axis.Name) {
			rows = append(rows, axis.Name)
		}
	}
	if len(rows) == 0 && len(cols) == 0 && len(d.Axes) > 0 { // a stage may have none
		rows = []string{d.Axes[0].Name}
	}
	return rows
}

// writePivot prints the table in the format that the flags say.
func writePivot(e *cli.Env, t *stats.Table, matrix *api.Matrix) error {
	switch format := string(e.Format()); format {
	case formatMarkdown:
		return t.WriteMarkdown(e.Stdout)
	case formatLaTeX:
		return t.WriteLaTeX(e.Stdout)
	case string(view.CSV):
		cell := func(text string) string { return text }
		if e.Globals.SafeCSV {
			cell = view.NoFormula
		}
		return t.WriteCSV(e.Stdout, cell)
	case string(view.JSON), string(view.JSONL):
		return view.Write(e.Stdout, view.Options{Format: view.Format(format)}, nil, t.Lines())
	}
	e.Note("%s: %s", strings.TrimSpace(fmt.Sprintf("matrix %d %s", matrix.ID, matrix.Name)),
		t.Caption())
	m := t.Layout(" ± ")
	columns := make([]view.Column[[]string], len(m.Header))
	for i, title := range m.Header {
		columns[i] = view.Column[[]string]{
			Title: view.Clean(title), Key: title, Cell: view.Text(func(row []string) string {
				return row[i]
			}), Right: i >= m.LeftCols,
		}
	}
	return cli.List(e, m.Rows, columns)
}
