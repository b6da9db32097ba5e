package agent

import (
	"archive/tar"
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
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Code that jobs run stands in ROOT/code/<hash>, which never changes once it is there: the directory is unpacked
// under another name, checked, made read-only and renamed. Jobs that were started with other code keep theirs.

func codeDir(root string) string { return filepath.Join(root, "code") }

// abandonedAfter is when an archive whose sender has vanished is removed.
const abandonedAfter = 24 * time.Hour

// code answers whether code is there, and takes it in pieces.
func (a *agent) code(r *codeRequest) (codeReply, error) {
	if len(r.Hash) != 2*sha256.Size || strings.Trim(r.Hash, "0123456789abcdef") != "" {
		return codeReply{}, errorf(KindBadRequest, "%q is no hash of code", r.Hash)
	}
	dir := filepath.Join(codeDir(a.root), r.Hash)
	if info, err := os.Lstat(dir); err == nil && info.IsDir() {
		return codeReply{Dir: dir}, nil
	}
	if len(r.Data) == 0 && !r.Last {
		return codeReply{}, nil
	}
	if !validPart(r.Token) || r.Offset < 0 {
		return codeReply{}, errorf(KindBadRequest, "a piece of code from %q at %d", r.Token, r.Offset)
	}
	temp := filepath.Join(codeDir(a.root), "."+r.Hash+"-"+r.Token)
	if !r.Last {
		return codeReply{}, keepPiece(temp+".tar.gz", r)
	}
	defer os.Remove(temp + ".tar.gz")
	if err := unpack(temp+".tar.gz", temp, r.Hash); err != nil {
		return codeReply{}, errors.Join(fmt.Errorf("unpack the code: %w", err), removeSealed(temp))
	}
	err := os.Rename(temp, dir)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) { // somebody else was faster with the same
		return codeReply{Dir: dir}, removeSealed(temp)
	}
	return codeReply{Dir: dir}, err
}

// removeSealed removes a directory that was made read-only.
func removeSealed(dir string) error {
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(name, 0o700)
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}

// keepPiece writes a piece of an archive. The first one makes
// the directory, and removes what was abandoned there.
func keepPiece(file string, r *codeRequest) error {
	if r.Offset == 0 {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		sweepAbandoned(filepath.Dir(file), time.Now().Add(-abandonedAfter))
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // a later piece was faster than the first
		if err = os.MkdirAll(filepath.Dir(file), 0o700); err == nil {
			f, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(r.Data, r.Offset)
	return errors.Join(err, f.Close())
}

// sweepAbandoned removes what nobody has written to since; what it can't remove stays.
func sweepAbandoned(dir string, since time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), ".") && info.ModTime().Before(since) {
			_ = removeSealed(filepath.Join(dir, e.Name()))
		}
	}
}

// unpack unpacks an archive into a new directory and checks that
// it is what it is called. Nothing is written outside of it.
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
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := unpacker{root: root, hash: sha256.New(), dirs: []string{"."}}
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
	return u.seal()
}

// unpacker writes the files of an archive.
type unpacker struct {
	root *os.Root
	hash hash.Hash
	dirs []string
}

func (u *unpacker) one(h *tar.Header, r io.Reader) error {
	name := filepath.FromSlash(path.Clean(h.Name))
	if !filepath.IsLocal(name) {
		return fmt.Errorf("the archive has a file %q", h.Name)
	}
	for at := range name {
		if name[at] != '/' {
			continue
		}
		switch err := u.root.Mkdir(name[:at], 0o700); {
		case err == nil:
			u.dirs = append(u.dirs, name[:at])
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
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

// seal makes all durable, since it is kept over reboots, and the directories read-only.
func (u *unpacker) seal() error {
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
