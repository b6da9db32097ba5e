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
// /proc/net/tcp and tcp6 say (proc_net_tcp(5)). It isn't known of connections from elsewhere.
func peerUID(conn net.Conn) (uid int, known bool) {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	remote, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return 0, false
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		uid, known = findUID(
			f,
			procAddr(remote, table == "/proc/net/tcp6"),
			procAddr(local, table == "/proc/net/tcp6"),
		)
		f.Close()
		if known {
			return uid, true
		}
	}
	return 0, false
}

// findUID looks for the socket whose own end is from and whose other end is to.
func findUID(table io.Reader, from, to string) (uid int, known bool) {
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 7 && fields[1] == from && fields[2] == to {
			uid, err := strconv.Atoi(fields[7])
			return uid, err == nil
		}
	}
	return 0, false
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
