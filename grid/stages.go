package grid

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"jobserver/suggest"
)

// A file may have stages: each is a matrix of its own, NAME.STAGE. What stands beside them holds
// for all of them, unless they say it themselves. A stage after another one has its variables,
// repeats and seed, and the product with its own: it follows cell by cell. With `join: all` it has
// its own only, and waits for the whole.

// Stage says where in a file with stages an experiment stands.
type Stage struct {
	Name  string
	After []string // the stages that it waits for
	Join  bool     // for all of each of them, instead of cell by cell
	line  int
	after int // the line of after
	own   Spec
	of    *Experiment // that it follows cell by cell, or nil
}

// Follows is the stage that this one follows cell by cell, "" for none.
func (s *Stage) Follows() string {
	if s.of == nil {
		return ""
	}
	return s.of.Stage.Name
}

// ofSweep are the settings that belong to one stage, and never to all.
var ofSweep = []string{"variables", "where", "zip", "exclude", "include", "repeats", "seed",
	"order",
	"command", "after", "after_cell", "metrics", "max_fails", "then"}

// stageSettings belong to stages alone.
var stageSettings = []string{"join"}

// stages reads the stages of a file, after all that stands beside them.
func (r *reader) stages(n *yaml.Node, line map[string]int) error {
	for _, name := range ofSweep {
		if at, ok := line[name]; ok {
			return r.x.At(at, "%s belongs into a stage, where there are stages", name)
		}
	}
	return r.mapping(n, func(key, n *yaml.Node) error {
		if !isStageName(key.Value) {
			return r.x.At(key.Line, "%q can't be a stage's name", key.Value).
				hint("use letters, digits, dashes and underscores")
		}
		one := r.x.copy()
		one.Stage = &Stage{Name: key.Value, line: key.Line}
		sub := reader{x: one, files: r.files}
		if err := sub.mapping(n, sub.ofStage); err != nil {
			return err
		}
		if err := one.complete(key.Line); err != nil {
			return err
		}
		r.x.Stages = append(r.x.Stages, one)
		return nil
	})
}

func isStageName(s string) bool {
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' ||
			c == '-')
	})
}

// copy is an experiment that begins with the settings of another one. A list that a stage gives
// itself takes the place of the other's.
func (x *Experiment) copy() *Experiment {
	one := *x
	one.Env, one.Stages = maps.Clone(x.Env), nil
	return &one
}

// ofStage reads a setting of a stage.
func (r *reader) ofStage(key, n *yaml.Node) error {
	x := r.x
	switch key.Value {
	case "after":
		x.Stage.after = n.Line
		return r.texts(n, &x.Stage.After)
	case "join":
		var all string
		if err := r.text(n, &all); err != nil {
			return err
		}
		if x.Stage.Join = all == "all"; !x.Stage.Join {
			return x.At(n.Line, "join is all, not %q", all).
				hint("without it the stage follows cell by cell")
		}
		return nil
	case "after_cell":
		return x.At(key.Line, "a stage follows a stage: `after: STAGE`").
			hint("without `join: all` that is cell by cell")
	case "name", "stages":
		return x.At(key.Line, "a stage has no %s of its own", key.Value)
	case "setup":
		x.Setup = nil
	case "secret_env":
		x.SecretEnv = nil
	case "input":
		x.Input = nil
	case "after_any":
		x.AfterAny = nil
	case "after_failed":
		x.AfterFailed = nil
	case "retry_on":
		x.RetryOn = nil
	case "no_retry_on":
		x.NoRetryOn = nil
	}
	return r.setting(key, n)
}

// plan orders the stages so that each comes after those that it waits for, and gives each its
// variables.
func (x *Experiment) plan() error {
	byName := map[string]*Experiment{}
	var names []string
	for _, one := range x.Stages {
		byName[one.Stage.Name] = one
		names = append(names, one.Stage.Name)
	}
	const visiting, done = 1, 2
	state := map[*Experiment]int{}
	var order, path []*Experiment
	var visit func(one *Experiment) error
	visit = func(one *Experiment) error {
		switch state[one] {
		case done:
			return nil
		case visiting:
			var circle []string
			for _, p := range path[slices.Index(path, one):] {
				circle = append(circle, p.Stage.Name)
			}
			return x.At(one.Stage.after, "the stages wait for each other: %s",
				strings.Join(append(circle, one.Stage.Name), " after ")).
				hint("one of them has to begin")
		}
		state[one] = visiting
		path = append(path, one)
		for _, name := range one.Stage.After {
			of := byName[name]
			if of == nil {
				e := x.At(one.Stage.after, "there is no stage %q", name)
				if near := suggest.Closest(name, names); near != "" {
					return e.hint("did you mean %s?", near)
				}
				return e.hint("the stages are %s; `after_any` names other jobs",
					strings.Join(names, ", "))
			}
			if err := visit(of); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		state[one] = done
		order = append(order, one)
		return one.inherit(byName)
	}
	for _, one := range x.Stages {
		if err := visit(one); err != nil {
			return err
		}
	}
	x.Stages = order
	return nil
}

// inherit gives a stage what it has of the one that it follows.
func (x *Experiment) inherit(byName map[string]*Experiment) error {
	st := x.Stage
	if slices.Contains(st.After, st.Name) || len(slices.Compact(slices.Sorted(
		slices.Values(st.After)))) < len(st.After) {
		return x.At(st.after, "the stage %s names a stage twice", st.Name)
	}
	st.own = x.Grid
	switch {
	case st.Join && len(st.After) == 0:
		return x.At(st.line, "the stage %s joins nothing", st.Name).hint("write `after: STAGE`")
	case st.Join || len(st.After) == 0:
		return nil
	case len(st.After) > 1:
		return x.At(st.after, "cell by cell a stage follows one other, not %d", len(st.After)).
			hint("`join: all` waits for all of them as a whole")
	}
	of := byName[st.After[0]]
	st.of = of
	for _, a := range st.own.Axes {
		if slices.ContainsFunc(of.Grid.Axes, func(b Axis) bool { return b.Name == a.Name }) {
			return x.At(st.line, "the stage %s has the variable %s from %s already", st.Name,
				a.Name,
				of.Stage.Name).hint("leave it out, or name it otherwise")
		}
	}
	repeats, before := max(st.own.Repeats, 1), max(of.Grid.Repeats, 1)
	switch {
	case st.own.Repeats > 0 && before > 1 && repeats != before:
		return x.At(st.line, "the stage %s has the %d repeats of %s, and can't have %d", st.Name,
			before, of.Stage.Name, repeats).hint("give it a variable instead, or leave repeats out")
	case st.own.Seed != 0 && of.Grid.Seed != 0 && st.own.Seed != of.Grid.Seed:
		return x.At(st.line, "the stage %s has the seed of %s, and can't have another", st.Name,
			of.Stage.Name).hint("leave it out")
	}
	x.Grid = Spec{
		Axes: slices.Concat(of.Grid.Axes, st.own.Axes), Zip: st.own.Zip, Exclude: st.own.Exclude,
		Include: st.own.Include, Where: st.own.Where, Repeats: max(repeats, before),
		Order: cmp.Or(st.own.Order, of.Grid.Order), Seed: cmp.Or(of.Grid.Seed, st.own.Seed),
	}
	return nil
}

// Expand gives the cells of an experiment. A stage may have no variables: then it has one cell, and
// each of its repeats. Of one that follows another cell by cell those are left out that have no
// cell to follow.
func (x *Experiment) Expand() (*Grid, error) {
	if x.Stage == nil || x.Stage.of == nil && len(x.Grid.Axes) > 0 {
		g, err := x.Grid.Expand()
		return g, x.inStage(err)
	}
	if len(x.Grid.Axes) > 0 {
		of, err := x.Stage.of.Expand()
		if err != nil {
			return nil, err
		}
		spec := x.Grid
		spec.Axes = slices.Concat(of.Axes, x.Stage.own.Axes)
		g, err := spec.Expand()
		if err == nil {
			err = g.follow(of)
		}
		return g, x.inStage(err)
	}
	s := x.Grid
	if len(s.Where)+len(s.Zip)+len(s.Exclude)+len(s.Include) > 0 {
		return nil, x.At(x.Stage.line, "the stage %s chooses among cells, and has no variables",
			x.Stage.Name)
	}
	repeats := max(s.Repeats, 1)
	return &Grid{Repeats: repeats, Count: repeats}, nil
}

// inStage says of which stage an error is.
func (x *Experiment) inStage(err error) error {
	own, ok := err.(*Error)
	if !ok || x.Stage == nil || strings.HasPrefix(own.Msg, x.File+":") {
		return err
	}
	return &Error{Msg: x.At(x.Stage.line, "the stage %s: %s", x.Stage.Name, own.Msg).Msg,
		Next: own.Next}
}

// follow leaves out the cells that are like none of another grid, which has some of the variables.
func (g *Grid) follow(of *Grid) error {
	if of.Cells == nil || len(of.Axes) == 0 {
		return nil // it is the whole product
	}
	at := make([]int, len(of.Axes))
	number := make([]map[string]uint32, len(of.Axes))
	for i, a := range of.Axes {
		at[i], number[i] = g.axis(a.Name), map[string]uint32{}
		for n, v := range a.Values {
			number[i][v] = uint32(n)
		}
	}
	key := func(index func(i int) uint32, repeat uint32) string {
		var b strings.Builder
		for i := range of.Axes {
			n := index(i)
			b.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16)})
		}
		if of.Repeats == 1 {
			repeat = 0
		}
		b.Write([]byte{byte(repeat), byte(repeat >> 8), byte(repeat >> 16)})
		return b.String()
	}
	known := make(map[string]bool, of.Count)
	for i := range of.Count {
		row := of.Row(i)
		known[key(func(k int) uint32 { return row[k] }, row[len(of.Axes)])] = true
	}
	g.spell()
	kept := g.Cells[:0]
	for i := range g.Count {
		row := g.Row(i)
		there := true
		name := key(func(k int) uint32 {
			n, ok := number[k][g.Axes[at[k]].Values[row[at[k]]]]
			there = there && ok
			return n
		}, row[len(g.Axes)])
		if there && known[name] {
			kept = append(kept, row...)
		}
	}
	g.Cells = kept
	g.Count = len(kept) / (len(g.Axes) + 1)
	if g.Count == 0 {
		return errorf("no cell is left").hint("look at its conditions")
	}
	return nil
}

// spell writes the cells of the plain product out.
func (g *Grid) spell() {
	if g.Cells != nil {
		return
	}
	w := len(g.Axes) + 1
	g.Cells = make([]uint32, g.Count*w)
	for i := range g.Count {
		row, c := g.Row(i), i
		row[w-1], c = uint32(c%g.Repeats), c/g.Repeats
		for k := w - 2; k >= 0; k-- {
			n := len(g.Axes[k].Values)
			row[k], c = uint32(c%n), c/n
		}
	}
}
