package sshtest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// killAndWait kills processes that aren't our children, and waits until they
// have ended. All are stopped before the first is killed, so that none sees
// another's end.
func killAndWait(pids []int) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == unix.ESRCH {
			continue
		}
		if err != nil {
			return fmt.Errorf("watch process %d: %w", pid, err)
		}
		fds = append(fds, fd)
	}
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
		for _, fd := range fds {
			if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
				return fmt.Errorf("send a process signal %d: %w", sig, err)
			}
		}
	}
	for _, fd := range fds {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 {
				break
			}
			if err != nil && err != unix.EINTR {
				return fmt.Errorf("wait for a process: %w", err)
			}
		}
	}
	return nil
}
