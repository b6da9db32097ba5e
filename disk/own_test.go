package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOwn(t *testing.T) {
	t.Parallel()
	dir := func(mode os.FileMode) string {
		d := t.TempDir()
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
		return d
	}
	others := "/"
	if os.Geteuid() == 0 {
		if others = dir(0o700); os.Chown(others, 65534, -1) != nil {
			t.Fatal("can't give a directory away")
		}
	}
	file := filepath.Join(dir(0o700), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, dir   string
		tight, want bool
	}{
		{"ours", dir(0o700), true, true},
		{"others read", dir(0o755), true, true},
		{"others write", dir(0o757), true, false},
		{"a group writes", dir(0o775), true, false},
		{"to be made private", dir(0o777), false, true},
		{"not there", filepath.Join(dir(0o700), "new"), true, true},
		{"others'", others, false, false},
		{"a file", file, false, false},
	} {
		err := Own(test.dir, test.tight)
		var own *OwnError
		if (err == nil) != test.want || err != nil && (!errors.As(err, &own) || own.Hint() == "") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
