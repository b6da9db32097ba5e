package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// OwnError says why a directory isn't one into which only this user writes.
type OwnError struct{ Dir, Why, Remedy string }

func (e *OwnError) Error() string { return fmt.Sprintf("%s %s", e.Dir, e.Why) }

// Hint is the next step.
func (e *OwnError) Hint() string { return e.Remedy }

// Own checks that a directory is this user's: whoever else could write there could put links in our
// way. With tight, nobody else may have the right to write to it. That it doesn't exist yet is no
// error.
func Own(dir string, tight bool) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look whose directory it is: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case !info.IsDir():
		return &OwnError{dir, "is no directory", "give another one"}
	case ok && int(st.Uid) != os.Geteuid():
		return &OwnError{
			dir,
			fmt.Sprintf("belongs to user %d, and we are user %d", st.Uid, os.Geteuid()),
			"give a directory of your own",
		}
	case tight && mode&0o022 != 0:
		return &OwnError{dir, fmt.Sprintf("may be written to by others (its mode is %04o)", mode),
			"chmod go-w " + dir}
	}
	return nil
}
