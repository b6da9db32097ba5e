package job

import (
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
)

// copyFile copies a regular file with its permissions and time. It stands there whole or not at
// all.
func copyFile(from, to string, info fs.FileInfo) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := renameio.NewPendingFile(to, renameio.WithStaticPermissions(info.Mode().Perm()))
	if err != nil {
		return err
	}
	defer out.Cleanup() // nothing is left to do after the rename
	if _, err := out.ReadFrom(in); err != nil {
		return err
	}
	if err := os.Chtimes(out.Name(), info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}
