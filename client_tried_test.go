package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReportsAreTried holds docs/tried.md to its word: thirty reports at least, and each row with a
// test that exists.
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
	reports := 0
	for line := range strings.Lines(string(text)) {
		source, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		n := len(report.FindAllString(source, -1))
		if !strings.HasPrefix(line, "|") || n == 0 {
			continue
		}
		reports += n
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
