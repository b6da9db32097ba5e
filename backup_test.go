package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// TestBackupFails: of a backup that failed half way, as on a full disk, nothing is left, so that it
// can be tried again; what others have put there stays.
func TestBackupFails(t *testing.T) {
	full := errors.New("no space left on device")
	for name, last := range map[string]io.Reader{
		"a write":          iotest.ErrReader(full),
		"a shorter file":   strings.NewReader("sho"),
		"in the middle":    io.MultiReader(strings.NewReader("shor"), iotest.ErrReader(full)),
		"one there before": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			to := &dirFiles{dir: dir + "/"}
			put := func(name string, content io.Reader) error { return to.put(name, 5, content) }
			err := errors.Join(put("wal-00000001", strings.NewReader("12345")),
				put("logs/000000/1.1.out", strings.NewReader("12345")),
				put("logs/000001/2.1.out", strings.NewReader("12345")))
			if err != nil {
				t.Fatal(err)
			}
			theirs := filepath.Join(dir, "logs", "theirs")
			if last == nil {
				if err := os.WriteFile(theirs, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				err = put("logs/theirs", strings.NewReader("12345"))
			} else {
				err = put("logs/000001/3.1.out", last)
			}
			if err == nil {
				t.Error("it succeeded")
			}
			if err := to.undo(); err != nil {
				t.Error(err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
			if last == nil && err == nil && len(left) == 1 && left[0] == theirs {
				return
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("%v is left, %v", entries, err)
			}
		})
	}
}
