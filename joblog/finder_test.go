package joblog

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFinder: whatever form a log has, and however many were asked for before, it is found as it is
// one by one; and a directory of many is read once.
func TestFinder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"plain.out", "zstd.out" + Suffix, "gzip.out" + gzipSuffix, "both.out", "both.out" + Suffix,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/full", filepath.Join(dir, "full.out")); err != nil {
		t.Fatal(err)
	}
	var f Finder
	forms := []string{
		"plain.out", "plain.out" + Suffix, "zstd.out", "zstd.out" + Suffix, "zstd.out" + gzipSuffix,
		"gzip.out", "gzip.out" + Suffix, "both.out", "both.out" + Suffix, "full.out", "none.out",
		"none/none.out",
	}
	for range 2 * fewNames {
		for _, name := range forms {
			path := filepath.Join(dir, name)
			want, _ := Find(path)
			if got := f.Find(path); got != want {
				t.Errorf("%s: %s is found, and %s one by one", name, got, want)
			}
		}
	}
	late := filepath.Join(dir, "late.out")
	if err := os.WriteFile(late+Suffix, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := f.Find(late); got != late {
		t.Errorf("the directory was asked for %s, which came after it was read", got)
	}
}
