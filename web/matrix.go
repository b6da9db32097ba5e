package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/live"
	"jobserver/stats"
)

// Tables and plots of matrices, made as the command line makes them.

// maxTableCells is how many cells a table or a plot is made of here; the command line makes larger
// ones.
const maxTableCells = 100_000

// cells fetches the cells of a matrix with their measurements.
func (s *server) cells(ctx context.Context, matrix string) (*stats.Data, *api.Matrix, error) {
	data := &stats.Data{}
	var m api.Matrix
	for from := 0; ; {
		args := &api.MatrixCellsArgs{Matrix: matrix, From: from}
		page, err := live.Ask[api.MatrixCellsReply](ctx, s.Follower, "MatrixCells", args)
		if err != nil {
			return nil, nil, err
		}
		if page.Matrix.Cells > maxTableCells {
			return nil, nil, api.Errorf(api.Invalid,
				"the matrix has %d cells, too many for a table here", page.Matrix.Cells).
				WithHint("`jobserver matrix table %s` makes one", quoted(matrix))
		}
		if from == 0 {
			m = page.Matrix
			data.Name = fmt.Sprint(m.ID)
			for _, a := range m.Vars {
				data.Axes = append(data.Axes, stats.Axis{Name: a.Name, Values: a.Values})
			}
		}
		for i := range page.Cells {
			c := &page.Cells[i]
			cell := stats.Cell{
				Job:     c.JID,
				Index:   c.Index,
				Repeat:  c.Repeat,
				Status:  c.Status,
				Machine: c.Machine,
			}
			for _, v := range c.Metrics {
				cell.Measurements = append(
					cell.Measurements,
					stats.Measurement{Name: v.Name, Value: v.Value, Unit: v.Unit},
				)
			}
			data.Cells = append(data.Cells, cell)
		}
		if from = page.Next; from == 0 {
			return data, &m, nil
		}
	}
}

// split are the words between commas.
func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func replaceQuotes(word string) string { return strings.ReplaceAll(word, "'", `'\''`) }

// table is a pivot as the page draws it.
type table struct {
	Caption  string       `json:"caption"`
	Header   []string     `json:"header"`
	Left     int          `json:"left"` // columns of names
	Rows     [][]string   `json:"rows"`
	Lines    []stats.Line `json:"lines"`
	Warnings []string     `json:"warnings,omitempty"`
	Axes     []string     `json:"axes"`
	Metrics  []string     `json:"metrics"`
}

func (s *server) getTable(r *http.Request) (any, error) {
	data, _, err := s.cells(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	q := queryOf(r)
	out := &table{Metrics: []string{}, Axes: []string{}, Rows: [][]string{}}
	for _, c := range data.Cells {
		for _, m := range c.Measurements {
			if !slices.Contains(out.Metrics, m.Name) {
				out.Metrics = append(out.Metrics, m.Name)
			}
		}
	}
	for _, a := range data.Axes {
		out.Axes = append(out.Axes, a.Name)
	}
	if len(out.Metrics) == 0 {
		return out, nil // nothing to make a table of yet
	}
	query := stats.Query{Rows: split(q.Get("rows")), Cols: split(q.Get("cols"))}
	if text := q.Get("cell"); text != "" {
		if query.Columns, err = stats.ParseColumns(text); err != nil {
			return nil, api.Wrap(api.Invalid, err)
		}
	}
	if query.Rows == nil {
		for _, a := range data.Axes {
			if len(a.Values) > 1 && !slices.Contains(query.Cols, a.Name) {
				query.Rows = append(query.Rows, a.Name)
			}
		}
	}
	if len(query.Rows)+len(query.Cols) == 0 && len(data.Axes) > 0 {
		query.Rows = []string{data.Axes[0].Name}
	}
	t, err := data.Pivot(query)
	if err != nil {
		return nil, api.Wrap(api.Invalid, err)
	}
	layout := t.Layout(" ± ")
	out.Caption, out.Warnings = t.Caption(), t.Warnings
	out.Header, out.Left, out.Rows, out.Lines = layout.Header, layout.LeftCols, orEmpty(
		layout.Rows,
	), t.Lines()
	return out, nil
}

// plot sends the very file that `matrix plot` writes.
func (s *server) plot(w http.ResponseWriter, r *http.Request) error {
	data, _, err := s.cells(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	q := queryOf(r)
	p := stats.Plot{
		X: q.Get(
			"x",
		),
		Y:      q.Get("y"),
		Series: q.Get("series"),
		LogX:   q.Get("logx") != "",
		LogY:   q.Get("logy") != "",
		Format: "svg",
	}
	var out bytes.Buffer
	if _, err := data.WritePlot(&out, p); err != nil {
		return api.Wrap(api.Invalid, err)
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	return writeBody(w, r, http.StatusOK, out.Bytes())
}
