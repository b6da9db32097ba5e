// Package examples_test runs what the documents say, as their readers do.
package examples_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"jobserver/daemontest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// A block is a piece of a document that isn't prose.
//
// Blocks of ```console are run: each line that begins with a dollar is a command, what follows is
// what it prints. All others, and those of console that can't be run, have a comment on the line
// before, which says why nobody runs them, or which test tries what they say:
//
//	<!-- illustration: a terminal's screen -->
//	<!-- tested by TestRelease -->
//	<!-- applied to experiment.yaml -->
//
// What is applied is an edit of a file that the reader makes: lines that begin with a minus become
// those that begin with a plus.
type block struct {
	doc, section string
	line         int
	kind         string // console, yaml …; "indented"
	mark         string // the comment before it
	body         []string
}

func (b *block) String() string { return fmt.Sprintf("%s, line %d", b.doc, b.line) }

// documents are the README and the guides. docs/cli.md is made of the grammar, whose test reads it.
func documents(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil || len(docs) < 10 {
		t.Fatal(err, docs)
	}
	docs = slices.DeleteFunc(docs, func(d string) bool { return filepath.Base(d) == "cli.md" })
	return append(docs, "../README.md", "../CONTRIBUTING.md")
}

// blocksOf finds the blocks of a document.
func blocksOf(t *testing.T, path string) (blocks []*block) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	section, before := "", ""
	var open *block
	inList := false
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSuffix(line, "\n")
		fenced := strings.TrimLeft(line, " ")
		switch {
		case open != nil && open.kind != "indented" && strings.HasPrefix(fenced, "```"):
			open, before = nil, ""
		case open != nil && open.kind != "indented":
			open.body = append(open.body, strings.TrimPrefix(line, ""))
		case strings.HasPrefix(fenced, "```"):
			open = &block{doc: filepath.Base(path), section: section, line: number,
				kind: strings.TrimLeft(fenced, "`"), mark: markOf(before)}
			blocks = append(blocks, open)
		case strings.HasPrefix(line, "    ") && !inList &&
			(open != nil || before == "" || markOf(before) != ""):
			if open == nil {
				open = &block{doc: filepath.Base(path), section: section, line: number,
					kind: "indented", mark: markOf(before)}
				blocks = append(blocks, open)
			}
			open.body = append(open.body, line[4:])
		default:
			if title, ok := strings.CutPrefix(line, "## "); ok {
				section = title
			}
			if line != "" {
				open = nil
				inList = listItem.MatchString(line) || inList && strings.HasPrefix(line, "  ")
			}
			if line != "" || markOf(before) == "" {
				before = line
			}
		}
	}
	return blocks
}

var (
	listItem = regexp.MustCompile(`^\s*([-*]|[0-9]+\.) `)
	comment  = regexp.MustCompile(`^\s*<!-- (.*) -->$`)
	aTest    = regexp.MustCompile(`^tested by (Test\w+)$`)
	applied  = regexp.MustCompile(`^applied to (\S+)$`)
)

// markOf gives what a comment says; "" of another line.
func markOf(line string) string {
	if m := comment.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return ""
}

// runs tells whether the block is run.
func (b *block) runs() bool { return b.kind == "console" && b.mark == "" }

// TestEveryBlock holds each block to what is said above: a new one is run, or says why it isn't.
func TestEveryBlock(t *testing.T) {
	tests := allTests(t)
	run, tried, shown := 0, 0, 0
	for _, doc := range documents(t) {
		for _, b := range blocksOf(t, doc) {
			reason, illustration := strings.CutPrefix(b.mark, "illustration: ")
			test := aTest.FindStringSubmatch(b.mark)
			switch {
			case b.runs():
				run++
				if len(b.commands()) == 0 {
					t.Errorf("%v: a console without a command: begin them with a dollar", b)
				}
			case b.kind == "mermaid":
			case applied.MatchString(b.mark):
			case illustration && len(strings.Fields(reason)) >= 2:
				shown++
			case test != nil && tests[test[1]]:
				tried++
			case test != nil:
				t.Errorf("%v: there is no %s", b, test[1])
			default:
				t.Errorf("%v: nobody runs this block: make it ```console, or put <!-- "+
					"illustration: WHY --> or <!-- tested by TestNAME --> before it; this is %q",
					b, b.mark)
			}
		}
	}
	t.Logf("%d blocks are run here, %d by other tests; %d are illustrations", run, tried, shown)
	if run < 20 {
		t.Errorf("only %d blocks are run", run)
	}
}

// allTests are the names of the tests in the repository.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	out, err := exec.Command("grep", "-rhoE", "--include=*_test.go", `^func Test\w+`, "..").Output()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for name := range strings.FieldsSeq(strings.ReplaceAll(string(out), "func ", "")) {
		tests[name] = true
	}
	return tests
}

// A command is one that a reader types.
type command struct {
	text   string
	code   string   // that it ends with
	prints []string // nil: whatever it prints
	where  string
}

// commands are those of a block. One whose line ends with a backslash, or within quotes, goes on;
// "# exit code N" behind it says how it ends.
func (b *block) commands() (commands []command) {
	for i, line := range b.body {
		text, begins := strings.CutPrefix(line, "$ ")
		n := len(commands)
		switch {
		case begins:
			commands = append(commands, command{text: text, code: "0",
				where: fmt.Sprintf("%s, line %d", b.doc, b.line+1+i)})
		case n == 0:
		case commands[n-1].prints == nil && goesOn(commands[n-1].text):
			commands[n-1].text += "\n" + line
		default:
			commands[n-1].prints = append(commands[n-1].prints, line)
		}
	}
	for i := range commands {
		c := &commands[i]
		if text, code, ok := strings.Cut(c.text, "  # exit code "); ok {
			c.text, c.code = text, code
		}
		for len(c.prints) > 0 && c.prints[len(c.prints)-1] == "" {
			c.prints = c.prints[:len(c.prints)-1]
		}
	}
	return commands
}

// goesOn tells whether a shell would want another line.
func goesOn(text string) bool {
	return strings.HasSuffix(text, "\\") || exec.Command("bash", "-n", "-c", text).Run() != nil
}

// Numbers and what changes from one run to the next is blanked before what is printed is compared.
var blanks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`, [0-9]+ copying\b`), ""}, // is left out when there are none
	{regexp.MustCompile(`\b[0-9a-f]{8,}\b`), "#"},
	{regexp.MustCompile(`\b(green|blue)\b`), "red"},                              // of several machines, any
	{regexp.MustCompile(`[0-9]+(\.[0-9]+)?[WHRDFCLP]( [0-9]+[WHRDFCLP])*`), "#"}, // of a matrix
	{regexp.MustCompile(`[0-9]+([.:-][0-9]+)*(e[+-]?[0-9]+)?`), "#"},
	{regexp.MustCompile(`(#[dhms]+)+|#\s?(B|[KMGT]i?B)\b`), "#"},
	{regexp.MustCompile(`\s+`), " "},
}

func blank(line string) string {
	for _, b := range blanks {
		line = b.pattern.ReplaceAllString(line, b.with)
	}
	return strings.TrimSpace(line)
}

// matches compares a line with what a document shows, in which "…" is anything.
func matches(shown, line string) bool {
	parts := strings.Split(blank(shown), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(strings.TrimSpace(parts[i]))
	}
	pattern := "^" + strings.Join(parts, ".*") + "$"
	return regexp.MustCompile(pattern).MatchString(blank(line))
}

// compare compares what a command prints with what the document shows; a line "…" stands for any
// number of lines. "" when they are alike.
func compare(shown, printed []string) string {
	if len(shown) == 0 {
		if len(printed) == 0 {
			return ""
		}
		return "more than is shown: " + printed[0]
	}
	if strings.TrimSpace(shown[0]) == "…" {
		for skip := range len(printed) + 1 {
			if compare(shown[1:], printed[skip:]) == "" {
				return ""
			}
		}
		return "what is shown behind … isn't printed"
	}
	switch {
	case len(printed) == 0:
		return "less than is shown: " + shown[0]
	case !matches(shown[0], printed[0]):
		return fmt.Sprintf("%s\nbut the document has\n%s", printed[0], shown[0])
	}
	return compare(shown[1:], printed[1:])
}

// TestCompare tries the comparison itself.
func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		shown, printed string
		like           bool
	}{
		{"job 17 took 3.2s", "job 4711  took 1h2m3s", true},
		{"job 17 took 3.2s", "job 17 failed after 3.2s", false},
		{"a\n…\nb", "a\nx\ny\nb", true},
		{"a\n…\nb", "a\nx\ny", false},
		{"a", "a\nb", false},
		{"a\nb", "a", false},
		{"15W 3R 6D sleep", "24D sleep", true},
		{"pid=1 socket=/x …", "pid=2 socket=/x state=/y", true},
		{"5031a370767b9561 red", "9d6072c9aa red", true},
		{"12.5 ± 9.8 MB/s", "3 ± 0.1 MB/s", true},
		{"23 KiB", "4.1 GiB", true},
	} {
		got := compare(strings.Split(tt.shown, "\n"), strings.Split(tt.printed, "\n"))
		if (got == "") != tt.like {
			t.Errorf("%q and %q: %q", tt.shown, tt.printed, got)
		}
	}
}

// TestLinks: what a document leads to is there.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	found := 0
	for _, doc := range append(documents(t), "../docs/cli.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			path, _, _ := strings.Cut(m[1], "#")
			if path == "" || strings.Contains(path, "://") {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), path)); err != nil {
				t.Errorf("%s leads to %s: %v", filepath.Base(doc), m[1], err)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d links are found", found)
	}
}
