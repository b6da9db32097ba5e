package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	"jobserver/api"
	"jobserver/completion"
	"jobserver/view"
)

// Completions is `completions bash|zsh|fish`, `completions install|uninstall`, and the original's
// `completions --bash OUTDIR --bin j`.
type Completions struct {
	Words []string `arg:"" optional:"" name:"SHELL|install|uninstall" sep:"none" help:"bash, zsh or fish prints its script; install and uninstall are for the shell in use."`
	Name  string   `name:"name" aliases:"bin" placeholder:"NAME" help:"The name you call the program by, such as j."`
	Shell string   `name:"shell" enum:",bash,zsh,fish" default:"" placeholder:"SHELL" help:"The shell, if not the one in use: bash, zsh or fish."`
	Rc    bool     `name:"rc" help:"Install with a line in the shell's start-up file instead of a file in its completion directory."`
	Bash  bool     `name:"bash" xor:"shell" hidden:"" help:"Write bash's script to the directory given."`
	Zsh   bool     `name:"zsh" xor:"shell" hidden:"" help:"Write zsh's script to the directory given."`
	Fish  bool     `name:"fish" xor:"shell" hidden:"" help:"Write fish's script to the directory given."`
}

// Run prints, writes, installs or removes a completion script.
func (c *Completions) Run(_ context.Context, e *Env) error {
	name := cmp.Or(c.Name, e.Name)
	if err := completion.CheckName(name); err != nil {
		return api.Errorf(api.Usage, "%w", err)
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program's own path: %w", err)
	}
	in := completion.Installation{Name: name, Binary: binary, Shell: c.shell(), Getenv: e.Getenv,
		RC: c.Rc}
	if len(c.Words) != 1 {
		return c.usage(e)
	}
	word := c.Words[0]
	var notes []string
	switch {
	case c.Bash || c.Zsh || c.Fish:
		in.Dir = word
		notes, err = in.Install()
	case word == "install":
		notes, err = in.Install()
	case word == "uninstall":
		notes, err = in.Uninstall()
	case slices.Contains(completion.Shells(), word):
		script, err := completion.Script(word, name, binary)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(e.Stdout, script)
		return err
	default:
		return c.usage(e)
	}
	if err != nil {
		return api.Errorf(api.Conflict, "%w", err)
	}
	for _, note := range notes {
		e.Note("%s", note)
	}
	return nil
}

func (c *Completions) usage(e *Env) error {
	return api.Errorf(api.Usage, "completions: print a script, install or uninstall?").
		WithHint("%s completions %s, or %s completions install", e.Name,
			strings.Join(completion.Shells(), "|"), e.Name)
}

// shell gives the one that the flags name.
func (c *Completions) shell() string {
	switch {
	case c.Bash:
		return "bash"
	case c.Zsh:
		return "zsh"
	case c.Fish:
		return "fish"
	}
	return c.Shell
}

// Complete answers a shell that asks for candidates. An error has
// nowhere to go: a message would end up in the line that is being typed.
func Complete(e *Env, args []string) int {
	var line []string
	model := func(words []string) (*kong.Application, error) {
		line = words
		return outline(e, words)
	}
	dynamic := func(ctx context.Context, kind, prefix string) []completion.Candidate {
		return askCandidates(ctx, e, line, kind, prefix)
	}
	if err := completion.Run(e.Stdout, e.Getenv, args, model, dynamic); err != nil {
		return ExitFailed
	}
	return ExitDone
}

// outline is as much of the grammar as the line's words lead
// to: of a command all of it, of a group the names below it.
func outline(e *Env, words []string) (*kong.Application, error) {
	// Words that name no command end the walk; what was found until then is completed.
	found, _ := FindCommand(e.Grammar, words[min(1, len(words)):])
	parser, err := newParser(e, outlineType(e.Grammar, found.Path))
	if err != nil {
		return nil, err
	}
	return parser.Model, nil
}

// outlineType is prune's, but keeps the names of what stands beside and below the path.
func outlineType(t reflect.Type, path []string) reflect.Type {
	var fields []reflect.StructField
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, isCommand := commandNames(field)
		switch {
		case !isCommand:
		case len(path) > 0 && name == path[0]:
			if len(path) > 1 || isGroup(field.Type) {
				field.Type = outlineType(field.Type, path[1:])
			}
		default:
			field.Type = reflect.TypeFor[struct{}]()
		}
		fields = append(fields,
			reflect.StructField{Name: field.Name, Type: field.Type, Tag: field.Tag})
	}
	return reflect.StructOf(fields)
}

// maxCandidates is how many the daemon is asked for: more than a screen shows help nobody.
const maxCandidates = 200

// askCandidates asks the daemon that the line's own flags name. It says nothing when the daemon is
// away. Only addresses of machines that aren't in the pool yet are none of its business: those are
// what ssh knows.
func askCandidates(
	ctx context.Context, e *Env, line []string, kind, prefix string,
) []completion.Candidate {
	if err := e.loadConfig(); err != nil {
		return nil
	}
	e.findDaemon(readGlobals(line))
	if kind == "address" {
		if rest, ok := strings.CutPrefix(prefix, "slurm:"); ok {
			return partitionCandidates(ctx, e, rest)
		}
		return addressCandidates(e)
	}
	reply, err := Call[api.CompleteReply](ctx, e, "Complete",
		&api.CompleteArgs{Kind: kind, Prefix: prefix, Limit: maxCandidates})
	if err != nil {
		return nil
	}
	candidates := make([]completion.Candidate, len(reply.Candidates))
	for i, c := range reply.Candidates {
		candidates[i] = completion.Candidate{Value: c.Value, Description: view.Clean(c.Description),
			Open: strings.HasSuffix(c.Value, "=")}
	}
	return candidates
}

// addressCandidates are the aliases of the user's ssh configuration, which the daemon on this host
// takes as well.
func addressCandidates(e *Env) []completion.Candidate {
	candidates := []completion.Candidate{
		{Value: "local:", Description: "this host itself", Open: true},
		{Value: "slurm:", Description: "a partition of Slurm", Open: true},
	}
	if e.Globals.Host != "" {
		return candidates
	}
	for _, alias := range sshAliases(filepath.Join(e.Getenv("HOME"), ".ssh"), "config", 0) {
		candidates = append(candidates, completion.Candidate{Value: alias})
	}
	return candidates
}

// partitionCandidates are the partitions that the daemon finds where the line says, behind slurm:,
// that Slurm's commands are: LOGIN/, or on its host.
func partitionCandidates(ctx context.Context, e *Env, rest string) []completion.Candidate {
	login := ""
	if slash := strings.LastIndexByte(rest, '/'); slash >= 0 {
		login = rest[:slash]
	}
	before := "slurm:"
	if login != "" {
		before += login + "/"
	}
	var candidates []completion.Candidate
	reply, err := Call[api.PartitionsReply](ctx, e, "Partitions",
		&api.PartitionsArgs{Login: login})
	if err == nil {
		for _, name := range reply.Partitions {
			candidates = append(candidates, completion.Candidate{
				Value: before + view.Clean(name), Description: "a partition of Slurm"})
		}
	}
	if login != "" || e.Globals.Host != "" {
		return candidates
	}
	for _, alias := range sshAliases(filepath.Join(e.Getenv("HOME"), ".ssh"), "config", 0) {
		candidates = append(candidates, completion.Candidate{Value: before + alias + "/",
			Description: "Slurm's commands are there", Open: true})
	}
	return candidates
}

// includeDepth is how deep ssh lets its configuration include files.
const includeDepth = 16

// sshAliases are the names of Host lines, without patterns, in a file of an ssh configuration and
// in those that it includes. A file that can't be read has none: this only saves typing.
func sshAliases(dir, name string, depth int) []string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	text, err := os.ReadFile(name)
	if err != nil || depth > includeDepth {
		return nil
	}
	var aliases []string
	for line := range strings.Lines(string(text)) {
		words := strings.FieldsFunc(line, func(r rune) bool {
			return unicode.IsSpace(r) || r == '=' || r == '"'
		})
		if len(words) < 2 {
			continue
		}
		switch strings.ToLower(words[0]) {
		case "host":
			for _, word := range words[1:] {
				if !strings.ContainsAny(word, "*?!#") {
					aliases = append(aliases, word)
				}
			}
		case "include":
			for _, pattern := range words[1:] {
				if rest, ok := strings.CutPrefix(pattern, "~/"); ok {
					pattern = filepath.Join(filepath.Dir(dir), rest)
				} else if !filepath.IsAbs(pattern) {
					pattern = filepath.Join(dir, pattern)
				}
				files, _ := filepath.Glob(pattern) // a bad pattern includes nothing
				for _, file := range files {
					aliases = append(aliases, sshAliases(dir, file, depth+1)...)
				}
			}
		}
	}
	return aliases
}
