package logging

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// readSources gives the text of all files that match.
func readSources(t *testing.T, pattern string, tests bool) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	var all strings.Builder
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") == tests {
			all.WriteString(readFile(t, name))
		}
	}
	return all.String()
}

// TestDocumentedTests: every test that docs/logging.md names exists, and
// every row of its tables names one.
func TestDocumentedTests(t *testing.T) {
	doc := readFile(t, "../docs/logging.md")
	tests := readSources(t, "*_test.go", true)
	for _, name := range regexp.MustCompile(`\bTest\w+`).FindAllString(doc, -1) {
		if name != "Test" && !strings.Contains(tests, "func "+name+"(t *testing.T)") {
			t.Errorf("there is no %s", name)
		}
	}
	_, tables, _ := strings.Cut(doc, "\n## Every key")
	for line := range strings.Lines(tables) {
		if strings.HasPrefix(line, "|") && !strings.Contains(line, "Test") &&
			!strings.Contains(line, "---") {
			t.Errorf("a row without a test: %s", line)
		}
	}
}

// TestDocumentedKeys: every key that the code takes, and every formatter that
// it knows, has its row in docs/logging.md.
func TestDocumentedKeys(t *testing.T) {
	doc := readFile(t, "../docs/logging.md")
	code := readSources(t, "*.go", false)
	keys := regexp.MustCompile(
		`\.(?:take|text|missing|parsed|required|decoded|names|section)\("(\w+)"|component\(\w+, "(\w+)"\)`,
	).FindAllStringSubmatch(code, -1)
	if len(keys) < 25 {
		t.Fatalf("found %d uses of keys only", len(keys))
	}
	for _, key := range keys {
		if key := key[1] + key[2]; !strings.Contains(doc, "\n| `"+key+"` |") {
			t.Errorf("the key %s isn't in the table", key)
		}
	}
	_, patterns, _ := strings.Cut(doc, "\n## Patterns")
	code = readFile(t, "pattern.go")
	formatters := 0
	for line := range strings.Lines(code) {
		if !strings.HasPrefix(line, "\tcase \"") || strings.Contains(line, `"ERROR"`) {
			continue
		}
		for _, name := range regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(line, -1) {
			if levelStyle(name[1]) != "" {
				continue
			}
			formatters++
			if !strings.Contains(patterns, "`{"+name[1]+"}`") &&
				!strings.Contains(patterns, "`{"+name[1]+"(") {
				t.Errorf("the formatter {%s} isn't in the table", name[1])
			}
		}
	}
	if formatters < 20 {
		t.Errorf("found %d formatters only", formatters)
	}
}

// TestExample loads the example that the project recommends, and looks at
// what it does: info on the terminal, the scheduler's debug lines in the file.
func TestExample(t *testing.T) {
	f := openText(t, readFile(t, "../example.log.yml"))
	f.quiet(t)
	if got := f.current.Load().refresh; got != 30*time.Second {
		t.Errorf("refresh rate %v", got)
	}
	emit(f.Logger("server"), -4, "no")
	emit(f.Logger("server::sched"), -4, "why")
	emit(f.Logger("server::fleet"), 0, "connected")
	if got, want := f.stderr.String(), "14:22:05 INFO  server::fleet connected\n"; got != want {
		t.Errorf("on the terminal: %q, want %q", got, want)
	}
	const place = "[2016-03-20T14:22:05.644420340-08:00 "
	if got, want := f.read(t, "server.log"), place+"DEBUG] ???:??? server::sched why\n"+place+
		"INFO] ???:??? server::fleet connected\n"; got != want {
		t.Errorf("in the file: %q, want %q", got, want)
	}

	// Its archives are where it says.
	for _, file := range f.current.Load().files {
		file.size = 20 << 20
	}
	emit(f.Logger("server"), 0, "over the limit")
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"log.yml", "server.log.1.gz"}, names); diff != "" {
		t.Error(diff)
	}
}
