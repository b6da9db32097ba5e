package main

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	gocmp "github.com/google/go-cmp/cmp"

	"jobserver/cli"
)

var update = flag.Bool("update", false,
	"write the golden files and docs/cli.md and docs/jobserver.1 anew")

// TestReference holds docs/cli.md and docs/jobserver.1 to the grammar,
// and the table of JSON fields to the types that are printed.
func TestReference(t *testing.T) {
	parser, err := cli.BuildAll(&cli.Env{
		Name: "jobserver", Getenv: func(string) string { return "" },
		Grammar: reflect.TypeFor[grammar](),
	})
	if err != nil {
		t.Fatal(err)
	}
	fields, err := jsonTables([]string{
		"api/types.go", "api/methods.go", "api/methods_machines.go", "api/matrix.go",
		"cli/output.go", "cli/matrix/submit.go",
		"cli/server/ping.go", "state.go", "daemon/wire/export.go", "doctor/doctor.go",
		"stats/render.go",
	}, []string{
		"Job", "Attempt", "submitted", "ChangedJob", "WhyReply", "WhyManyReply", "FailureGroup",
		"CopyFailures", "FailureCount", "Machine", "MachineCheck",
		"Matrix", "Axis", "TimeLeft", "newMatrix", "Growth", "Line", "Counts", "Tag", "Variable",
		"Resource", "Needs", "Amount", "Grant", "Event", "Status", "pong", "fileCheck", "Exported",
		"Finding",
	})
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "docs/cli.md", markdown(parser.Model)+fields)
	checkGolden(t, "docs/jobserver.1", manPage(parser.Model))
}

// checkGolden compares with a committed file, or writes it with -update.
func checkGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is stale (go test -run %s -update writes it):\n%s", path, t.Name(), diff)
	}
}

const cliIntroduction = `# The command line

<!-- Generated from the grammar by "go test -run TestReference -update". -->

One binary: ` + "`jobserver serve`" + ` is the daemon, everything else a client of it. Alias it
(` + "`alias j=jobserver`" + `) or link it; help and errors use the name that it is called by.
A command line without words is ` + "`job ls`" + `. Flags and arguments may be mixed, and flags
take underscores for dashes.

## Selecting jobs

Every command that takes jobs takes these, several as a union:

| | |
|---|---|
| ` + "`17`, `3..9`" + ` | a job, a range of jobs |
| ` + "`last`, `last~2`" + ` | the newest job, the second before it |
| ` + "`%93`, `@5`, `@nightly`" + ` | the jobs of a matrix, of a tag; their bare ids do, too |
| ` + "`%93,LR=0.1,MODE=fast`" + ` | the jobs of a matrix with these values; REPEAT is one, too |
| ` + "`:failed`, `:running`, …" + ` | jobs in that status; ` + "`status=failed`" + ` is the same |
| ` + "`class=NAME`, `machine=ADDR`" + ` | jobs of a class, jobs on a machine |
| ` + "`:uncopied`" + ` | jobs whose results are still to copy, or failed to |
| ` + "`-`" + ` | selectors read from stdin |

A status or ` + "`:uncopied`" + ` behind another narrows it: ` + "`%93:failed`, `class=foo:waiting`" + `. Several statuses are either of
them: ` + "`%93:failed:lost`" + `. ` + "`--since TIME`" + ` (or a word ` + "`since=TIME`" + `)
and ` + "`--where CONDITION`" + ` narrow all that the words select: to jobs that ended since then or haven't ended, and to cells of
matrices for which the condition holds. What changes more than 20 jobs asks on a terminal, and needs ` + "`--yes`" + ` elsewhere; ` + "`--dry-run`" + `
shows what would happen.

## Durations and sizes

` + "`30s`, `5m`, `2h30m`, `1d`" + `; a bare number is minutes (` + "`--stagger`" + `: seconds). Sizes are ` + "`512`, `10G`, `500MiB`" + `.

## Exit codes

| | |
|---|---|
| 0 | done |
| 1 | the operation failed |
| 2 | wrong usage |
| 3 | no such job, machine, matrix, tag or variable, or nothing matched |
| 4 | the daemon can't be reached |
| 5 | the daemon speaks an incompatible protocol |
| 124 | ` + "`wait --timeout`" + ` has given up; the jobs go on |
| 130 | interrupted |

` + "`wait`, `add --wait` and `add --follow`" + ` on one job exit with that job's code, on several with 1 if any did not succeed.
A job that a signal ended has 128 and the signal's number: 143 or 137 when it was its own time limit, or 1 if it made that
a success. One that was canceled or lost has 1. What it was stands on stderr, as it does when a job's own code is one of the above.
A job that has succeeded, and whose results were not all copied, has 1 too, and stderr says why; ` + "`recopy`" + ` tries the copy again.

## Configuration

Each global flag may be set by the environment, as ` + "`JOBSERVER_SOCKET`" + `, or in
` + "`$XDG_CONFIG_HOME/jobserver/config.yaml`" + ` (` + "`~/.config`" + ` by default):

` + "```yaml\nhost: lab-desktop\ncolor: never\n```" + `

The command line wins over the environment, and that over the file. Whichever of them has a socket or a host says
alone where the daemon is: with ` + "`--socket`" + `, a host of the file isn't asked. ` + "`NO_COLOR` and `CLICOLOR_FORCE`" + ` are honoured.

`

// markdown is the reference of all commands.
func markdown(app *kong.Application) string {
	var b strings.Builder
	b.WriteString(cliIntroduction)
	b.WriteString("## Global flags\n\n")
	flagTableMarkdown(&b, app.Flags)
	for _, node := range app.Children {
		writeMarkdown(&b, node, nil)
	}
	return b.String()
}

func writeMarkdown(b *strings.Builder, node *kong.Node, path []string) {
	if node.Hidden {
		return
	}
	path = append(path[:len(path):len(path)], node.Name)
	level := strings.Repeat("#", min(len(path)+1, 3))
	fmt.Fprintf(b, "%s %s\n\n%s\n\n", level, strings.Join(path, " "), node.Help)
	if len(node.Aliases) > 0 {
		fmt.Fprintf(b, "Also: `%s`\n\n", strings.Join(node.Aliases, "`, `"))
	}
	if len(node.Children) > 0 {
		for _, child := range node.Children {
			writeMarkdown(b, child, path)
		}
		return
	}
	fmt.Fprintf(b, "```\njobserver %s%s\n```\n\n", strings.Join(path, " "), synopsis(node))
	if len(node.Positional) > 0 {
		b.WriteString("| Argument | |\n|---|---|\n")
		for _, arg := range node.Positional {
			fmt.Fprintf(b, "| `%s` | %s |\n", arg.Name, cell(arg.Help))
		}
		b.WriteString("\n")
	}
	flagTableMarkdown(b, node.Flags)
}

// synopsis follows a command's words.
func synopsis(node *kong.Node) string {
	var b strings.Builder
	for _, arg := range node.Positional {
		name := arg.Name
		if arg.IsCumulative() && !strings.ContainsAny(name, "… |") {
			name += "…"
		}
		if !arg.Required {
			name = "[" + name + "]"
		}
		b.WriteString(" " + name)
	}
	for _, f := range node.Flags {
		if !f.Hidden {
			b.WriteString(" [flags]")
			break
		}
	}
	return b.String()
}

func flagTableMarkdown(b *strings.Builder, flags []*kong.Flag) {
	header := "| Flag | |\n|---|---|\n"
	written := false
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		b.WriteString(header)
		header, written = "", true
		fmt.Fprintf(b, "| `%s` | %s |\n", flagUsage(f), cell(f.Help))
	}
	if written {
		b.WriteString("\n")
	}
}

// flagUsage is a flag as it is typed: "-x, --times=N".
func flagUsage(f *kong.Flag) string {
	usage := "--" + f.Name
	if f.Short != 0 {
		usage = "-" + string(f.Short) + ", " + usage
	}
	if !f.IsBool() {
		usage += "=" + f.FormatPlaceHolder()
	}
	return usage
}

// cell is text that may stand in a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// manPage is the same for man(1).
func manPage(app *kong.Application) string {
	var b strings.Builder
	b.WriteString(".\\\" Generated from the grammar by \"go test -run TestReference -update\".\n")
	b.WriteString(".TH JOBSERVER 1\n.SH NAME\njobserver \\- run experiments on a pool of " +
		"machines\n.SH SYNOPSIS\n")
	b.WriteString(".B jobserver\n.I command\n.RI [ flags ]\n.SH DESCRIPTION\n")
	b.WriteString(roff("One binary: \"jobserver serve\" is the daemon, everything else a client "+
		"of it. "+
		"A command line without words lists the jobs. Flags and arguments may be mixed.") + "\n")
	b.WriteString(".SH GLOBAL FLAGS\n")
	manFlags(&b, app.Flags)
	b.WriteString(".SH COMMANDS\n")
	for _, leaf := range app.Leaves(true) {
		fmt.Fprintf(&b, ".SS %s\n%s\n", roff("jobserver "+leaf.Path()+synopsis(leaf)),
			roff(leaf.Help))
		for _, arg := range leaf.Positional {
			fmt.Fprintf(&b, ".TP\n.I %s\n%s\n", roff(arg.Name), roff(arg.Help))
		}
		manFlags(&b, leaf.Flags)
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, code := range [][2]string{
		{"0", "done"}, {"1", "the operation failed"}, {"2", "wrong usage"},
		{"3", "no such job, machine, matrix, tag or variable, or nothing matched"},
		{"4", "the daemon can't be reached"}, {"5", "the daemon speaks an incompatible protocol"},
		{"124", "wait --timeout has given up; the jobs go on"}, {"130", "interrupted"},
	} {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", code[0], roff(code[1]))
	}
	b.WriteString(".SH FILES\n.TP\n.I $XDG_STATE_HOME/jobserver/socket\nthe daemon's socket\n" +
		".TP\n.I $XDG_CONFIG_HOME/jobserver/config.yaml\ndefaults of the global flags\n")
	return b.String()
}

func manFlags(b *strings.Builder, flags []*kong.Flag) {
	for _, f := range flags {
		if !f.Hidden {
			fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(flagUsage(f)),
				roff(cmp.Or(f.Help, "See --mapper.")))
		}
	}
}

// roff quotes text for troff: a backslash, a dash, and a dot or
// an apostrophe at the beginning of a line mean something there.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// jsonTables describes the JSON of the named structs from their
// source: names from the tags, meanings from the comments.
func jsonTables(paths, names []string) (string, error) {
	structs := map[string]*ast.StructType{}
	docs := map[string]string{}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return "", err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok {
				return true
			}
			for _, spec := range decl.Specs {
				typ, ok := spec.(*ast.TypeSpec)
				if !ok || structs[typ.Name.Name] != nil {
					// a name that two packages have is the first one's
					continue
				}
				if s, ok := typ.Type.(*ast.StructType); ok {
					structs[typ.Name.Name], docs[typ.Name.Name] = s, decl.Doc.Text()
				}
			}
			return true
		})
	}
	var b strings.Builder
	b.WriteString("## JSON\n\nNames never change their meaning; more may be added. A field " +
		"without a value is absent. " +
		"Times are RFC 3339. An error on stderr has `kind`, `error` and `hint`.\n\n")
	for _, name := range names {
		if structs[name] == nil {
			return "", fmt.Errorf("no struct %s in %s", name, paths)
		}
		fmt.Fprintf(&b, "### %s\n\n%s\n\n| Field | Type | |\n|---|---|---|\n",
			strings.ToLower(name), strings.TrimSpace(strings.ReplaceAll(docs[name], "\n", " ")))
		writeFields(&b, structs, structs[name])
		b.WriteString("\n")
	}
	return b.String(), nil
}

// writeFields writes a line for each field of a struct. Those of a struct that is embedded are its
// own, as in JSON; a name that it has itself hides the embedded one's.
func writeFields(b *strings.Builder, structs map[string]*ast.StructType, s *ast.StructType) {
	own := map[string]bool{}
	for _, field := range s.Fields.List {
		for _, name := range field.Names {
			own[name.Name] = true
		}
	}
	for _, field := range s.Fields.List {
		if embedded, ok := field.Type.(*ast.Ident); ok && len(field.Names) == 0 {
			visible := &ast.StructType{Fields: &ast.FieldList{}}
			for _, inner := range structs[embedded.Name].Fields.List {
				if len(inner.Names) == 0 || !own[inner.Names[0].Name] {
					visible.Fields.List = append(visible.Fields.List, inner)
				}
			}
			writeFields(b, structs, visible)
			continue
		}
		if field.Tag == nil {
			continue
		}
		tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json")
		key, _, _ := strings.Cut(tag, ",")
		if key == "-" {
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", key, jsonType(field.Type),
			cell(commentOf(field)))
	}
}

// commentOf gives what a field's comment says, behind it or above it.
func commentOf(field *ast.Field) string {
	text := field.Comment.Text()
	if text == "" {
		text = field.Doc.Text()
	}
	return strings.Join(strings.Fields(text), " ")
}

// jsonType names a Go type in JSON.
func jsonType(expr ast.Expr) string {
	switch t := expr.(type) {
	case *ast.StarExpr:
		return jsonType(t.X)
	case *ast.IndexExpr: // Maybe[T]
		return jsonType(t.Index)
	case *ast.ArrayType:
		return "list of " + jsonType(t.Elt)
	case *ast.MapType:
		return "object"
	case *ast.SelectorExpr: // time.Time, or a type of api
		return strings.ToLower(t.Sel.Name)
	case *ast.Ident:
		switch t.Name {
		case "string", "bool":
			return t.Name
		case "int", "int64", "uint64", "float64":
			return "number"
		}
		return strings.ToLower(t.Name)
	}
	return ""
}

// TestReportsAreTried holds docs/tried.md to its word: thirty reports of other programs at least,
// and each row of its tables with a test that exists.
func TestReportsAreTried(t *testing.T) {
	text, err := os.ReadFile("docs/tried.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	err = filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(code, -1) {
			exists[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	report, named := regexp.MustCompile(`#[0-9]+`), regexp.MustCompile("`(Test[A-Za-z0-9]+)")
	reports, before := 0, ""
	for line := range strings.Lines(string(text)) {
		row := strings.HasPrefix(before, "|") // neither a header nor the line beneath it
		if before = line; !row && strings.HasPrefix(line, "|") {
			continue
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		source, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		reports += len(report.FindAllString(source, -1))
		tests := named.FindAllStringSubmatch(line, -1)
		if len(tests) == 0 {
			t.Errorf("no test is named in %q", line)
		}
		for _, m := range tests {
			if !exists[m[1]] {
				t.Errorf("there is no %s", m[1])
			}
		}
	}
	if reports < 30 {
		t.Errorf("%d reports were tried", reports)
	}
}
