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

// view is what a run's directory says at one moment.
type view struct {
	state     State
	launching process // the supervisor; zero if there is no record
	started   process // the command; zero likewise
	ending    Cause
	exit      *Exit
	drops     [2]int64 // of out and err, while it runs
}

// look reads a run's directory. bootID is the machine's own.
func look(dir, bootID string) (view, error) {
	v, err := lookOnce(dir, bootID)
	if err == nil && v.state != Ended && v.state != Running && v.state != Launching {
		// The supervisor may have written the exit record and let go of the lock after we looked for the former and
		// before we looked at the latter. Now it can't change any more.
		v, err = lookOnce(dir, bootID)
	}
	return v, err
}

func lookOnce(dir, bootID string) (view, error) {
	var v view
	p, err := readFile(filepath.Join(dir, fileExit), exitSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	var e Exit
	switch err := parseRecord(fileExit, p, e.lines); {
	case err == nil:
		v.exit, v.state = &e, Ended
	case !errors.Is(err, errNoRecord):
		return v, err
	}
	if len(p) == exitSize {
		v.drops[0] = int64(binary.LittleEndian.Uint64(p[dropsAt:]))
		v.drops[1] = int64(binary.LittleEndian.Uint64(p[dropsAt+8:]))
	}
	err1 := known(readRecord(dir, fileLaunching, v.launching.lines))
	err2 := known(readRecord(dir, fileStarted, v.started.lines))
	var end ending
	err3 := known(readRecord(dir, fileEnding, end.lines))
	v.ending = end.Cause
	if err := errors.Join(err1, err2, err3); err != nil || v.exit != nil {
		return v, err
	}
	alive, err := lockHeld(filepath.Join(dir, fileLock))
	if errors.Is(err, fs.ErrNotExist) {
		return view{}, nil // no such run, or one whose claim was cut before it began
	}
	if err != nil {
		return v, err
	}
	hasLaunched := v.launching.PID != 0
	if !hasLaunched && !alive {
		// A launching record that is cut short still says that the command may have been forked.
		if fi, err := os.Stat(filepath.Join(dir, fileLaunching)); err == nil && fi.Mode().IsRegular() {
			v.state = Ambiguous
			return v, nil
		}
	}
	switch hasStarted := v.started.PID != 0; {
	case alive && hasStarted:
		v.state = Running
	case alive:
		v.state = Launching
	case hasStarted:
		v.state = Vanished
	case hasLaunched:
		v.state = Ambiguous
	}
	return v, nil
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

// The lock is an open-file-description lock: forks inherit it with the descriptor, it ends with the last of them, and
// asking for its state doesn't take it.

// openLock opens a run's lock file and takes the lock. ok is false when somebody else holds it.
func openLock(name string) (f *os.File, ok bool, err error) {
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	if err == nil {
		return f, true, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("lock %s: %w", name, err)
}

func lockHeld(name string) (bool, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lk); err != nil {
		return false, fmt.Errorf("look at lock %s: %w", name, err)
	}
	return lk.Type != unix.F_UNLCK, nil
}

// procStat is what we need of /proc/PID/stat.
type procStat struct {
	pid, parent int
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

// parseStat takes a stat line apart (proc(5)). The second field, the name, may contain blanks and parentheses.
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
	start, err3 := strconv.ParseUint(string(fields[19]), 10, 64)
	return procStat{pid: pid, parent: parent, startTime: start, state: fields[0][0]}, errors.Join(err1, err2, err3) == nil
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
