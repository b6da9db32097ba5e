package torture_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryTestIsThere holds docs/reliability.md to its word: each test that its table names
// exists, and each of its rows, twenty at least, has one.
func TestEveryTestIsThere(t *testing.T) {
	if rows := namedTests(t, "docs/reliability.md",
		regexp.MustCompile(`^\| [0-9]+ \|`)); rows < 20 {
		t.Errorf("the table has %d rows", rows)
	}
}

// TestEveryAttackIsTried holds docs/security.md to its word: each attack, forty at least, and each
// limit has a test that exists.
func TestEveryAttackIsTried(t *testing.T) {
	const doc = "docs/security.md"
	attacks := namedTests(t, doc, regexp.MustCompile(`^\| [0-9]+ \|`))
	limits := namedTests(t, doc, regexp.MustCompile(`^\| [a-z][^|]*\|([^|]*\|){4}$`))
	if attacks < 40 || limits < 20 {
		t.Errorf("there are %d attacks and %d limits", attacks, limits)
	}
}

// namedTests looks whether each test that a document of the repository names exists, and each of
// those rows of its tables names one. It counts the rows.
func namedTests(t *testing.T, doc string, row *regexp.Regexp) (rows int) {
	t.Helper()
	const root = "../.."
	named := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
	for line := range strings.Lines(read(t, filepath.Join(root, doc))) {
		found := named.FindAllStringSubmatch(line, -1)
		if row.MatchString(strings.TrimSpace(line)) {
			if rows++; len(found) == 0 {
				t.Errorf("no test is named in %q", line)
			}
		}
		for _, m := range found {
			// the tests at the top are the program's own
			dir := strings.TrimPrefix(m[1], "jobserver")
			files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
			must(t, err)
			exists := false
			for _, file := range files {
				b, err := os.ReadFile(file)
				must(t, err)
				exists = exists || strings.Contains(string(b), "\nfunc "+m[2]+"(")
			}
			if !exists {
				t.Errorf("%s: %s.%s doesn't exist", doc, m[1], m[2])
			}
		}
	}
	return rows
}
