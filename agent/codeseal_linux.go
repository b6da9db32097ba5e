package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A seal is a file with a line for each file of a copy of code: its mode, its size in bytes, when
// it was written and when it was changed, in nanoseconds since 1970, its inode, and its name.
// Whoever writes to a file and restores its time changes the one that can't be set. A job of the
// same login can forge the seal itself: it finds what jobs do by accident, or to code, not to us.
const (
	sealOfAnyFormat = "jobserver seal "
	sealHead        = sealOfAnyFormat + "2"
)

func sealLine(name string, info fs.FileInfo) string {
	st, _ := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf(
		"%o %d %d %d %d %s",
		uint32(info.Mode()),
		info.Size(),
		info.ModTime().UnixNano(),
		st.Ctim.Nano(),
		st.Ino,
		strconv.Quote(name),
	)
}

// dirLine is the line of a directory that is there for itself: code has none, inputs may.
func dirLine(name string) string { return "dir " + strconv.Quote(name) }

// sealed tells what a look at a copy of code has found.
type sealed struct {
	// changed is a file that isn't what it was when the code was unpacked, or that has come since;
	// "" for none.
	changed string
	// caches: there are caches of Python, which root's jobs leave everywhere. They don't count as
	// changes.
	caches bool
}

// pythonCaches is the name of the directories in which Python keeps what it has compiled.
const pythonCaches = "__pycache__"

// checkSeal looks at a copy of code. The error is fs.ErrNotExist without a seal.
func checkSeal(dir string) (found sealed, err error) {
	f, err := os.Open(filepath.Join(dir, storeSeal))
	if err != nil {
		return sealed{}, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	if !lines.Scan() || lines.Text() != sealHead {
		if strings.HasPrefix(lines.Text(), sealOfAnyFormat) {
			return sealed{}, fs.ErrNotExist // none that says enough
		}
		return sealed{changed: storeSeal}, lines.Err()
	}
	names := map[string]bool{".": true} // of files, and of the directories that they are in
	for lines.Scan() {
		_, quoted, ok := strings.Cut(lines.Text(), ` "`)
		name, err := strconv.Unquote(`"` + quoted)
		if !ok || err != nil {
			return sealed{changed: storeSeal}, nil
		}
		info, err := os.Lstat(filepath.Join(dir, storeFiles, name))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return sealed{changed: name}, nil
		} else if err != nil {
			return sealed{}, err
		}
		if line := lines.Text(); sealLine(name, info) != line && (!info.IsDir() ||
			dirLine(name) != line) {
			return sealed{changed: name}, nil
		}
		for at := name; !names[at]; at = filepath.Dir(at) {
			names[at] = true
		}
	}
	if err := lines.Err(); err != nil {
		return sealed{}, err
	}
	return added(filepath.Join(dir, storeFiles), names)
}

// added looks for what isn't among the names.
func added(root string, names map[string]bool) (found sealed, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		switch {
		case err != nil || names[name]:
			return err
		case d.IsDir() && d.Name() == pythonCaches:
			found.caches = true
			return fs.SkipDir
		}
		found.changed = name
		return fs.SkipAll
	})
	return found, err
}
