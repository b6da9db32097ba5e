package top

import (
	"fmt"

	"jobserver/api"
	"jobserver/live"
	"jobserver/view"
)

// matrices is the pane of matrices, and of the cells of one.
type matrices struct {
	list  []api.Matrix
	at    int
	cells *cells // of one that is open
}

// cells is the map of a matrix.
type cells struct {
	id     uint64
	status []byte
}

func (p *matrices) title() string                { return "Matrices" }
func (p *matrices) concerns(d *live.Digest) bool { return d.AllMatrices || len(d.Matrices) > 0 }
func (p *matrices) selected() uint64             { return 0 }

func (p *matrices) fetch(s *screen) effect {
	list := fetched(
		s,
		"ListMatrices",
		&api.ListMatricesArgs{Light: true},
		func(s *screen, r *api.ListMatricesReply) []effect {
			p.list = make([]api.Matrix, 0, len(r.Matrices))
			for i := range r.Matrices {
				p.list = append(p.list, r.Matrices[len(r.Matrices)-1-i])
			}
			p.at = clampRow(p.at, len(p.list))
			if p.cells != nil {
				return one(p.fetchCells(s, p.cells.id))
			}
			return nil
		},
	)
	return list
}

// mapCells is how many cells are shown; a terminal has no room for more.
const mapCells = 20_000

func (p *matrices) fetchCells(s *screen, id uint64) effect {
	args := &api.MatrixMapArgs{Matrix: fmt.Sprint(id), Max: mapCells}
	return fetched(s, "MatrixMap", args, func(_ *screen, r *api.MatrixMapReply) []effect {
		if p.cells != nil && p.cells.id == r.ID {
			p.cells.status = r.Status
		}
		return nil
	})
}

func (p *matrices) move(_ *screen, by int) []effect {
	p.at, p.cells = clampRow(p.at+by, len(p.list)), nil
	return nil
}

func (p *matrices) open(s *screen) []effect {
	if len(p.list) == 0 {
		return nil
	}
	if p.cells != nil { // once more: its jobs
		list := s.panes[paneJobs].(*jobs)
		list.words, list.at, list.before = []string{fmt.Sprintf("%%%d", p.cells.id)}, 0, 0
		s.pane, p.cells = paneJobs, nil
		return one(list.fetch(s))
	}
	p.cells = &cells{id: p.list[p.at].ID}
	return one(p.fetchCells(s, p.cells.id))
}

func (p *matrices) change(_ *screen, key string) (*change, error) {
	ops := map[string]string{
		"c": api.MatrixCancel,
		"h": api.MatrixHold,
		"u": api.MatrixUnhold,
		"r": api.MatrixRerun,
	}
	if len(p.list) == 0 || ops[key] == "" {
		return nil, nil
	}
	m := &p.list[p.at]
	what := fmt.Sprintf("matrix %d", m.ID)
	if key == "r" {
		what = fmt.Sprintf("what failed of matrix %d", m.ID)
	}
	return &change{kind: "cell", op: ops[key], what: what, names: []string{fmt.Sprint(m.ID)}}, nil
}

func (p *matrices) lines(s *screen, width, height int) []string {
	type m = api.Matrix
	columns := []view.Column[m]{
		{
			Title: "Matrix",
			Right: true,
			Cell:  view.Text(func(m m) string { return fmt.Sprint(m.ID) }),
		},
		{Title: "Name", Max: 24, Cell: view.Text(func(m m) string {
			if m.Name == "" {
				return m.Cmd
			}
			return m.Name
		})},
		{
			Title: "Cells",
			Right: true,
			Give:  3,
			Cell:  view.Text(func(m m) string { return fmt.Sprint(m.Cells) }),
		},
		{Title: "Jobs", Cell: func(m m) []view.Span { return viewCounts(m.Counts).Short() }},
		{Title: "Left", Give: 1, Cell: view.Text(func(m m) string {
			if m.Left == nil {
				return ""
			}
			text := view.FormatDuration(m.Left.Duration())
			if m.Left.Error > 0 {
				text += " ± " + view.FormatDuration(m.Left.Margin())
			}
			return text
		})},
		{Title: "Class", Give: 2, Cell: view.Text(func(m m) string { return m.Class })},
		{Title: "Remarks", Give: 4, Min: 6, Max: 200, Cell: view.Text(func(m m) string {
			if m.Held {
				return "held " + m.HeldWhy
			}
			return ""
		})},
	}
	list := height
	if p.cells != nil {
		list = max(min(height/3, 6), 2)
	}
	lines := fill(tableLines(s, width, list, columns, p.list, p.at, "no matrices yet"), list)
	if p.cells == nil {
		return lines
	}
	return append(lines, p.cellLines(s, width, height-list)...)
}

// signs are what a cell's status looks like without colours.
var signs = map[byte]struct {
	sign  string
	style view.Style
}{
	api.MapForgotten: {
		" ",
		view.Plain,
	},
	api.MapWaiting: {"·", view.Plain},
	api.MapHeld:    {"=", view.Blue},
	api.MapRunning: {"▶", view.Yellow},
	api.MapCopying: {
		"⇣",
		view.Magenta,
	},
	api.MapDone:     {"■", view.Green},
	api.MapFailed:   {"✗", view.Red},
	api.MapCanceled: {"/", view.Grey},
	api.MapLost:     {"?", view.Red},
}

// cellLines draw the map: a row for each value of the last axis but one, as far as there is room.
func (p *matrices) cellLines(s *screen, width, height int) []string {
	var m *api.Matrix
	for i := range p.list {
		if p.list[i].ID == p.cells.id {
			m = &p.list[i]
		}
	}
	if m == nil {
		return []string{"the matrix is gone"}
	}
	columns, rows, at := grid(m, width-2)
	title := fmt.Sprintf(
		"── cells of matrix %d ── ■ done  ✗ failed  ▶ running  · waiting  ? lost ",
		m.ID,
	)
	lines := []string{s.spans(view.Span{Text: title, Style: view.Bold})}
	for y := 0; y < rows && len(lines) < height; y++ {
		var row []view.Span
		for x := range columns {
			cell := at(x, y)
			if cell >= len(p.cells.status) {
				break
			}
			c := signs[p.cells.status[cell]]
			if n := len(row); n > 0 && row[n-1].Style == c.style {
				row[n-1].Text += c.sign
			} else {
				row = append(row, view.Span{Text: c.sign, Style: c.style})
			}
		}
		lines = append(lines, "  "+view.Paint(row, s.Color))
	}
	return lines
}

// grid says where the cells of a matrix are drawn: a column for each value of the longest axis that
// has room, a row for each of the others; or as they come.
func grid(m *api.Matrix, width int) (columns, rows int, at func(x, y int) int) {
	dims := make([]int, 0, len(m.Vars)+1)
	product, across := 1, -1
	for _, v := range append(m.Vars[:len(m.Vars):len(m.Vars)], api.Axis{Count: max(m.Repeats, 1)}) {
		dims = append(dims, v.Count)
		product *= v.Count
	}
	for i, n := range dims {
		if n > 1 && n <= width && (across < 0 || n > dims[across]) {
			across = i
		}
	}
	if m.Listed || product != m.Cells || across < 0 || m.Cells/dims[across] > 200 {
		columns = max(min(width, m.Cells), 1)
		return columns, (m.Cells + columns - 1) / columns, func(x, y int) int {
			return y*columns + x
		}
	}
	return dims[across], m.Cells / dims[across], func(x, y int) int {
		cell, stride := 0, 1
		for i := len(dims) - 1; i >= 0; i-- {
			if i == across {
				cell += x * stride
			} else {
				cell += y % dims[i] * stride
				y /= dims[i]
			}
			stride *= dims[i]
		}
		return cell
	}
}
