// Package userfile edits files that are the user's own, and not the program's: configuration and start-up files.
package userfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Replace gives a file another content, all at once. Where it is a link, as those that are kept in a repository are, it stays one, and its mode
// stays too. A file that isn't there is made with mode, and its directory with dirMode; a link to nothing is an error.
func Replace(path string, content []byte, mode, dirMode fs.FileMode) error {
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is a link to a file that isn't there", path)
		}
		target, err = path, os.MkdirAll(filepath.Dir(path), dirMode)
	}
	if err != nil {
		return err
	}
	return renameio.WriteFile(target, content, mode, renameio.WithTempDir(filepath.Dir(target)), renameio.WithExistingPermissions())
}
