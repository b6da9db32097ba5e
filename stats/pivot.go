package stats

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The dimensions that every sweep has beside its variables.
const (
	Machine = "machine"
	Repeat  = "REPEAT"
)

// Axis is a variable of the sweep, its values in the order in which tables show them.
type Axis struct {
	Name   string
	Values []string
}

// Cell is one cell of the sweep, in one repeat, with what its newest job has left.
type Cell struct {
	Job          uint64
	Index        []uint32 // into the values of each axis
	Repeat       uint32
	Status       string // done, failed, lost, waiting, …; "" : it was forgotten
	Machine      string
	Kind         string        // what that is, see Kind; "": not known any more
	Measurements []Measurement // when a name comes more than once, the last counts
}

// Data is a sweep with its numbers.
type Data struct {
	Name  string // of the matrix, by which commands know it
	Axes  []Axis
	Cells []Cell
	Seed  uint64 // from which the seeds of repeats follow
}

// Query says what a table shows.
type Query struct {
	Rows, Cols []string // dimensions
	// what each of its cells says; none: the mean and its interval of every measurement
	Columns []Column
}

// Group is what stands in one place of a table: the cells that share the values of its dimensions.
type Group struct {
	Samples  [][]float64 // for each of the table's measurements
	Done     int         // cells that are done
	Failed   int         // and that failed or were lost
	Canceled int         // and that the user canceled
	Missing  int         // and that have not ended yet
	Silent   int         // of Done: without a value for one of the measurements
}

// Table is a pivot table.
type Table struct {
	RowDims, ColDims []string
	Rows, Cols       [][]string // values of the dimensions
	Groups           [][]*Group // by row and column; nil: the sweep has no such cells
	Columns          []Column
	Measurements     []string
	Units            map[string]string
	Warnings         []string

	quantiles map[int]float64 // of Student's t, by the sample's size
}

// dimension reads one dimension of a cell: a number that sorts, and a text.
type dimension struct {
	name string
	at   func(c *Cell) uint32
	text func(n uint32) string
}

func (d *Data) dimension(name string) (dimension, error) {
	for i, a := range d.Axes {
		if a.Name == name {
			return dimension{name, func(c *Cell) uint32 {
				return c.Index[i]
			}, func(n uint32) string { return a.Values[n] }}, nil
		}
	}
	switch name {
	case Repeat:
		return dimension{name, func(c *Cell) uint32 {
			return c.Repeat
		}, func(n uint32) string { return fmt.Sprint(n) }}, nil
	case Machine:
		machines := []string{}
		for i := range d.Cells {
			machines = append(machines, d.Cells[i].Machine)
		}
		slices.Sort(machines)
		machines = slices.Compact(machines)
		number := map[string]uint32{}
		for i, m := range machines {
			number[m] = uint32(i)
		}
		return dimension{name, func(c *Cell) uint32 {
			return number[c.Machine]
		}, func(n uint32) string {
			if machines[n] == "" {
				return "(none yet)"
			}
			return machines[n]
		}}, nil
	}
	known := []string{}
	for _, a := range d.Axes {
		known = append(known, a.Name)
	}
	for _, k := range append(known, Machine, Repeat) {
		if strings.EqualFold(k, name) {
			return dimension{}, hinted("did you mean "+k+"?", "the sweep has no variable %s", name)
		}
	}
	return dimension{}, hinted("its variables are "+strings.Join(known, ", ")+
		"; machine and REPEAT work too", "the sweep has no variable %s", name)
}

// Error says what is wrong with a question, and the next step.
type Error struct{ Msg, Next string }

func (e *Error) Error() string { return e.Msg }

// Hint is the next step; "" when none is known.
func (e *Error) Hint() string { return e.Next }

func hinted(hint, format string, args ...any) *Error {
	return &Error{fmt.Sprintf(format, args...), hint}
}

// MeasurementNames lists the measurements that any cell has, in the order of their first
// appearance.
func (d *Data) MeasurementNames() []string {
	var names []string
	seen := map[string]bool{}
	for i := range d.Cells {
		for _, m := range d.Cells[i].Measurements {
			if !seen[m.Name] {
				seen[m.Name] = true
				names = append(names, m.Name)
			}
		}
	}
	return names
}

// Pivot makes the table that the query asks for.
func (d *Data) Pivot(q Query) (*Table, error) {
	names := d.MeasurementNames()
	if len(q.Columns) == 0 {
		for _, name := range names {
			q.Columns = append(q.Columns, Column{Stat: "", Measurement: name})
		}
	}
	if len(q.Columns) == 0 {
		return nil, d.noMeasurements()
	}
	t := &Table{RowDims: q.Rows, ColDims: q.Cols, Columns: q.Columns, Units: map[string]string{},
		quantiles: map[int]float64{}}
	for _, c := range q.Columns {
		if !slices.Contains(names, c.Measurement) {
			if len(names) == 0 {
				return nil, d.noMeasurements()
			}
			return nil, hinted("its metrics are "+strings.Join(names, ", "),
				"no job of the sweep has the metric %s", c.Measurement)
		}
		if !slices.Contains(t.Measurements, c.Measurement) {
			t.Measurements = append(t.Measurements, c.Measurement)
		}
	}
	rows, err := d.dimensions(q.Rows)
	if err != nil {
		return nil, err
	}
	cols, err := d.dimensions(q.Cols)
	if err != nil {
		return nil, err
	}
	for i, name := range append(slices.Clone(q.Rows), q.Cols...) {
		if slices.Contains(append(slices.Clone(q.Rows), q.Cols...)[:i], name) {
			return nil, hinted("a variable makes either rows or columns", "%s is named twice", name)
		}
	}
	d.fill(t, rows, cols)
	d.together(t)
	t.notes(d.Name)
	t.Warnings = append(t.Warnings, d.uneven(rows, cols)...)
	return t, nil
}

func (d *Data) noMeasurements() error {
	done, ended := 0, 0
	for i := range d.Cells {
		switch d.Cells[i].Status {
		case "done":
			done++
		case "failed", "canceled", "lost":
			ended++
		}
	}
	switch {
	case done == 0 && ended == len(d.Cells):
		return hinted("`jobserver matrix why` groups failures; `jobserver matrix rerun` runs all "+
			"of them again", "no job of the sweep has succeeded, and all have ended")
	case done == 0:
		return hinted("wait for the first of them", "no job of the sweep is done yet")
	}
	return hinted("let the command print lines like `METRIC: throughput=123 MB/s`, or name a "+
		"file of its results with --metrics FILE", "no job of the sweep has a metric")
}

func (d *Data) dimensions(names []string) ([]dimension, error) {
	var dims []dimension
	for _, name := range names {
		dim, err := d.dimension(name)
		if err != nil {
			return nil, err
		}
		dims = append(dims, dim)
	}
	return dims, nil
}

// side collects the places along one side of a table.
type side struct {
	dims   []dimension
	places map[string]int
	keys   [][]uint32
	buf    []byte
	key    []uint32
}

func newSide(dims []dimension) *side {
	return &side{dims: dims, places: map[string]int{}, key: make([]uint32, len(dims))}
}

func (s *side) place(c *Cell) int {
	s.buf = s.buf[:0]
	for i, dim := range s.dims {
		n := dim.at(c)
		s.key[i] = n
		s.buf = append(s.buf, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	at, ok := s.places[string(s.buf)]
	if !ok {
		at = len(s.keys)
		s.places[string(s.buf)] = at
		s.keys = append(s.keys, slices.Clone(s.key))
	}
	return at
}

// sorted gives the places in order, and where each went.
func (s *side) sorted() (texts [][]string, at []int) {
	order := make([]int, len(s.keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return slices.Compare(s.keys[a], s.keys[b]) })
	at = make([]int, len(order))
	for to, from := range order {
		at[from] = to
		text := make([]string, len(s.dims))
		for i, dim := range s.dims {
			text[i] = dim.text(s.keys[from][i])
		}
		texts = append(texts, text)
	}
	return texts, at
}

// fill puts every cell of the sweep where it belongs.
func (d *Data) fill(t *Table, rowDims, colDims []dimension) {
	rows, cols := newSide(rowDims), newSide(colDims)
	type spot struct{ row, col int }
	groups := map[spot]*Group{}
	units := map[string][]string{}
	values := make([]float64, len(t.Measurements))
	known := make([]bool, len(t.Measurements))
	for i := range d.Cells {
		c := &d.Cells[i]
		at := spot{rows.place(c), cols.place(c)}
		g := groups[at]
		if g == nil {
			g = &Group{Samples: make([][]float64, len(t.Measurements))}
			groups[at] = g
		}
		switch c.Status {
		case "done":
			g.Done++
		case "failed", "lost":
			g.Failed++
			continue
		case "canceled":
			g.Canceled++
			continue
		default:
			g.Missing++
			continue
		}
		clear(known)
		for _, m := range c.Measurements {
			if k := slices.Index(t.Measurements, m.Name); k >= 0 {
				values[k], known[k] = m.Value, true
				if seen := units[m.Name]; !slices.Contains(seen, m.Unit) {
					units[m.Name] = append(seen, m.Unit)
				}
			}
		}
		for k := range known {
			if known[k] {
				g.Samples[k] = append(g.Samples[k], values[k])
			}
		}
		if slices.Contains(known, false) {
			g.Silent++
		}
	}
	var rowAt, colAt []int
	t.Rows, rowAt = rows.sorted()
	t.Cols, colAt = cols.sorted()
	t.Groups = make([][]*Group, len(t.Rows))
	for i := range t.Groups {
		t.Groups[i] = make([]*Group, len(t.Cols))
	}
	for at, g := range groups {
		t.Groups[rowAt[at.row]][colAt[at.col]] = g
	}
	for _, name := range t.Measurements {
		seen := units[name]
		slices.Sort(seen)
		switch {
		case len(seen) == 1:
			t.Units[name] = seen[0]
		case len(seen) > 1:
			t.warn("%s comes in different units: %q; the values are taken as they are", name, seen)
		}
	}
}

// together warns of variables whose values share a place in the table: a mean over them is seldom
// what is meant.
func (d *Data) together(t *Table) {
	var names []string
	for a, axis := range d.Axes {
		if slices.Contains(t.RowDims, axis.Name) || slices.Contains(t.ColDims, axis.Name) {
			continue
		}
		for i := range d.Cells {
			if d.Cells[i].Index[a] != d.Cells[0].Index[a] {
				names = append(names, axis.Name)
				break
			}
		}
	}
	switch len(names) {
	case 0:
	case 1:
		t.warn("cells with different values of %s share a place: use it for rows or columns, or "+
			"narrow it with --where", names[0])
	default:
		t.warn("cells with different values of %s share a place: use them for rows or columns, or "+
			"narrow them with --where", strings.Join(names, ", "))
	}
}

func (t *Table) warn(format string, args ...any) {
	t.Warnings = append(t.Warnings, fmt.Sprintf(format, args...))
}

// notes warns of what a table can't show by itself. name is the matrix's.
func (t *Table) notes(name string) {
	single, silent, failed, canceled, missing := 0, 0, 0, 0, 0
	wantsSpread := slices.ContainsFunc(t.Columns, func(c Column) bool {
		return c.Stat == "" || c.Stat == "std" || c.Stat == "ci95"
	})
	for _, row := range t.Groups {
		for _, g := range row {
			if g == nil {
				continue
			}
			silent, failed, missing = silent+g.Silent, failed+g.Failed, missing+g.Missing
			canceled += g.Canceled
			if wantsSpread &&
				slices.ContainsFunc(g.Samples, func(s []float64) bool { return len(s) == 1 }) {
				single++
			}
		}
	}
	if single > 0 {
		t.warn("%s one value only: no interval can be given; -x N repeats cells",
			has(single, "place"))
	}
	if failed > 0 {
		t.warn("%s failed or lost: `matrix rerun %s --failed` runs them again", are(failed), name)
	}
	if canceled > 0 {
		t.warn("%s canceled: `matrix rerun %s` runs all again that have ended", are(canceled), name)
	}
	if missing > 0 {
		t.warn("%s not ended yet", has(missing, "cell"))
	}
	if silent > 0 {
		t.warn("%s done without a value for every metric of the table", are(silent))
	}
}

func has(n int, what string) string {
	if n == 1 {
		return "1 " + what + " has"
	}
	return fmt.Sprintf("%d %ss have", n, what)
}

func are(n int) string {
	if n == 1 {
		return "1 cell is"
	}
	return fmt.Sprintf("%d cells are", n)
}

// Kind says in a few words what a machine is made of; machines of one kind are alike. Memory counts
// in whole GiB: what is left of it to the kernel differs between machines that are alike.
func Kind(cores int, memory int64, cpuModel string) string {
	kind := fmt.Sprintf("%d cores with %.0f GiB", cores, float64(memory)/(1<<30))
	if cores == 1 {
		kind = strings.Replace(kind, "cores", "core", 1)
	}
	if cpuModel != "" {
		kind += " (" + cpuModel + ")"
	}
	return kind
}

// uneven warns when the series of a table ran on different kinds of machines: then the kind may
// have made the difference. A series is a column, or a row where there are no columns. Shares that
// differ by more than a quarter count.
func (d *Data) uneven(rows, cols []dimension) []string {
	series := cols
	if len(series) == 0 {
		series = rows
	}
	for _, dim := range append(slices.Clone(rows), cols...) {
		if dim.name == Machine {
			return nil // it is to be seen there
		}
	}
	places := newSide(series)
	counts := []map[string]int{}
	totals := map[string]int{}
	for i := range d.Cells {
		c := &d.Cells[i]
		if c.Status != "done" {
			continue
		}
		kind := cmp.Or(c.Kind, "a machine that has left the pool")
		at := places.place(c)
		if at == len(counts) {
			counts = append(counts, map[string]int{})
		}
		counts[at][kind]++
		totals[kind]++
	}
	if len(totals) < 2 || len(counts) < 2 {
		return nil
	}
	const most = 0.25
	var worst string
	gap, low, high := 0.0, 0, 0
	for kind := range totals {
		least, greatest := 0, 0
		share := func(i int) float64 {
			n := 0
			for _, k := range counts[i] {
				n += k
			}
			return float64(counts[i][kind]) / float64(n)
		}
		for i := range counts {
			if share(i) < share(least) {
				least = i
			}
			if share(i) > share(greatest) {
				greatest = i
			}
		}
		if g := share(greatest) - share(least); g > gap || g == gap && cmp.Less(kind, worst) {
			gap, worst, low, high = g, kind, least, greatest
		}
	}
	if gap <= most {
		return nil
	}
	name := func(at int) string {
		words := make([]string, len(series))
		for i, dim := range series {
			words[i] = dim.name + "=" + dim.text(places.keys[at][i])
		}
		return strings.Join(words, ",")
	}
	share := func(at int) int {
		n := 0
		for _, k := range counts[at] {
			n += k
		}
		return 100 * counts[at][worst] / n
	}
	return []string{fmt.Sprintf("machines differ, and were shared unevenly: %s ran to %d %% on "+
		"%s, %s to %d %%; --by machine shows them apart",
		name(high), share(high), worst, name(low), share(low))}
}
