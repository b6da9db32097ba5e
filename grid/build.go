package grid

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// dimension is one direction of the product: a variable, or several that vary together.
type dimension struct {
	axes []int
	size int
}

// dimensions are the directions of the product, each where its first variable stands.
func (s Spec) dimensions() ([]dimension, error) {
	in := make([]int, len(s.Axes)) // 1 + the zip that holds the axis
	position := map[string]int{}
	for i, a := range s.Axes {
		position[a.Name] = i
	}
	for z, names := range s.Zip {
		if len(names) < 2 {
			return nil, errorf("--zip %s names one variable: it takes two or more",
				strings.Join(names, ",")).hint("give --zip A,B")
		}
		for _, name := range names {
			i, ok := position[name]
			if !ok {
				return nil, unknown(name, "--zip "+strings.Join(names, ","), (&Grid{Axes: s.Axes}).
					names())
			}
			if in[i] != 0 {
				return nil, errorf("%s is zipped twice", name).
					hint("variables that vary together stand in one --zip")
			}
			in[i] = z + 1
			if first := position[names[0]]; len(s.Axes[first].Values) != len(s.Axes[i].Values) {
				return nil, errorf("%s has %d values and %s has %d: they can't vary together",
					s.Axes[first].Name, len(s.Axes[first].Values), name, len(s.Axes[i].Values)).
					hint("variables that are zipped have equally many values")
			}
		}
	}
	var dims []dimension
	made := map[int]int{}
	for i, a := range s.Axes {
		if at, ok := made[in[i]]; ok && in[i] != 0 {
			dims[at].axes = append(dims[at].axes, i)
			continue
		}
		made[in[i]] = len(dims)
		size := len(a.Values)
		if in[i] == 0 {
			each, _ := unique(a.Values)
			size = len(each)
		}
		dims = append(dims, dimension{[]int{i}, size})
	}
	return dims, nil
}

// builder makes the rows of a grid that isn't the plain product.
type builder struct {
	spec *Spec
	grid *Grid
	dims []dimension
	rows []uint32 // without repeats

	exclude []match
	where   []*Where
	each    []*Where // conditions that name the repeat
}

func (b *builder) build(looked int) error {
	// The conditions see the values of the product; includes may add others at the ends.
	for _, text := range b.spec.Where {
		w, err := Compile(text, b.grid.Axes)
		if err != nil {
			return err
		}
		if w.NamesRepeat() {
			b.each = append(b.each, w)
		} else {
			b.where = append(b.where, w)
		}
	}
	for _, p := range b.spec.Exclude {
		m, err := b.matcher(p)
		if err != nil {
			return err
		}
		b.exclude = append(b.exclude, m)
	}
	if err := b.product(looked); err != nil {
		return err
	}
	for i, m := range b.exclude {
		if m.hits == 0 {
			b.grid.warn("--exclude %s excludes nothing", b.spec.Exclude[i])
		}
	}
	before := len(b.rows)
	if err := b.include(); err != nil {
		return err
	}
	return b.repeat(before)
}

// product makes the rows that neither an exclusion nor a condition keeps out.
func (b *builder) product(looked int) error {
	n := len(b.grid.Axes)
	row := make([]uint32, n)
	for c := range looked {
		for d := len(b.dims) - 1; d >= 0; d-- {
			v := uint32(c % b.dims[d].size)
			c /= b.dims[d].size
			for _, a := range b.dims[d].axes {
				row[a] = v
			}
		}
		keep := true
		for i := range b.exclude {
			if b.exclude[i].matches(row) {
				b.exclude[i].hits++
				keep = false
			}
		}
		for _, w := range b.where {
			if !keep {
				break
			}
			var err error
			if keep, err = w.Match(row); err != nil {
				return err
			}
		}
		if keep {
			b.rows = append(b.rows, row...)
			if len(b.rows)/n > MaxCells {
				return tooMany(len(b.rows) / n)
			}
		}
	}
	return nil
}

// match says for each axis which of its values are meant; nil: all.
type match struct {
	values [][]bool
	hits   int
}

func (m *match) matches(row []uint32) bool {
	for a, values := range m.values {
		if values != nil && (int(row[a]) >= len(values) || !values[row[a]]) {
			return false
		}
	}
	return true
}

func (b *builder) matcher(p Pick) (match, error) {
	m := match{values: make([][]bool, len(b.grid.Axes))}
	for _, t := range p {
		a := b.grid.axis(t.Name)
		if a < 0 {
			return m, unknown(t.Name, "--exclude "+p.String(), b.grid.names())
		}
		m.values[a] = make([]bool, len(b.grid.Axes[a].Values))
		for i, v := range b.grid.Axes[a].Values {
			m.values[a][i] = slices.Contains(t.Values, v)
		}
	}
	return m, nil
}

// include adds the cells beside the product.
func (b *builder) include() error {
	if len(b.spec.Include) == 0 {
		return nil
	}
	width := len(b.grid.Axes)
	sizes := make([]int, width) // before includes add values
	for i, a := range b.grid.Axes {
		sizes[i] = len(a.Values)
	}
	type key string
	seen := map[key]bool{}
	keyOf := func(row []uint32) key {
		text := make([]byte, 0, 4*len(row))
		for _, v := range row {
			text = append(text, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		return key(text)
	}
	for i := 0; i < len(b.rows); i += width {
		seen[keyOf(b.rows[i:i+width])] = true
	}
	for _, p := range b.spec.Include {
		choices, err := b.choices(p, sizes)
		if err != nil {
			return err
		}
		added := 0
		err = eachChoice(choices, width, func(row []uint32) error {
			for i := range b.exclude {
				if b.exclude[i].matches(row) {
					return errorf("--include %s and --exclude %s contradict each other", p,
						b.spec.Exclude[i]).
						hint("leave one of them out, or make the exclusion narrower")
				}
			}
			if k := keyOf(row); !seen[k] {
				seen[k] = true
				added++
				b.rows = append(b.rows, row...)
			}
			if len(b.rows)/width > MaxCells {
				return tooMany(len(b.rows) / width)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if added == 0 {
			b.grid.warn("--include %s adds nothing: the grid has it already", p)
		}
	}
	return nil
}

// choice is a set of axes with the values that they take together.
type choice struct {
	axes []int
	rows [][]uint32 // for each combination, a value for each axis
}

// choices are the directions of an include's own little product.
func (b *builder) choices(p Pick, sizes []int) ([]choice, error) {
	named := map[int]bool{}
	var choices []choice
	for _, t := range p {
		a := b.grid.axis(t.Name)
		if a < 0 {
			return nil, unknown(t.Name, "--include "+p.String(), b.grid.names())
		}
		named[a] = true
		c := choice{axes: []int{a}}
		for _, v := range t.Values {
			at := slices.Index(b.grid.Axes[a].Values, v)
			if at < 0 {
				at = len(b.grid.Axes[a].Values)
				b.grid.Axes[a].Values = append(b.grid.Axes[a].Values, v)
			}
			c.rows = append(c.rows, []uint32{uint32(at)})
		}
		choices = append(choices, c)
	}
	for _, d := range b.dims {
		missing := slices.DeleteFunc(slices.Clone(d.axes), func(a int) bool { return named[a] })
		switch {
		case len(missing) == 0:
			continue
		case len(missing) < len(d.axes):
			return nil, errorf("--include %s doesn't say what %s is, which varies together with "+
				"others", p, b.grid.Axes[missing[0]].Name).
				hint("name all variables of the --zip, or none of them")
		}
		c := choice{axes: d.axes}
		for v := range d.size {
			row := make([]uint32, len(d.axes))
			for i := range row {
				row[i] = uint32(v)
			}
			c.rows = append(c.rows, row)
		}
		choices = append(choices, c)
	}
	slices.SortFunc(choices, func(x, y choice) int { return x.axes[0] - y.axes[0] })
	return choices, nil
}

// eachChoice visits the product of the choices, the last varying fastest.
func eachChoice(choices []choice, width int, visit func(row []uint32) error) error {
	total := 1
	for _, c := range choices {
		if total *= len(c.rows); total > maxLooked {
			return tooMany(total)
		}
	}
	row := make([]uint32, width)
	for n := range total {
		for i := len(choices) - 1; i >= 0; i-- {
			c := choices[i]
			for k, a := range c.axes {
				row[a] = c.rows[n%len(c.rows)][k]
			}
			n /= len(c.rows)
		}
		if err := visit(row); err != nil {
			return err
		}
	}
	return nil
}

// repeat puts the repeats in, in the order that is asked for. Rows from included on, which stand
// beside the product, need not fulfil the conditions.
func (b *builder) repeat(included int) error {
	g, width := b.grid, len(b.grid.Axes)
	count := len(b.rows) / width
	if total := count * g.Repeats; total > MaxCells {
		return tooMany(total)
	}
	row := make([]uint32, width+1)
	put := func(i, r int) error {
		copy(row, b.rows[i*width:(i+1)*width])
		row[width] = uint32(r)
		for _, w := range b.each {
			if i*width >= included {
				break
			}
			if ok, err := w.Match(row); err != nil || !ok {
				return err
			}
		}
		g.Cells = append(g.Cells, row...)
		return nil
	}
	outer, inner := count, g.Repeats
	if b.spec.Order == RepeatsLast {
		outer, inner = inner, outer
	}
	for o := range outer {
		for i := range inner {
			cell, r := o, i
			if b.spec.Order == RepeatsLast {
				cell, r = i, o
			}
			if err := put(cell, r); err != nil {
				return err
			}
		}
	}
	if g.Count = len(g.Cells) / (width + 1); g.Count == 0 {
		return errorf("the grid is empty: no cell is left").
			hint("check --exclude and --where; --dry-run shows the resulting cells")
	}
	if b.spec.Order == Random {
		shuffle(g.Cells, width+1, b.spec.Seed)
	}
	return nil
}

// shuffle mixes rows, the same way for the same seed.
func shuffle(cells []uint32, width int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0x6a6f627365727665))
	random.Shuffle(len(cells)/width, func(i, k int) {
		for w := range width {
			cells[i*width+w], cells[k*width+w] = cells[k*width+w], cells[i*width+w]
		}
	})
}
