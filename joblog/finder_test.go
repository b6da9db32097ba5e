package joblog

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFinder: whatever form a log has, both ways of finding it give the same.
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
	for _, name := range []string{
		"plain.out", "plain.out" + Suffix, "zstd.out", "zstd.out" + Suffix, "zstd.out" + gzipSuffix,
		"gzip.out", "gzip.out" + Suffix, "both.out", "both.out" + Suffix, "full.out", "none.out",
		"none/none.out",
	} {
		path := filepath.Join(dir, name)
		want, _ := Find(path)
		if got := f.Find(path); got != want {
			t.Errorf("%s: %s is found, and %s one by one", name, got, want)
		}
	}
}
