package top

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/live"
	"jobserver/stats"
	"jobserver/view"
)

// cells are those of a matrix that is open: as a map of their statuses, of the values of a metric,
// or as the table of `matrix table`.
type cells struct {
	id     uint64
	status []byte
	values []float64 // of the metric that is shown
	unit   string

	shown   string // a metric; "": the status; asTable: the table
	metrics []string
	table   *stats.Matrix
	caption string
	since   int // when the table was made, in ticks
	at      int // the first row of the table in sight
}

// asTable is no metric's name: they have no blanks.
const asTable = " table"

// mapCells is how many cells are shown; a terminal has no room for more.
const mapCells = 20_000

// tableTicks is how long a table is good, in seconds: all cells are fetched for it.
const tableTicks = 5

// fetch fetches what is shown.
func (c *cells) fetch(s *screen) []effect {
	if c.shown == asTable {
		if s.ticks-c.since < tableTicks {
			return nil
		}
		return one(c.fetchTable(s, func() {}))
	}
	args := &api.MatrixMapArgs{Matrix: fmt.Sprint(c.id), Max: mapCells, Metric: c.shown}
	return one(fetched(s, "MatrixMap", args, func(_ *screen, r *api.MatrixMapReply) []effect {
		if c.shown == args.Metric {
			c.status, c.values, c.unit = r.Status, r.Values, r.Unit
		}
		return nil
	}))
}

// fetchTable fetches all cells and makes their table; then is done afterwards.
func (c *cells) fetchTable(s *screen, then func()) effect {
	f := s.Follower
	return func(ctx context.Context) news {
		data, err := live.Cells(ctx, f, fmt.Sprint(c.id))
		var made *stats.Table
		if err == nil && len(live.Metrics(data)) > 0 {
			made, err = data.Pivot(stats.Query{Rows: live.Rows(data, nil)})
		}
		return func(s *screen) []effect {
			switch {
			case ctx.Err() != nil:
			case err != nil:
				s.failed(err)
			case made == nil:
				s.said = "no cell has given a number yet: a job prints METRIC: name=value"
			default:
				layout := made.Layout(" ± ")
				c.table, c.caption, c.since = &layout, made.Caption(), s.ticks
				c.metrics = live.Metrics(data)
				then()
				return c.fetch(s)
			}
			return nil
		}
	}
}

// turn goes on to the next way to show them.
func (c *cells) turn(s *screen) []effect {
	if c.table == nil {
		return one(c.fetchTable(s, func() { c.next() }))
	}
	c.next()
	return c.fetch(s)
}

func (c *cells) next() {
	ways := append(append([]string{""}, c.metrics...), asTable)
	c.shown = ways[(slices.Index(ways, c.shown)+1)%len(ways)]
	c.values, c.at = nil, 0
}

// scroll moves in the table, and says whether there is one.
func (c *cells) scroll(by int) bool {
	if c.shown != asTable {
		return false
	}
	c.at = clampRow(c.at+by, len(c.table.Rows))
	return true
}

// lines draw what is shown, below its title.
func (c *cells) lines(s *screen, m *api.Matrix, width, height int) []string {
	title := fmt.Sprintf("── cells of matrix %d ── ■ done  ✗ failed  ▶ running  · waiting  ? lost ",
		m.ID)
	draw := c.statusLines
	switch {
	case c.shown == asTable:
		title, draw = fmt.Sprintf("── table of matrix %d ── %s ", m.ID, c.caption), c.tableLines
	case c.shown != "":
		title, draw = fmt.Sprintf("── %s of matrix %d ── ", c.shown, m.ID), c.valueLines
		if low, high, some := c.bounds(); some {
			title += strings.TrimSpace(fmt.Sprintf("%.4g … %.4g %s", low, high, c.unit)) + " "
		}
	}
	lines := []string{s.spans(view.Span{Text: title, Style: view.Bold})}
	return append(lines, draw(s, m, width, max(height-1, 0))...)
}

// statusLines draw a row for each value of the other axes, as far as there is room.
func (c *cells) statusLines(s *screen, m *api.Matrix, width, height int) (lines []string) {
	columns, rows, at := grid(m, width-2)
	for y := range min(rows, height) {
		var row []view.Span
		for x := range columns {
			cell := at(x, y)
			if cell >= len(c.status) {
				break
			}
			row = appendSpan(row, signs[c.status[cell]].sign, signs[c.status[cell]].style)
		}
		lines = append(lines, "  "+view.Paint(row, s.Color))
	}
	return lines
}

// appendSpan appends text, to the last span where that has its style.
func appendSpan(row []view.Span, text string, style view.Style) []view.Span {
	if n := len(row); n > 0 && row[n-1].Style == style {
		row[n-1].Text += text
		return row
	}
	return append(row, view.Span{Text: text, Style: style})
}

// bounds are the lowest and the highest value.
func (c *cells) bounds() (low, high float64, some bool) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range c.values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			low, high, some = min(low, v), max(high, v), true
		}
	}
	return low, high, some
}

// ramp are colours of the 256 that get lighter with the value.
var ramp = []int{55, 61, 67, 73, 78, 114, 149, 191, 229}

// share is where a cell's value is between the lowest and the highest, from 0 to 1.
func (c *cells) share(cell int, low, high float64) (share float64, known bool) {
	if cell >= len(c.values) || math.IsNaN(c.values[cell]) || math.IsInf(c.values[cell], 0) {
		return 0, false
	}
	if high > low {
		share = (c.values[cell] - low) / (high - low)
	}
	return share, true
}

// valueLines draw the values: two rows of cells a line, as halves of a block; without colours a row
// a line, in digits from 0, the lowest, to 9, and what has no value as its status is.
func (c *cells) valueLines(s *screen, m *api.Matrix, width, height int) (lines []string) {
	columns, rows, at := grid(m, width-2)
	low, high, _ := c.bounds()
	step := 2
	if !s.Color {
		step = 1
	}
	for y := 0; y < rows && len(lines) < height; y += step {
		var row []view.Span
		for x := range columns {
			upper, known := c.share(at(x, y), low, high)
			switch cell := at(x, y); {
			case cell >= len(c.status):
			case step == 2:
				lower, both := 0.0, false
				if y+1 < rows {
					lower, both = c.share(at(x, y+1), low, high)
				}
				row = appendSpan(row, halves(known, both), halvesStyle(upper, lower, known, both))
			case known:
				row = appendSpan(row, fmt.Sprint(min(int(upper*10), 9)), view.Plain)
			default:
				row = appendSpan(row, signs[c.status[cell]].sign, view.Plain)
			}
		}
		lines = append(lines, "  "+view.Paint(row, s.Color))
	}
	return lines
}

// halves is a block with an upper and a lower half, as far as there are these.
func halves(upper, lower bool) string {
	switch {
	case upper:
		return "▀"
	case lower:
		return "▄"
	}
	return " "
}

func halvesStyle(upper, lower float64, hasUpper, hasLower bool) view.Style {
	colour := func(share float64) int { return ramp[int(share*float64(len(ramp)-1)+0.5)] }
	switch {
	case hasUpper && hasLower:
		return view.Style(fmt.Sprintf("38;5;%d;48;5;%d", colour(upper), colour(lower)))
	case hasUpper:
		return view.Style(fmt.Sprintf("38;5;%d", colour(upper)))
	case hasLower:
		return view.Style(fmt.Sprintf("38;5;%d", colour(lower)))
	}
	return view.Plain
}

// tableLines are the rows of the table from the one that was scrolled to.
func (c *cells) tableLines(s *screen, _ *api.Matrix, width, height int) []string {
	columns := make([]view.Column[[]string], len(c.table.Header))
	for i, title := range c.table.Header {
		columns[i] = view.Column[[]string]{
			Title: view.Clean(title), Right: i >= c.table.LeftCols, Give: i,
			Cell: view.Text(func(row []string) string { return row[i] }),
		}
	}
	t := table[[]string]{columns: columns, rows: c.table.Rows, at: c.at}
	return t.lines(s, width, height)
}
