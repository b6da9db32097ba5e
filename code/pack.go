// Package code pins the code that jobs run: it packs a directory into an archive that is named by
// its content, and notes which commit it is of and what was changed since.
//
// The archive is a tar stream, compressed by gzip: names in order, no times, no owners, modes 0644
// and 0755 alone. Its hash is the SHA-256 of the tar stream, so that the same files give the same
// hash wherever and whenever they are packed. A file that changes while it is read is an error:
// what is packed is what was there at one moment.
//
// Left out are .git, what git would ignore (.gitignore files count in a directory that is no work
// tree too), and everything that is neither a file, a directory nor a link. So is what the caller
// names, as results that jobs bring there. Links are kept as they are, when they stay inside.
package code

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
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
	"slices"
	"strings"
	"time"
)

// Limits of what is packed. More than that is data, not code.
const (
	MaxBytes = 1 << 30
	MaxFiles = 100_000
)

// Info says what was packed.
type Info struct {
	Hash  string // of the tar stream, in hexadecimal
	Files int
	Bytes int64
	Revision
}

// Error is why a directory can't be packed, with the next step.
type Error struct{ Msg, Next string }

func (e *Error) Error() string { return e.Msg }

// Hint is the next step; "" when none is known.
func (e *Error) Hint() string { return e.Next }

// entry is a file or link to be packed, as it was when it was listed.
type entry struct {
	name string // with slashes, below the directory
	info fs.FileInfo
}

// Pack writes the archive of a directory. The names in without, relative to it, are left out, with
// all that is below them.
func Pack(ctx context.Context, dir string, w io.Writer, without ...string) (Info, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Info{}, &Error{"there is no directory " + dir,
			"name the directory that the code is in"}
	case err != nil:
		return Info{}, fmt.Errorf("look at the code: %w", err)
	case !info.IsDir():
		return Info{}, &Error{dir + " is not a directory", "name the directory that the code is in"}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Info{}, fmt.Errorf("open the code: %w", err)
	}
	defer root.Close()
	names, err := list(ctx, dir, root, without)
	if err != nil {
		return Info{}, err
	}
	entries, total, err := look(dir, root, names)
	if err != nil {
		return Info{}, err
	}
	p := &packer{root: root, dir: dir, hash: sha256.New()}
	zip := gzip.NewWriter(w)
	p.tar = tar.NewWriter(io.MultiWriter(zip, p.hash))
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return Info{}, err
		}
		if err := p.add(e); err != nil {
			return Info{}, err
		}
	}
	if err := errors.Join(p.tar.Close(), zip.Close()); err != nil {
		return Info{}, fmt.Errorf("pack the code: %w", err)
	}
	// Whatever was added or changed meanwhile shows in a second look at all of it.
	again, err := list(ctx, dir, root, without)
	if err != nil {
		return Info{}, err
	}
	if !slices.Equal(again, names) {
		return Info{}, changed(dir, "files came or went")
	}
	for _, e := range entries {
		if now, err := root.Lstat(e.name); err != nil || !same(e.info, now) {
			return Info{}, changed(dir, e.name+" was written")
		}
	}
	revision, err := revisionOf(ctx, dir, without)
	return Info{Hash: hex.EncodeToString(p.hash.Sum(nil)), Files: len(entries), Bytes: total,
		Revision: revision}, err
}

func changed(dir, what string) error {
	return &Error{fmt.Sprintf("%s changed while it was read: %s", dir, what),
		"submit again when nothing writes there"}
}

// same says that a file wasn't touched between two looks.
func same(a, b fs.FileInfo) bool {
	return a.Mode() == b.Mode() && a.Size() == b.Size() && a.ModTime().
		Equal(b.ModTime()) && os.SameFile(a, b)
}

// look takes down what each name is, and refuses too much.
func look(dir string, root *os.Root, names []string) ([]entry, int64, error) {
	var entries []entry
	var total int64
	largest := entry{}
	for _, name := range names {
		info, err := root.Lstat(filepath.FromSlash(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // git knows it, and it is deleted
		} else if err != nil {
			return nil, 0, fmt.Errorf("look at the code: %w", err)
		}
		e := entry{name, info}
		switch {
		case info.Mode().IsRegular():
			total += info.Size()
			if largest.info == nil || info.Size() > largest.info.Size() {
				largest = e
			}
		case info.Mode()&fs.ModeSymlink == 0:
			continue
		}
		entries = append(entries, e)
	}
	if total > MaxBytes || len(entries) > MaxFiles {
		what := fmt.Sprintf("%s has %.1f GiB in %d files; at most %d GiB in %d files can be sent "+
			"with a job", dir, float64(total)/(1<<30), len(entries), MaxBytes>>30, MaxFiles)
		if largest.info != nil {
			what += fmt.Sprintf("; the largest is %s with %.1f GiB", largest.name,
				float64(largest.info.Size())/(1<<30))
		}
		return nil, 0, &Error{what,
			"name data in .gitignore, and bring it to the machines by a setup"}
	}
	if len(entries) == 0 {
		return nil, 0, &Error{dir + " has no file that isn't ignored", "look at its .gitignore"}
	}
	return entries, total, nil
}

// packer writes the archive.
type packer struct {
	root *os.Root
	dir  string
	tar  *tar.Writer
	hash hash.Hash
}

func (p *packer) add(e entry) error {
	h := &tar.Header{Name: e.name, Mode: 0o644, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)}
	local := filepath.FromSlash(e.name)
	if e.info.Mode()&fs.ModeSymlink != 0 {
		target, err := p.root.Readlink(local)
		if err != nil {
			return fmt.Errorf("read the link %s: %w", e.name, err)
		}
		if !inside(e.name, target) {
			return &Error{fmt.Sprintf("%s is a link to %s, outside of %s: on a machine it would "+
				"lead nowhere", e.name, target, p.dir),
				"name it in .gitignore, or put the file itself there"}
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return p.head(h)
	}
	if e.info.Mode()&0o100 != 0 {
		h.Mode = 0o755
	}
	h.Typeflag, h.Size = tar.TypeReg, e.info.Size()
	f, err := p.root.Open(local)
	if err != nil {
		return fmt.Errorf("read the code: %w", err)
	}
	defer f.Close()
	if err := p.head(h); err != nil {
		return err
	}
	n, err := io.Copy(p.tar, io.LimitReader(f, h.Size))
	if err != nil {
		return fmt.Errorf("pack %s: %w", e.name, err)
	}
	now, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", e.name, err)
	}
	if n != h.Size || !same(e.info, now) {
		return changed(p.dir, e.name+" was written")
	}
	return nil
}

func (p *packer) head(h *tar.Header) error {
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %s: %w", h.Name, err)
	}
	return nil
}

// inside says that a link's target stays in the directory.
func inside(name, target string) bool {
	if path.IsAbs(target) {
		return false
	}
	return filepath.IsLocal(filepath.FromSlash(path.Join(path.Dir(name), target))) ||
		path.Join(path.Dir(name), target) == "."
}

// Verify gives the hash of an archive, and refuses one that is damaged or too large.
func Verify(r io.Reader) (string, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return "", fmt.Errorf("the archive of the code is damaged: %w", err)
	}
	// The heads and the padding of files are not counted by MaxBytes.
	const most = MaxBytes + MaxFiles*4096
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(zip, most+1))
	if err != nil {
		return "", fmt.Errorf("the archive of the code is damaged: %w", err)
	}
	if n > most {
		return "", fmt.Errorf("the archive of the code has more than %d bytes", most)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ValidHash says that a text can be the hash of code.
func ValidHash(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// list names everything to be packed, in order.
func list(ctx context.Context, dir string, root *os.Root, without []string) ([]string, error) {
	names, ok, err := tracked(ctx, dir)
	if err != nil {
		return nil, err
	}
	if !ok {
		if names, err = walk(root, without); err != nil {
			return nil, fmt.Errorf("list the code: %w", err)
		}
	}
	without = append(slices.Clip(without), results(root, names)...)
	names = slices.DeleteFunc(names, func(name string) bool { return leftOut(without, name) })
	slices.Sort(names)
	return slices.Compact(names), nil
}

// leftOut says that a name is one of those in without, or below one.
func leftOut(without []string, name string) bool {
	return slices.ContainsFunc(without, func(w string) bool {
		return name == w || strings.HasPrefix(name, w+"/")
	})
}

// tracked asks git for what it tracks or would track. ok is false where git isn't there or the
// directory is no work tree's.
func tracked(ctx context.Context, dir string) (names []string, ok bool, err error) {
	out, err := git(ctx, dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, false, refusal(ctx, dir, err)
	}
	for name := range bytes.SplitSeq(out, []byte{0}) {
		if len(name) == 0 {
			continue
		}
		n := strings.TrimSuffix(string(name), "/")
		if info, err := os.Lstat(filepath.Join(dir, n)); err == nil && info.IsDir() {
			// a repository inside
			inner, ok, err := tracked(ctx, filepath.Join(dir, n))
			if err != nil {
				return nil, false, err
			}
			if ok {
				for _, i := range inner {
					names = append(names, path.Join(n, i))
				}
			}
			continue
		}
		names = append(names, n)
	}
	return names, true, nil
}
