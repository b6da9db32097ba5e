package job

import (
	"io"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
)

// copyFile copies a regular file with its permissions and time. It stands there whole or not at
// all.
func copyFile(from, to string, info fs.FileInfo) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return copyContent(in, to, info)
}

// copyContent writes a file with the permissions and the time of another.
func copyContent(in io.Reader, to string, info fs.FileInfo) error {
	out, err := renameio.NewPendingFile(to, renameio.WithStaticPermissions(info.Mode().Perm()))
	if err != nil {
		return err
	}
	defer out.Cleanup() // nothing is left to do after the rename
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := os.Chtimes(out.Name(), info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}
