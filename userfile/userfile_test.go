package userfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	made, kept, link, nowhere := filepath.Join(dir, "a/b/made"), filepath.Join(dir, "kept"),
		filepath.Join(dir, "link"), filepath.Join(dir, "nowhere")
	for _, err := range []error{
		os.WriteFile(kept, []byte("old"), 0o640), os.Symlink("kept", link),
		os.Symlink("missing", nowhere),
		Replace(made, []byte("new"), 0o600, 0o700), Replace(link, []byte("new"), 0o600, 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{made: 0o600, kept: 0o640,
		filepath.Dir(made): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if b, err := os.ReadFile(name); !mode.IsDir() && (err != nil || string(b) != "new") {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	if to, err := os.Readlink(link); to != "kept" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if err := Replace(nowhere, nil, 0o600, 0o700); err == nil {
		t.Error("a link to nothing was replaced")
	}
}
