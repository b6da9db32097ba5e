package ssh

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jobserver/ssh/sshtest"
)

// The tests here try what others' users have reported of programs that make SSH connections:
// docs/tried.md has the sources.

// TestSecondKnownType: of several keys that are known, a machine may have only those of the second
// type, beside one that isn't known.
func TestSecondKnownType(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.HostKeyTypes("ed25519", "rsa"))
	if err := sshtest.GenerateKey("ecdsa", filepath.Join(m.Dir, "old")); err != nil {
		t.Fatal(err)
	}
	write(t, m.KnownHosts, knownAs(m)+" "+read(t, filepath.Join(m.Dir, "old.pub"))+knownAs(m)+" "+
		read(t, m.HostKeyFile("rsa")+".pub"))
	for _, d := range []*Dialer{dialer(m), dialer(m, openSSH)} {
		mustDial(t, d, m.Name)
	}
}

// TestKnownHostsNowhere: with /dev/null every key is unknown, and recording one is refused rather
// than to replace the device.
func TestKnownHostsNowhere(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.ClientConfig("UserKnownHostsFile=/dev/null"))
	wantError[*HostKeyError](t, dialer(m), m.Name, true)
	keys, err := dialer(m).HostKeys(t.Context(), m.Name)
	if err != nil || len(keys) != 1 || keys[0].Known {
		t.Fatalf("host keys: %+v, %v", keys, err)
	}
	before, err := os.Lstat("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if err := dialer(m).Trust(t.Context(), m.Name, keys...); err == nil {
		t.Error("the key was recorded nowhere, without an error")
	}
	after, err := os.Lstat("/dev/null")
	if err != nil || after.Mode() != before.Mode() {
		t.Fatalf("/dev/null is %v now, it was %v: %v", after.Mode(), before.Mode(), err)
	}
}

// TestConfigIsFound: what stands in included files, and in quotes, is found with OpenSSH's client
// and without.
func TestConfigIsFound(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.MkdirAll(filepath.Join(home, ".ssh", "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, ".ssh", "conf.d", "10-gpu"),
		"Host gpu1\n  HostName 10.0.0.1\n  IdentityFile \"~/my keys/id\"\n")
	write(t, filepath.Join(home, ".ssh", "config-h"),
		"Host gpu2\n  HostName 10.0.0.2\n  IdentityFile '"+home+"/a b'\n")
	main := filepath.Join(home, ".ssh", "config")
	write(t, main, "Host other\n  User x\n\nHost *\n  Include "+home+"/.ssh/conf.d/*\n  Include "+
		home+"/.ssh/config-*\n")
	for name, program := range map[string]string{"ssh": "ssh", "parser": "/nonexistent/ssh"} {
		d := NewDialer(Options{ConfigFile: main, SSHProgram: program})
		for host, want := range map[string][2]string{
			"gpu1": {"10.0.0.1", home + "/my keys/id"}, "gpu2": {"10.0.0.2", home + "/a b"},
		} {
			c, err := d.resolve(t.Context(), Addr{Host: host})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if c.hostName != want[0] || !slices.Contains(c.identities, want[1]) {
				t.Errorf("%s: %s is %s, with keys %q", name, host, c.hostName, c.identities)
			}
		}
	}
}

// TestIPv6: addresses are taken as they are, with a zone and with brackets or without.
func TestIPv6(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	write(t, file, "Port 2222\n")
	d := NewDialer(Options{ConfigFile: file})
	for addr, want := range map[string][2]string{
		"fd00::1f2":          {"[fd00::1f2]:2222", "[fd00::1f2]:2222"},
		"me@fd00::1f2":       {"[fd00::1f2]:2222", "[fd00::1f2]:2222"},
		"[fd00::1f2]":        {"[fd00::1f2]:2222", "[fd00::1f2]:2222"},
		"[fd00::1f2]:22":     {"[fd00::1f2]:22", "fd00::1f2"},
		"fe80::c60b%lo":      {"[fe80::c60b%lo]:2222", "[fe80::c60b%lo]:2222"},
		"me@[fe80::1%lo]:22": {"[fe80::1%lo]:22", "fe80::1%lo"},
	} {
		a, err := ParseAddr(addr)
		if err != nil {
			t.Error(err)
			continue
		}
		c, err := d.resolve(t.Context(), a)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if c.hostPort() != want[0] || c.hostKeyName() != want[1] {
			t.Errorf("%s is reached at %s, and known as %s", addr, c.hostPort(), c.hostKeyName())
		}
		if _, _, err := net.SplitHostPort(c.hostPort()); err != nil {
			t.Error(err)
		}
	}
}

// TestLongTemporaryDirectory: a socket's name may have about 100 characters, whatever TMPDIR has.
func TestLongTemporaryDirectory(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 25), strings.Repeat("er", 25))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m, openSSH), m.Name)
	conn, err := c.DialUnix(t.Context(), shortSocket(t))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// shortSocket listens at a name that is short whatever TMPDIR is.
func shortSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "u")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		os.RemoveAll(dir)
	})
	return dir + "/s"
}
