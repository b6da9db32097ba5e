package torture_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryTestIsThere holds docs/reliability.md to its word: each test that its table names exists, and each of the twenty has one.
func TestEveryTestIsThere(t *testing.T) {
	const root = "../.."
	text := read(t, filepath.Join(root, "docs/reliability.md"))
	named := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
	row := regexp.MustCompile(`^\| [0-9]+ \|`)
	rows := 0
	for line := range strings.Lines(text) {
		found := named.FindAllStringSubmatch(line, -1)
		if row.MatchString(line) {
			if rows++; len(found) == 0 {
				t.Errorf("no test is named in %q", line)
			}
		}
		for _, m := range found {
			files, err := filepath.Glob(filepath.Join(root, m[1], "*_test.go"))
			must(t, err)
			exists := false
			for _, file := range files {
				b, err := os.ReadFile(file)
				must(t, err)
				exists = exists || strings.Contains(string(b), "\nfunc "+m[2]+"(")
			}
			if !exists {
				t.Errorf("%s.%s doesn't exist", m[1], m[2])
			}
		}
	}
	if rows != 20 {
		t.Errorf("the table has %d rows", rows)
	}
}
