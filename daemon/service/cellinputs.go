package service

import (
	"cmp"
	"slices"

	"jobserver/api"
	"jobserver/sched/statepb"
)

// inputTally counts what cells were given, by name, path and content.
type inputTally map[api.CellInput]int

// maxCellInputs bounds what a page of cells says of inputs.
const maxCellInputs = 1000

func (t inputTally) add(inputs []*statepb.Input) {
	for _, in := range inputs {
		t[api.CellInput{Name: in.Name, Path: in.Path, Hash: in.Hash}]++
	}
}

// list are the contents of paths that more than one cell was given something from: of a path that
// each cell has for itself there is nothing to compare.
func (t inputTally) list() (all []api.CellInput) {
	type place struct{ name, path string }
	cells := map[place]int{}
	for in, n := range t {
		cells[place{in.Name, in.Path}] += n
	}
	for in, n := range t {
		if cells[place{in.Name, in.Path}] > 1 {
			in.Cells = n
			all = append(all, in)
		}
	}
	slices.SortFunc(all, func(a, b api.CellInput) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Name, b.Name), b.Cells-a.Cells,
			cmp.Compare(a.Hash, b.Hash))
	})
	return all[:min(len(all), maxCellInputs)]
}
