package api

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// PeerOf asks the kernel who is at the other end of a Unix socket.
// The answer holds for the moment at which the peer connected.
func PeerOf(conn net.Conn) (Peer, error) {
	sock, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("ask who is at the other end: %T is no Unix socket", conn)
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("ask who is at the other end: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return Peer{}, fmt.Errorf("ask who is at the other end: %w", err)
	}
	return Peer{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}
