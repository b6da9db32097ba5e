package stats

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"jobserver/foreign"
)

// Matrix is a table as text: a header and rows of equal length, the first LeftCols of which name
// the row.
type Matrix struct {
	Header   []string
	Rows     [][]string
	LeftCols int
}

// Layout lays a table out as text, for a screen or a page.
func (t *Table) Layout(plusMinus string) Matrix {
	m := Matrix{LeftCols: len(t.RowDims)}
	m.Header = append(m.Header, t.RowDims...)
	for _, col := range t.Cols {
		for _, c := range t.Columns {
			m.Header = append(m.Header, t.heading(col, c))
		}
	}
	for r, row := range t.Rows {
		line := append([]string(nil), row...)
		for k := range t.Cols {
			for _, c := range t.Columns {
				line = append(line, t.text(t.Groups[r][k], c, plusMinus))
			}
		}
		m.Rows = append(m.Rows, line)
	}
	return m
}

// heading is what stands over a column: the values of its dimensions, and what it is a number of
// where that isn't said by the table.
func (t *Table) heading(col []string, c Column) string {
	words := make([]string, len(col))
	for i, v := range col {
		words[i] = t.ColDims[i] + "=" + v
	}
	if len(words) == 0 || len(t.Columns) > 1 {
		name := c.String()
		if unit := t.Units[c.Measurement]; unit != "" && c.Stat != "n" {
			name += " [" + unit + "]"
		}
		words = append(words, name)
	}
	return strings.Join(words, " ")
}

// Caption says what the numbers are, when the headings don't.
func (t *Table) Caption() string {
	var words []string
	for _, c := range t.Columns {
		text := c.String()
		if unit := t.Units[c.Measurement]; unit != "" && c.Stat != "n" {
			text += " [" + unit + "]"
		}
		if c.Stat == "" {
			text = "mean of " + text + " ± 95 % confidence interval"
		}
		words = append(words, text)
	}
	return strings.Join(words, ", ")
}

// WriteMarkdown writes the table for Markdown.
func (t *Table) WriteMarkdown(w io.Writer) error {
	m := t.Layout(" ± ")
	var b strings.Builder
	line := func(cells []string) {
		b.WriteString("|")
		for _, c := range cells {
			b.WriteString(" " + markdownText(c) + " |")
		}
		b.WriteString("\n")
	}
	line(m.Header)
	b.WriteString("|")
	for i := range m.Header {
		if i < m.LeftCols {
			b.WriteString("---|")
		} else {
			b.WriteString("---:|")
		}
	}
	b.WriteString("\n")
	for _, row := range m.Rows {
		line(row)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// markdownText quotes what would end a cell or begin a tag.
func markdownText(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "`", "\\`", "*", `\*`, "_", `\_`).
		Replace(foreign.OneLine(s))
}

// WriteLaTeX writes the table for LaTeX, with the rules of the package booktabs.
func (t *Table) WriteLaTeX(w io.Writer) error {
	m := t.Layout(" $\\pm$ ")
	var b strings.Builder
	b.WriteString("% \\usepackage{booktabs}\n\\begin{tabular}{" +
		strings.Repeat("l", m.LeftCols) + strings.Repeat("r", len(m.Header)-m.LeftCols) +
		"}\n\\toprule\n")
	line := func(cells []string) {
		for i, c := range cells {
			if i > 0 {
				b.WriteString(" & ")
			}
			before, after, _ := strings.Cut(c, " $\\pm$ ")
			b.WriteString(latexText(before))
			if after != "" {
				b.WriteString(" $\\pm$ " + latexText(after))
			}
		}
		b.WriteString(" \\\\\n")
	}
	line(m.Header)
	b.WriteString("\\midrule\n")
	for _, row := range m.Rows {
		line(row)
	}
	b.WriteString("\\bottomrule\n\\end{tabular}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// latexText quotes what means something to TeX.
func latexText(s string) string {
	return strings.NewReplacer(`\`, `\textbackslash{}`, "&", `\&`, "%", `\%`, "$", `\$`, "#", `\#`,
		"_", `\_`, "{", `\{`, "}", `\}`,
		"~", `\textasciitilde{}`, "^", `\textasciicircum{}`, "<", `\textless{}`, ">",
		`\textgreater{}`, "\uFFFD", "?").Replace(foreign.OneLine(s))
}

// Line is one place of `matrix table` in JSON.
type Line struct {
	Vars         map[string]string             `json:"vars"`
	Measurements map[string]map[string]float64 `json:"metrics"` // by metric and statistic; absent is what a sample is too small for, or too large
	Units        map[string]string             `json:"units,omitempty"`
	Done         int                           `json:"done"`
	Failed       int                           `json:"failed"`             // or lost
	Canceled     int                           `json:"canceled,omitempty"` // by the user
	Missing      int                           `json:"missing"`
}

// each visits the places of the table that the sweep has cells in.
func (t *Table) each(visit func(vars []string, g *Group)) {
	for r, row := range t.Rows {
		for k, col := range t.Cols {
			if g := t.Groups[r][k]; g != nil {
				visit(append(append([]string(nil), row...), col...), g)
			}
		}
	}
}

func (t *Table) dims() []string { return append(append([]string(nil), t.RowDims...), t.ColDims...) }

// Lines are the places of the table with all statistics of each, for JSON.
func (t *Table) Lines() []Line {
	lines := []Line{}
	dims := t.dims()
	units := map[string]string{}
	for name, unit := range t.Units {
		if unit != "" {
			units[name] = unit
		}
	}
	t.each(func(vars []string, g *Group) {
		l := Line{Vars: map[string]string{}, Measurements: map[string]map[string]float64{},
			Units: units,
			Done:  g.Done, Failed: g.Failed, Missing: g.Missing, Canceled: g.Canceled}
		for i, name := range dims {
			l.Vars[name] = vars[i]
		}
		for _, name := range t.Measurements {
			s := t.Summary(g, name)
			all := map[string]float64{}
			for _, stat := range Statistics() {
				// JSON has no word for what is beyond the largest number, as sums may be.
				if v := s.of(stat); !math.IsNaN(v) && !math.IsInf(v, 0) {
					all[stat] = v
				}
			}
			l.Measurements[name] = all
		}
		lines = append(lines, l)
	})
	return lines
}

// WriteCSV writes a line for each place: the dimensions, the numbers at full precision, and how
// many cells they stand for. What a sample is too small for is empty. cell has the last word on
// each cell.
func (t *Table) WriteCSV(w io.Writer, cell func(string) string) error {
	out := csv.NewWriter(w)
	columns := []Column{}
	for _, c := range t.Columns {
		if c.Stat != "" {
			columns = append(columns, c)
			continue
		}
		for _, stat := range []string{"mean", "ci95", "n"} {
			columns = append(columns, Column{stat, c.Measurement})
		}
	}
	header := t.dims()
	for _, c := range columns {
		header = append(header, c.String())
	}
	lines := [][]string{append(header, "done", "failed", "missing", "canceled")}
	t.each(func(record []string, g *Group) {
		for _, c := range columns {
			v := t.Summary(g, c.Measurement).of(c.Stat)
			text := ""
			if !math.IsNaN(v) {
				text = strconv.FormatFloat(v, 'g', -1, 64)
			}
			record = append(record, text)
		}
		lines = append(lines,
			append(record, strconv.Itoa(g.Done), strconv.Itoa(g.Failed), strconv.Itoa(g.Missing),
				strconv.Itoa(g.Canceled)))
	})
	for _, line := range lines {
		for i := range line {
			line[i] = cell(line[i])
		}
	}
	if err := out.WriteAll(lines); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
