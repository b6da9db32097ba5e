// Package userfile edits files that are the user's own, and not the program's: configuration and
// start-up files.
package userfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
)

// Replace gives a file another content, all at once. Where it is a link, as those that are kept in
// a repository are, it stays one, and its mode stays too. A file that isn't there is made with
// mode, and its directory with dirMode; a link to nothing is an error, and so is what is no regular
// file: a device or a pipe would be one afterwards. Its owner stays the same, where we may give
// files away.
func Replace(path string, content []byte, mode, dirMode fs.FileMode) error {
	target, st, err := place(path)
	if err != nil {
		return err
	}
	if st == nil {
		if err := os.MkdirAll(filepath.Dir(target), dirMode); err != nil {
			return err
		}
	}
	if err := renameio.WriteFile(target, content, mode, renameio.WithTempDir(filepath.Dir(target)),
		renameio.WithExistingPermissions()); err != nil {
		return err
	}
	return keepOwner(target, st)
}

// Replaceable tells why Replace wouldn't take a path, whatever may be written there; nil if it
// would.
func Replaceable(path string) error {
	_, _, err := place(path)
	return err
}

// place is the file that a path leads to, through links, and what is there; nil for nothing.
func place(path string) (target string, st fs.FileInfo, err error) {
	target, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", nil, fmt.Errorf("%s is a link to a file that isn't there", path)
		}
		return path, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	st, err = os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return target, nil, nil
	case err != nil:
		return "", nil, err
	case !st.Mode().IsRegular():
		return "", nil, fmt.Errorf("%s is not a regular file, and isn't replaced by one", path)
	}
	return target, st, nil
}

// keepOwner gives the file the owner that it had before, if that wasn't us: root edits the files of
// others.
func keepOwner(path string, before fs.FileInfo) error {
	if before == nil || os.Geteuid() != 0 {
		return nil
	}
	sys, ok := before.Sys().(*syscall.Stat_t)
	if !ok || sys.Uid == 0 && sys.Gid == 0 {
		return nil
	}
	return os.Chown(path, int(sys.Uid), int(sys.Gid))
}
