package view

import (
	"slices"
	"strings"
)

const gap = 2 // blanks between columns

// offTerminal is how wide a line may be where no terminal says so. Programs read other formats.
const offTerminal = 240

// grid is a table whose cells are clean text: what is left of a listing when its rows have been
// asked.
type grid struct {
	columns []gridColumn
	rows    [][][]Span // by row, by column
}

type gridColumn struct {
	title         string
	right, middle bool
	// widths: of its widest cell, of the narrowest that is of use, and the limit (0: none)
	natural, least, max int
	give                int
	says                bool // any of its cells says something
	width               int  // as laid out
}

// printTable lays out all rows and writes them. The last column isn't padded, so that no line ends
// in blanks.
func (p *Printer[T]) printTable() error {
	g := p.grid()
	width := p.opt.Screen.Width
	if p.opt.Format == Wide && width > 0 && len(g.rows) > 0 &&
		g.total(func(c gridColumn) int { return c.natural }) > width {
		return p.printBlocks(g)
	}
	g.layOut(width)
	if !p.opt.NoHeader {
		titles := make([][]Span, len(g.columns))
		for i, column := range g.columns {
			titles[i] = []Span{{column.title, Bold}}
		}
		if _, err := p.w.WriteString(g.line(titles, width, p.opt.Screen.Color)); err != nil {
			return err
		}
	}
	for _, row := range g.rows {
		if _, err := p.w.WriteString(g.line(row, width, p.opt.Screen.Color)); err != nil {
			return err
		}
	}
	return nil
}

// printBlocks writes each row as a block of lines, a line for each cell that says something: all of
// it can be read where a line of all columns would be broken anywhere.
func (p *Printer[T]) printBlocks(g *grid) error {
	names := 0
	for _, c := range g.columns {
		names = max(names, Width(c.title))
	}
	for i, row := range g.rows {
		if i > 0 {
			if err := p.w.WriteByte('\n'); err != nil {
				return err
			}
		}
		for j, c := range g.columns {
			if spansWidth(row[j]) == 0 {
				continue
			}
			name := []Span{{c.title, Bold}, {strings.Repeat(" ", names-Width(c.title)+gap), Plain}}
			if _, err := p.w.WriteString(Paint(append(name, row[j]...), p.opt.Screen.Color) +
				"\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// grid asks the rows for their cells and cleans them.
func (p *Printer[T]) grid() *grid {
	g := &grid{rows: make([][][]Span, len(p.rows))}
	fit := p.opt.Format == Table && p.opt.Screen.Width > 0
	for _, column := range p.columns {
		if column.Cell == nil || column.OnlyWide && p.opt.Format != Wide {
			continue
		}
		title := Clean(column.Title)
		c := gridColumn{
			title: title, right: column.Right, middle: column.Middle, give: column.Give,
			natural: Width(title), least: column.Min,
		}
		if c.least == 0 {
			c.least = Width(title)
		}
		if fit {
			c.max = column.Max
		}
		for i, row := range p.rows {
			cell := slices.Clone(column.Cell(row))
			for j := range cell {
				cell[j].Text = Clean(cell[j].Text)
			}
			c.natural = max(c.natural, spansWidth(cell))
			c.says = c.says || spansWidth(cell) > 0
			g.rows[i] = append(g.rows[i], cell)
		}
		g.columns = append(g.columns, c)
	}
	return g
}

// layOut gives each column its width, so that all of them take at most width; 0 means no limit: all
// columns are there, each as wide as its widest cell. Columns that give way leave, the first of
// them first, until the others have what they need at least; what is left shrinks. Those in which
// nothing stands leave before any other shrinks. If even those that never leave are too wide, they
// shrink too, to one column each.
func (g *grid) layOut(width int) {
	for i := range g.columns {
		c := &g.columns[i]
		c.width = c.natural
		if c.max > 0 {
			c.width = min(c.width, max(c.max, c.least))
		}
		c.least = min(c.least, c.width)
		if c.give == 0 {
			c.least = c.width
		}
	}
	if width <= 0 { // a file or a pipe: all columns, and lines that can be read
		g.shrink(offTerminal, func(c gridColumn) int { return min(c.width, 16) })
		return
	}
	g.leave(width)
	g.shrink(width, func(c gridColumn) int { return c.least })
	g.shrink(width, func(gridColumn) int { return 1 })
}

// leave takes out columns until the others have room. What says nothing needs none that others
// could use.
func (g *grid) leave(width int) {
	for {
		at := g.firstToLeave()
		if at < 0 {
			return
		}
		needed := func(c gridColumn) int { return c.least }
		if !g.columns[at].says {
			needed = func(c gridColumn) int { return c.width }
		}
		if g.total(needed) <= width {
			return
		}
		g.columns = slices.Delete(g.columns, at, at+1)
		for i := range g.rows {
			g.rows[i] = slices.Delete(g.rows[i], at, at+1)
		}
	}
}

// total is the width of a line of columns of those widths.
func (g *grid) total(widthOf func(gridColumn) int) int {
	total := gap * max(len(g.columns)-1, 0)
	for _, c := range g.columns {
		total += widthOf(c)
	}
	return total
}

// firstToLeave is the rightmost of the columns that give way first, -1 when only those are left
// that never do. Those that say nothing leave before all others.
func (g *grid) firstToLeave() int {
	found := -1
	for i, c := range g.columns {
		if c.give == 0 {
			continue
		}
		if found < 0 || c.says == g.columns[found].says && c.give >= g.columns[found].give ||
			!c.says && g.columns[found].says {
			found = i
		}
	}
	return found
}

// shrink narrows the columns until all fit or none can be narrower: always the widest, so that they
// become equally wide; among equals the one that gives way first.
func (g *grid) shrink(width int, least func(gridColumn) int) {
	surplus := g.total(func(c gridColumn) int { return c.width }) - width
	for ; surplus > 0; surplus-- {
		chosen := -1
		for i, c := range g.columns {
			if c.width <= least(c) {
				continue
			}
			if chosen < 0 || c.width > g.columns[chosen].width ||
				c.width == g.columns[chosen].width && c.give > g.columns[chosen].give {
				chosen = i
			}
		}
		if chosen < 0 {
			return
		}
		g.columns[chosen].width--
	}
}

// line makes one line of cells. A terminal too narrow for even
// one column per cell gets as much as there is room for.
func (g *grid) line(cells [][]Span, width int, color bool) string {
	var b strings.Builder
	used, pending := 0, 0 // columns written, and blanks that are due before the next text
	for i, c := range g.columns {
		if i > 0 {
			pending += gap
		}
		room := c.width
		if width > 0 {
			room = min(room, width-used-pending)
		}
		if room <= 0 {
			break
		}
		cell := cells[i]
		if len(cell) == 1 && c.middle {
			cell = []Span{{ShortenMiddle(cell[0].Text, room), cell[0].Style}}
		} else {
			cell = shortenSpans(cell, room)
		}
		taken := spansWidth(cell)
		if c.right {
			pending += max(room-taken, 0)
		}
		if taken > 0 {
			b.WriteString(strings.Repeat(" ", pending))
			b.WriteString(Paint(cell, color))
			used += pending + taken
			pending = 0
		}
		if !c.right {
			pending += max(room-taken, 0)
		}
	}
	b.WriteByte('\n')
	return b.String()
}
