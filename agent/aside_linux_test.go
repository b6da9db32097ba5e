package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMoveAside renames a run's directory where that takes room, as on btrfs: where the run has
// used up all, its files make some, and its records stay up to the rename.
func TestMoveAside(t *testing.T) {
	large := []string{fileOut, fileErr, fileMarks, fileWeave, fileStdin, dirScratch + "/sub/file"}
	for _, tt := range []struct {
		name    string
		refused error  // of a rename, as long as the file is there
		file    string // below the run's directory
		rest    bool   // of an earlier attempt is in the way
		want    error
	}{
		{"there is room", nil, "", false, nil},
		{"the quota is used up by output", unix.EDQUOT, fileOut, false, nil},
		{"the disk is full of scratch", unix.ENOSPC, dirScratch + "/sub/file", false, nil},
		{"the quota is used up, and there is a rest", unix.EDQUOT, fileErr, true, nil},
		{"there is a rest", unix.ENOTEMPTY, "../trash/rest", true, nil},
		{"others have used it up", unix.EDQUOT, fileRun, false, unix.EDQUOT},
		{"it can't be renamed", unix.EBUSY, fileOut, false, unix.EBUSY},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, trash := filepath.Join(t.TempDir(), "run"), ""
			trash = filepath.Join(filepath.Dir(dir), "trash")
			put := func(file string) {
				t.Helper()
				must(t, os.MkdirAll(filepath.Dir(file), 0o700))
				must(t, os.WriteFile(file, nil, 0o600))
			}
			for _, name := range append(slices.Clone(large), fileRun) {
				put(filepath.Join(dir, name))
			}
			if tt.rest {
				put(filepath.Join(trash, "rest"))
			}
			rename := func(old, new string) error {
				if tt.refused != nil {
					if _, err := os.Lstat(filepath.Join(dir, tt.file)); err == nil {
						return &fs.PathError{Op: "rename", Path: old, Err: tt.refused}
					}
				}
				if _, err := os.Stat(filepath.Join(old, fileRun)); err != nil {
					t.Errorf("its records are gone before it is renamed: %v", err)
				}
				return os.Rename(old, new)
			}
			err := moveAside(dir, trash, rename)
			if !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if _, err := os.Stat(dir); os.IsNotExist(err) != (tt.want == nil) {
				t.Errorf("the run's directory: %v", err)
			}
			if tt.refused == unix.EBUSY { // nothing is removed without need
				for _, name := range large {
					if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}
