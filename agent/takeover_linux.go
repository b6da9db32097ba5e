package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that is dead for the host may still hold requests: in a session of sshd that was
// stopped, in a jump host. When they come through, the host has long looked what became of its runs
// over a later connection, perhaps forgotten them, and a start would be a second one. So a
// connection takes its machine over before it looks, and the starts of earlier ones are refused.
//
// A start takes the run's lock, then looks who has the machine; a connection takes the machine,
// then looks at the locks. So a start that is under way in that moment is seen by one of the two.

// takeover is a connection's hold of a machine's runs.
type takeover struct {
	file string

	mu     sync.Mutex
	number string // what the file had when the machine was taken; "" if that was not possible
}

// linkFile is where it is counted how often a machine's runs were taken over, beside the runs and
// not among them.
func linkFile(root, server, machine string) string {
	return filepath.Join(root, "links", server, machine)
}

// takeoverSize is the length of that file: a number, with a newline. It is always written in one
// piece and in one place, so that it needs no room on a full disk once it is there.
const takeoverSize = 20

// takeOver makes this connection the one that may start the runs of a machine.
func (a *agent) takeOver(r takeOverRequest) error {
	if !validPart(r.Server) || !validPart(r.Machine) {
		return errorf(KindBadRequest, "take over: %q and %q can't be ids", r.Server, r.Machine)
	}
	if r.Leave {
		return a.leave(r.Server, r.Machine)
	}
	file := linkFile(a.root, r.Server, r.Machine)
	a.mu.Lock()
	if a.taken == nil || a.taken.file != file {
		a.taken = &takeover{file: file}
	}
	t := a.taken
	a.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.number != "" {
		return t.check()
	}
	if r.Back {
		_, err := os.Lstat(file)
		_, runsErr := os.Lstat(filepath.Join(runsDir(a.root), r.Server, r.Machine))
		if errors.Is(err, fs.ErrNotExist) && errors.Is(runsErr, fs.ErrNotExist) {
			return errorf(KindNoRoot, "nothing of its runs is in %s any more", a.root)
		}
	}
	if err := t.take(); err != nil {
		return err
	}
	a.work.Go(func() { a.tidy(a.life) })
	return nil
}

// errSuperseded ends a connection whose machine was taken over.
var errSuperseded = &Error{Kind: KindClosed, Msg: "a later connection has taken the machine over"}

// holds is nil as long as the machine is this connection's, or was never asked for by it. It takes
// nothing: only who lists the runs afterwards may.
func (a *agent) holds() error {
	a.mu.Lock()
	t := a.taken
	a.mu.Unlock()
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.check()
}

// check is nil as long as nobody has counted on.
func (t *takeover) check() error {
	now, err := readFile(t.file, takeoverSize)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(now) != t.number {
		return errSuperseded // or a hand from outside has tidied up, and then nobody knows
	}
	return err
}

// take counts the number in the file up.
func (t *takeover) take() error { return t.takeOnce(10) }

func (t *takeover) takeOnce(tries int) error {
	if err := os.MkdirAll(filepath.Dir(t.file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(t.file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_EX); err != nil {
		return err
	}
	if now, err := os.Stat(t.file); err != nil || !sameFile(f, now) {
		// somebody has let the machine go meanwhile
		if f.Close(); tries > 0 {
			return t.takeOnce(tries - 1)
		}
		return errors.Join(errSuperseded, err)
	}
	last, err := io.ReadAll(io.LimitReader(f, takeoverSize))
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(last)), 10, 64)
	if err != nil {
		// nothing there, or nothing of ours: more than anybody can have counted to
		n = time.Now().UnixNano()
	}
	next := fmt.Sprintf("%0*d\n", takeoverSize-1, n+1)
	if _, err := f.WriteAt([]byte(next), 0); err != nil {
		return err
	}
	t.number = next
	// Behind it stands the program that is used for the machine, so that others can be removed.
	if _, err := f.WriteAt([]byte(filepath.Base(ownProgram())+"\n"), takeoverSize); err != nil {
		return nil // on a full disk all of them stay
	}
	return nil
}

// flock takes a file's lock, which ends with the descriptor; how is that of flock(2).
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// sameFile tells whether an open file is the one that a name leads to now.
func sameFile(f *os.File, now os.FileInfo) bool {
	was, err := f.Stat()
	return err == nil && os.SameFile(was, now)
}
