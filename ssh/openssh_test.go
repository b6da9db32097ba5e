package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/ssh/sshtest"
)

func openSSH(o *Options) { o.OpenSSH = true }

func TestOpenSSH(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m, openSSH), m.Name)
	t.Run("output", func(t *testing.T) {
		if out, err := output(t, c, "echo $HOME"); out != m.Home+"\n" || err != nil {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("code", func(t *testing.T) {
		_, err := output(t, c, "echo wrong >&2; exit 7")
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 7 || exit.Stderr != "wrong\n" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("stdin", func(t *testing.T) {
		s := started(t, c, "echo up; exec cat")
		io.WriteString(s, "hello")
		s.CloseWrite()
		if b, err := io.ReadAll(s); string(b) != "hello" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	})
	t.Run("close", func(t *testing.T) {
		s := started(t, c, "echo up; exec sleep 1000")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Wait(); err != ErrClosed {
			t.Errorf("Wait: %v", err)
		}
	})
	t.Run("unix socket", func(t *testing.T) { testOpenSSHUnix(t, c) })
	t.Run("lost", func(t *testing.T) {
		s := started(t, c, "echo up; exec sleep 1000")
		if _, err := m.KillSessions(); err != nil {
			t.Fatal(err)
		}
		wantLost(t, s.Wait())
		<-c.Done()
		wantLost(t, c.Err())
	})
}

func TestOpenSSHClose(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m, openSSH), m.Name)
	s := started(t, c, "echo up; exec sleep 1000")
	c.Close()
	wantLost(t, s.Wait())
	if _, err := c.Exec(t.Context(), "true"); !errors.Is(err, ErrClosed) {
		t.Errorf("Exec after Close: %v", err)
	}
}

// TestOpenSSHErrors has the same kinds of errors as the transport of our own.
func TestOpenSSHErrors(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	d := dialer(m, openSSH)
	good := read(t, m.KnownHosts)

	write(t, m.KnownHosts, "")
	if e := wantError[*HostKeyError](t, d, m.Name, true); !e.Unknown {
		t.Errorf("got %+v, want unknown", e)
	}
	write(t, m.KnownHosts, "\n"+knownAs(m)+" "+read(t, m.KeyFile+".pub"))
	if e := wantError[*HostKeyError](t, d, m.Name, true); e.Unknown || e.File != m.KnownHosts ||
		e.Line != 2 ||
		e.Fingerprint != fingerprint(t, read(t, m.HostKeyFile("ed25519")+".pub")) {
		t.Errorf("got %+v, want changed, line 2", e)
	}
	write(t, m.KnownHosts, good+"@revoked * "+read(t, m.HostKeyFile("ed25519")+".pub"))
	if e := wantError[*HostKeyError](t, d, m.Name, true); !e.Revoked {
		t.Errorf("got %+v, want revoked", e)
	}
	write(t, m.KnownHosts, good)

	if err := os.Chmod(m.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	wantError[*AuthError](t, d, m.Name, true)

	m.AddHost("nowhere", "x", "no-such-machine.invalid", 22)
	if e := wantError[*ResolveError](t, d, "nowhere", true); e.Host != "no-such-machine.invalid" {
		t.Errorf("got %+v", e)
	}
	m.AddHost("silent", "x", "127.0.0.1", listen(t, "", true))
	quick := dialer(m, openSSH, func(o *Options) { o.DialTimeout = 100 * time.Millisecond })
	if e := wantError[*DialError](t, quick, "silent", false); !e.Timeout() {
		t.Errorf("not a timeout: %v", e)
	}
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if e := wantError[*DialError](t, d, m.Name, false); !strings.Contains(e.Error(), "refused") {
		t.Error(e)
	}
}

func testOpenSSHUnix(t *testing.T, c Conn) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	socket, accepted := serveOnce(t)
	conn, err := c.DialUnix(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	io.WriteString(conn, "hello")
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	conn.Close()
	<-accepted
}

// TestHostKeyMessages: what OpenSSH's client says of host keys is sorted, with the file and the
// host that it is about.
func TestHostKeyMessages(t *testing.T) {
	c := &opensshConn{info: Info{Addr: "gpu1", Via: "login"},
		config: &config{hostName: "10.0.0.1", port: 2222, strict: "accept-new"}}
	for text, want := range map[string]HostKeyError{
		"No ED25519 host key is known for [10.0.0.1]:2222 and you have requested strict " +
			"checking.\r\nHost key verification failed.\r\n": {
			Addr: "gpu1", Unknown: true, Lax: "accept-new", KeyType: "ED25519"},
		"No ED25519 host key is known for [login]:22022 and you have requested strict " +
			"checking.\r\nHost key verification failed.\r\n" +
			"Connection closed by UNKNOWN port 65535\r\n": {
			Addr: "login:22022", Unknown: true, Lax: "accept-new", KeyType: "ED25519"},
		"No RSA host key is known for login and you have requested strict checking.\r\n" +
			"Host key verification failed.\r\n": {
			Addr: "login", Unknown: true, Lax: "accept-new", KeyType: "RSA"},
		"Host key ED25519 SHA256:abc revoked by file /my k/revoked\r\nHost key " +
			"verification failed.\r\n": {
			Addr: "gpu1", Revoked: true, Fingerprint: "SHA256:abc", File: "/my k/revoked"},
		"Error checking host key ED25519 SHA256:abc in revoked keys file /my k/none: No such " +
			"file or directory\r\nHost key verification failed.\r\n": {
			Addr: "gpu1", Fingerprint: "SHA256:abc", Advice: revocationsAdvice,
			Detail: "can't be looked up in RevokedHostKeys /my k/none: No such file or directory"},
	} {
		got, ok := c.sortStderr(text, io.EOF).(*HostKeyError)
		if !ok {
			t.Errorf("%q: %v", text, c.sortStderr(text, io.EOF))
			continue
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// TestOpenSSHJump: over jump hosts, too, ssh takes no key that nobody has looked at, whatever the
// configuration lets it take; and what it says is said of the host that it is about.
func TestOpenSSHJump(t *testing.T) {
	t.Parallel()
	client, err := sshtest.NewClient(t.TempDir())
	if err != nil {
		sshtest.Require(t)
		t.Fatal(err)
	}
	first := sshtest.Start(t, sshtest.Shared(client), sshtest.Named("first"))
	second := sshtest.Start(t, sshtest.Shared(client), sshtest.Named("second"))
	last := sshtest.Start(t, sshtest.Shared(client), sshtest.Named("last"))
	keys, err := os.ReadFile(client.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(client.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(t.TempDir(), `of 'mine' 100%`)
	for _, tt := range []struct{ strict, jumps string }{
		{"accept-new", "Host last\n  ProxyJump first,second\n"},
		{"no", "Host last\n  ProxyJump second\nHost second\n  ProxyJump first\n"},
		{"ask", "Host last\n  ProxyJump first,second\n"},
	} {
		config := filepath.Join(t.TempDir(), "a 'config' of 100%")
		write(t, config, "StrictHostKeyChecking "+tt.strict+"\n"+tt.jumps+string(written))
		d := NewDialer(Options{ConfigFile: config, KnownHosts: known, OpenSSH: true})
		write(t, known, string(keys))
		c := mustDial(t, d, "last")
		if out, err := output(t, c, "echo $HOME"); out != last.Home+"\n" || err != nil {
			t.Errorf("got %q, %v; want %q", out, err, last.Home)
		}
		for _, hop := range []*sshtest.Machine{first, second, last} {
			name := fmt.Sprintf("[%s]:%d ", hop.Host, hop.Port)
			var others []string
			for line := range strings.Lines(string(keys)) {
				if !strings.HasPrefix(line, name) {
					others = append(others, line)
				}
			}
			if len(others) != 2 {
				t.Fatalf("%q without %s has %d keys", keys, name, len(others))
			}
			write(t, known, strings.Join(others, ""))
			_, err := d.Dial(t.Context(), "last")
			var unknown *HostKeyError
			want := fmt.Sprintf("%s:%d", hop.Host, hop.Port)
			if hop == last {
				want = "last"
			}
			if !errors.As(err, &unknown) || !unknown.Unknown || unknown.Addr != want {
				t.Errorf("%s, without the key of %s: %v", tt.strict, want, err)
			}
			if now, _ := os.ReadFile(known); string(now) != strings.Join(others, "") {
				t.Errorf("%s: it recorded a key: %q", tt.strict, now)
			}
		}
	}
}
