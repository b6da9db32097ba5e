package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A job may remove its own run's directory, or the records in it, and with them all that says that
// the run ever began. A daemon that died before it knew would start it again. So it is noted beside
// the directory, before the command is launched, which runs began; a start that finds the note and
// no records does nothing, and who follows the run hears that there is none. Notes need not outlive
// the machine's boot: after that nothing is started again.
//
// The notes are a precaution, and keep no machine from its work: whatever is in their place is put
// aside, and what can't be understood of them says nothing.

// begun are the newest runs of a machine that began.
type begun struct {
	root, file string

	mu    sync.Mutex
	known map[uint64]bool // by a hash of its name; nil: not read yet
	out   *os.File        // where further ones are added; nil: not open yet
}

const (
	// maxBegun is how many are kept for sure. More are never under way: a machine has at most
	// 10,000 slots.
	maxBegun = 12 << 10
	// maxBegunBytes of the end of the notes are read. So many names are shorter.
	maxBegunBytes = 16 << 20
)

func begunFile(root, server, machine string) string {
	return filepath.Join(root, "begun", server, machine)
}

// begunOn are the runs that began on the machine of a run. They are read when it is first asked,
// which is after the machine was taken over: what an earlier connection has yet to note, it doesn't
// launch.
func (a *agent) begunOn(run RunID) (*begun, error) {
	file := begunFile(a.root, run.Server, run.Machine)
	a.mu.Lock()
	b := a.begun[file]
	if b == nil {
		b = &begun{root: a.root, file: file}
		if a.begun == nil {
			a.begun = map[string]*begun{}
		}
		a.begun[file] = b
	}
	a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known != nil {
		return b, nil
	}
	text, err := b.read()
	if err != nil {
		return nil, b.trouble("read", err)
	}
	b.learn(text)
	return b, nil
}

// trouble says what is wrong with the notes, and what helps.
func (b *begun) trouble(what string, err error) error {
	return fmt.Errorf("%s the notes of which runs began: %w (%s has to be the login's own, "+
		"and on a disk that it can write; it may be removed while no run is under way)",
		what, err, filepath.Join(b.root, "begun"))
}

// read gives the end of the file; nothing where there is none.
func (b *begun) read() ([]byte, error) {
	f, err := b.openFile(os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// A name that is cut in two says nothing.
	return io.ReadAll(io.NewSectionReader(f, max(0, fi.Size()-maxBegunBytes), maxBegunBytes))
}

// openFile opens the file, and follows no link and waits for no pipe. What isn't a file that we may
// use is put aside; the error is fs.ErrNotExist then, unless a new one is to be made.
func (b *begun) openFile(how int) (*os.File, error) {
	for tries := 0; ; tries++ {
		f, err := os.OpenFile(b.file, how|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err == nil {
			if fi, err := f.Stat(); err != nil || fi.Mode().IsRegular() {
				return f, err
			}
			f.Close()
		}
		now, statErr := os.Lstat(b.file)
		if statErr != nil || tries > 0 {
			return nil, errors.Join(err, statErr)
		}
		if own := now.Mode().IsRegular() && !errors.Is(err, fs.ErrPermission); own {
			return nil, err
		}
		if err := setAside(b.file); err != nil {
			return nil, err
		}
	}
}

// setAside makes room for what belongs in a place. What can't be removed at once is somebody's, and
// stays beside it.
func setAside(path string) error {
	if os.Remove(path) == nil {
		return nil
	}
	return os.Rename(path, fmt.Sprintf("%s.aside-%d", path, time.Now().UnixNano()))
}

// learn takes what a file says for all that is known.
func (b *begun) learn(text []byte) {
	b.known = map[uint64]bool{}
	for name := range bytes.Lines(text) {
		if name, whole := bytes.CutSuffix(name, []byte("\n")); whole && len(name) > 0 {
			b.known[begunHash(name)] = true
		}
	}
}

// begunHash keeps a name in few bytes; that two of a machine's runs have the same will not happen.
func begunHash(name []byte) uint64 {
	sum := sha256.Sum256(name)
	return binary.LittleEndian.Uint64(sum[:])
}

// has tells whether a run began.
func (b *begun) has(run RunID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[begunHash([]byte(run.Name()))]
}

// begin notes that a run is about to begin, whose lock is held and whose records have neither a
// supervisor nor an end. gone says that it began before, and that somebody has removed or damaged
// what said so: the records of a run that is noted have their length, and nothing in them before it
// is launched.
func (b *begun) begin(run RunID, lock *os.File) (gone bool, err error) {
	fi, err := lock.Stat()
	if err != nil {
		return false, err
	}
	p := make([]byte, min(fi.Size(), int64(slotControl.at)))
	if _, err := lock.ReadAt(p, 0); err != nil && err != io.EOF {
		return false, err
	}
	if len(bytes.Trim(p, "\x00")) > 0 || fi.Size() < slotsSize && b.has(run) {
		return true, nil
	}
	if fi.Size() < slotsSize {
		if err := lock.Truncate(slotsSize); err != nil {
			return false, err
		}
	}
	return false, b.note(run)
}

// note notes that a run is about to begin.
func (b *begun) note(run RunID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := run.Name()
	hash := begunHash([]byte(name))
	if b.known[hash] {
		return nil
	}
	if len(b.known) >= 2*maxBegun {
		if err := b.shorten(); err != nil {
			return b.trouble("shorten", err)
		}
	}
	if err := b.open(); err != nil {
		return b.trouble("write", err)
	}
	// What stands before it may have been cut, by a disk that was full.
	if _, err := b.out.WriteString("\n" + name + "\n"); err != nil {
		b.out.Close() // the place may be another one's by now
		b.out = nil
		return b.trouble("write", err)
	}
	b.known[hash] = true
	return nil
}

// open opens the file, or makes it.
func (b *begun) open() (err error) {
	if b.out != nil {
		return nil
	}
	if err := b.makeDirs(); err != nil {
		return err
	}
	b.out, err = b.openFile(os.O_WRONLY | os.O_APPEND | os.O_CREATE)
	return err
}

// makeDirs makes the directories of the notes, also where something is in their place, or somebody
// has made them unwritable.
func (b *begun) makeDirs() error {
	if err := os.MkdirAll(b.root, 0o700); err != nil {
		return err
	}
	server := filepath.Dir(b.file)
	for _, dir := range []string{filepath.Dir(server), server} {
		fi, err := os.Stat(dir)
		if err == nil && fi.IsDir() {
			if fi.Mode()&0o700 != 0o700 {
				_ = os.Chmod(dir, 0o700) // who can't will see it when the file is made
			}
			continue
		}
		if _, err := os.Lstat(dir); err == nil {
			if err := setAside(dir); err != nil {
				return err
			}
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// shorten forgets the older half, or all where somebody has removed the file.
func (b *begun) shorten() error {
	text, err := b.read()
	if err != nil {
		return err
	}
	if err := b.makeDirs(); err != nil {
		return err
	}
	var names [][]byte
	for name := range bytes.Lines(text) {
		if len(name) > 1 && name[len(name)-1] == '\n' {
			names = append(names, name)
		}
	}
	text = bytes.Join(names[max(0, len(names)-maxBegun):], nil)
	next := b.file + ".next"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, b.file); err != nil {
		return err
	}
	if b.out != nil {
		b.out.Close()
		b.out = nil
	}
	b.learn(text)
	return nil
}

// closeBegun lets the files go when the connection ends.
func (a *agent) closeBegun() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range a.begun {
		b.mu.Lock()
		if b.out != nil {
			b.out.Close()
		}
		b.mu.Unlock()
	}
}

// makeRun makes a run's directory. gone says that the run began before, and that its records have
// been removed since: nothing is made then.
func (a *agent) makeRun(run RunID) (dir string, b *begun, gone bool, err error) {
	if b, err = a.begunOn(run); err != nil {
		return "", nil, false, err
	}
	dir = runDir(a.root, run)
	if b.has(run) {
		_, err := os.Lstat(filepath.Join(dir, fileRun))
		if errors.Is(err, fs.ErrNotExist) {
			return dir, b, true, nil
		}
	}
	return dir, b, false, makeRunDir(dir)
}
