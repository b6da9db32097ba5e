package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// loop watches the run until its command has ended, nothing that it started is left, and its output is in the files.
func (s *supervisor) loop(children, instructions <-chan os.Signal) {
	copied := [2]<-chan struct{}{s.copied[0], s.copied[1]}
	childless := false
	for s.pid != 0 || !childless || copied[0] != nil || copied[1] != nil {
		select {
		case <-children:
			childless = s.reap() || s.exit.Left > 0
		case <-instructions:
			s.readControl()
			s.instruct()
		case <-s.timer.C:
			s.terminate(TimedOut)
		case <-s.grace:
			s.grace = nil
			childless = s.killTree()
		case <-s.drain:
			s.drain = nil
			childless = s.killTree()
			// A process outside of the tree may have been handed a stream; it is not waited for.
			soon := time.Now().Add(drainTime / 10)
			for _, pipe := range s.pipes {
				_ = pipe.SetReadDeadline(soon)
			}
		case <-copied[0]:
			copied[0] = nil
		case <-copied[1]:
			copied[1] = nil
		}
		if s.pid == 0 && s.drain == nil {
			s.drain = time.After(drainTime)
		}
	}
}

// reap takes the status of every child that has ended: the command, and what was orphaned below us. It tells whether
// there is no child left.
func (s *supervisor) reap() (childless bool) {
	for {
		var status unix.WaitStatus
		var usage unix.Rusage
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, &usage)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			return true
		case err != nil || pid == 0:
			return false
		}
		s.exit.UserCPU += time.Duration(usage.Utime.Nano())
		s.exit.SystemCPU += time.Duration(usage.Stime.Nano())
		s.exit.MaxRSS = max(s.exit.MaxRSS, usage.Maxrss*1024)
		if pid == s.pid {
			s.ended(status)
		}
	}
}

// ended records how the command ended, unless it was made to.
func (s *supervisor) ended(status unix.WaitStatus) {
	s.pid = 0
	if s.exit.Cause == NoCause {
		s.exit.Cause = Exited
	}
	if status.Signaled() {
		s.exit.Code, s.exit.Signal, s.exit.SignalName = -1, int(status.Signal()), unix.SignalName(status.Signal())
		return
	}
	s.exit.Code = status.ExitStatus()
}

// readControl takes over what the control file says now.
func (s *supervisor) readControl() {
	var k Control
	if err := known(readRecord(".", fileControl, k.lines)); err != nil {
		fmt.Fprintf(os.Stderr, "read the control file: %v\n", err) // into the lock file
		return
	}
	s.control = k
}

// instruct does what the control file says, as far as it isn't done.
func (s *supervisor) instruct() {
	timeout := s.Spec.Timeout
	if s.control.SetTimeout {
		timeout = s.control.Timeout
	}
	if err := s.timer.set(s.begin, timeout); err != nil {
		fmt.Fprintf(os.Stderr, "set the timeout: %v\n", err)
	}
	if s.control.Cancel {
		s.terminate(Canceled)
	}
}

// terminate begins to end the run for the given cause. If it is ending already, the grace can only become shorter.
func (s *supervisor) terminate(cause Cause) {
	if s.pid == 0 {
		return
	}
	if s.exit.Cause == NoCause {
		s.exit.Cause = cause
		end := ending{Cause: cause, At: time.Now()}
		if err := os.WriteFile(fileEnding, formatRecord(fileEnding, end.lines), 0o600); err != nil && s.exit.LogError == "" {
			s.exit.LogError = err.Error() // the exit record will say it all the same
		}
		// The command may be stopped: without SIGCONT it wouldn't notice.
		_ = unix.Kill(-s.pid, unix.SIGTERM)
		_ = unix.Kill(-s.pid, unix.SIGCONT)
	}
	grace := s.Spec.Grace
	if s.control.Grace != 0 {
		grace = s.control.Grace
	}
	if grace == 0 {
		grace = DefaultGrace
	}
	end := time.Now().Add(max(0, grace))
	if s.graceEnd.IsZero() || end.Before(s.graceEnd) {
		s.grace, s.graceEnd = time.After(time.Until(end)), end
	}
}

// killTree ends everything below us and says whether no child is left. It returns with children only if those run as
// another user.
func (s *supervisor) killTree() (childless bool) {
	killed, left := killAll(descendants, func() { childless = s.reap() })
	s.exit.Killed, s.exit.Left = s.exit.Killed+killed, left
	return childless || left > 0
}

// bootTime is CLOCK_BOOTTIME: it never jumps, and counts the time that the machine was suspended.
func bootTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	}
	return time.Duration(ts.Nano())
}

// bootTimer fires by CLOCK_BOOTTIME, which Go's timers don't use. Its goroutine lives as long as the process.
type bootTimer struct {
	C  chan struct{}
	fd int // -1: not needed so far
}

func newBootTimer() *bootTimer { return &bootTimer{C: make(chan struct{}, 1), fd: -1} }

// set makes it fire at begin+timeout; a timeout of 0 stops it.
func (t *bootTimer) set(begin, timeout time.Duration) error {
	if t.fd < 0 {
		if timeout <= 0 {
			return nil
		}
		fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
		if err != nil {
			return err
		}
		t.fd = fd
		f := os.NewFile(uintptr(fd), "timer")
		go func() {
			expired := make([]byte, 8)
			for {
				if _, err := f.Read(expired); err != nil {
					return
				}
				select {
				case t.C <- struct{}{}:
				default:
				}
			}
		}()
	}
	var at unix.ItimerSpec
	if timeout > 0 {
		at.Value = unix.NsecToTimespec(int64(begin + timeout))
	}
	return unix.TimerfdSettime(t.fd, unix.TFD_TIMER_ABSTIME, &at, nil)
}

// lookPath finds the program to execute, like execvp in the command's directory and with its PATH.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // relative ones start at the directory, to which the child changes first
	}
	path := "/usr/local/bin:/usr/bin:/bin"
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	for _, at := range filepath.SplitList(path) {
		if !filepath.IsAbs(at) {
			at = filepath.Join(dir, at)
		}
		file := filepath.Join(at, name)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() && unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("execute %q: not found in PATH", name)
}
