package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// manifest sends what the request's paths stand for, in parts.
func (a *agent) manifest(ctx context.Context, r ManifestRequest, s *serving) error {
	base := filepath.Join(a.login, r.Base)
	if filepath.IsAbs(r.Base) {
		base = r.Base
	}
	if r.Run != (RunID{}) {
		if err := r.Run.Valid(); err != nil {
			return &Error{Kind: KindBadRequest, Msg: err.Error()}
		}
		var spec specRecord
		err := readRecord(filepath.Join(runDir(a.root, r.Run), fileRun), fileSpec, slotsSize,
			spec.lines)
		if errors.Is(err, errNoRecord) {
			return errorf(KindNoRun, "manifest of %s: no such run", r.Run.Name())
		}
		if err != nil {
			return fmt.Errorf("manifest of %s: %w", r.Run.Name(), err)
		}
		base = spec.Dir
	}
	if r.MaxFiles <= 0 {
		r.MaxFiles = DefaultMaxFiles
	}
	m := manifester{ctx: ctx, request: r, named: map[string]string{},
		send: func(m *Manifest) error {
			return s.part(ctx, replyTo(m.fields))
		}}
	if m.part.Code = a.codeState(r.CodeOf); m.part.Code.Looked {
		if err := m.grew(64); err != nil {
			return err
		}
	}
	for _, p := range r.Paths {
		if err := m.path(base, p); err != nil {
			return err
		}
	}
	return m.flush()
}

// manifester walks what the paths name.
type manifester struct {
	ctx     context.Context
	request ManifestRequest
	send    func(*Manifest) error

	named map[string]string // the names so far, and their sources
	part  Manifest          // not sent yet
	size  int               // about what part takes on the wire
	files int
	bytes int64
}

// partSize is about how much of a manifest goes into one frame.
const partSize = 128 << 10

// path adds what one path of the request stands for.
func (m *manifester) path(base, p string) error {
	matches, err := resolve(base, p)
	if err != nil {
		return m.problem(p, err)
	}
	if len(matches) == 0 {
		m.part.Missing = append(m.part.Missing, p)
		return m.grew(16 + len(p)) // an empty one has to be sent, too
	}
	for _, match := range matches {
		if err := m.tree(match); err != nil {
			return err
		}
	}
	return nil
}

// resolve finds what a path stands for: a file or directory of that name, else a glob, else a
// prefix of names. The results are absolute, clean and sorted. Names with a leading dot are
// only found by patterns that have it too.
func resolve(base, p string) ([]string, error) {
	if p == "" || strings.ContainsRune(p, 0) {
		return nil, nil
	}
	full, pattern := filepath.Join(base, p), filepath.Join(escapeGlob(base), p)
	if filepath.IsAbs(p) {
		full, pattern = filepath.Clean(p), filepath.Clean(p)
	}
	_, err := os.Stat(full)
	if err == nil {
		return []string{full}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) &&
		!errors.Is(err, unix.ENAMETOOLONG) {
		return nil, err
	}
	hidden := strings.HasPrefix(filepath.Base(p), ".")
	visible := func(name string) bool {
		return hidden || !strings.HasPrefix(filepath.Base(name), ".")
	}
	// A pattern that is none, because of a bracket say, may still be a prefix.
	matches, _ := filepath.Glob(pattern)
	matches = slices.DeleteFunc(matches, func(s string) bool { return !visible(s) })
	if len(matches) > 0 || strings.HasSuffix(p, "/") {
		return matches, nil
	}
	dir, prefix := filepath.Split(full)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && visible(e.Name()) {
			matches = append(matches, filepath.Join(dir, e.Name()))
		}
	}
	return matches, nil
}

var globMeta = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// escapeGlob makes a pattern that only matches s.
func escapeGlob(s string) string { return globMeta.Replace(s) }

// tree adds a file, or a directory with all that is in it. A link that was named itself stands for
// what it points to; links below are taken as links.
func (m *manifester) tree(named string) error {
	source, err := filepath.EvalSymlinks(named)
	if err != nil {
		return m.problem(named, err)
	}
	top := filepath.Base(named)
	if top == "/" {
		return m.problem(named, errors.New("the root directory has no name"))
	}
	return filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if m.ctx.Err() != nil {
			return m.ctx.Err()
		}
		if err != nil {
			// For a directory that can't be listed this is the second call; its entry is there
			// already.
			return m.problem(p, err)
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return m.problem(p, err)
		}
		return m.entry(top, rel, p, d)
	})
}

// entry adds one file, directory or link, found at rel below the directory called top.
func (m *manifester) entry(top, rel, source string, d fs.DirEntry) error {
	fi, err := d.Info()
	if err != nil {
		return m.problem(source, err)
	}
	e := Entry{Name: path.Join(top, rel), Source: source, Size: fi.Size(), Mode: fi.Mode().
		Perm(), ModTime: fi.ModTime()}
	switch fi.Mode().Type() {
	case 0:
		e.Kind = File
		if err := unix.Access(source, unix.R_OK); err != nil {
			return m.problem(source, err)
		}
	case fs.ModeDir:
		e.Kind, e.Size = Dir, 0
	case fs.ModeSymlink:
		e.Kind, e.Size = Symlink, 0
		if e.Target, err = os.Readlink(source); err != nil {
			return m.problem(source, err)
		}
		inside := path.Clean(path.Join(path.Dir(rel), e.Target))
		e.Escapes = path.IsAbs(e.Target) || inside == ".." || strings.HasPrefix(inside, "../")
	default:
		return m.problem(source, fmt.Errorf("neither a file nor a directory: %v", fi.Mode().Type()))
	}
	if other, twice := m.named[e.Name]; twice {
		if other != source {
			err = m.problem(source, fmt.Errorf("another result, %s, has the same name", other))
		}
		if e.Kind == Dir && err == nil {
			err = fs.SkipDir
		}
		return err
	}
	m.named[e.Name] = source
	m.files++
	if e.Kind == File {
		m.bytes += e.Size
	}
	if m.files > m.request.MaxFiles {
		return errorf(KindLimit, "manifest: more than %d results", m.request.MaxFiles)
	}
	if m.request.MaxBytes > 0 && m.bytes > m.request.MaxBytes {
		return errorf(KindLimit, "manifest: the results have more than %d bytes",
			m.request.MaxBytes)
	}
	m.part.Entries = append(m.part.Entries, e)
	return m.grew(64 + len(e.Name) + len(e.Source) + len(e.Target))
}

// problem adds what can't be copied.
func (m *manifester) problem(p string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	m.files++
	if m.files > m.request.MaxFiles {
		return errorf(KindLimit, "manifest: more than %d results", m.request.MaxFiles)
	}
	m.part.Errors = append(m.part.Errors, PathError{Path: p, Reason: err.Error()})
	return m.grew(64 + len(p))
}

func (m *manifester) grew(n int) error {
	if m.size += n; m.size < partSize {
		return nil
	}
	return m.flush()
}

func (m *manifester) flush() error {
	if m.size == 0 {
		return nil
	}
	err := m.send(&m.part)
	m.part, m.size = Manifest{}, 0
	return err
}
