package ssh

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unackedTimeout is how long sent bytes may stay unacknowledged before the
// kernel gives the connection up. Without it, a cut network isn't noticed for
// minutes. A cut of 5 s passes without loss.
const unackedTimeout = 8 * time.Second

func controlSocket(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// If the kernel doesn't know it, keepalives notice a bit later.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT,
			int(unackedTimeout.Milliseconds()))
	})
}
