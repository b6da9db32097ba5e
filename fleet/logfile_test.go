package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What somebody has put where a log is to be isn't written to.
func TestLogInTheWay(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(file, other string) error{
		"a link": func(file, other string) error { return os.Symlink(other, file) },
		"a link to nothing": func(file, other string) error {
			return os.Symlink(other+"new", file)
		},
		"a link as its folder": func(file, other string) error {
			return errors.Join(os.Remove(filepath.Dir(file)),
				os.Symlink(filepath.Dir(other), filepath.Dir(file)))
		},
		"a file with two names": func(file, other string) error { return os.Link(other, file) },
		"a fifo":                func(file, other string) error { return unix.Mkfifo(file, 0o600) },
		"a directory":           func(file, other string) error { return os.Mkdir(file, 0o700) },
		"a link during the run": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top, elsewhere := t.TempDir(), t.TempDir()
			file, other := filepath.Join(
				top,
				"0000",
				"1.1.out",
			), filepath.Join(
				elsewhere,
				"1.1.out",
			)
			err := errors.Join(
				os.Mkdir(filepath.Dir(file), 0o700),
				os.WriteFile(other, []byte("mine"), 0o600),
			)
			log := logFile{path: file, top: top}
			if put != nil {
				err = errors.Join(err, put(file, other))
			} else {
				err = errors.Join(err, log.open(), log.append([]byte("a")), os.Remove(file),
					os.Symlink(other, file))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err = log.open(); err == nil {
				err = log.append([]byte("x"))
			}
			if err == nil {
				t.Error("it was written to")
			}
			log.rewind = true
			if log.open() == nil {
				t.Error("it was emptied")
			}
			if got, err := os.ReadFile(other); err != nil || string(got) != "mine" {
				t.Errorf("elsewhere is %q, %v", got, err)
			}
			if left, err := os.ReadDir(elsewhere); err != nil || len(left) != 1 {
				t.Errorf("elsewhere are %v, %v", left, err)
			}
		})
	}
}
