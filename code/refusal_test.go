package code

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGitRefuses: a repository that git won't look into isn't a directory without one.
func TestGitRefuses(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("git", "-C", dir, "init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.py"), []byte("print(1)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(t.Context(), dir, io.Discard); err != nil {
		t.Fatalf("a repository without commits: %v", err)
	}
	t.Setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
	_, err := Pack(t.Context(), dir, io.Discard)
	var own *Error
	if !errors.As(err, &own) || !strings.Contains(own.Msg, "dubious ownership") ||
		!strings.Contains(own.Next, "safe.directory "+dir) {
		t.Errorf("somebody else's repository: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Pack(t.Context(), dir, io.Discard); err != nil {
		t.Errorf("without git: %v", err)
	}
}
