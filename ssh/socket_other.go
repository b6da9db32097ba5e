//go:build !linux

package ssh

import "syscall"

// controlSocket leaves a cut network to keepalives where the kernel has no
// TCP_USER_TIMEOUT.
func controlSocket(_, _ string, _ syscall.RawConn) error { return nil }
