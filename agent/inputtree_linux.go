package agent

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of one input. More than that is brought to machines by other means.
const (
	MaxInputBytes = 16 << 30
	MaxInputFiles = 100_000 // directories and links count
)

// Tree is a file or a directory that is to be an input of jobs, as it was when it was listed. It is
// packed as a tar stream: names in order, no times, no owners, modes 0644 and 0755 alone. A single
// file is called inputFile there, so that the same content is the same stream under every name.
type Tree struct {
	Path    string
	Single  bool  // it is one file
	Bytes   int64 // in its files
	Files   int
	entries []treeEntry
}

// treeEntry describes what there is under a name, with slashes, below the path.
type treeEntry struct {
	name string
	info fs.FileInfo
}

// TreeError says why a path of this host can't be an input. Whoever named it, or writes to it, has
// to see to that.
type TreeError struct{ Path, Why string }

func (e *TreeError) Error() string { return e.Path + " " + e.Why }

// treeError says in the words of a TreeError what the system has said.
func treeError(at string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return &TreeError{at, "is not there"}
	case errors.Is(err, fs.ErrPermission):
		return &TreeError{at, "can't be read: permission denied"}
	}
	var plain *fs.PathError
	if errors.As(err, &plain) {
		err = plain.Err
	}
	return &TreeError{at, fmt.Sprintf("can't be read: %v", err)}
}

// ReadTree lists what is at a path, which may be a link itself. What it gives is packed later: it
// is an error then that something has changed.
func ReadTree(ctx context.Context, at string) (*Tree, error) {
	t := &Tree{Path: at}
	info, err := os.Stat(at)
	if err != nil {
		return nil, treeError(at, err)
	}
	if info.Mode().IsRegular() {
		t.Single = true
		return t, t.add(inputFile, info)
	}
	if !info.IsDir() {
		return nil, &TreeError{at, "is " + kindName(info.Mode())}
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return nil, treeError(at, err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && name != "." {
			var info fs.FileInfo
			if info, err = root.Lstat(name); err == nil {
				err = t.add(name, info)
			}
		}
		if own := (*TreeError)(nil); err != nil && !errors.As(err, &own) {
			err = treeError(path.Join(at, name), err)
		}
		if err == nil {
			err = ctx.Err()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := t.checkLinks(root); err != nil {
		return nil, err
	}
	return t, nil
}

// add takes an entry, and refuses what can't be sent and too much.
func (t *Tree) add(name string, info fs.FileInfo) error {
	at := t.Path
	if !t.Single {
		at = path.Join(t.Path, name)
	}
	switch {
	case info.Mode().IsRegular():
		t.Bytes += info.Size()
		t.Files++
	case !info.IsDir() && info.Mode()&fs.ModeSymlink == 0:
		return &TreeError{at, "is " + kindName(info.Mode())}
	}
	t.entries = append(t.entries, treeEntry{name, info})
	switch {
	case t.Bytes > MaxInputBytes:
		return &TreeError{t.Path,
			fmt.Sprintf("has more than %d GiB; that is the most that an input "+
				"may have", MaxInputBytes>>30)}
	case len(t.entries) > MaxInputFiles:
		return &TreeError{t.Path, fmt.Sprintf("has more than %d files; that is the most that an "+
			"input may have", MaxInputFiles)}
	}
	return nil
}

// kindName names what can be no input.
func kindName(mode fs.FileMode) string {
	what := "something else"
	switch {
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return what + ": an input is a file or a directory, of files, directories and links"
}

// checkLinks refuses links that would lead nowhere on a machine.
func (t *Tree) checkLinks(root *os.Root) error {
	for _, e := range t.entries {
		if e.info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := root.Readlink(e.name)
		if err != nil {
			return treeError(path.Join(t.Path, e.name), err)
		}
		end := path.Join(path.Dir(e.name), target)
		if path.IsAbs(target) || end != "." && !filepath.IsLocal(end) {
			return &TreeError{path.Join(t.Path, e.name), fmt.Sprintf("is a link to %s, outside of "+
				"%s: on a machine it would lead nowhere", target, t.Path)}
		}
	}
	return nil
}

// Stamp tells whether anything was written to the tree since, as far as the file system tells.
// newest is when that happened last.
func (t *Tree) Stamp() (stamp [sha256.Size]byte, newest time.Time) {
	h := sha256.New()
	for _, e := range t.entries {
		st, _ := e.info.Sys().(*syscall.Stat_t)
		var b []byte
		for _, n := range []int64{int64(len(e.name)), int64(e.info.Mode()), int64(st.Dev),
			int64(st.Ino), st.Size, st.Mtim.Nano(), st.Ctim.Nano()} {
			b = binary.LittleEndian.AppendUint64(b, uint64(n))
		}
		h.Write(append(b, e.name...))
		if at := time.Unix(st.Ctim.Unix()); at.After(newest) {
			newest = at
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), newest
}

// Hash reads the tree, and gives the hash of its stream.
func (t *Tree) Hash(ctx context.Context) (string, error) { return t.Pack(ctx, io.Discard) }

// Pack writes the stream, and gives its hash. It is a TreeError when the tree isn't any more what
// was listed.
func (t *Tree) Pack(ctx context.Context, w io.Writer) (hash string, err error) {
	return t.pack(ctx, w,
		func(_ treeEntry, src *os.File) (io.ReadCloser, error) { return src, nil })
}

// pack reads each file from what content gives for it, which is closed then.
func (t *Tree) pack(
	ctx context.Context, w io.Writer,
	content func(e treeEntry, src *os.File) (io.ReadCloser, error),
) (hash string, err error) {
	h := sha256.New()
	p := treePacker{tree: t, tar: tar.NewWriter(io.MultiWriter(w, h)), content: content}
	if !t.Single {
		if p.root, err = os.OpenRoot(t.Path); err != nil {
			return "", treeError(t.Path, err)
		}
		defer p.root.Close()
	}
	for _, e := range t.entries {
		if err := p.add(ctx, e); err != nil {
			return "", err
		}
	}
	if err := p.tar.Close(); err != nil {
		return "", fmt.Errorf("pack %s: %w", t.Path, err)
	}
	// Whatever was added or written meanwhile shows in a second look at all of it.
	again, err := ReadTree(ctx, t.Path)
	if err != nil {
		return "", err
	}
	before, _ := t.Stamp()
	if after, _ := again.Stamp(); after != before {
		return "", t.changed(t.Path)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (t *Tree) changed(at string) error { return &TreeError{at, "changed while it was read"} }

// treePacker writes the stream of a tree.
type treePacker struct {
	tree    *Tree
	root    *os.Root // nil for a single file
	tar     *tar.Writer
	content func(e treeEntry, src *os.File) (io.ReadCloser, error)
}

func (p *treePacker) add(ctx context.Context, e treeEntry) error {
	at := p.tree.Path
	if p.root != nil {
		at = path.Join(at, e.name)
	}
	h := &tar.Header{Name: e.name, Mode: 0o644, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)}
	switch mode := e.info.Mode(); {
	case mode.IsDir():
		h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, e.name+"/"
		return p.tar.WriteHeader(h)
	case mode&fs.ModeSymlink != 0:
		target, err := p.root.Readlink(e.name)
		if err != nil {
			return p.tree.changed(at)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return p.tar.WriteHeader(h)
	case mode&0o100 != 0:
		h.Mode = 0o755
	}
	h.Typeflag, h.Size = tar.TypeReg, e.info.Size()
	src, err := p.open(e.name)
	if err != nil {
		return treeError(at, err)
	}
	defer src.Close()
	if now, err := src.Stat(); err != nil || !untouched(e.info, now) {
		return p.tree.changed(at)
	}
	from, err := p.content(e, src)
	if err != nil {
		return err
	}
	if from != io.ReadCloser(src) {
		defer from.Close()
	}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	r := &untilDone{ctx: ctx, r: from}
	if from == io.ReadCloser(src) {
		r.at = at
	}
	n, err := io.Copy(p.tar, io.LimitReader(r, h.Size))
	if err != nil {
		return err
	}
	// A file of /proc has more than its size says, and one that grows soon has.
	more, err := r.Read(make([]byte, 1))
	if err != nil && err != io.EOF {
		return err
	}
	now, err := src.Stat()
	if n != h.Size || more > 0 || err != nil || !untouched(e.info, now) {
		return p.tree.changed(at)
	}
	return nil
}

// open opens a file, and nothing that may have come in its place and that it would have to wait
// for.
func (p *treePacker) open(name string) (*os.File, error) {
	if p.root == nil {
		return os.OpenFile(p.tree.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	return p.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
}

// untouched says that a file wasn't touched between two looks.
func untouched(a, b fs.FileInfo) bool {
	return a.Mode() == b.Mode() && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) &&
		os.SameFile(a, b)
}

// untilDone reads until ctx ends. What the system says when it reads a file of the tree, and not a
// copy of it, is a TreeError.
type untilDone struct {
	ctx context.Context
	r   io.Reader
	at  string // of the file; "": it is a copy
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := u.r.Read(p)
	if err != nil && err != io.EOF && u.at != "" {
		err = treeError(u.at, err)
	}
	return n, err
}
