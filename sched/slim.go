package sched

import (
	"slices"
	"strings"

	"jobserver/sched/statepb"
)

// slim has the values of a matrix, which nobody else has yet, take little memory: what the matrix
// has too whose cells it waits for is kept once, and the others' texts are in one piece.
func (s *State) slim(m *statepb.Matrix, axes []*statepb.Axis) {
	of := s.matrices[m.Template.GetAfter().GetCells()]
	for _, a := range axes {
		var theirs []string
		if of != nil {
			for _, b := range of.Axes {
				if b.Name == a.Name {
					theirs = b.Values
				}
			}
		}
		if slices.Equal(a.Values, theirs) {
			a.Values = slices.Clip(theirs)
		} else {
			a.Values = slimmed(a.Values, theirs)
		}
	}
}

// slimmed are the same texts; those that are among the known ones are these, in memory too.
func slimmed(texts, known []string) []string {
	same := make(map[string]string, len(known))
	for _, v := range known {
		same[v] = v
	}
	var own strings.Builder
	for _, v := range texts {
		if _, ok := same[v]; !ok {
			own.WriteString(v)
		}
	}
	rest := strings.Clone(own.String()) // a builder has room ahead
	out := make([]string, len(texts))
	for i, v := range texts {
		if kept, ok := same[v]; ok {
			out[i] = kept
			continue
		}
		out[i], rest = rest[:len(v)], rest[len(v):]
	}
	return out
}
