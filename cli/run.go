package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"jobserver/api"
	"jobserver/foreign"
	"jobserver/userfile"
)

// Command is implemented by every leaf of the grammar.
type Command interface {
	Run(ctx context.Context, e *Env) error
}

// Run runs one command line.
func Run(ctx context.Context, e *Env, args []string) error {
	e.args = args
	e.Raw = Streams{Stdout: e.Stdout, Stderr: e.Stderr}
	e.Stderr = foreign.NewTerminal(e.Stderr)
	err := run(ctx, e, rootShorthand(args))
	return cmp.Or(err, e.flush())
}

func run(ctx context.Context, e *Env, args []string) error {
	found, err := FindCommand(e.Grammar, args)
	if err != nil {
		return err
	}
	if !found.Leaf {
		if len(found.Path) == 0 && !found.asked {
			found.Path, found.Leaf = []string{"job", "ls"}, true
		} else if found.asked {
			return e.printHelp(e.Stdout, found.Path)
		} else {
			return e.groupUsage(found.Path)
		}
	}
	// What is wrong with the file concerns only commands that need the daemon: help must work
	// without.
	e.configErr = e.loadConfig()
	parser, node, line, err := parse(e, found.Path, found.Rest)
	if errors.Is(err, errHelp) {
		return e.printHelp(e.Stdout, found.Path)
	}
	if err != nil {
		return err
	}
	e.Globals, e.Line = parserGlobals(parser), line
	e.findDaemon(line)
	e.prepare()
	c := node.Target.Addr().Interface().(Command)
	if err := e.checkOutput(c); err != nil {
		return usageError(e, found.Path, err)
	}
	return c.Run(ctx, e)
}

// errHelp says that the words ask for the command's help.
var errHelp = errors.New("asked for help")

// parse reads the words of a command.
func parse(e *Env, path, words []string) (*kong.Kong, *kong.Node, *Line, error) {
	parser, node, err := BuildCommand(e, path)
	if err != nil {
		return nil, nil, nil, err
	}
	line := ReadLine(node, words)
	if line.Has("help") {
		return nil, nil, nil, errHelp
	}
	if flag := line.incomplete(); flag != nil {
		return nil, nil, nil, usageError(e, path, missingValue(flag))
	}
	if _, err := parser.Parse(append(slices.Clone(path), line.Words()...)); err != nil {
		return nil, nil, nil, usageError(e, path, err)
	}
	return parser, node, line, nil
}

// ValuesIn checks the words of another command, as if they had been typed, and gives the texts that
// they have for its flags.
func ValuesIn(e *Env, path, words []string) (map[string]string, error) {
	_, node, line, err := parse(e, path, words)
	if errors.Is(err, errHelp) {
		return nil, api.Errorf(api.Usage, "--help is no flag to keep")
	}
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			if line.Has(flag.Name) && flag.Target.Kind() == reflect.String {
				values[flag.Name] = flag.Target.String()
			}
		}
	}
	return values, nil
}

// rootShorthand gives the flags that act as commands their commands.
func rootShorthand(args []string) []string {
	if len(args) == 1 && (args[0] == "--version" || args[0] == "-V") {
		return []string{"version"}
	}
	return args
}

// BuildCommand builds the parser for one command only: all 80 take longer than the rest of a call.
func BuildCommand(e *Env, path []string) (*kong.Kong, *kong.Node, error) {
	parser, err := newParser(e, prune(e.Grammar, path))
	if err != nil {
		return nil, nil, err
	}
	node := parser.Model.Node
	for _, name := range path {
		at := slices.IndexFunc(node.Children, func(child *kong.Node) bool {
			return child.Name == name
		})
		if at < 0 {
			return nil, nil, fmt.Errorf("build the grammar of %s: no command %s",
				strings.Join(path, " "), name)
		}
		node = node.Children[at]
	}
	return parser, node, nil
}

// BuildAll builds the whole grammar, for help, completion and the reference.
func BuildAll(e *Env) (*kong.Kong, error) {
	return newParser(e, e.Grammar)
}

func newParser(e *Env, t reflect.Type) (*kong.Kong, error) {
	return kong.New(reflect.New(t).Interface(),
		kong.Name(e.Name),
		kong.Description("Run experiments on a pool of machines."),
		kong.NoDefaultHelp(),
		kong.Writers(e.Stdout, e.Stderr),
		kong.Resolvers(configResolver{e}),
		kong.KindMapper(reflect.String, kong.MapperFunc(e.readWord)),
	)
}

// readWord takes a word byte for byte. kong's own way is by JSON, which has no bytes but those of
// characters: a command that names a file in another encoding would be changed silently. In a path
// of this host, "~" is put in, since shells leave it alone behind the "=" of a flag; the daemon
// does so for a path of its host, which has the tag onhost.
func (e *Env) readWord(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("string")
	if err != nil {
		return err
	}
	word := fmt.Sprint(token.Value)
	if tag := ctx.Value.Tag; tag != nil && !tag.Has("onhost") {
		if kind := tag.Get("predictor"); kind == "file" || kind == "dir" {
			word = userfile.Home(e.Getenv("HOME"), word)
		}
	}
	target.SetString(word)
	return nil
}

// prune is the type of a grammar that has only one command: at each level the fields that are no
// commands, and the one that leads on.
func prune(t reflect.Type, path []string) reflect.Type {
	if len(path) == 0 {
		return t
	}
	var fields []reflect.StructField
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, isCommand := commandNames(field)
		if isCommand && name != path[0] {
			continue
		}
		if isCommand {
			field.Type = prune(field.Type, path[1:])
		}
		fields = append(fields,
			reflect.StructField{Name: field.Name, Type: field.Type, Tag: field.Tag})
	}
	return reflect.StructOf(fields)
}

// parserGlobals are the global flags as they were parsed.
func parserGlobals(parser *kong.Kong) Globals {
	return parser.Model.Target.FieldByName("Globals").Interface().(Globals)
}

// missingValue says which flag lacks its value. kong's own words for it are about its tokens.
func missingValue(flag *kong.Flag) error {
	name := "--" + flag.Name
	if flag.Short != 0 {
		name = fmt.Sprintf("-%c, %s", flag.Short, name)
	}
	return fmt.Errorf("%s needs a value: --%s %s", name, flag.Name, flag.FormatPlaceHolder())
}

// usageError tells what kong found wrong with the arguments, with the way to the command's help.
func usageError(e *Env, path []string, err error) error {
	var own *api.Error
	if errors.As(err, &own) {
		return own
	}
	text := err.Error()
	if missing, ok := strings.CutPrefix(text, "expected \""); ok {
		missing = strings.NewReplacer(" ...", "…", "\"", "", "<", "", ">", "").Replace(missing)
		text = fmt.Sprintf("%s: missing %s", strings.Join(path, " "), missing)
	}
	if flag, ok := strings.CutPrefix(text, "unknown flag "); ok {
		flag, _, _ = strings.Cut(flag, ",")
		if other := otherFlag(path, flag); other != "" {
			return api.Errorf(api.Usage, "unknown flag %s", flag).WithHint("%s", other)
		}
	}
	hint := fmt.Sprintf("see %q",
		strings.Join(append(append([]string{e.Name}, path...), "--help"), " "))
	text, like, ok := strings.Cut(text, ", did you mean ")
	like = "did you mean " + strings.TrimSpace(like)
	flag := strings.HasPrefix(text, "unknown flag")
	short := flag && !strings.HasPrefix(text, "unknown flag --") // any other is like a short one
	switch words := flag || strings.HasPrefix(text, "unexpected argument"); {
	case words && takesCommand(path) && ok && !short:
		hint = like + " (" + inQuotes + ")"
	case words && takesCommand(path):
		hint = inQuotes + "; " + hint
	case ok:
		hint = like
	}
	return api.Errorf(api.Usage, "%s", text).WithHint("%s", hint)
}

// inQuotes is for whoever wrote the command of a job without.
const inQuotes = "a command with blanks or flags of its own is one word, in quotes"

// takesCommand tells whether a command line has another one in it.
func takesCommand(path []string) bool {
	last := path[len(path)-1]
	return last == "add" && (len(path) == 1 || path[0] != "machine")
}

// printHelp explains the command or group at path.
func (e *Env) printHelp(w io.Writer, path []string) error {
	parser, err := BuildAll(e)
	if err != nil {
		return err
	}
	parser.Stdout = w
	traced, err := kong.Trace(parser, path)
	if err != nil {
		return err
	}
	return kong.DefaultHelpPrinter(kong.HelpOptions{
		Compact: true, FlagsLast: true, NoExpandSubcommands: true, WrapUpperBound: 100,
		ValueFormatter: kong.DefaultHelpValueFormatter,
	}, traced)
}

// groupUsage tells someone who named a group only what its commands are. It is an error, since a
// script whose command came out empty shall not pass for one that succeeded.
func (e *Env) groupUsage(path []string) error {
	if err := e.printHelp(e.Stderr, path); err != nil {
		return err
	}
	return ExitStatus(ExitUsage)
}

// Help is `jobserver help COMMAND…`.
type Help struct {
	Command []string `arg:"" optional:"" help:"The command's words."`
}

// Run prints the help of the command that the words name.
func (c *Help) Run(_ context.Context, e *Env) error {
	found, err := FindCommand(e.Grammar, c.Command)
	if err != nil {
		return err
	}
	return e.printHelp(e.Stdout, found.Path)
}
