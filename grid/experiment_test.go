package grid

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

const whole = `# How compression pays
name: compression
class: lab
command: |
  ./bench --level {LEVEL} --file {FILE}
cp_path: results
env: {THREADS: 1, LC_ALL: C}
variables:
  LEVEL: 1..3,9
  FILE: [text, "1..3", 7..8]
  A: "x"
  B: [y]
zip: [A, B]
exclude:
  - {LEVEL: 9, FILE: [text, 7]}
  - LEVEL=1,FILE=8
include:
  - LEVEL: 19
where: LEVEL < 100
repeats: 5
order: repeats-last
seed: 3
timeout: 10m
retries: 2
setup:
  - make
code: .
metrics: out.csv
tag: nightly
flat: true
notify: true
priority: -3
max_log: 10M
`

func TestExperiment(t *testing.T) {
	got, err := ParseExperiment("e.yaml", []byte(whole), shop)
	if err != nil {
		t.Fatal(err)
	}
	two := 2
	want := &Experiment{
		File: "e.yaml", Name: "compression", Class: "lab",
		Command: "./bench --level {LEVEL} --file {FILE}\n", CpPath: "results",
		Env: map[string]string{"THREADS": "1", "LC_ALL": "C"},
		Grid: Spec{
			Axes: []Axis{{"LEVEL", []string{"1", "2", "3", "9"}},
				{"FILE", []string{"text", "1..3", "7", "8"}}, {"A", []string{"x"}},
				{"B", []string{"y"}}},
			Zip: [][]string{{"A", "B"}},
			Exclude: []Pick{{{"LEVEL", []string{"9"}}, {"FILE", []string{"text", "7"}}},
				{{"LEVEL", []string{"1"}}, {"FILE", []string{"8"}}}},
			Include: []Pick{{{"LEVEL", []string{"19"}}}}, Where: []string{"LEVEL < 100"},
			Repeats: 5, Order: RepeatsLast, Seed: 3,
		},
		Timeout: Setting{"10m", 23}, MaxLog: Setting{"10M", 33}, Retries: &two,
		Setup: []string{"make"}, Code: ".", Metrics: Setting{"out.csv", 28}, Tag: "nightly",
		Flat: true, Notify: true, Priority: -3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadExperiments(t *testing.T) {
	const head = "class: c\ncommand: x\n"
	for text, want := range map[string]Error{
		"": {Msg: "e.yaml is empty",
			Next: "it needs at least class, command and variables"},
		"- a\n": {Msg: "e.yaml:1: this is no table of settings",
			Next: "write lines like `class: lab`"},
		"class: c\n\tx: 1\n": {Msg: "e.yaml:2: found a tab character that violates indentation"},
		"class: c\ncommand: echo METRIC: x=1\n": {
			Msg: "e.yaml:2: mapping values are not allowed in this context",
			Next: "a text with a colon and a blank in it, as METRIC: or RESULTS:, has to be in " +
				"quotes, or below `command: |`",
		},
		"command: x\nvariables: {I: 1}\n": {Msg: "e.yaml:1: there is no class",
			Next: "write `class: …`"},
		head: {Msg: "e.yaml:1: there are no variables",
			Next: "write `variables:` and below it lines like `  I: 1..8`"},
		head + "clas: d\n": {Msg: `e.yaml:3: there is no setting "clas"`,
			Next: "did you mean class?"},
		head + "cp-path: d\n": {Msg: `e.yaml:3: there is no setting "cp-path"`,
			Next: "did you mean cp_path?"},
		head +
			"class: d\n": {Msg: "e.yaml:3: class is given twice, in line 1 too"},
		head + "variables:\n  I: 1..\n": {Msg: "e.yaml:4: the range 1.. never ends",
			Next: "write its last number: 1..8, or quote it to take it as text"},
		head + "variables:\n  I: [1, 2..]\n": {Msg: "e.yaml:4: the range 2.. never ends",
			Next: "write its last number: 2..8, or quote it to take it as text"},
		head + "variables:\n  I: []\n": {Msg: "e.yaml:4: the variable I has no values"},
		head + "variables:\n  I:\n":    {Msg: "e.yaml:4: the variable I has no values"},
		head +
			"variables:\n  I: {a: 1}\n": {Msg: "e.yaml:4: values of I are wanted here: a list"},
		head + "variables:\n  I-J: 1\n": {Msg: `e.yaml:4: "I-J" can't be a variable's name`,
			Next: "use letters, digits and underscores, and begin with a letter"},
		head + "repeats: many\n": {
			Msg: `e.yaml:3: a whole number is wanted here, not "many"`,
		},
		head + "repeats: 0\n": {Msg: "e.yaml:3: 0 is not between 1 and 1000000"},
		head + "order: best\n": {Msg: `e.yaml:3: there is no order "best"`,
			Next: "orders are product, random, repeats-last"},
		head + "zip: A\n": {Msg: "e.yaml:3: a list of names is wanted here",
			Next: "write `zip: [A, B]`"},
		head + "zip: &x [*x]\n": {Msg: "e.yaml:3: a single value is wanted here"},
		head + "exclude: {I: 1}\n": {Msg: "e.yaml:3: a list is wanted here",
			Next: "write below it lines like `- {I: 1, J: exotic}`"},
		head + "exclude:\n- []\n": {Msg: "e.yaml:4: a table is wanted here, with " +
			"lines like NAME: VALUE"},
		head + "exclude:\n- {}\n": {Msg: "e.yaml:4: this names nothing"},
		head + "setup: {a: b}\n":  {Msg: "e.yaml:3: a single value is wanted here"},
		head + "env: [a]\n": {Msg: "e.yaml:3: a table is wanted here, with " +
			"lines like NAME: VALUE"},
	} {
		_, err := ParseExperiment("e.yaml", []byte(text), shop)
		var own *Error
		if !errors.As(err, &own) || *own != want {
			t.Errorf("%q:\n%+v, want\n%+v", text, err, want)
		}
	}
}

func FuzzExperiment(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("a: &x [*x]\nvariables: *x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer budget.Hold(t, 1<<20+64*len(data)+bytes.Count(data, []byte(".."))*MaxCells<<10)()
		x, err := ParseExperiment("e.yaml", data, shop)
		if err == nil && len(x.Grid.Axes) == 0 {
			t.Error("taken without variables")
		}
	})
}
