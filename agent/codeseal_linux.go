package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

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

// sealed is what a look at a copy of code has found.
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
	f, err := os.Open(filepath.Join(dir, codeSeal))
	if err != nil {
		return sealed{}, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	if !lines.Scan() || lines.Text() != sealHead {
		if strings.HasPrefix(lines.Text(), sealOfAnyFormat) {
			return sealed{}, fs.ErrNotExist // none that says enough
		}
		return sealed{changed: codeSeal}, lines.Err()
	}
	names := map[string]bool{".": true} // of files, and of the directories that they are in
	for lines.Scan() {
		_, quoted, ok := strings.Cut(lines.Text(), ` "`)
		name, err := strconv.Unquote(`"` + quoted)
		if !ok || err != nil {
			return sealed{changed: codeSeal}, nil
		}
		info, err := os.Lstat(filepath.Join(dir, codeFiles, name))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return sealed{changed: name}, nil
		} else if err != nil {
			return sealed{}, err
		}
		if sealLine(name, info) != lines.Text() {
			return sealed{changed: name}, nil
		}
		for at := name; !names[at]; at = filepath.Dir(at) {
			names[at] = true
		}
	}
	if err := lines.Err(); err != nil {
		return sealed{}, err
	}
	return added(filepath.Join(dir, codeFiles), names)
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

// What is kept of code that no run has: the copies that were used last, so many and so many bytes
// of them. What was asked for within the rest is about to be used. Copies that were written to
// nobody gets any more: of these only those stay that runs have, and for a moment those whose runs
// may be about to begin.
const (
	keepCopies    = 16
	keepCodeBytes = 4 << 30
	codeRest      = time.Hour
	writtenRest   = time.Minute
)

// codeCopy is a copy of code, as it counts against what is kept.
type codeCopy struct {
	dir     string
	used    time.Time
	bytes   int64
	written bool
}

// pruneCode removes copies of code beyond what is kept, those first that were not used for the
// longest time, but none that a run has that may still be alive, of whichever daemon.
func (a *agent) pruneCode(now time.Time) error {
	trash, err := a.discardCode(now)
	for _, dir := range trash {
		err = errors.Join(err, removeAll(dir))
	}
	return err
}

// discardCode takes what is to be removed out of the sight of those who look for code. A copy
// that has lost only some of its files would be taken for one that was written to.
func (a *agent) discardCode(now time.Time) (trash []string, err error) {
	lock, err := lockCode(a.root, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	surplus, err := a.surplusCode(now)
	if err != nil || len(surplus) == 0 {
		return nil, err
	}
	inUse, err := a.codeInUse()
	if err != nil {
		return nil, err
	}
	for _, c := range surplus {
		if inUse[filepath.Join(c.dir, codeFiles)] {
			continue
		}
		gone := filepath.Join(filepath.Dir(c.dir), "."+filepath.Base(c.dir)+"-gone")
		if err := removeAll(gone); err != nil { // the rest of an earlier attempt
			return trash, err
		}
		if err := os.Rename(c.dir, gone); err != nil {
			return trash, err
		}
		trash = append(trash, gone)
	}
	return trash, nil
}

// surplusCode lists the copies beyond what is kept.
func (a *agent) surplusCode(now time.Time) ([]codeCopy, error) {
	entries, err := os.ReadDir(codeDir(a.root))
	if err != nil {
		return nil, err
	}
	var copies []codeCopy
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		c, err := copyOf(filepath.Join(codeDir(a.root), e.Name()))
		if err != nil {
			return nil, err
		}
		copies = append(copies, c)
	}
	slices.SortFunc(copies, func(x, y codeCopy) int { return y.used.Compare(x.used) })
	var surplus []codeCopy
	var bytes int64
	for i, c := range copies {
		bytes += c.bytes
		unused := now.Sub(c.used)
		if (i >= keepCopies || bytes > keepCodeBytes) && unused > codeRest ||
			c.written && unused > writtenRest {
			surplus = append(surplus, c)
		}
	}
	return surplus, nil
}

// copyOf looks at a copy: how large it is stands in its seal. One without a seal is as old as its
// directory.
func copyOf(dir string) (codeCopy, error) {
	c := codeCopy{dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, codeSeal))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info, err := os.Stat(dir)
		if err == nil {
			c.used = info.ModTime()
		}
		return c, err
	case err != nil:
		return c, err
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.SplitN(line, " ", 3); len(words) == 3 && line != sealHead+"\n" {
			n, _ := strconv.ParseInt(
				words[1],
				10,
				64,
			) // what isn't a number was written by nobody here
			c.bytes += n
		}
	}
	info, err := os.Stat(filepath.Join(dir, codeSeal))
	if err != nil {
		return c, err
	}
	c.used = info.ModTime()
	found, err := checkSeal(dir)
	if errors.Is(err, fs.ErrNotExist) { // of another format: nobody gets it any more
		return codeCopy{dir: dir, used: c.used, bytes: c.bytes, written: true}, nil
	}
	c.written = found.changed != ""
	return c, err
}

// codeInUse has the code of every run here that isn't known to have ended.
func (a *agent) codeInUse() (map[string]bool, error) {
	inUse := map[string]bool{}
	runs := runsDir(a.root)
	err := eachName(runs, "", func(server string) error {
		return eachName(filepath.Join(runs, server), "", func(machine string) error {
			return eachName(filepath.Join(runs, server, machine), "", func(name string) error {
				code, err := a.codeOf(filepath.Join(runs, server, machine, name))
				if err != nil {
					return fmt.Errorf("look at run %s: %w", name, err)
				}
				inUse[code] = true
				return nil
			})
		})
	})
	return inUse, err
}

// codeOf is the directory of the code of a run that isn't known to have ended, or "".
func (a *agent) codeOf(dir string) (string, error) {
	v, err := look(dir, a.bootID)
	if err != nil || v.exit != nil {
		return "", err
	}
	var spec specRecord
	err = readRecord(filepath.Join(dir, fileRun), fileSpec, slotsSize, spec.lines)
	return spec.Code, known(err)
}

// codeState looks at the code that a run was given, when it has ended.
func (a *agent) codeState(id RunID) CodeState {
	if id.Valid() != nil {
		return CodeState{}
	}
	var spec specRecord
	err := readRecord(filepath.Join(runDir(a.root, id), fileRun), fileSpec, slotsSize, spec.lines)
	if err != nil || spec.Code == "" {
		return CodeState{}
	}
	found, err := checkSeal(filepath.Dir(spec.Code))
	if err != nil {
		return CodeState{Looked: true, Changed: "(" + err.Error() + ")"}
	}
	return CodeState{Looked: true, Changed: found.changed, Caches: found.caches}
}
