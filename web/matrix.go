package web

import (
	"bytes"
	"net/http"
	"strings"

	"jobserver/api"
	"jobserver/live"
	"jobserver/stats"
)

// Tables and plots of matrices, made as the command line makes them.

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
	data, err := live.Cells(r.Context(), s.Follower, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	q := queryOf(r)
	out := &table{Metrics: live.Metrics(data), Axes: []string{}, Rows: [][]string{}}
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
		query.Rows = live.Rows(data, query.Cols)
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
	data, err := live.Cells(r.Context(), s.Follower, r.PathValue("id"))
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
