package sched

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"jobserver/sched/statepb"
	"jobserver/suggest"
)

// Selector is one word of the grammar that names jobs:
//
//	17  3..9  last  last~2  %93  %93,LR=0.1  @nightly  class=foo  machine=ADDR  :failed  :uncopied
//
// The first part is a base, the rest are filters that narrow it: `%93:failed`. Several statuses in
// one selector mean either of them, as a job has only one; status=failed,lost is another way to
// write :failed:lost. A word since=TIME is no selector: it narrows all others, see splitSince.
type Selector struct {
	Base     Base
	First    uint64      // of an id, a range, a matrix; how many before the last one
	Last     uint64      // of a range
	Name     string      // of a tag, a matrix, a class or a machine
	Values   []AxisValue // that the cells of a matrix must have
	Statuses []Status
	Uncopied bool

	since *since // nil: whenever
}

// AxisValue is a variable of a matrix with one of its values.
type AxisValue struct{ Name, Value string }

// Base says what a selector begins with.
type Base int

// The bases.
const (
	BaseAll Base = iota // nothing but filters
	BaseID              // a job, or a matrix's or tag's bare id
	BaseRange
	BaseLast
	BaseMatrix
	BaseTag
	BaseClass
	BaseMachine
)

var statusFilters = map[string]Status{
	"waiting": Waiting, "held": Held, "running": Running, "copying": Copying,
	"done": Done, "failed": Failed, "canceled": Canceled, "cancelled": Canceled, "lost": Lost,
}

// ParseSelector reads one selector.
func ParseSelector(word string) (Selector, error) {
	var sel Selector
	base := word
	for {
		i := strings.LastIndexByte(base, ':')
		if i < 0 {
			break
		}
		name := base[i+1:]
		if status, ok := statusFilters[name]; ok {
			sel.Statuses = append(sel.Statuses, status)
		} else if name == "uncopied" {
			sel.Uncopied = true
		} else if strings.HasPrefix(base, "machine=") || base[0] == '%' &&
			strings.Contains(base, "=") {
			break // an address may have a port, and a value any bytes
		} else {
			e := errorf(Invalid, "%q is no selector: %q is not a status", word, name)
			if meant := otherSelector(word); meant != "" {
				return sel, e.hint("did you mean %s?", meant)
			}
			if near := suggest.Closest(name,
				append(sorted(statusFilters), "uncopied")); near != "" {
				return sel, e.hint("did you mean :%s?", strings.ToLower(near))
			}
			return sel, e.hint("statuses are %s and uncopied",
				strings.Join(sorted(statusFilters), ", "))
		}
		base = base[:i]
	}
	slices.Sort(sel.Statuses)
	switch {
	case base == "":
		if len(sel.Statuses) == 0 && !sel.Uncopied {
			return sel, errorf(Invalid, "an empty selector selects nothing").
				hint("selectors look like 17, 3..9, last, %%93, @tag, :failed, class=foo, " +
					"machine=ADDR")
		}
		sel.Base = BaseAll
		return sel, nil
	case base == "last":
		sel.Base = BaseLast
		return sel, nil
	case strings.HasPrefix(base, "last~"):
		n, err := parseID(base[len("last~"):])
		if err != nil {
			return sel, errorf(Invalid, "%q is no selector: %v", word, err)
		}
		sel.Base, sel.First = BaseLast, n
		return sel, nil
	case strings.HasPrefix(base, "status="):
		return parseStatuses(base[len("status="):], sel)
	case base[0] == '%':
		var values string
		var some bool
		sel.Base = BaseMatrix
		if sel.Name, values, some = strings.Cut(base[1:], ","); some {
			var err error
			if sel.Values, err = parseValues(word, values); err != nil {
				return sel, err
			}
		}
	case base[0] == '@':
		sel.Base, sel.Name = BaseTag, base[1:]
	case strings.HasPrefix(base, "class="):
		sel.Base, sel.Name = BaseClass, base[len("class="):]
	case strings.HasPrefix(base, "machine="):
		sel.Base, sel.Name = BaseMachine, base[len("machine="):]
	default:
		return parseIDs(word, base, sel)
	}
	if sel.Name == "" {
		return sel, errorf(Invalid, "%q is no selector: it names nothing", word)
	}
	return sel, nil
}

// parseStatuses reads the statuses of status=failed,lost.
func parseStatuses(names string, sel Selector) (Selector, error) {
	for name := range strings.SplitSeq(names, ",") {
		one, err := ParseSelector(":" + name)
		if err != nil {
			return sel, err
		}
		sel.Statuses = append(sel.Statuses, one.Statuses...)
		sel.Uncopied = sel.Uncopied || one.Uncopied
	}
	slices.Sort(sel.Statuses)
	return sel, nil
}

// parseValues reads LR=0.1,MODE=fast. A value with a comma can't be written so.
func parseValues(word, list string) ([]AxisValue, error) {
	var values []AxisValue
	for pair := range strings.SplitSeq(list, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, errorf(Invalid, "%q is no selector: %q is not of the form NAME=VALUE", word,
				pair).
				hint("like %%93,LR=0.1; --where takes conditions, and values with commas")
		}
		values = append(values, AxisValue{name, value})
	}
	return values, nil
}

// parseIDs reads 17 or 3..9.
func parseIDs(word, base string, sel Selector) (Selector, error) {
	from, to, isRange := strings.Cut(base, "..")
	var err error
	if sel.First, err = parseID(from); err != nil {
		e := errorf(Invalid, "%q is no selector: %v", word, err)
		if meant := otherSelector(word); meant != "" {
			return sel, e.hint("did you mean %s?", meant)
		}
		return sel, e.hint("selectors look like 17, 3..9, last, last~2, %%93, @tag, :failed, " +
			"class=foo, machine=ADDR")
	}
	sel.Base = BaseID
	if !isRange {
		return sel, nil
	}
	if sel.Last, err = parseID(to); err != nil {
		e := errorf(Invalid, "%q is no selector: %v", word, err)
		if meant := otherSelector(word); meant != "" {
			return sel, e.hint("did you mean %s?", meant)
		}
		return sel, e.hint("a range has both ends, like 3..9; `job stat --after 3` has no end")
	}
	if sel.Last < sel.First {
		return sel, errorf(Invalid, "the range %s ends before it begins", base).
			hint("did you mean %d..%d?", sel.Last, sel.First)
	}
	sel.Base = BaseRange
	return sel, nil
}

// otherSelector is how a selector is written here that is written as in other programs: 3-9, 3:9,
// 17,19, #17, failed, FAILED, state=done; "" when it looks like none.
func otherSelector(word string) string {
	number := func(s string) bool { _, err := parseID(s); return err == nil }
	if _, ok := statusFilters[strings.ToLower(word)]; ok {
		return ":" + strings.ToLower(word)
	}
	if name, value, ok := strings.Cut(word, "="); ok && name != "status" {
		if _, known := statusFilters[strings.ToLower(value)]; known {
			return "status=" + strings.ToLower(value)
		}
	}
	for _, between := range []string{"-", ":", "..."} {
		if first, last, ok := strings.Cut(word, between); ok && number(first) && number(last) {
			return first + ".." + last
		}
	}
	if bare := strings.TrimLeft(word, "#jJ"); bare != word && number(bare) {
		return bare
	}
	parts := strings.Split(strings.Trim(word, "[]{}()"), ",")
	for i, one := range parts {
		one = strings.TrimSpace(one)
		if !number(one) && len(parts) > 1 {
			one = otherSelector(one)
		} else if !number(one) || one == word {
			one = ""
		}
		if parts[i] = one; one == "" {
			return ""
		}
	}
	return strings.Join(parts, " ")
}

func parseID(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case err == nil && s[0] != '+':
		return n, nil
	case err != nil && err.(*strconv.NumError).Err == strconv.ErrRange:
		return 0, fmt.Errorf("%s is too large for an id", s)
	}
	return 0, fmt.Errorf("%q is not a number", s)
}

// Select finds the jobs that any of the selectors matches, ascending, each once. Without selectors
// it is all of them. Naming something that isn't there is an error, matching nothing is one of kind
// NoMatch.
func (s *State) Select(words []string) ([]uint64, error) {
	rest, since, err := s.splitSince(words)
	if err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		ids := s.filter(1, math.MaxUint64, Selector{since: since})
		if since != nil && len(ids) == 0 {
			return nil, NothingMatches(words)
		}
		return ids, nil
	}
	var all [][]uint64 // each ascending
	for _, word := range rest {
		sel, err := ParseSelector(word)
		if err != nil {
			return nil, err
		}
		sel.since = since
		found, err := s.selectOne(word, sel)
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && len(found) > 0 && found[0] > all[n-1][len(all[n-1])-1] {
			all[n-1] = append(all[n-1], found...) // as ids are named mostly
		} else if len(found) > 0 {
			all = append(all, found)
		}
	}
	ids := union(all)
	if len(ids) == 0 {
		return nil, NothingMatches(words)
	}
	return ids, nil
}

// union merges ascending lists, two and two, which takes a fraction of the time of sorting them.
func union(lists [][]uint64) []uint64 {
	switch n := len(lists); n {
	case 0:
		return nil
	case 1:
		return lists[0]
	default:
		return merge(union(lists[:n/2]), union(lists[n/2:]))
	}
}

func merge(a, b []uint64) []uint64 {
	if len(a) == 0 || len(b) == 0 {
		return append(a, b...)
	}
	ids := make([]uint64, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			ids, a = append(ids, a[0]), a[1:]
		case a[0] > b[0]:
			ids, b = append(ids, b[0]), b[1:]
		default:
			ids, a, b = append(ids, a[0]), a[1:], b[1:]
		}
	}
	return append(append(ids, a...), b...)
}

// NothingMatches is the error of selectors that match no job.
func NothingMatches(words []string) *Error {
	return errorf(NoMatch, "no job matches %s", strings.Join(words, " ")).
		hint("`jobserver job ls -a` lists all jobs")
}

func (s *State) selectOne(word string, sel Selector) ([]uint64, error) {
	switch sel.Base {
	case BaseID:
		return s.selectID(sel)
	case BaseRange:
		return s.filter(sel.First, sel.Last, sel), nil
	case BaseLast:
		left := sel.First
		for id := s.nextID - 1; id > 0; id-- {
			if s.index.mark[id] == 0 {
				continue
			}
			if left == 0 {
				return s.filter(id, id, sel), nil
			}
			left--
		}
		return nil, errorf(NotFound, "there are not so many jobs: %s", word)
	case BaseMatrix:
		id, err := s.FindMatrix(sel.Name)
		if err != nil {
			return nil, err
		}
		return s.cellsHaving(s.matrices[id], sel)
	case BaseTag:
		id, err := s.FindTag(sel.Name)
		if err != nil {
			return nil, err
		}
		return s.keep(s.tags[id].jobs(), sel), nil
	case BaseClass, BaseMachine:
		if _, known := s.index.number[sel.Name]; !known {
			if sel.Base == BaseClass {
				return nil, s.unknownClass(sel.Name)
			}
			return nil, s.unknownMachine(sel.Name)
		}
		return s.filter(1, math.MaxUint64, sel), nil
	}
	return s.filter(1, math.MaxUint64, sel), nil
}

// selectID takes a job's id, or the bare id of a matrix or a tag.
func (s *State) selectID(sel Selector) ([]uint64, error) {
	id := sel.First
	if s.index.status(id) != 0 {
		return s.keep([]uint64{id}, sel), nil
	}
	if m := s.matrices[id]; m != nil {
		return s.cellsHaving(m, sel)
	}
	if t := s.tags[id]; t != nil {
		return s.keep(t.jobs(), sel), nil
	}
	e := errorf(NotFound, "no job %d", id)
	if id == 0 {
		return nil, e.hint("ids start at 1")
	}
	if id < s.nextID {
		return nil, e.hint("it was forgotten, or never was a job's id")
	}
	return nil, e.hint("the newest id is %d; `jobserver job ls` lists jobs", s.nextID-1)
}

// FindMatrix finds a matrix by its id or name.
func (s *State) FindMatrix(name string) (uint64, error) {
	name = strings.TrimPrefix(name, "%")
	if id, ok := s.named[name]; ok {
		return id, nil
	}
	if id, err := strconv.ParseUint(name, 10, 64); err == nil && s.matrices[id] != nil {
		return id, nil
	}
	e := errorf(NotFound, "no matrix %q", name)
	if near := suggest.Closest(name, sorted(s.named)); near != "" {
		return 0, e.hint("did you mean %s?", near)
	}
	return 0, e.hint("`jobserver matrix ls` lists them")
}

// cells are the jobs that count for the cells of a matrix.
func (s *State) cells(m *matrix, sel Selector) []uint64 {
	ids, _ := s.cellsHaving(m, sel) // only values can be wrong
	return ids
}

// cellsHaving gives the cells with the selector's values.
func (s *State) cellsHaving(m *matrix, sel Selector) ([]uint64, error) {
	has, err := m.having(sel.Values)
	if err != nil {
		return nil, err
	}
	ids := make([]uint64, 0, m.Cells)
	for c := uint32(0); c < m.Cells; c++ {
		if has(c) {
			ids = append(ids, m.counting(c))
		}
	}
	slices.Sort(ids)
	return s.keep(ids, sel), nil
}

// having tells which cells have the values. They are compared as texts, or as numbers where both
// are.
func (m *matrix) having(values []AxisValue) (func(cell uint32) bool, error) {
	if len(values) == 0 {
		return func(uint32) bool { return true }, nil
	}
	type wanted struct {
		axis   int // -1: the repeat
		values map[uint32]bool
	}
	var all []wanted
	for _, v := range values {
		w := wanted{axis: -1, values: map[uint32]bool{}}
		of := make([]string, m.Repeats)
		for i := range of {
			of[i] = strconv.Itoa(i)
		}
		if v.Name != "REPEAT" {
			w.axis = slices.IndexFunc(m.Axes, func(a *statepb.Axis) bool {
				return a.Name == v.Name
			})
			if w.axis < 0 {
				return nil, m.unknownAxis(v.Name)
			}
			of = m.Axes[w.axis].Values
		}
		for i, value := range of {
			if sameValue(value, v.Value) {
				w.values[uint32(i)] = true
			}
		}
		if len(w.values) == 0 {
			return nil, errorf(NoMatch, "no cell of matrix %d has %s=%s", m.Id, v.Name, v.Value).
				hint("its values are %s", oneLine(strings.Join(of, ", "), 200))
		}
		all = append(all, w)
	}
	return func(c uint32) bool {
		index, repeat := cellIndex(m.Matrix, c)
		for _, w := range all {
			at := repeat
			if w.axis >= 0 {
				at = index[w.axis]
			}
			if !w.values[at] {
				return false
			}
		}
		return true
	}, nil
}

func (m *matrix) unknownAxis(name string) *Error {
	names := []string{"REPEAT"}
	for _, a := range m.Axes {
		names = append(names, a.Name)
	}
	e := errorf(Invalid, "matrix %d has no variable %s", m.Id, name)
	if near := suggest.Closest(name, names); near != "" {
		return e.hint("did you mean %s?", near)
	}
	return e.hint("its variables are %s", strings.Join(names[1:], ", "))
}

// sameValue compares values as people write them: 0.1 is 0.10.
func sameValue(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

func (s *State) filter(first, last uint64, sel Selector) []uint64 {
	matches := s.matcher(sel)
	first, end := max(first, 1), s.nextID
	if last < end {
		end = last + 1
	}
	n := 0 // counting first is faster than a list that grows
	for id := first; id < end; id++ {
		if matches(id) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	ids := make([]uint64, 0, n)
	for id := first; id < end; id++ {
		if matches(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *State) keep(all []uint64, sel Selector) []uint64 {
	if matches := s.matcher(sel); slices.ContainsFunc(all, matches) {
		return slices.DeleteFunc(slices.Clone(all), func(id uint64) bool { return !matches(id) })
	}
	return nil
}

// matches asks the index alone.
func (s *State) matches(id uint64, sel Selector) bool {
	mark := s.index.mark[id]
	switch {
	case mark == 0:
		return false
	case len(sel.Statuses) > 0 && !slices.Contains(sel.Statuses, Status(mark&0x0f)):
		return false
	case sel.Base == BaseClass && s.index.names[s.index.class[id]] != sel.Name:
		return false
	case sel.Base == BaseMachine && s.index.names[s.index.machine[id]] != sel.Name:
		return false
	}
	if sel.since != nil && !sel.since.has(id, Status(mark&0x0f)) {
		return false
	}
	if !sel.Uncopied {
		return true
	}
	switch statepb.Results(mark >> 4) {
	case statepb.Results_RESULTS_FAILED, statepb.Results_RESULTS_WAITING,
		statepb.Results_RESULTS_COPYING:
		return true
	}
	return false
}

// unknownClass and unknownMachine say what there is.
func (s *State) unknownClass(name string) *Error {
	e := errorf(NotFound, "no class %q", name)
	if near := suggest.Closest(name, s.Classes()); near != "" {
		return e.hint("did you mean %s?", near)
	}
	if classes := s.Classes(); len(classes) > 0 {
		return e.hint("the classes are %s", strings.Join(classes, ", "))
	}
	return e.hint("there are no machines: `jobserver machine add ADDR CLASS` adds one")
}

func (s *State) unknownMachine(addr string) *Error {
	e := errorf(NotFound, "no machine %q", addr)
	if near := suggest.Closest(addr, sorted(s.machines)); near != "" {
		return e.hint("did you mean %s?", near)
	}
	return e.hint("`jobserver machine ls` lists them")
}
