package grid

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestStages: which cells the stages of a file have.
func TestStages(t *testing.T) {
	const head = "class: c\n"
	for _, tt := range []struct {
		name, stages string
		want         []string // stage: cells, variables, repeats
	}{
		{"the product, cell by cell", `
  a: {command: x, variables: {I: [1, 2]}, repeats: 3, seed: 7}
  b: {command: x, after: a, variables: {J: [u, v]}}
  c: {command: x, after: b}
`, []string{"a: 6 I repeats 3 seed 7", "b: 12 I,J repeats 3 seed 7", "c: 12 I,J repeats 3 seed 7"}},
		{"in whatever order", `
  c: {command: x, after: b, join: all}
  b: {command: x, after: a}
  a: {command: x, variables: {I: [1, 2]}}
`, []string{"a: 2 I repeats 1 seed 0", "b: 2 I repeats 1 seed 0", "c: 1  repeats 1 seed 0"}},
		{"one that has no variables begins", `
  a: {command: x}
  b: {command: x, after: a, variables: {I: [1, 2]}, repeats: 2}
`, []string{"a: 1  repeats 1 seed 0", "b: 4 I repeats 2 seed 0"}},
		{"a join has its own alone", `
  a: {command: x, variables: {I: [1, 2]}, repeats: 3}
  b: {command: x, variables: {I: [1]}}
  c: {command: x, after: [a, b], join: all, variables: {K: [1, 2, 3]}}
`, []string{"a: 6 I repeats 3 seed 0", "b: 1 I repeats 1 seed 0", "c: 3 K repeats 1 seed 0"}},
		{"only cells that there are", `
  a: {command: x, variables: {I: [1, 2], J: [1, 2]}, exclude: [{I: 1, J: 2}]}
  b: {command: x, after: a, variables: {K: [1, 2]}, exclude: [{K: 2, I: 2}],
      include: [{K: 9}]}
`, []string{"a: 3 I,J repeats 1 seed 0", "b: 7 I,J,K repeats 1 seed 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, err := ParseExperiment("e.yaml", []byte(head+"stages:"+tt.stages), shop)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, one := range x.Stages {
				g, err := one.Expand()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%s: %d %s repeats %d seed %d", one.Stage.Name,
					g.Count, strings.Join(g.names(), ","), g.Repeats, one.Grid.Seed))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestStagesInherit: what stands beside the stages holds for all of them, unless they say it.
func TestStagesInherit(t *testing.T) {
	x, err := ParseExperiment("e.yaml", []byte(`
class: c
cp_path: r
env: {A: 1, B: 2}
input: [one]
retries: 5
stages:
  a: {command: x, env: {B: 3}}
  b: {command: x, class: d, input: two, retries: 0}
`), shop)
	if err != nil {
		t.Fatal(err)
	}
	a, b := x.Stages[0], x.Stages[1]
	if a.Class != "c" || a.CpPath != "r" || a.Env["A"] != "1" || a.Env["B"] != "3" ||
		!slices.Equal(a.Input, []string{"one"}) || *a.Retries != 5 {
		t.Errorf("a is %+v", a)
	}
	if b.Class != "d" || b.Env["B"] != "2" || !slices.Equal(b.Input, []string{"two"}) ||
		*b.Retries != 0 || *x.Retries != 5 {
		t.Errorf("b is %+v", b)
	}
}

// TestStageErrors: every error says in which line.
func TestStageErrors(t *testing.T) {
	one := func(stages ...string) string {
		return "class: c\nstages:\n  " + strings.Join(stages, "\n  ")
	}
	for _, tt := range []struct{ text, want string }{
		{"stages:", "e.yaml:1: there are no stages"},
		{"stages: {}", "e.yaml:1: there are no stages"},
		{"stages: none", "e.yaml:1: there are no stages"},
		{"class: c\nvariables: {I: 1}\nstages: {a: {command: x}}",
			"e.yaml:2: variables belongs into a stage"},
		{"class: c\ncommand: x\nstages: {a: {}}", "e.yaml:2: command belongs"},
		{"class: c\njoin: all\nvariables: {I: 1}\ncommand: x",
			`e.yaml:2: there is no setting "join"`},
		{"stages:\n  a: {command: x}", "e.yaml:2: there is no class"},
		{one("a: {}"), "e.yaml:3: there is no command"},
		{one("a: x"), "e.yaml:3: a table is wanted"},
		{one("a.b: {command: x}"), `e.yaml:3: "a.b" can't be a stage's`},
		{one("a: {command: x}", "a: {command: y}"), "given twice"},
		{one("a: {command: x, nmae: y}"), `e.yaml:3: there is no setting`},
		{one("a: {command: x, name: y}"), "e.yaml:3: a stage has no name"},
		{one("a: {command: x, after: b}"), `e.yaml:3: there is no stage "b"`},
		{one("a: {command: x, after: a}"), "e.yaml:3: the stages wait for each"},
		{one("a: {command: x, join: all}"), "e.yaml:3: the stage a joins nothing"},
		{one("a: {command: x, join: some}"), "e.yaml:3: join is all"},
		{one("a: {command: x, after_cell: b}"), "e.yaml:3: a stage follows a stage"},
		{one("a: {command: x, where: 'I<2'}"), "e.yaml:3: the stage a chooses"},
		{one("a: {command: x, variables: {I: \"@nofile\"}}"), "e.yaml:3:"},
		{one("a: {command: x}", "b: {command: x, after: [a, a], join: all}"),
			"e.yaml:4: the stage b names a stage twice"},
		{one("a: {command: x}", "b: {command: x}", "c: {command: x, after: [a, b]}"),
			"e.yaml:5: cell by cell a stage follows one other"},
		{one("a: {command: x, variables: {I: 1}}", "b: {command: x, after: a, variables: {I: 2}}"),
			"e.yaml:4: the stage b has the variable I from a already"},
		{one("a: {command: x, repeats: 2}", "b: {command: x, after: a, repeats: 3}"),
			"e.yaml:4: the stage b has the 2 repeats of a"},
		{one("a: {command: x, seed: 2}", "b: {command: x, after: a, seed: 3}"),
			"e.yaml:4: the stage b has the seed of a"},
		{one("a: {command: x, variables: {I: 1}}",
			"b: {command: x, after: a, variables: {J: 1}, where: 'I>1'}"),
			"e.yaml:4: the stage b:"},
	} {
		x, err := ParseExperiment("e.yaml", []byte(tt.text), shop)
		if err == nil {
			for _, one := range x.Stages {
				if _, failed := one.Expand(); failed != nil {
					err = failed
				}
			}
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
}
