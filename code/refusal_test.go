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
	t.Setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "0")
	for what, broken := range map[string]struct{ file, text string }{
		"a broken HEAD":         {".git/HEAD", "garbage\n"},
		"a broken index":        {".git/index", "garbage\n"},
		"a broken config":       {".git/config", "[garbage\n"},
		"a moved repository":    {".git", "gitdir: /nowhere\n"},
		"an empty .git":         {".git", ""},
		"the same, from inside": {".git", ""},
	} {
		top := t.TempDir()
		sub := filepath.Join(top, "sub")
		file := filepath.Join(top, broken.file)
		if broken.file != ".git" {
			out, err := exec.Command("git", "-C", top, "init", "-q").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		for _, err := range []error{os.Mkdir(sub, 0o700),
			os.WriteFile(file, []byte(broken.text), 0o600),
			os.WriteFile(filepath.Join(sub, "a.py"), nil, 0o600)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		code := top
		if strings.HasSuffix(what, "inside") {
			code = sub
		}
		_, err := Pack(t.Context(), code, io.Discard)
		if own = nil; !errors.As(err, &own) || !strings.Contains(own.Msg, "git can't say") {
			t.Errorf("%s: %v", what, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Pack(t.Context(), dir, io.Discard); err != nil {
		t.Errorf("without git: %v", err)
	}
}
