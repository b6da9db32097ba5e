package matrix

import (
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// warnInputs tells of inputs that were not the same for all cells that had them from one path: such
// cells can't be compared as if only their values differed.
func warnInputs(e *cli.Env, given []api.CellInput) {
	type place struct{ name, path string }
	var order []place
	contents := map[place]map[string]int{}
	for _, in := range given {
		at := place{in.Name, in.Path}
		if contents[at] == nil {
			contents[at] = map[string]int{}
			order = append(order, at)
		}
		contents[at][in.Hash] += in.Cells
	}
	for _, at := range order {
		if len(contents[at]) < 2 {
			continue
		}
		var parts []string
		for _, in := range given {
			if n := contents[at][in.Hash]; n > 0 && (place{in.Name, in.Path}) == at {
				parts = append(parts, fmt.Sprintf("%s had %.12s", view.Counted(n, "cell"), in.Hash))
				delete(contents[at], in.Hash)
			}
		}
		e.Warn([]string{fmt.Sprintf("the input %s, from %s, was not the same for all cells: %s",
			at.name, at.path, strings.Join(parts, ", "))})
	}
}
