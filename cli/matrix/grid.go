package matrix

import (
	"path/filepath"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/grid"
	"jobserver/userfile"
)

// gridFlags make a grid that is more than a product of values.
type gridFlags struct {
	Zip     []string `name:"zip" sep:"none" placeholder:"A,B" help:"Vary these variables together: the first values of each, then the second, and so on (repeatable)."`
	Exclude []string `name:"exclude" sep:"none" placeholder:"A=V,B=V" help:"Leave out the cells with these values (repeatable)."`
	Include []string `name:"include" sep:"none" placeholder:"A=V,B=V" help:"Also include the cells with these values; variables you don't name take all of theirs (repeatable)."`
	Where   []string `name:"where" sep:"none" placeholder:"CONDITION" help:"Only the cells for which this holds, such as 'A<B' or 'A*B<=64 && MODE!=slow' (repeatable)."`
	Order   string   `name:"order" enum:"product,random,repeats-last" default:"product" placeholder:"ORDER" help:"The order of the cells: product, random, or repeats-last, which covers the whole grid once before it repeats."`
	Seed    uint64   `name:"seed" placeholder:"N" help:"Derive {SEED} of each repeat, and the random order, from this number (0 by default)."`
}

// spec is the grid that the flags and the KEY=V1,V2 words describe.
func (f *gridFlags) spec(words []string, times int, files grid.Files) (grid.Spec, error) {
	s := grid.Spec{Where: f.Where, Repeats: times, Order: grid.Order(f.Order), Seed: f.Seed}
	for _, word := range words {
		axis, err := grid.ParseAxis(word, files)
		if err != nil {
			return s, err
		}
		s.Axes = append(s.Axes, axis)
	}
	for _, names := range f.Zip {
		s.Zip = append(s.Zip, strings.Split(names, ","))
	}
	for _, list := range []struct {
		words []string
		picks *[]grid.Pick
	}{{f.Exclude, &s.Exclude}, {f.Include, &s.Include}} {
		for _, word := range list.words {
			pick, err := grid.ParsePick(word, files)
			if err != nil {
				return s, err
			}
			*list.picks = append(*list.picks, pick)
		}
	}
	return s, nil
}

// checkPath refuses a variable in the place of CP_PATH, which was forgotten then.
func checkPath(path string) error {
	if name, _, ok := strings.Cut(path, "="); ok && grid.IsName(name) {
		return api.Errorf(api.Usage, "CP_PATH is missing: %s, in its place, is a variable", path).
			WithHint("name the directory for the results before the variables, or \"\" for none; "+
				"./%s is a directory", path)
	}
	return nil
}

// localFiles are the files that value lists may name, relative to a directory of the client's.
func localFiles(e *cli.Env, dir string) grid.Files {
	at := func(name string) string { return e.Path(dir, name) }
	return grid.Files{
		Read: func(name string) ([]byte, error) { return userfile.Read(at(name)) },
		Glob: func(pattern string) ([]string, error) {
			names, err := filepath.Glob(at(pattern))
			for i, name := range names {
				if rel, rerr := filepath.Rel(dir, name); rerr == nil && !filepath.IsAbs(pattern) &&
					!strings.HasPrefix(pattern, "~") {
					names[i] = rel
				}
			}
			return names, err
		},
	}
}

// matrixOfGrid is the matrix that a grid makes, without its job, and what there is to warn of.
func matrixOfGrid(s grid.Spec) (api.MatrixSpec, []string, error) {
	g, err := s.Expand()
	if err != nil {
		return api.MatrixSpec{}, nil, api.Wrap(api.Usage, err)
	}
	m, warnings := matrixOfCells(g, s.Seed)
	return m, warnings, nil
}

// matrixOfExperiment finds the matrix of an experiment, or of one of its stages.
func matrixOfExperiment(x *grid.Experiment) (api.MatrixSpec, []string, error) {
	g, err := x.Expand()
	if err != nil {
		return api.MatrixSpec{}, nil, api.Wrap(api.Usage, err)
	}
	m, warnings := matrixOfCells(g, x.Grid.Seed)
	return m, warnings, nil
}

func matrixOfCells(g *grid.Grid, seed uint64) (api.MatrixSpec, []string) {
	m := api.MatrixSpec{Cells: g.Cells, Seed: seed, Job: api.JobSpec{Repeat: g.Repeats}}
	for _, a := range g.Axes {
		m.Vars = append(m.Vars, api.Axis{Name: a.Name, Values: a.Values})
	}
	return m, g.Warnings
}
