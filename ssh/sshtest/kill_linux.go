package sshtest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// killAndWait kills processes that aren't our children, and waits until they
// have ended.
func killAndWait(pids []int) error {
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == unix.ESRCH {
			continue
		}
		if err != nil {
			return fmt.Errorf("watch process %d: %w", pid, err)
		}
		err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		for err == nil || err == unix.EINTR {
			var n int
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 {
				break
			}
		}
		unix.Close(fd)
		if err != nil && err != unix.ESRCH {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return nil
}
