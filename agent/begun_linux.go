package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// A job may remove its own run's directory, and with it all that says that the run ever began. A
// daemon that died before it knew would start it again. So it is noted beside the directory, before
// the command is launched, which runs began; a start that finds the note and no directory does
// nothing, and who follows the run hears that it has none. Notes need not outlive the machine's
// boot: after that nothing is started again.

// begun are the newest runs of a machine that began.
type begun struct {
	file string

	mu    sync.Mutex
	known map[uint64]bool // by a hash of its name; nil: not read yet
	out   *os.File        // where further ones are added; nil: not open yet
}

// maxBegun is how many are kept for sure. More are never under way: a machine has at most 10,000
// slots.
const maxBegun = 12 << 10

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
		b = &begun{file: file}
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
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b.learn(text)
	return b, nil
}

// learn takes what a file says for all that is known.
func (b *begun) learn(text []byte) {
	b.known = map[uint64]bool{}
	for name := range bytes.Lines(text) {
		if name, whole := bytes.CutSuffix(name, []byte("\n")); whole {
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
			return err
		}
	}
	if err := b.open(); err != nil {
		return err
	}
	if _, err := b.out.WriteString(name + "\n"); err != nil {
		return fmt.Errorf("note that %s begins: %w", name, err)
	}
	b.known[hash] = true
	return nil
}

func (b *begun) open() (err error) {
	if b.out != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.file), 0o700); err != nil {
		return err
	}
	b.out, err = os.OpenFile(b.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	return err
}

// shorten forgets the older half, or all where somebody has removed the file.
func (b *begun) shorten() error {
	text, err := os.ReadFile(b.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.file), 0o700); err != nil {
		return err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	text = bytes.Join(lines[max(0, len(lines)-1-maxBegun):], nil)
	next := b.file + ".next"
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

// makeRun makes a run's directory. gone says that the run began before, and that its directory has
// been removed since: it isn't made then.
func (a *agent) makeRun(run RunID) (dir string, b *begun, gone bool, err error) {
	if b, err = a.begunOn(run); err != nil {
		return "", nil, false, err
	}
	dir = runDir(a.root, run)
	if b.has(run) {
		_, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return dir, b, true, nil
		}
	}
	return dir, b, false, makeRunDir(dir)
}
