package ssh

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"jobserver/ssh/sshtest"
)

// TestUnackedTimeout: a cut network can't be made here, but the kernel can be
// asked what it would do.
func TestUnackedTimeout(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m), m.Name).(*clientConn)
	raw, err := c.link.base.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP,
			unix.TCP_USER_TIMEOUT); err != nil || got != int(unackedTimeout.Milliseconds()) {
			t.Errorf("TCP_USER_TIMEOUT is %d ms, %v", got, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
