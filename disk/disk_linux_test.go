package disk

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

// TestOf looks at file systems that every Linux has.
func TestOf(t *testing.T) {
	here, err := Of(t.TempDir())
	if err != nil || here.Network != "" {
		t.Errorf("a temporary directory is on %+v, %v", here, err)
	}
	if free, err := Free("/proc"); err != nil || free != 0 {
		t.Errorf("/proc has %d bytes free, %v", free, err)
	}
	if _, err := Of(filepath.Join(t.TempDir(), "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that isn't there: %v", err)
	}
}
