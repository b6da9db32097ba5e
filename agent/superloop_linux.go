package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// loop watches the run until its command has ended, nothing
// that it started is left, and its output is in the files.
func (s *supervisor) loop() {
	for s.pid != 0 || !s.childless || s.pipes[0] >= 0 || s.pipes[1] >= 0 {
		polls := []unix.PollFd{
			{Fd: int32(s.pipes[0]), Events: unix.POLLIN},
			{Fd: int32(s.pipes[1]), Events: unix.POLLIN},
			{Fd: int32(s.pidfd), Events: unix.POLLIN},
			{Fd: int32(s.signals), Events: unix.POLLIN},
			{Fd: int32(s.timerfd), Events: unix.POLLIN},
		}
		n, err := unix.Poll(polls, s.untilDeadline())
		if err != nil && err != unix.EINTR {
			fmt.Fprintf(os.Stderr, "poll: %v\n", err) // into fileRun; EFAULT, EINVAL, ENOMEM
		}
		if n > 0 {
			for i := range s.pipes {
				if polls[i].Revents != 0 {
					s.copy(i)
				}
			}
			if polls[3].Revents != 0 { // before the command's end, which may have come of the same
				s.signaled()
			}
			if polls[2].Revents != 0 {
				s.reap()
			}
			if polls[4].Revents != 0 {
				_, _ = unix.Read(s.timerfd, s.buf[:8])
				s.terminate(TimedOut)
			}
			s.lookForOrphans()
		}
		s.deadlines(bootTime())
	}
}

// due is when something is to be done, by bootTime; 0: never.
type due time.Duration

// later puts it off, if it is set.
func (d *due) later(by time.Duration) {
	if *d != 0 {
		*d += due(by)
	}
}

// passed tells whether it is time, once.
func (d *due) passed(now time.Duration) bool {
	if *d == 0 || now < time.Duration(*d) {
		return false
	}
	*d = 0
	return true
}

// untilDeadline is the time to the next of our deadlines in milliseconds, for poll; -1: there is
// none.
func (s *supervisor) untilDeadline() int {
	ms, now := -1, bootTime()
	for _, d := range [...]due{s.graceEnd, s.drainEnd, s.drainUntil, s.weave.due} {
		if d != 0 {
			left := int(max(0, time.Duration(d)-now)/time.Millisecond) + 1
			if ms < 0 || left < ms {
				ms = left
			}
		}
	}
	return ms
}

// deadlines does what is due.
func (s *supervisor) deadlines(now time.Duration) {
	if s.weave.due.passed(now) {
		s.weave.note()
	}
	grace, drain := s.graceEnd.passed(now), s.drainEnd.passed(now)
	if grace || drain {
		s.killTree()
	}
	if drain {
		s.drainUntil = due(now + drainTime/10)
	}
	if s.drainUntil.passed(now) {
		// A process outside of the tree was handed a stream. It is not waited for: what it has
		// written by now is the last.
		for i := range s.pipes {
			for n := s.unread(i); n > 0 && s.pipes[i] >= 0; {
				n -= max(1, s.copy(i))
			}
			s.endStream(i)
		}
		s.childless = s.childless || s.exit.Left > 0
	}
	if s.pid == 0 && s.drainEnd == 0 && s.drainUntil == 0 {
		s.drainEnd = due(bootTime() + drainTime)
	}
}

// unread is how many bytes wait in one of the pipes.
func (s *supervisor) unread(i int) int {
	if s.pipes[i] < 0 {
		return 0
	}
	n, _ := unix.IoctlGetInt(s.pipes[i], unix.TIOCINQ) // FIONREAD, which every pipe has
	return n
}

// copy moves what one of the pipes has into its file, and returns how many bytes that were.
func (s *supervisor) copy(i int) int {
	n, err := unix.Read(s.pipes[i], s.buf)
	switch {
	case n > 0 && s.owed[i] > 0:
		// The disk may be slow. That is no time in which anything could have written on.
		begin := bootTime()
		s.take(i, s.buf[:n])
		s.owed[i] -= n
		took := bootTime() - begin
		s.drainEnd.later(took)
		s.drainUntil.later(took)
	case n > 0:
		s.take(i, s.buf[:n])
	case err == unix.EAGAIN || err == unix.EINTR:
	default:
		s.endStream(i)
	}
	return max(0, n)
}

// take takes the next bytes of one of the streams.
func (s *supervisor) take(i int, p []byte) {
	before := s.stream(i).written
	s.stream(i).take(p)
	s.weave.came(Stream(i), s.stream(i).written-before, bootTime())
}

func (s *supervisor) endStream(i int) {
	if s.pipes[i] >= 0 {
		unix.Close(s.pipes[i])
		s.pipes[i] = -1
		before := s.stream(i).written
		s.stream(i).end()
		s.weave.came(Stream(i), s.stream(i).written-before, bootTime())
	}
}

// signaled takes what catchSignals has put into its pipe.
func (s *supervisor) signaled() {
	n, _ := unix.Read(s.signals, s.buf[:512])
	seen := s.buf[:max(0, n)]
	if bytes.IndexByte(seen, sawEnd) >= 0 {
		s.shutDown()
	}
	if bytes.IndexByte(seen, sawControl) >= 0 {
		s.readControl()
		if s.pid != 0 {
			s.instruct()
		}
	}
	if bytes.IndexByte(seen, sawChild) >= 0 {
		s.reap()
	}
}

// reap takes the status of every child that has ended: the command, and what was orphaned below us.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		var usage unix.Rusage
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, &usage)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || pid == 0:
			s.childless = err == unix.ECHILD && (s.adopts || len(s.members()) == 0)
			return
		}
		s.exit.UserCPU += time.Duration(usage.Utime.Nano())
		s.exit.SystemCPU += time.Duration(usage.Stime.Nano())
		s.exit.MaxRSS = max(s.exit.MaxRSS, int64(usage.Maxrss)*1024) // 32 bits on some
		if pid == s.pid {
			s.ended(status)
		}
	}
}

// ended records how the command ended, unless it was made to.
func (s *supervisor) ended(status unix.WaitStatus) {
	s.pid, s.end = 0, bootTime()
	for i := range s.pipes {
		s.owed[i] = s.unread(i)
	}
	if s.pidfd >= 0 {
		unix.Close(s.pidfd)
		s.pidfd = -1
	}
	if s.exit.Cause == NoCause {
		s.exit.Cause = Exited
	}
	if status.Signaled() {
		s.exit.Code, s.exit.Signal, s.exit.SignalName = -1, int(status.Signal()),
			unix.SignalName(status.Signal())
		return
	}
	s.exit.Code = status.ExitStatus()
}

// shutDown takes that we are told to end, as at a shutdown of the machine. The command is told
// likewise: it may have been already. How it would have ended can't be known any more.
func (s *supervisor) shutDown() {
	s.told = true
	if s.doubtful() {
		s.exit.Cause = ShutDown
	}
	s.terminate(ShutDown)
}

// doubtTime is how much later than the command we may hear of what ended both: init sends
// SIGTERM to all processes, in any order, and the command may be quicker than we.
const doubtTime = 50 * time.Millisecond

// doubtful tells whether the command has failed just now, perhaps not by itself.
func (s *supervisor) doubtful() bool {
	return s.exit.Cause == Exited && s.exit.Code != 0 && bootTime()-s.end <= doubtTime
}

// doubt waits until nothing is doubtful any more.
func (s *supervisor) doubt() {
	for s.doubtful() {
		polls := []unix.PollFd{{Fd: int32(s.signals), Events: unix.POLLIN}}
		if n, _ := unix.Poll(polls, int(doubtTime/time.Millisecond)); n > 0 {
			// an interruption is looked at again
			s.signaled()
		}
	}
}

// readControl adds what slotControl says now to what it said before: a record that
// is just being written can't be read, and one whose writer died takes nothing back.
func (s *supervisor) readControl() {
	var k Control
	if err := k.read(s.file); err != nil {
		fmt.Fprintf(os.Stderr, "read what is to be done: %v\n", err) // into fileRun
		return
	}
	s.control.merge(k)
}

// instruct does what slotControl says, as far as it isn't done.
func (s *supervisor) instruct() {
	s.setPause(s.control.Pause)
	s.sendSignals()
	if s.control.Cancel {
		s.terminate(Canceled)
	}
	s.applyTimeout()
}

// applyTimeout sets the timer to what is left of the run's time. While it is paused, that stands
// still.
func (s *supervisor) applyTimeout() {
	timeout := s.Spec.Timeout
	if s.control.SetTimeout {
		timeout = s.control.Timeout
	}
	switch {
	case s.pause.since != 0:
		timeout = 0
	case timeout > 0:
		timeout += s.pause.total
	}
	if err := s.setTimer(timeout); err != nil {
		fmt.Fprintf(os.Stderr, "set the timeout: %v\n", err)
	}
}

// terminate begins to end the run for the given cause. If it
// is ending already, the grace can only become shorter.
func (s *supervisor) terminate(cause Cause) {
	if s.pid == 0 {
		return
	}
	if s.exit.Cause == NoCause {
		s.exit.Cause = cause
		end := ending{Cause: cause, At: s.wall()}
		if err := slotEnding.write(s.file, end.lines); err != nil && s.exit.LogError == "" {
			s.exit.LogError = err.Error() // the exit record will say it all the same
		}
		s.goOn()
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
	end := due(bootTime() + max(0, grace))
	if !s.killed && (s.graceEnd == 0 || end < s.graceEnd) {
		s.graceEnd = end
	}
}

// killTree ends all that lives of the run, except what runs as another user.
func (s *supervisor) killTree() {
	killed, left := killAll(s.members, s.reap)
	s.killed = true
	s.exit.Killed, s.exit.Left = s.exit.Killed+killed, left
}

// bootTime is CLOCK_BOOTTIME: it never jumps, and counts the time that the machine was suspended.
func bootTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	}
	return time.Duration(ts.Nano())
}

// setTimer makes timerfd fire at begin+timeout by CLOCK_BOOTTIME,
// which Go's timers don't use; a timeout of 0 stops it.
func (s *supervisor) setTimer(timeout time.Duration) (err error) {
	if s.timerfd < 0 {
		if timeout <= 0 {
			return nil
		}
		s.timerfd, err = unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
		if err != nil {
			s.timerfd = -1
			return err
		}
	}
	var at unix.ItimerSpec
	if timeout > 0 {
		at.Value = unix.NsecToTimespec(int64(s.begin + timeout))
	}
	return unix.TimerfdSettime(s.timerfd, unix.TFD_TIMER_ABSTIME, &at, nil)
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
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() &&
			unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("execute %q: %w", name, errNoCommand)
}

// errNoCommand says that no such program is to be found.
var errNoCommand = errors.New("not found in PATH")
