// Command gosec compares what the program gosec found, as JSON on its standard input, with what
// was looked at before, in the file that is named: .ci/gosec/seen. That one has paragraphs: a
// reason, and below it, indented, what it holds for:
//
//	RULE PLACE COUNT
//
// A place is a function, as in fleet.part.move, or how several begin, as in bench/*. COUNT is how
// many findings of that rule are there, or * for any number. It fails when something is new, and
// when something is gone, as the list would then excuse what comes there next.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// finding is one of gosec's.
type finding struct {
	Rule    string `json:"rule_id"`
	Details string `json:"details"`
	File    string `json:"file"`
	Line    string `json:"line"` // or FIRST-LAST
	Column  string `json:"column"`
	place   string
}

// excuse is a line of the list.
type excuse struct {
	rule, place string
	most, found int
	line        int
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: gosec -fmt json … | go run ./.ci/gosec LIST")
	}
	excuses, err := readList(os.Args[1])
	if err != nil {
		return err
	}
	var report struct {
		Issues []finding
		Errors map[string]any `json:"Golang errors"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&report); err != nil {
		return fmt.Errorf("gosec's report: %w", err)
	}
	if len(report.Errors) > 0 {
		return fmt.Errorf("gosec couldn't read all of the code: %v", report.Errors)
	}
	found, err := places(report.Issues)
	if err != nil {
		return err
	}
	if text := compare(found, excuses, os.Args[1]); text != "" {
		return fmt.Errorf("%s", text)
	}
	fmt.Printf("%d findings, all of them looked at before\n", len(found))
	return nil
}

// readList reads the list of what was looked at.
func readList(name string) (excuses []*excuse, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reason := ""
	line := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line++
		text := lines.Text()
		words := strings.Fields(text)
		switch {
		case len(words) == 0 || text[0] == '#':
		case text[0] != '\t':
			reason = text
		case len(words) != 3 || reason == "":
			return nil, fmt.Errorf("%s:%d: not a reason, nor RULE PLACE COUNT below one", name,
				line)
		default:
			e := &excuse{rule: words[0], place: words[1], most: -1, line: line}
			if words[2] != "*" {
				if e.most, err = strconv.Atoi(words[2]); err != nil {
					return nil, fmt.Errorf("%s:%d: %w", name, line, err)
				}
			}
			excuses = append(excuses, e)
		}
	}
	return excuses, nil
}

// places says in which function each finding is. What gosec finds several times, since it follows
// several ways there, is one.
func places(all []finding) ([]finding, error) {
	slices.SortFunc(all, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.first(), b.first()),
			cmp.Compare(a.Column, b.Column), cmp.Compare(a.Rule, b.Rule))
	})
	all = slices.CompactFunc(all, func(a, b finding) bool {
		return a.File == b.File && a.Line == b.Line && a.Column == b.Column && a.Rule == b.Rule
	})
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	var tree *ast.File
	for i := range all {
		f := &all[i]
		if i == 0 || f.File != all[i-1].File && filepath.Join(here, all[i-1].File) != f.File {
			tree, err = parser.ParseFile(files, f.File, nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
		}
		if f.File, err = filepath.Rel(here, f.File); err != nil {
			return nil, err
		}
		room := filepath.Dir(f.File)
		if room == "." {
			room = "jobserver"
		}
		f.place = room + "." + function(files, tree, f.first())
	}
	return all, nil
}

func (f *finding) first() int {
	text, _, _ := strings.Cut(f.Line, "-")
	n, _ := strconv.Atoi(text) // 0 is in no function
	return n
}

// function finds the one that a line is in, with the type that it is a method of.
func function(files *token.FileSet, tree *ast.File, line int) string {
	for _, d := range tree.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || line < files.Position(f.Pos()).Line || line > files.Position(f.End()).Line {
			continue
		}
		if f.Recv == nil {
			return f.Name.Name
		}
		of := f.Recv.List[0].Type
		if star, ok := of.(*ast.StarExpr); ok {
			of = star.X
		}
		if generic, ok := of.(*ast.IndexExpr); ok {
			of = generic.X
		}
		if name, ok := of.(*ast.Ident); ok {
			return name.Name + "." + f.Name.Name
		}
	}
	return "-" // no function: imports, variables
}

// excuses finds the line that excuses a finding.
func (e *excuse) excuses(f *finding) bool {
	if e.rule != f.Rule {
		return false
	}
	if below, ok := strings.CutSuffix(e.place, "*"); ok {
		return strings.HasPrefix(f.place, below)
	}
	return e.place == f.place
}

// compare says what is new and what is gone.
func compare(found []finding, excuses []*excuse, list string) string {
	var text strings.Builder
	for i := range found {
		f := &found[i]
		at := slices.IndexFunc(excuses, func(e *excuse) bool { return e.excuses(f) })
		if at >= 0 {
			excuses[at].found++
		}
		if at < 0 || excuses[at].most >= 0 && excuses[at].found > excuses[at].most {
			fmt.Fprintf(&text, "%s:%d: %s in %s: %s\n", f.File, f.first(), f.Rule, f.place,
				f.Details)
		}
	}
	if text.Len() > 0 {
		fmt.Fprintf(&text, "These are new. Look at each: can whoever gives the value do harm? "+
			"Then mend it. Else add\n\tRULE PLACE COUNT\nto %s, below the reason why not.\n",
			list)
	}
	for _, e := range excuses {
		if e.found == 0 || e.found < e.most {
			fmt.Fprintf(&text, "%s:%d: %s is found %d times in %s: take the others out of the "+
				"list\n", list, e.line, e.rule, e.found, e.place)
		}
	}
	return text.String()
}
