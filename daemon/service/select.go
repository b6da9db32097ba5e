package service

import (
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/grid"
	"jobserver/sched"
)

// selectJobs finds the jobs that selectors match, ascending. Words that begin with where= narrow
// them; conditions are no matter of the scheduler, which knows values as texts.
func selectJobs(st *sched.State, words []string) ([]uint64, error) {
	var selectors, conditions []string
	for _, word := range words {
		if condition, ok := strings.CutPrefix(word, api.WhereWord); ok {
			conditions = append(conditions, condition)
		} else {
			selectors = append(selectors, word)
		}
	}
	ids, err := st.Select(selectors)
	if err != nil || len(conditions) == 0 {
		return ids, err
	}
	w := where{st: st, conditions: conditions, matrices: map[uint64][]*grid.Where{}}
	ids = slices.DeleteFunc(ids, func(id uint64) bool {
		holds := false
		if err == nil {
			holds, err = w.holds(id)
		}
		return !holds
	})
	switch {
	case err != nil:
		return nil, api.Wrap(api.Invalid, err)
	case len(ids) == 0:
		return nil, api.Errorf(api.NoMatch, "no job matches %s", strings.Join(words, " "))
	}
	return ids, nil
}

// where are conditions, compiled for each matrix whose cells they are asked of.
type where struct {
	st         *sched.State
	conditions []string
	matrices   map[uint64][]*grid.Where
}

func (w *where) holds(id uint64) (bool, error) {
	matrix, row, ok := w.st.CellRow(id)
	if !ok {
		return false, nil
	}
	compiled, ok := w.matrices[matrix]
	if !ok {
		m, _ := w.st.Matrix(matrix)
		var axes []grid.Axis
		for _, a := range m.Axes {
			axes = append(axes, grid.Axis{Name: a.Name, Values: a.Values})
		}
		for _, text := range w.conditions {
			c, err := grid.Compile(text, axes)
			if err != nil {
				return false, err
			}
			compiled = append(compiled, c)
		}
		w.matrices[matrix] = compiled
	}
	for _, c := range compiled {
		if holds, err := c.Match(row); err != nil || !holds {
			return false, err
		}
	}
	return true, nil
}
