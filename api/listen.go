package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocketPath is the longest path that a Unix socket can have here: 107 bytes on Linux.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// Listen makes the daemon's socket at path, with mode 0600, in a directory that it makes with mode
// 0700 where there is none. A socket that is already there is taken for a dead daemon's and
// replaced: the caller holds the lock of the state directory, so that no daemon can be alive behind
// it. The socket stays when the listener closes: by then it may be a successor's.
func Listen(path string) (net.Listener, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look for an old socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, Errorf(Conflict, "make the socket %s: there is something else of that name",
			path).
			WithHint("choose another place with --socket")
	case answers(path):
		return nil, Errorf(Conflict, "another daemon listens on %s", path).
			WithHint("use that one, or choose another socket with --socket")
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the old socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false)
	// Until the mode is set, whoever the umask let in is turned away by the check of the peer.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close() // the first error is the one to tell
		return nil, fmt.Errorf("protect the socket: %w", err)
	}
	return l, nil
}

// answers says whether somebody listens on the socket. Its state directory may be another than the
// caller's, whose lock then says nothing.
func answers(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

func checkSocketPath(path string) error {
	if path == "" {
		return Errorf(Invalid, "the socket's path is empty")
	}
	if len(path) > maxSocketPath {
		return Errorf(Invalid, "the socket's path has %d bytes, and the system allows %d: %s",
			len(path), maxSocketPath, path).
			WithHint("give a shorter one with --socket or JOBSERVER_SOCKET")
	}
	return nil
}
