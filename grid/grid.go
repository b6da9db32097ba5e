// Package grid turns the description of a sweep into its cells: variables with lists and ranges of
// values, variables that vary together, cells that are left out or come in addition, conditions,
// repeats, and the order of it all.
//
// It is pure but for Files, through which a value list may name files. A description is checked as
// a whole: Expand either gives every cell, or an error that says what is wrong with which word and
// what would be right. The same description gives the same cells in the same order, always.
package grid

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Limits of one sweep.
const (
	MaxCells   = 1_000_000  // that run
	maxLooked  = 20_000_000 // of the product before exclusions and conditions
	maxRepeats = 1_000_000
)

// Repeat is the name of the variable that counts the repeats of a cell, from 0; conditions may name
// it.
const Repeat = "REPEAT"

// Axis is a variable and its values, each once.
type Axis struct {
	Name   string
	Values []string
}

// Order says in which order the cells run.
type Order string

// The orders.
const (
	// the last variable varies fastest, the repeats of a cell follow each other
	Product Order = "product"
	Random  Order = "random" // all shuffled, by Spec.Seed
	// every cell once, then every cell a second time: a first answer comes early
	RepeatsLast Order = "repeats-last"
)

// Orders lists them.
func Orders() []string { return []string{string(Product), string(Random), string(RepeatsLast)} }

// Spec describes a sweep.
type Spec struct {
	Axes    []Axis
	Zip     [][]string // names that vary together: the first values of each, the second values, …
	Exclude []Pick     // cells of the product that are left out
	Include []Pick     // cells beside the product; a variable that isn't named takes all its values
	Where   []string   // conditions that cells of the product must fulfil
	Repeats int        // 0 is 1
	Order   Order      // "" is Product
	Seed    uint64     // of Random
}

// Grid has the cells of a Spec.
type Grid struct {
	Axes    []Axis // those of the Spec, with the values that only Include names at their ends
	Repeats int
	// Cells has a row for each cell: its index into the values of each axis, then its repeat. Nil
	// stands for the plain product in its order.
	Cells    []uint32
	Count    int
	Warnings []string
}

// Row is the cell i of Cells.
func (g *Grid) Row(i int) []uint32 {
	w := len(g.Axes) + 1
	return g.Cells[i*w : (i+1)*w]
}

// Error says what is wrong with a description, and the next step.
type Error struct {
	Msg  string
	Next string // the next step; "" when none is known
}

func (e *Error) Error() string { return e.Msg }

// Hint is the next step; "" when none is known.
func (e *Error) Hint() string { return e.Next }

func errorf(format string, args ...any) *Error { return &Error{Msg: fmt.Sprintf(format, args...)} }

func (e *Error) hint(format string, args ...any) *Error {
	e.Next = fmt.Sprintf(format, args...)
	return e
}

// Expand gives the cells of a sweep.
func (s Spec) Expand() (*Grid, error) {
	g := &Grid{Repeats: max(s.Repeats, 1)}
	if err := s.check(g); err != nil {
		return nil, err
	}
	dims, err := s.dimensions()
	if err != nil {
		return nil, err
	}
	looked := 1
	for _, d := range dims {
		if looked *= d.size; looked > maxLooked {
			return nil, errorf("the product of all values has more than %d cells", maxLooked).
				hint("split the sweep, or let variables vary together with --zip")
		}
	}
	if s.plain() {
		if g.Count = looked * g.Repeats; g.Count > MaxCells {
			return nil, tooMany(g.Count)
		}
		return g, nil
	}
	b := builder{spec: &s, grid: g, dims: dims}
	return g, b.build(looked)
}

// plain says that the sweep is the product itself.
func (s Spec) plain() bool {
	return len(s.Zip)+len(s.Exclude)+len(s.Include)+len(s.Where) == 0 &&
		(s.Order == "" || s.Order == Product || s.Order == RepeatsLast && s.Repeats <= 1)
}

func tooMany(n int) error {
	return errorf("the sweep has %d cells; at most %d are possible", n, MaxCells).
		hint("split it into several")
}

// check looks at what concerns no single cell, and copies the axes: includes may add values to
// them.
func (s Spec) check(g *Grid) error {
	if len(s.Axes) == 0 {
		return errorf("a sweep needs variables with values").hint("give them as NAME=V1,V2,…")
	}
	if s.Repeats < 0 || s.Repeats > maxRepeats {
		return errorf("a cell can't run %d times", s.Repeats).
			hint("from 1 to %d are possible", maxRepeats)
	}
	if s.Order != "" && !slices.Contains(Orders(), string(s.Order)) {
		return errorf("there is no order %q", s.Order).
			hint("orders are %s", strings.Join(Orders(), ", "))
	}
	for i, a := range s.Axes {
		if !IsName(a.Name) {
			return errorf("%q can't be a variable's name", a.Name).
				hint("use letters, digits and underscores, and begin with a letter")
		}
		if slices.ContainsFunc(s.Axes[:i], func(b Axis) bool { return b.Name == a.Name }) {
			return errorf("the variable %s is given twice", a.Name).
				hint("write its values in one list: %s=…,…", a.Name)
		}
		if len(a.Values) == 0 {
			return errorf("the variable %s has no values", a.Name).
				hint("give them as %s=V1,V2,…", a.Name)
		}
		values, twice := unique(a.Values)
		if twice != "" && !s.zipped(a.Name) {
			g.warn("%s has the value %q more than once: it runs once; -x N repeats all cells",
				a.Name, twice)
		} else {
			values = slices.Clone(a.Values)
		}
		for _, v := range values {
			if resemblesPlaceholder(v) {
				g.warn("the value %s of %s stays as it is: values are not expanded", v, a.Name)
			}
			if meant := otherRange(v); meant != "" && len(values) == 1 {
				g.warn("the value %s of %s is taken as a text; a range is written %s", v, a.Name,
					meant)
			}
		}
		text := strings.Join(values, ",")
		if functionRange(text) != "" {
			g.warn("%s of %s is taken as texts between commas; a range is written %s", text, a.Name,
				functionRange(text))
		}
		if meant := otherList(text); meant != "" {
			g.warn("%s of %s is taken as it is, brackets and all; several values are written %s",
				text, a.Name, meant)
		}
		g.Axes = append(g.Axes, Axis{a.Name, values})
	}
	return nil
}

// otherList is how several values are written here that are written as in other programs: [1,2],
// (1,2), choice(1,2); "" when the text looks like none.
func otherList(text string) string {
	inner, ok := strings.CutPrefix(text, "choice(")
	if ok {
		inner, ok = strings.CutSuffix(inner, ")")
	} else if n := len(text); n > 2 && (text[0] == '[' && text[n-1] == ']' ||
		text[0] == '(' && text[n-1] == ')') {
		inner, ok = text[1:n-1], true
	}
	if !ok || !strings.Contains(inner, ",") || strings.ContainsAny(inner, "[](){}\"") {
		return ""
	}
	return strings.ReplaceAll(inner, ", ", ",")
}

// These are compiled when they are first needed, as those of ranges are.
var (
	// clockRE is a time of day, which is no range.
	clockRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9]{2}:[0-9]{2}:[0-9]{2}$`)
	})
	decimalRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	})
	// linspaceRE is how NumPy has even steps, and spanRE how Python has whole numbers.
	linspaceRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^linspace\((-?[0-9.]+),(-?[0-9.]+),([0-9]{1,6})\)$`)
	})
	spanRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^range\((?:([0-9]{1,9}),)?([0-9]{1,9})(?:,([0-9]{1,9}))?\)$`)
	})
)

// functionRange is how Python's range(first,end,step) and NumPy's arange, without their end, and
// linspace are written here; "" when the text is none.
func functionRange(text string) string {
	text = strings.TrimPrefix(strings.TrimPrefix(text, "np."), "numpy.")
	if !strings.HasSuffix(text, ")") {
		return ""
	}
	if m := linspaceRE().FindStringSubmatch(strings.ReplaceAll(text, " ", "")); m != nil {
		return m[1] + ".." + m[2] + "/" + m[3]
	}
	if text = strings.TrimPrefix(text, "a"); !strings.HasPrefix(text, "range(") {
		return ""
	}
	parts := spanRE().FindStringSubmatch(strings.ReplaceAll(text, " ", ""))
	if parts == nil {
		return ""
	}
	end, _ := strconv.Atoi(parts[2])
	written := cmp.Or(parts[1], "0") + ".." + strconv.Itoa(max(end-1, 0))
	if parts[3] != "" {
		written += "+" + parts[3]
	}
	return written
}

// otherRange is how a range is written here that is written as in other programs: 1-4, 1:4, 0:10:2,
// 0..10:2; "" when the text looks like none.
func otherRange(text string) string {
	number := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	decimal := func(s string) bool { return decimalRE().MatchString(s) }
	if n := len(text) - 1; n > 0 && text[0] == '[' && text[n] == ']' { // as Hydra and shells have
		if _, ok, err := parseRange(text[1:n]); ok && err == nil {
			return text[1:n]
		}
	}
	first, last, dots := strings.Cut(text, "..")
	if last, step, ok := strings.Cut(last, ":"); dots && ok && number(first) && number(last) &&
		number(step) {
		return first + ".." + last + "+" + step
	}
	if parts := strings.Split(text, ":"); len(parts) > 1 && decimal(parts[0]) {
		switch {
		case len(parts) == 2 && number(parts[0]) && number(parts[1]):
			return parts[0] + ".." + parts[1]
		case len(parts) == 3 && decimal(parts[1]) && decimal(parts[2]) &&
			!clockRE().MatchString(text):
			return parts[0] + ".." + parts[1] + "+" + parts[2]
		}
	}
	if first, last, ok := strings.Cut(text, "-"); ok && number(first) && number(last) &&
		len(last) < 5 {
		return first + ".." + last
	}
	return ""
}

// zipped says that the variable varies together with others: then a value may come back.
func (s Spec) zipped(name string) bool {
	return slices.ContainsFunc(s.Zip, func(names []string) bool {
		return slices.Contains(names, name)
	})
}

func unique(values []string) (each []string, twice string) {
	seen := make(map[string]bool, len(values))
	for _, v := range values {
		if seen[v] {
			twice = v
			continue
		}
		seen[v] = true
		each = append(each, v)
	}
	return each, twice
}

// resemblesPlaceholder finds {NAME} and the shell's {1..8} in a value.
func resemblesPlaceholder(v string) bool {
	_, rest, ok := strings.Cut(v, "{")
	if !ok {
		return false
	}
	name, _, ok := strings.Cut(rest, "}")
	return ok && name != "" && (IsName(name) || strings.Contains(name, ".."))
}

func (g *Grid) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(g.Warnings, w) {
		g.Warnings = append(g.Warnings, w)
	}
}

// axis is the position of a variable, or -1.
func (g *Grid) axis(name string) int {
	return slices.IndexFunc(g.Axes, func(a Axis) bool { return a.Name == name })
}

func (g *Grid) names() []string {
	names := make([]string, len(g.Axes))
	for i, a := range g.Axes {
		names[i] = a.Name
	}
	return names
}

// IsName is the rule for a variable's name.
func IsName(s string) bool {
	if s == "" || '0' <= s[0] && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '_' && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') &&
			!('0' <= c && c <= '9') {
			return false
		}
	}
	return true
}

// unknown says that no variable has the name, and which may be meant.
func unknown(name, where string, known []string) *Error {
	e := errorf("%s names %s, which is no variable of the sweep", where, name)
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return e.hint("did you mean %s?", k)
		}
	}
	return e.hint("its variables are %s", strings.Join(known, ", "))
}
