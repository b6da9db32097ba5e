package web

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// peerUID is the user whose process has the other end of a connection within this computer, as
// /proc/net/tcp and tcp6 say (proc_net_tcp(5)). It isn't known of connections from elsewhere, which
// are let in only where the user has opened the page to them.
func peerUID(conn net.Conn) (uid int, is peerIs) {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	remote, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return 0, peerUntold
	}
	// While connections come and go, a look may miss one.
	for range 3 {
		told := false
		for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
			table, err := os.Open(name)
			if err != nil {
				continue
			}
			six := strings.HasSuffix(name, "6")
			found := findUID(table, procAddr(remote, six), procAddr(local, six))
			table.Close()
			if found.ok {
				return found.uid, peerFound
			}
			told = told || found.told
		}
		if !told {
			return 0, peerUntold
		}
	}
	return 0, peerGone
}

// lookup is what a table of connections tells.
type lookup struct {
	uid  int
	ok   bool // it tells of the socket
	told bool // it tells of the one that listens at its other end: so it tells of sockets at all
}

// findUID looks for the socket whose own end is from and whose other end is to. One that no process
// holds any more (its inode is 0) has no user, whatever is said there.
func findUID(table io.Reader, from, to string) (found lookup) {
	const listens = "0A"
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		if fields[1] == to && fields[3] == listens {
			found.told = true
		}
		if fields[1] == from && fields[2] == to && fields[9] != "0" {
			uid, err := strconv.Atoi(fields[7])
			if found.uid, found.ok = uid, err == nil; found.ok {
				return found
			}
		}
	}
	return found
}

// procAddr is an address as the tables have it: words of four bytes in the order of the processor.
func procAddr(a *net.TCPAddr, six bool) string {
	ip := a.IP.To4()
	if six {
		ip = a.IP.To16()
	}
	if ip == nil {
		return ""
	}
	words := make([]byte, len(ip))
	for i := 0; i < len(ip); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(ip[i:]))
	}
	return strings.ToUpper(
		hex.EncodeToString(words),
	) + ":" + strings.ToUpper(
		hex.EncodeToString([]byte{byte(a.Port >> 8), byte(a.Port)}),
	)
}
