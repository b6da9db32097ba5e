package agent

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// unpack unpacks an archive into a new directory, checks that it is
// what it is called, and seals it. Nothing is written outside of it.
func unpack(archive, dir, hash string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	u, err := newUnpacker(dir)
	if err != nil {
		return err
	}
	defer u.root.Close()
	stream := io.TeeReader(zip, u.hash)
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = u.one(h, r)
		}
		if err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return err
	}
	if got := hex.EncodeToString(u.hash.Sum(nil)); got != hash {
		return fmt.Errorf("what arrived has the hash %s, not %s", got, hash)
	}
	return u.seal(filepath.Join(dir, storeSeal))
}

// unpacker writes the files of an archive.
type unpacker struct {
	root  *os.Root
	hash  hash.Hash
	dirs  []string
	names []string // of files and links
	empty []string // directories that are there for themselves
}

// newUnpacker makes a directory for files, in the place of whatever is there.
func newUnpacker(dir string) (*unpacker, error) {
	if err := removeAll(dir); err != nil {
		return nil, err
	}
	files := filepath.Join(dir, storeFiles)
	if err := os.MkdirAll(files, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(files)
	if err != nil {
		return nil, err
	}
	return &unpacker{root: root, hash: sha256.New(), dirs: []string{"."}}, nil
}

// below makes the directories that a name is in.
func (u *unpacker) below(name string) error {
	for at := range name {
		if name[at] != '/' {
			continue
		}
		if err := u.mkdir(name[:at]); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) mkdir(name string) error {
	switch err := u.root.Mkdir(name, 0o700); {
	case err == nil:
		u.dirs = append(u.dirs, name)
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	return nil
}

// dir makes a directory that is there for itself.
func (u *unpacker) dir(name string) error {
	if err := u.below(name); err != nil {
		return err
	}
	u.empty = append(u.empty, name)
	return u.mkdir(name)
}

func (u *unpacker) one(h *tar.Header, r io.Reader) error {
	name := filepath.FromSlash(path.Clean(h.Name))
	if !filepath.IsLocal(name) {
		return fmt.Errorf("the archive has a file %q", h.Name)
	}
	if h.Typeflag == tar.TypeDir {
		return u.dir(name)
	}
	if err := u.below(name); err != nil {
		return err
	}
	u.names = append(u.names, name)
	switch h.Typeflag {
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeReg:
	default:
		return fmt.Errorf("the archive has %q of type %q", h.Name, h.Typeflag)
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(0o444 | fs.FileMode(h.Mode)&0o111)
	}
	return errors.Join(err, f.Close())
}

// seal notes what the files are, makes all durable, since it is kept over reboots, and the
// directories read-only.
func (u *unpacker) seal(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, sealHead)
	for _, name := range u.names {
		info, err := u.root.Lstat(name)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		fmt.Fprintln(w, sealLine(name, info))
	}
	for _, name := range u.empty {
		fmt.Fprintln(w, dirLine(name))
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return err
	}
	top, err := u.root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	if err := unix.Syncfs(int(top.Fd())); err != nil {
		return err
	}
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := u.root.Chmod(u.dirs[i], 0o555); err != nil {
			return err
		}
	}
	return nil
}
