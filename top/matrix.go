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
				return p.cells.fetch(s)
			}
			return nil
		},
	)
	return list
}

func (p *matrices) move(_ *screen, by int) []effect {
	if p.cells != nil && p.cells.scroll(by) {
		return nil
	}
	p.at, p.cells = clampRow(p.at+by, len(p.list)), nil
	return nil
}

func (p *matrices) open(s *screen) []effect {
	if len(p.list) == 0 {
		return nil
	}
	if p.cells != nil { // once more: its jobs
		return s.showJobs([]string{fmt.Sprintf("%%%d", p.cells.id)}, 0)
	}
	p.cells = &cells{id: p.list[p.at].ID}
	return p.cells.fetch(s)
}

// turn shows the cells otherwise: by status, by the value of each metric, as a table.
func (p *matrices) turn(s *screen) []effect {
	if p.cells == nil {
		s.said = "⏎ shows the cells of a matrix first"
		return nil
	}
	return p.cells.turn(s)
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
	t := table[m]{columns: columns, rows: p.list, at: p.at, empty: "no matrices yet"}
	lines := fill(t.lines(s, width, list), list)
	if p.cells == nil {
		return lines
	}
	for i := range p.list {
		if p.list[i].ID == p.cells.id {
			return append(lines, p.cells.lines(s, &p.list[i], width, height-list)...)
		}
	}
	return append(lines, "  the matrix is gone")
}
