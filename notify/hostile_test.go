package notify

import (
	"net"
	"strings"
	"testing"
	"time"

	"log/slog"

	"bytes"
)

// TestHostileReceiver: a webhook that answers with a header without an end, with noise, or by
// sending the message elsewhere holds nobody up, gets the message nowhere else, and fills no memory
// or log.
func TestHostileReceiver(t *testing.T) {
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	for name, answer := range map[string]string{
		"a header without an end": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20<<20),
		"a long status": "HTTP/1.1 500 " + strings.Repeat("\x1b[2Jx", 5000) +
			"\r\nContent-Length: 0\r\n\r\n",
		"no HTTP": strings.Repeat("\x1b]0;title\a\xff", 100),
		"another place": "HTTP/1.1 307 x\r\nLocation: http://" + elsewhere.Addr().
			String() + "/\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 1000))
					_, _ = conn.Write([]byte(answer))
					_ = conn.Close()
				}
			}()
			var log bytes.Buffer
			n, err := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil)),
				PostTimeout: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			err = n.post(t.Context(), "http://"+l.Addr().String()+"/secret", []byte("{}"))
			if err == nil {
				t.Fatal("it was taken")
			}
			if text := n.receivers[0].clean(err); strings.ContainsAny(text, "\x1b\a\n") ||
				len(text) > 1000 || strings.Contains(text, "/secret") {
				t.Errorf("the log says %.2000q", text)
			}
		})
	}
	if tcp, ok := elsewhere.(*net.TCPListener); ok {
		_ = tcp.SetDeadline(time.Now().Add(time.Millisecond))
	}
	if conn, err := elsewhere.Accept(); err == nil {
		_ = conn.Close()
		t.Error("the message was sent elsewhere")
	}
}
