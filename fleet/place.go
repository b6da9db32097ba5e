package fleet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"jobserver/failpoint"
)

// takenError says that a name in the destination belongs to something else.
type takenError struct{ name string }

func (e *takenError) Error() string {
	return e.name + " exists already and is not replaced"
}

// place makes what was gathered durable and moves it to the destination, with its record.
func (t *transfer) place(record []byte) error {
	c := t.c
	parent, err := os.OpenRoot(c.partDir())
	if err != nil {
		return fmt.Errorf("open the destination: %w", err)
	}
	defer parent.Close()
	if !c.Shared {
		whole, err := t.becomes(parent, record)
		if whole || err != nil {
			return err
		}
	}
	if err := t.merge(parent, record); err != nil {
		return err
	}
	return t.c.discard()
}

// becomes renames the gathered directory, with the record in it, to the destination, if that doesn't exist.
func (t *transfer) becomes(parent *os.Root, record []byte) (bool, error) {
	name := filepath.Base(t.c.Dest)
	if _, err := parent.Lstat(name); err == nil {
		return false, nil
	}
	if err := t.part.WriteFile(t.recordName(), record, 0o644); err != nil {
		return false, fmt.Errorf("write the record of the results: %w", err)
	}
	if err := t.part.Chmod(".", 0o755); err != nil {
		return false, fmt.Errorf("set the permissions of the results: %w", err)
	}
	if err := syncRoot(t.part, unix.Syncfs); err != nil {
		return false, err
	}
	err := moveNew(parent, t.c.partName(), parent, name)
	if errors.Is(err, fs.ErrExist) { // somebody made it in this moment
		return false, t.part.Remove(t.recordName())
	}
	if err != nil {
		return false, fmt.Errorf("rename the results to %s: %w", t.c.Dest, err)
	}
	if err := syncRoot(parent, unix.Fsync); err != nil {
		return false, err
	}
	failpoint.Hit("fleet.results-renamed")
	return true, removeIfThere(t.c.resumeFile())
}

// merge moves the gathered names into a destination that exists, and writes the record last.
func (t *transfer) merge(parent *os.Root, record []byte) error {
	c := t.c
	dest := parent
	if !c.Shared {
		var err error
		if dest, err = parent.OpenRoot(filepath.Base(c.Dest)); err != nil {
			return fmt.Errorf("open the destination: %w", err)
		}
		defer dest.Close()
	}
	if old, err := readRecord(dest, t.recordName()); err == nil && !t.ours(old) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &takenError{filepath.Join(c.Dest, t.recordName())}
	}
	if err := t.clearPlain(dest); err != nil {
		return err
	}
	mv := mover{dest: c.Dest}
	if err := mv.tree(t.part, dest, ".", true); err != nil {
		return err
	}
	if err := syncRoot(t.part, unix.Syncfs); err != nil {
		return err
	}
	if err := mv.tree(t.part, dest, ".", false); err != nil {
		return err
	}
	file := filepath.Join(c.Dest, t.recordName())
	if err := renameio.WriteFile(file, record, 0o644, renameio.WithTempDir(c.Dest)); err != nil {
		return fmt.Errorf("write the record of the results: %w", err)
	}
	for _, dir := range mv.touched {
		if err := syncDir(dest, dir); err != nil {
			return err
		}
	}
	return syncRoot(dest, unix.Fsync)
}

// clearPlain removes the record that an earlier copy of this job left under the name that a result has now. That copy
// was not complete, or this one would not be made.
func (t *transfer) clearPlain(dest *os.Root) error {
	if t.c.Shared || !t.plainTaken {
		return nil
	}
	if old, err := readRecord(dest, plainRecord); err != nil || !t.ours(old) {
		return nil // nothing, or no record: a result that is there already, or somebody's file, as mover finds out
	}
	if err := dest.Remove(plainRecord); err != nil {
		return fmt.Errorf("remove the record of an earlier copy: %w", err)
	}
	return nil
}

// mover moves a tree into another, name by name.
type mover struct {
	dest    string   // for messages
	touched []string // directories of the destination, below it, that have new names
}

// tree moves what is in dir of from to dir of to, or only looks whether that would work.
func (mv *mover) tree(from, to *os.Root, dir string, look bool) error {
	d, err := from.Open(dir)
	if err != nil {
		return fmt.Errorf("read the results: %w", err)
	}
	entries, err := d.ReadDir(-1)
	d.Close()
	if err != nil {
		return fmt.Errorf("read the results: %w", err)
	}
	for _, e := range entries {
		if err := mv.one(from, to, filepath.Join(dir, e.Name()), e, look); err != nil {
			return err
		}
	}
	if !look {
		mv.touched = append(mv.touched, dir)
	}
	return nil
}

func (mv *mover) one(from, to *os.Root, name string, e fs.DirEntry, look bool) error {
	there, err := to.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if look {
			return nil
		}
		if err = moveNew(from, name, to, name); err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("move the results to %s: %w", filepath.Join(mv.dest, name), err)
		}
		there, err = to.Lstat(name)
	}
	if err != nil {
		return fmt.Errorf("look at the destination: %w", err)
	}
	switch {
	case e.IsDir() && there.IsDir():
		return mv.tree(from, to, name, look)
	case e.Type().IsRegular() && there.Mode().IsRegular() && sameFile(from, to, name),
		e.Type()&fs.ModeSymlink != 0 && sameLink(from, to, name):
		return nil
	}
	return &takenError{filepath.Join(mv.dest, name)}
}

// moveNew renames without replacing anything. name's directories exist in both roots, and are directories:
// they are opened one by one, so that no link leads elsewhere.
func moveNew(from *os.Root, name string, to *os.Root, newName string) error {
	fromDir, err := from.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer fromDir.Close()
	toDir, err := to.Open(filepath.Dir(newName))
	if err != nil {
		return err
	}
	defer toDir.Close()
	err = unix.Renameat2(int(fromDir.Fd()), filepath.Base(name), int(toDir.Fd()), filepath.Base(newName), unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		err = moveNewSlowly(from, name, to, newName, int(fromDir.Fd()), int(toDir.Fd()))
	}
	return err
}

// moveNewSlowly is for file systems that don't know RENAME_NOREPLACE, such as NFS: a directory
// is made first, which fails if there is one, and a rename may replace an empty one; a file
// gets a second name, and loses its first.
func moveNewSlowly(from *os.Root, name string, to *os.Root, newName string, fromDir, toDir int) error {
	info, err := from.Lstat(name)
	if err != nil {
		return err
	}
	base, newBase := filepath.Base(name), filepath.Base(newName)
	if info.IsDir() {
		if err := to.Mkdir(newName, 0o700); err != nil {
			return err
		}
		return unix.Renameat(fromDir, base, toDir, newBase)
	}
	if err := unix.Linkat(fromDir, base, toDir, newBase, 0); err != nil {
		return err
	}
	return from.Remove(name)
}

// sameFile compares contents.
func sameFile(a, b *os.Root, name string) bool {
	x, errX := sum(a, name)
	y, errY := sum(b, name)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func sum(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

func sameLink(a, b *os.Root, name string) bool {
	x, errX := a.Readlink(name)
	y, errY := b.Readlink(name)
	return errX == nil && errY == nil && x == y
}

// syncRoot makes a directory durable, or with Syncfs all of its file system.
func syncRoot(root *os.Root, sync func(int) error) error {
	d, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("sync the results: %w", err)
	}
	defer d.Close()
	if err := sync(int(d.Fd())); err != nil {
		return fmt.Errorf("sync the results: %w", err)
	}
	return nil
}

func syncDir(root *os.Root, dir string) error {
	sub, err := root.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("sync the results: %w", err)
	}
	defer sub.Close()
	return syncRoot(sub, unix.Fsync)
}
