package fleet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"jobserver/agent"
	"jobserver/failpoint"
)

// takenError says that a name in the destination belongs to something else.
type takenError struct{ name string }

func (e *takenError) Error() string {
	return e.name + " exists already and is not replaced"
}

// place makes what was gathered durable and moves it to the destination, with its record.
func (t *transfer) place(record []byte) error {
	parent, err := openBeneath(t.c.partDir())
	if err != nil {
		return fmt.Errorf("open the destination: %w", err)
	}
	defer parent.close()
	whole := false
	if !t.c.Shared {
		whole, err = t.becomes(parent, record)
	}
	if !whole && err == nil {
		err = t.merge(parent, record)
	}
	return err
}

// becomes renames the gathered directory, with the record in it, to the destination, if that
// doesn't exist.
func (t *transfer) becomes(parent *beneath, record []byte) (bool, error) {
	name := filepath.Base(t.c.Dest)
	if _, err := parent.lstat(name); err == nil {
		return false, nil
	}
	files := t.part.files
	if err := files.writeNew(t.recordName(), record, t.recordMode()); err != nil {
		return false, fmt.Errorf("write the record of the results: %w", err)
	}
	if err := setMode(files.fd(), 0o755); err != nil {
		return false, fmt.Errorf("set the permissions of the results: %w", err)
	}
	if err := files.sync(".", unix.Syncfs); err != nil {
		return false, err
	}
	err := moveNew(t.part.dir, partFiles, parent, name)
	if errors.Is(err, fs.ErrExist) { // somebody made it in this moment
		return false, files.remove(t.recordName())
	}
	if err != nil {
		return false, fmt.Errorf("rename the results to %s: %w", t.c.Dest, err)
	}
	if err := parent.sync(".", unix.Fsync); err != nil {
		return false, err
	}
	failpoint.Hit("fleet.results-renamed")
	return true, nil
}

// merge moves the gathered names into a destination that exists. The record comes first, and says
// that it is not complete: it claims the destination for this job. In the end it is replaced by the
// whole one.
func (t *transfer) merge(parent *beneath, record []byte) error {
	c := t.c
	dest := parent
	if !c.Shared {
		var err error
		if dest, err = parent.sub(filepath.Base(c.Dest)); err != nil {
			return t.notDirectory(err)
		}
		defer dest.close()
		if err := t.strangers(dest); err != nil {
			return err
		}
	}
	if err := t.clearPlain(dest); err != nil {
		return err
	}
	mv := mover{t: t, from: t.part.files, to: dest, linked: t.linked()}
	if err := mv.tree(".", true); err != nil {
		return err
	}
	if err := t.claim(dest); err != nil {
		return err
	}
	if err := t.part.files.sync(".", unix.Syncfs); err != nil {
		return err
	}
	if err := mv.tree(".", false); err != nil {
		return err
	}
	if err := mv.moveLinks(); err != nil {
		return err
	}
	if err := t.putRecord(dest, record); err != nil {
		return err
	}
	for _, dir := range mv.touched {
		if err := dest.sync(dir, unix.Fsync); err != nil {
			return err
		}
	}
	return dest.sync(".", unix.Fsync)
}

// notDirectory is the error for a destination that can't be opened.
func (t *transfer) notDirectory(err error) error {
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return &takenError{t.c.Dest}
	}
	return fmt.Errorf("open the destination: %w", err)
}

// strangers is the error for a job's directory that another user has made where both may write:
// what stands there could be changed at any time. On some file systems all is one user's: that of
// our own part.
func (t *transfer) strangers(dest *beneath) error {
	var there, own unix.Stat_t
	err := unix.Fstat(dest.fd(), &there)
	if err == nil {
		err = unix.Fstat(t.part.dir.fd(), &own)
	}
	if err != nil {
		return fmt.Errorf("look whose the destination is: %w", err)
	}
	if there.Uid != own.Uid && there.Uid != 0 && int(there.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user (%d): nothing is put there", t.c.Dest,
			there.Uid)
	}
	return nil
}

// claim puts a record into a destination that exists, unless this job has one there. It fails when
// somebody else has: another daemon's job of the same id, or a file of the user's.
func (t *transfer) claim(dest *beneath) error {
	name := t.recordName()
	r := t.record()
	r.Complete, r.Results, r.Problems = false, nil, []string{"the results are being put in place"}
	text, err := r.marshal()
	if err == nil {
		err = t.putNew(dest, name, text)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if old, err := readRecord(dest, name); err != nil || !t.ours(old) {
		return &takenError{filepath.Join(t.c.Dest, name)}
	}
	return nil
}

// putNew makes a file in the destination all at once; the error is fs.ErrExist when there is one.
func (t *transfer) putNew(dest *beneath, name string, data []byte) error {
	temp, err := t.writeTemp(dest, data)
	if err != nil {
		return err
	}
	if err = moveNew(dest, temp, dest, name); err != nil {
		return errors.Join(err, dest.remove(temp))
	}
	return nil
}

// putRecord replaces the record by which the destination was claimed.
func (t *transfer) putRecord(dest *beneath, record []byte) error {
	temp, err := t.writeTemp(dest, record)
	if err == nil {
		err = retry(
			func() error { return unix.Renameat(dest.fd(), temp, dest.fd(), t.recordName()) },
		)
	}
	if err != nil {
		return fmt.Errorf("write the record of the results: %w", err)
	}
	return nil
}

// writeTemp makes a file beside those of the destination, durable and under a name that is this
// attempt's.
func (t *transfer) writeTemp(dest *beneath, data []byte) (name string, err error) {
	name = t.tempName()
	if err := dest.removeAll(name); err != nil { // an earlier copy may have died
		return "", fmt.Errorf("write the record of the results: %w", err)
	}
	f, err := dest.create(name, t.recordMode())
	if err != nil {
		return "", fmt.Errorf("write the record of the results: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf(
			"write the record of the results: %w",
			errors.Join(err, dest.remove(name)),
		)
	}
	return name, nil
}

// tempName names a file of the attempt in the destination before it gets its own name.
func (t *transfer) tempName() string { return t.f.partName(t.c.id()) + ".new" }

// clearPlain removes the record that an earlier copy of this job left under the name that a result
// has now. That copy was not complete, or this one would not be made.
func (t *transfer) clearPlain(dest *beneath) error {
	if t.c.Shared || !t.plainTaken {
		return nil
	}
	if old, err := readRecord(dest, plainRecord); err != nil || !t.ours(old) {
		// Nothing, or no record: a result that is there already, or somebody's, as mover finds out.
		return nil
	}
	if err := dest.remove(plainRecord); err != nil {
		return fmt.Errorf("remove the record of an earlier copy: %w", err)
	}
	return nil
}

// mover moves the gathered tree into another, name by name.
type mover struct {
	t        *transfer
	from, to *beneath
	linked   map[string]bool // directories with links somewhere below
	links    []string        // those that were left for the end
	touched  []string        // directories of the destination, below it, that have new names
}

// tree moves what is in dir, but for links, or only looks whether that would work.
func (mv *mover) tree(dir string, look bool) error {
	entries, err := mv.from.list(dir)
	if err != nil {
		return fmt.Errorf("read the results: %w", err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if !look && e.Type()&fs.ModeSymlink != 0 {
			mv.links = append(mv.links, name)
			continue
		}
		if err := mv.one(name, e, look); err != nil {
			return err
		}
	}
	if !look {
		mv.touched = append(mv.touched, dir)
	}
	return nil
}

func (mv *mover) one(name string, e fs.DirEntry, look bool) error {
	there, err := mv.to.lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if look {
			return nil
		}
		if err = mv.put(name, e); err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("move the results to %s: %w", mv.to.path(name), err)
		}
		there, err = mv.to.lstat(name)
	}
	if err != nil {
		return fmt.Errorf("look at the destination: %w", err)
	}
	kind := there.Mode & unix.S_IFMT
	switch {
	case e.IsDir() && kind == unix.S_IFDIR:
		return mv.tree(name, look)
	case e.Type().IsRegular() && kind == unix.S_IFREG && sameFile(mv.from, mv.to, name),
		e.Type()&fs.ModeSymlink != 0 && sameLink(mv.from, mv.to, name):
		return nil
	}
	return &takenError{mv.to.path(name)}
}

// linked names the directories that have links somewhere below, but for results themselves: these
// are moved as a whole.
func (t *transfer) linked() map[string]bool {
	dirs := map[string]bool{}
	for _, e := range t.manifest.Entries {
		if e.Kind != agent.Symlink {
			continue
		}
		for dir := path.Dir(e.Name); strings.Contains(dir, "/"); dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	return dirs
}

// put gives one name its place. A destination with a file system of its own gets a copy.
func (mv *mover) put(name string, e fs.DirEntry) error {
	if mv.linked[name] && e.IsDir() {
		return mv.copyDir(name)
	}
	err := moveNew(mv.from, name, mv.to, name)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	switch {
	case e.IsDir():
		return mv.copyDir(name)
	case e.Type()&fs.ModeSymlink != 0:
		target, err := mv.from.readlink(name)
		if err != nil {
			return err
		}
		return mv.to.symlink(target, name)
	}
	temp := path.Join(path.Dir(name), mv.t.tempName())
	if err := mv.copyFile(name, temp); err != nil {
		return errors.Join(err, mv.to.removeAll(temp))
	}
	if err := moveNew(mv.to, temp, mv.to, name); err != nil {
		return errors.Join(err, mv.to.removeAll(temp))
	}
	return nil
}

// copyDir makes a directory of another file system and moves into it what is below.
func (mv *mover) copyDir(name string) error {
	st, err := mv.from.lstat(name)
	if err == nil {
		err = mv.to.mkdir(name, 0o700)
	}
	if err == nil {
		err = mv.tree(name, false)
	}
	if err == nil {
		err = mv.to.chmod(name, fs.FileMode(st.Mode&0o777)|0o700)
	}
	return err
}

// copyFile copies a file, durably and with its holes, under a name that is only ours.
func (mv *mover) copyFile(name, temp string) error {
	in, err := mv.from.open(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := mv.to.removeAll(temp); err != nil {
		return err
	}
	out, err := mv.to.create(temp, 0o600)
	if err != nil {
		return err
	}
	err = copyData(out, in, info.Size())
	err = errors.Join(err, setMode(int(out.Fd()), info.Mode()), out.Sync(), out.Close())
	if err != nil {
		return err
	}
	return mv.to.setTime(temp, info.ModTime())
}

// copyData copies what of a file isn't a hole.
func copyData(out, in *os.File, size int64) error {
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // the rest is a hole
		}
		end := size
		if err == nil {
			end, err = unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		} else if err == unix.EINVAL { // a file system that doesn't tell
			data, err = at, nil
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(
			io.NewOffsetWriter(out, data),
			io.NewSectionReader(in, data, end-data),
		); err != nil {
			return err
		}
		at = end
	}
	return out.Truncate(size)
}

// moveLinks moves the links when all else is in its place: there may be more in the destination
// than there was in the part, and a link that led nowhere could lead out of it.
func (mv *mover) moveLinks() error {
	for _, name := range mv.links {
		target, err := mv.from.readlink(name)
		if err != nil {
			return fmt.Errorf("read the results: %w", err)
		}
		if !mv.t.leadsInside(mv.to, name, target) {
			return fmt.Errorf(
				"the link %s would lead out of the results, to %s",
				mv.to.path(name),
				target,
			)
		}
		if err := mv.one(name, linkEntry(name), false); err != nil {
			return err
		}
	}
	return nil
}

// linkEntry has what a directory says of a symbolic link.
type linkEntry string

func (l linkEntry) Name() string               { return path.Base(string(l)) }
func (l linkEntry) IsDir() bool                { return false }
func (l linkEntry) Type() fs.FileMode          { return fs.ModeSymlink }
func (l linkEntry) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

// moveNew renames without replacing anything.
func moveNew(from *beneath, name string, to *beneath, newName string) error {
	return from.in("move", name, func(fromDir int, base string) error {
		return to.in("move", newName, func(toDir int, newBase string) error {
			err := unix.Renameat2(fromDir, base, toDir, newBase, unix.RENAME_NOREPLACE)
			if err == unix.EINVAL || err == unix.ENOSYS {
				err = moveNewSlowly(fromDir, base, toDir, newBase)
			}
			return err
		})
	})
}

// moveNewSlowly is for file systems that don't know RENAME_NOREPLACE, such as NFS and FAT: a
// directory is made first, which fails if there is one, and a rename may replace an empty one; a
// file gets a second name, and loses its first. Where a file can't have two names, an empty one
// claims the new name, and is replaced.
func moveNewSlowly(fromDir int, base string, toDir int, newBase string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(fromDir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := unix.Mkdirat(toDir, newBase, 0o700); err != nil {
			return err
		}
		err := unix.Renameat(fromDir, base, toDir, newBase)
		if err != nil {
			_ = unix.Unlinkat(
				toDir,
				newBase,
				unix.AT_REMOVEDIR,
			) // the first error is the one to tell
		}
		return err
	}
	err := unix.Linkat(fromDir, base, toDir, newBase, 0)
	if err == nil {
		return unix.Unlinkat(fromDir, base, 0)
	}
	if !cannot(err) && err != unix.EMLINK {
		return err
	}
	claim, err := openat(
		toDir,
		newBase,
		unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC,
		0o600,
	)
	if err != nil {
		return err
	}
	if err := unix.Close(claim); err != nil {
		return err
	}
	err = unix.Renameat(fromDir, base, toDir, newBase)
	if err != nil {
		_ = unix.Unlinkat(toDir, newBase, 0) // the first error is the one to tell
	}
	return err
}

// sameFile compares contents.
func sameFile(a, b *beneath, name string) bool {
	x, errX := sum(a, name)
	y, errY := sum(b, name)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func sum(dir *beneath, name string) ([]byte, error) {
	f, err := dir.open(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

func sameLink(a, b *beneath, name string) bool {
	x, errX := a.readlink(name)
	y, errY := b.readlink(name)
	return errX == nil && errY == nil && x == y
}
