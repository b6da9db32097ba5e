package grid

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"jobserver/suggest"
)

// Experiment is a sweep as a file describes it. What the file leaves out is zero.
type Experiment struct {
	File      string // its name, for messages
	Name      string
	Class     string
	Command   string
	CpPath    string
	Env       map[string]string
	SecretEnv []string // names
	Grid      Spec
	Timeout   Setting
	MaxLog    Setting
	Retries   *int // -1: without limit
	Setup     []string
	Code      string  // a directory
	Metrics   Setting // a file among the results
	Tag       string
	Flat      bool
	Notify    bool

	Priority int

	Slots     int
	Exclusive bool
	Needs     string
	Pin       bool
	Machines  int
	Each      bool
	With      []string

	Cwd, Stdin, Label string

	// What it waits for, as selectors of jobs; AfterCell is a matrix.
	After, AfterAny, AfterFailed []string
	AfterCell, IfUnmet           string
	Input                        []string // PATH or PATH=NAME

	StartAfter, Then   string
	RetryOn, NoRetryOn []string
	AtMost, MaxFails   int

	Stage *Stage // of a stage; nil: the file has none
	// of a file that has stages: each follows only those before it
	Stages []*Experiment
}

// Setting is a value that somebody else reads, and where it stands.
type Setting struct {
	Text string
	Line int
}

// At is an error at a line of the file, as editors understand it.
func (x *Experiment) At(line int, format string, args ...any) *Error {
	return errorf("%s:%d: %s", x.File, line, fmt.Sprintf(format, args...))
}

// ParseExperiment reads a file such as
//
//	name: compression
//	class: lab
//	command: ./bench --level {LEVEL} --file {FILE}
//	cp_path: results
//	variables:
//	  LEVEL: 1..9
//	  FILE: [text, binary]
//	exclude:
//	  - {LEVEL: 9, FILE: binary}
//	repeats: 5
//
// A variable's values are a list as on the command line (see ParseAxis), or a YAML list, in which a
// plain item may be a range, and a quoted one is text. Errors begin with FILE:LINE.
func ParseExperiment(file string, data []byte, files Files) (*Experiment, error) {
	x := &Experiment{File: file, Env: map[string]string{}}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, x.syntax(err)
	}
	if len(doc.Content) == 0 {
		return nil, errorf("%s is empty", file).
			hint("it needs at least class, command and variables")
	}
	root := plain(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		return nil, x.At(root.Line, "this is no table of settings").
			hint("write lines like `class: lab`")
	}
	r := reader{x: x, files: files}
	if err := r.root(root); err != nil {
		return nil, err
	}
	if len(x.Stages) > 0 {
		return x, x.plan()
	}
	return x, x.complete(root.Line)
}

// root reads the settings of the file, and then its stages, which begin with those.
func (r *reader) root(n *yaml.Node) error {
	var stages *yaml.Node
	line := map[string]int{}
	err := r.mapping(n, func(key, n *yaml.Node) error {
		if key.Value == "stages" {
			stages = n
			return nil
		}
		line[key.Value] = key.Line
		return r.setting(key, n)
	})
	if err != nil || stages == nil {
		return err
	}
	if len(stages.Content) == 0 {
		return r.x.At(stages.Line, "there are no stages").
			hint("write below it lines like `train: {command: …, class: …}`")
	}
	return r.stages(stages, line)
}

// complete refuses an experiment that lacks something. It begins at a line.
func (x *Experiment) complete(line int) error {
	for _, missing := range []struct{ name, value string }{{"class", x.Class},
		{"command", x.Command}} {
		if strings.TrimSpace(missing.value) == "" {
			return x.At(line, "there is no %s", missing.name).hint("write `%s: …`", missing.name)
		}
	}
	if len(x.Grid.Axes) == 0 && x.Stage == nil {
		return x.At(line, "there are no variables").
			hint("write `variables:` and below it lines like `  I: 1..8`")
	}
	return nil
}

// syntax gives a YAML error our form: "yaml: line 3: …" is theirs.
func (x *Experiment) syntax(err error) *Error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if line, what, ok := strings.Cut(rest, ": "); ok {
			e := errorf("%s:%s: %s", x.File, line, what)
			if strings.HasPrefix(what, "mapping values are not allowed") {
				return e.hint("a text with a colon and a blank in it, as METRIC: or RESULTS:, " +
					"has to be in quotes, or below `command: |`")
			}
			return e
		}
	}
	return errorf("%s: %s", x.File, text)
}

// plain follows an alias to what it stands for.
func plain(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// reader puts the file's nodes into the Experiment.
type reader struct {
	x     *Experiment
	files Files
}

// mapping visits the entries of a table, each name once.
func (r *reader) mapping(n *yaml.Node, visit func(key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return r.x.At(n.Line, "a table is wanted here, with lines like NAME: VALUE")
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := plain(n.Content[i]), plain(n.Content[i+1])
		if key.Kind != yaml.ScalarNode {
			return r.x.At(key.Line, "a name is wanted here")
		}
		if before, twice := seen[key.Value]; twice {
			return r.x.At(key.Line, "%s is given twice, in line %d too", key.Value, before)
		}
		seen[key.Value] = key.Line
		if err := visit(key, value); err != nil {
			return err
		}
	}
	return nil
}

// settings are the names that a file may have.
var settings = []string{
	"after", "after_any", "after_cell", "after_failed", "at_most", "class", "code", "command",
	"cp_path", "cwd", "each", "env", "exclude", "exclusive", "flat", "if_unmet", "include",
	"input", "label", "machines", "max_fails", "max_log", "metrics", "name", "needs",
	"no_retry_on", "notify", "order", "pin", "priority", "repeats", "retries", "retry_on",
	"secret_env", "seed", "setup", "slots", "start_after", "stdin", "tag", "then", "timeout",
	"variables", "where", "with", "zip",
}

func (r *reader) setting(key, n *yaml.Node) error {
	x := r.x
	switch key.Value {
	case "name":
		return r.text(n, &x.Name)
	case "class":
		return r.text(n, &x.Class)
	case "command":
		return r.text(n, &x.Command)
	case "cp_path":
		return r.text(n, &x.CpPath)
	case "code":
		return r.text(n, &x.Code)
	case "metrics":
		x.Metrics.Line = n.Line
		return r.text(n, &x.Metrics.Text)
	case "tag":
		return r.text(n, &x.Tag)
	case "timeout":
		x.Timeout.Line = n.Line
		return r.text(n, &x.Timeout.Text)
	case "max_log":
		x.MaxLog.Line = n.Line
		return r.text(n, &x.MaxLog.Text)
	case "flat":
		return r.decode(n, &x.Flat, "true or false")
	case "notify":
		return r.decode(n, &x.Notify, "true or false")
	case "after":
		return r.texts(n, &x.After)
	case "after_any":
		return r.texts(n, &x.AfterAny)
	case "after_failed":
		return r.texts(n, &x.AfterFailed)
	case "after_cell":
		return r.text(n, &x.AfterCell)
	case "if_unmet":
		return r.text(n, &x.IfUnmet)
	case "input":
		return r.texts(n, &x.Input)
	case "start_after":
		return r.text(n, &x.StartAfter)
	case "retry_on":
		return r.texts(n, &x.RetryOn)
	case "no_retry_on":
		return r.texts(n, &x.NoRetryOn)
	case "at_most":
		return r.atLeast(n, &x.AtMost, 1)
	case "max_fails":
		return r.atLeast(n, &x.MaxFails, 1)
	case "then":
		if err := r.text(n, &x.Then); err != nil {
			return err
		}
		if x.Then != "hold" && x.Then != "cancel" {
			return x.At(n.Line, "then is hold or cancel, not %q", x.Then)
		}
		return nil
	case "cwd":
		return r.text(n, &x.Cwd)
	case "stdin":
		return r.text(n, &x.Stdin)
	case "label":
		return r.text(n, &x.Label)
	case "pin":
		return r.decode(n, &x.Pin, "true or false")
	case "exclusive":
		return r.decode(n, &x.Exclusive, "true or false")
	case "needs":
		return r.text(n, &x.Needs)
	case "slots":
		return r.atLeast(n, &x.Slots, 1)
	case "machines":
		return r.atLeast(n, &x.Machines, 1)
	case "each":
		return r.decode(n, &x.Each, "true or false")
	case "with":
		return r.texts(n, &x.With)
	case "priority":
		return r.decode(n, &x.Priority, "a whole number")
	case "repeats":
		return r.atLeast(n, &x.Grid.Repeats, 1)
	case "retries":
		x.Retries = new(int)
		return r.atLeast(n, x.Retries, -1)
	case "seed":
		return r.decode(n, &x.Grid.Seed, "a whole number, not negative")
	case "order":
		if err := r.text(n, (*string)(&x.Grid.Order)); err != nil {
			return err
		}
		if !slices.Contains(Orders(), string(x.Grid.Order)) {
			return x.At(n.Line, "there is no order %q", x.Grid.Order).
				hint("orders are %s", strings.Join(Orders(), ", "))
		}
		return nil
	case "env":
		return r.mapping(n, func(key, n *yaml.Node) error {
			var value string
			err := r.text(n, &value)
			x.Env[key.Value] = value
			return err
		})
	case "secret_env":
		return r.texts(n, &x.SecretEnv)
	case "setup":
		return r.texts(n, &x.Setup)
	case "where":
		return r.texts(n, &x.Grid.Where)
	case "variables":
		return r.mapping(n, r.variable)
	case "zip":
		return r.zip(n)
	case "exclude":
		return r.picks(n, &x.Grid.Exclude)
	case "include":
		return r.picks(n, &x.Grid.Include)
	}
	e := x.At(key.Line, "there is no setting %q", key.Value)
	if slices.Contains(stageSettings, key.Value) {
		return e.hint("it belongs into a stage, below `stages:`")
	}
	word := strings.NewReplacer("-", "_", " ", "_").Replace(key.Value)
	if near := suggest.Closest(word, append([]string{"stages"}, settings...)); near != "" {
		return e.hint("did you mean %s?", near)
	}
	return e.hint("settings are %s", strings.Join(settings, ", "))
}

func (r *reader) text(n *yaml.Node, to *string) error {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return r.x.At(n.Line, "a single value is wanted here")
	}
	*to = n.Value
	return nil
}

// texts reads a single text or a list of them.
func (r *reader) texts(n *yaml.Node, to *[]string) error {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for _, it := range items {
		var one string
		if err := r.text(plain(it), &one); err != nil {
			return err
		}
		*to = append(*to, one)
	}
	return nil
}

func (r *reader) decode(n *yaml.Node, to any, wanted string) error {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Decode(to) != nil {
		return r.x.At(n.Line, "%s is wanted here, not %s", wanted, shown(n))
	}
	return nil
}

func shown(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return "a list or a table"
	}
	return strconv.Quote(n.Value)
}

func (r *reader) atLeast(n *yaml.Node, to *int, least int) error {
	if err := r.decode(n, to, "a whole number"); err != nil {
		return err
	}
	if *to < least || *to > maxRepeats {
		return r.x.At(n.Line, "%d is not between %d and %d", *to, least, maxRepeats)
	}
	return nil
}

func (r *reader) variable(key, n *yaml.Node) error {
	if !IsName(key.Value) {
		return r.x.At(key.Line, "%q can't be a variable's name", key.Value).
			hint("use letters, digits and underscores, and begin with a letter")
	}
	values, err := r.values(key.Value, n)
	if err != nil {
		return err
	}
	if len(values) == 0 {
		return r.x.At(n.Line, "the variable %s has no values", key.Value)
	}
	r.x.Grid.Axes = append(r.x.Grid.Axes, Axis{key.Value, values})
	return nil
}

// values reads a list as on the command line, or a list of YAML.
func (r *reader) values(name string, n *yaml.Node) ([]string, error) {
	at := func(line int, err error) error {
		var own *Error
		if errors.As(err, &own) {
			return &Error{Msg: fmt.Sprintf("%s:%d: %s", r.x.File, line,
				strings.TrimPrefix(own.Msg, name+": ")), Next: own.Next}
		}
		return err
	}
	quoted := func(n *yaml.Node) bool {
		return n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return nil, r.x.At(n.Line, "the variable %s has no values", name)
	case n.Kind == yaml.ScalarNode && quoted(n) && !strings.ContainsAny(n.Value, ",@") &&
		!strings.Contains(n.Value, ".."):
		return []string{n.Value}, nil
	case n.Kind == yaml.ScalarNode:
		a, err := ParseAxis(name+"="+n.Value, r.files)
		return a.Values, at(n.Line, err)
	case n.Kind != yaml.SequenceNode:
		return nil, r.x.At(n.Line, "values of %s are wanted here: a list", name)
	}
	var all []string
	for _, it := range n.Content {
		it = plain(it)
		var text string
		if err := r.text(it, &text); err != nil {
			return nil, err
		}
		got, err := item{text, quoted(it)}.values(r.files)
		if err != nil {
			return nil, at(it.Line, err)
		}
		if all = append(all, got...); len(all) > maxValues {
			return nil, r.x.At(it.Line, "the variable %s has more than %d values", name, maxValues)
		}
	}
	return all, nil
}

// zip reads [A, B], or a list of such lists.
func (r *reader) zip(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return r.x.At(n.Line, "a list of names is wanted here").hint("write `zip: [A, B]`")
	}
	groups := []*yaml.Node{n}
	if len(n.Content) > 0 && plain(n.Content[0]).Kind == yaml.SequenceNode {
		groups = n.Content
	}
	for _, g := range groups {
		var names []string
		if err := r.texts(plain(g), &names); err != nil {
			return err
		}
		r.x.Grid.Zip = append(r.x.Grid.Zip, names)
	}
	return nil
}

// picks reads a list of tables, or of texts as on the command line.
func (r *reader) picks(n *yaml.Node, to *[]Pick) error {
	if n.Kind != yaml.SequenceNode {
		return r.x.At(n.Line, "a list is wanted here").
			hint("write below it lines like `- {I: 1, J: exotic}`")
	}
	for _, it := range n.Content {
		it = plain(it)
		if it.Kind == yaml.ScalarNode {
			p, err := ParsePick(it.Value, r.files)
			if err != nil {
				return r.x.At(it.Line, "%v", err)
			}
			*to = append(*to, p)
			continue
		}
		var p Pick
		err := r.mapping(it, func(key, n *yaml.Node) error {
			values, err := r.values(key.Value, n)
			p = append(p, Term{key.Value, values})
			return err
		})
		if err != nil {
			return err
		}
		if len(p) == 0 {
			return r.x.At(it.Line, "this names nothing")
		}
		*to = append(*to, p)
	}
	return nil
}
