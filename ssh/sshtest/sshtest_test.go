package sshtest

import (
	"bufio"
	"context"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a command on m with OpenSSH's client.
func run(t *testing.T, m *Machine, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ssh", "-F", m.ConfigFile, "-o", "BatchMode=yes",
		m.Name, "--", command).Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, m.LogText())
	}
	return string(out)
}

func TestMachinesHaveHomesOfTheirOwn(t *testing.T) {
	Require(t)
	c, err := NewClient(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a := Start(t, Shared(c), Named("a"), Env("COLOUR=dark blue"))
	b := Start(t, Shared(c), Named("b"), HostKeyTypes("ecdsa"))
	if got, want := run(t, a, `echo "$HOME,$XDG_STATE_HOME,$COLOUR"`), a.Home+","+
		filepath.Join(a.Home, ".local/state")+",dark blue\n"; got != want {
		t.Errorf("a says %q, want %q", got, want)
	}
	if got := run(t, b, "echo $HOME"); got != b.Home+"\n" || a.Home == b.Home {
		t.Errorf("b's home is %q, want %q", got, b.Home)
	}
}

func TestBannerAndShell(t *testing.T) {
	m := Start(t, Banner("Welcome!\nBe kind.\n"), Shell("/bin/sh"))
	if got, want := run(t, m, "echo 'a  b'"), "Welcome!\nBe kind.\na  b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRestartKeepsThePort(t *testing.T) {
	m := Start(t)
	run(t, m, "true")
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	run(t, m, "true")
}

// TestKillAll also catches what left its session and its parent.
func TestKillAll(t *testing.T) {
	m := Start(t)
	run(t, m, "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo started")
	n, err := m.KillAll()
	if n != 1 || err != nil {
		t.Errorf("KillAll = %d, %v; want 1 process", n, err)
	}
}

func TestKillSessions(t *testing.T) {
	m := Start(t)
	cmd := exec.Command("ssh", "-F", m.ConfigFile, "-o", "BatchMode=yes", m.Name,
		"echo up; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	if n, err := m.KillSessions(); n == 0 || err != nil {
		t.Errorf("KillSessions = %d, %v", n, err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("ssh ended with 0 although its session was killed")
	}
}

// echo serves a TCP port that sends back what it gets.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestProxyCutAndHeal(t *testing.T) {
	p := NewProxy(t, echo(t))
	c := dial(t, p.Addr)
	say := func(s string) {
		if _, err := io.WriteString(c, s); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
			t.Fatalf("read %q, %v; want %q", b, err, want)
		}
	}
	say("one")
	hear("one")
	p.Cut()
	say("two")
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Read(make([]byte, 8)); err == nil {
		t.Fatalf("%d bytes arrived through a cut network", n)
	}
	c.SetReadDeadline(time.Time{})
	p.Heal()
	hear("two")
	start := time.Now()
	p.SetDelay(15 * time.Millisecond)
	say("three")
	hear("three")
	if d := time.Since(start); d < 30*time.Millisecond {
		t.Errorf("a round trip took %v, want at least twice the delay", d)
	}
	p.Reset()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read after a reset")
	}
}

func TestProxyResetAfter(t *testing.T) {
	p := NewProxy(t, echo(t))
	p.ResetAfter(150)
	c := dial(t, p.Addr)
	if _, err := io.WriteString(c, strings.Repeat("x", 100)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); err == nil || n > 50 {
		t.Errorf("%d bytes came back, then %v", n, err)
	}
}
