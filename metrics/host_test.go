package metrics

import (
	"net"
	"testing"
)

// TestHost: a listener of this host alone answers nobody who came by a name that was made to point
// here.
func TestHost(t *testing.T) {
	loopback, all := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4zero}
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:9100": true, "127.0.0.1:9100": true, "127.0.0.1": true,
		"[::1]:9100":   true,
		"evil.example": false, "evil.example:9100": false, "localhost.evil.example": false,
		"": false,
	} {
		if got := asked(loopback, host); got != want {
			t.Errorf("%q on this host alone: %v", host, got)
		}
		if !asked(all, host) {
			t.Errorf("%q on all addresses is refused", host)
		}
	}
}
