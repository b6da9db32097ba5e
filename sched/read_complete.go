package sched

import (
	"strconv"
	"strings"
)

// completeMatrix gives the selectors of matrices that begin like the prefix: by name and by id, and
// behind a comma the variables of the one that is named, with their values.
func (s *State) completeMatrix(prefix string, add func(value, description string)) {
	if i := strings.LastIndexByte(prefix, ','); i >= 0 {
		s.completeCells(prefix[:i+1], add)
		return
	}
	for i := len(s.order) - 1; i >= 0; i-- {
		m := s.order[i]
		what := oneLine(string(m.Template.Cmd), 60)
		if m.Name != "" {
			add("%"+m.Name, what)
		}
		add("%"+strconv.FormatUint(m.Id, 10), what)
	}
}

// completeCells gives the values of variables of a matrix; before is %NAME, and what the line has
// behind it already.
func (s *State) completeCells(before string, add func(value, description string)) {
	name, _, _ := strings.Cut(strings.TrimPrefix(before, "%"), ",")
	for _, m := range s.order {
		if m.Name != name && strconv.FormatUint(m.Id, 10) != name {
			continue
		}
		for _, axis := range m.Axes {
			if strings.Contains(before, ","+axis.Name+"=") {
				continue
			}
			for _, value := range axis.Values {
				add(before+axis.Name+"="+value, "")
			}
		}
		return
	}
}

// completeAxes gives names of variables of matrices, the newest first, as --rows and --x take them:
// the last of a list with commas is completed.
func (s *State) completeAxes(prefix string, add func(value, description string)) {
	before := prefix[:strings.LastIndexByte(prefix, ',')+1]
	seen := map[string]bool{}
	for i := len(s.order) - 1; i >= 0; i-- {
		m := s.order[i]
		for _, axis := range m.Axes {
			if !seen[axis.Name] && !strings.Contains(","+before, ","+axis.Name+",") {
				seen[axis.Name] = true
				add(before+axis.Name, strconv.Itoa(len(axis.Values))+" values in %"+
					strconv.FormatUint(m.Id, 10))
			}
		}
	}
	for _, name := range []string{"machine", "REPEAT"} {
		add(before+name, "")
	}
}
