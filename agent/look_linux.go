package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// view shows what a run's directory says at one moment.
type view struct {
	state     State
	launching process // the supervisor; zero if there is no record
	started   process // the command; zero likewise
	ending    Cause
	exit      *Exit
	drops     [2]int64 // of out and err, while it runs
	pause     Pause
}

// look reads a run's directory. bootID is the machine's own: a run of another boot can't be alive.
func look(dir, bootID string) (view, error) {
	f, err := openPlain(filepath.Join(dir, fileRun), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return view{}, nil // no such run, or one whose claim was cut before it began
	}
	if err != nil {
		return view{}, err
	}
	defer f.Close()
	var v view
	torn, err := v.read(f)
	if err != nil || v.state == Ended {
		return v, err
	}
	alive, err := lockHeld(f)
	if err != nil {
		return v, err
	}
	if !alive {
		// The supervisor may have written the exit record and let go
		// of the lock since we read. Now it can't any more.
		v = view{}
		if torn, err = v.read(f); err != nil || v.state == Ended {
			return v, err
		}
	}
	switch hasStarted := v.started.PID != 0; {
	case alive && hasStarted:
		v.state = Running
	case alive:
		v.state = Launching
	case hasStarted:
		v.state = Vanished
	case torn || v.launching.PID != 0:
		v.state = Ambiguous
	}
	return v, nil
}

// read reads the slots. torn tells that the launching record has been begun, but is not whole.
func (v *view) read(f *os.File) (torn bool, err error) {
	p := make([]byte, slotsSize)
	n, err := f.ReadAt(p, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	p = p[:n]
	var e Exit
	switch err := slotExit.parse(p, e.lines); {
	case err == nil:
		v.exit, v.state = &e, Ended
	case !errors.Is(err, errNoRecord):
		return false, err
	}
	if len(p) == slotsSize {
		v.drops[0] = int64(binary.LittleEndian.Uint64(p[dropsAt:]))
		v.drops[1] = int64(binary.LittleEndian.Uint64(p[dropsAt+8:]))
	}
	var end ending
	err1 := slotLaunching.parse(p, v.launching.lines)
	err2 := known(slotStarted.parse(p, v.started.lines))
	err3 := known(slotEnding.parse(p, end.lines))
	if slotPause.parse(p, v.pause.lines) != nil {
		v.pause = Pause{} // it is just being written, and looked at again when it was
	}
	v.ending = end.Cause
	torn = errors.Is(err1, errNoRecord) && len(p) > 0 && p[slotLaunching.at] != 0
	return torn, errors.Join(known(err1), err2, err3)
}

// known drops errNoRecord.
func known(err error) error {
	if errors.Is(err, errNoRecord) {
		return nil
	}
	return err
}

// readFile reads at most limit bytes of a small file.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// The lock is an open-file-description lock: forks inherit it with the descriptor, it ends with the
// last of them, and asking for its state doesn't take it.

// openLock opens fileRun and takes the lock. ok is false when somebody else holds it.
func openLock(name string) (f *os.File, ok bool, err error) {
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK,
		&unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	if err == nil {
		return f, true, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("lock %s: %w", name, err)
}

// lockHeld tells whether somebody holds the lock, other than through f itself.
func lockHeld(f *os.File) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
		return false, fmt.Errorf("look at lock %s: %w", f.Name(), err)
	}
	return lk.Type != unix.F_UNLCK, nil
}

// procStat has what we need of /proc/PID/stat.
type procStat struct {
	pid, parent int
	session     int
	startTime   uint64
	state       byte
}

// readStat reads a process's stat; ok is false when there is no such process.
func readStat(pid int) (procStat, bool) {
	p, err := readFile("/proc/"+strconv.Itoa(pid)+"/stat", 4096)
	if err != nil {
		return procStat{}, false
	}
	return parseStat(p)
}

// parseStat takes a stat line apart (proc(5)). The second field, the name, may contain blanks and
// parentheses.
func parseStat(p []byte) (procStat, bool) {
	end := bytes.LastIndexByte(p, ')')
	open := bytes.IndexByte(p, '(')
	if open < 1 || end < open {
		return procStat{}, false
	}
	fields := bytes.Fields(p[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return procStat{}, false
	}
	pid, err1 := strconv.Atoi(string(bytes.TrimSpace(p[:open])))
	parent, err2 := strconv.Atoi(string(fields[1]))
	session, err3 := strconv.Atoi(string(fields[3]))
	start, err4 := strconv.ParseUint(string(fields[19]), 10, 64)
	ok := errors.Join(err1, err2, err3, err4) == nil
	return procStat{pid: pid, parent: parent, session: session, startTime: start,
		state: fields[0][0]}, ok
}

// allProcesses reads the stat of every process that there is.
func allProcesses() ([]procStat, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []procStat
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok {
			all = append(all, s)
		}
	}
	return all, nil
}
