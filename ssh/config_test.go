package ssh

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// resolveBoth resolves addr by OpenSSH's client and without it.
func resolveBoth(t *testing.T, text, addr string) map[string]*config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	write(t, file, text)
	a, err := ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*config{}
	for name, program := range map[string]string{"ssh -G": "", "parser": "/nonexistent/ssh"} {
		d := NewDialer(Options{ConfigFile: file, SSHProgram: program})
		if got[name], err = d.resolve(t.Context(), a); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return got
}

func TestResolve(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("POOL", "/pool")
	const text = `
Host gpu*
  HostName %h.example
  User bob
  Port 2022
  AddressFamily inet
  BindAddress 127.0.0.1
  ConnectTimeout 7
  IdentityFile ~/keys/%r-%p
  IdentityFile ${POOL}/key
  CertificateFile ~/cert
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile /a/known /b/known
  GlobalKnownHostsFile none
  HashKnownHosts yes
  HostKeyAlias pool
  ProxyJump one,me@two:23
  Ciphers aes256-ctr,aes128-ctr
Host *
  User nobody
  Port 9
`
	for name, got := range resolveBoth(t, text, "gpu3") {
		want := &config{
			addr: Addr{Host: "gpu3"}, hostName: "gpu3.example", user: "bob", port: 2022,
			family: "tcp4", bindAddress: "127.0.0.1",
			timeout: 7 * time.Second, proxyJump: []string{"one", "me@two:23"}, hostKeyAlias: "pool",
			userHosts: []string{"/a/known", "/b/known"}, hashHosts: true,
			identities:     []string{home + "/keys/bob-2022", "/pool/key"},
			certificates:   []string{home + "/cert"},
			onlyIdentities: true, minRSA: 1024, ciphers: []string{"aes256-ctr", "aes128-ctr"},
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, got := range resolveBoth(t, text, "eve@gpu4:99") {
		if got.user != "eve" || got.port != 99 || got.hostPort() != "gpu4.example:99" {
			t.Errorf("%s: the address should win: %+v", name, got)
		}
	}
	for name, got := range resolveBoth(t, text, "cpu1") {
		if got.user != "nobody" || got.port != 9 || got.ciphers != nil || got.proxyJump != nil ||
			got.hostKeyName() != "[cpu1]:9" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// TestResolveSeesChanges: a configuration is kept for a while, but not when
// its file has changed.
func TestResolveSeesChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	write(t, file, "Host a\n  Port 1\n")
	d := NewDialer(Options{ConfigFile: file})
	first, err := d.resolve(t.Context(), Addr{Host: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.resolve(t.Context(), Addr{Host: "a"}); err != nil || again != first {
		t.Errorf("resolved anew without a change: %v", err)
	}
	write(t, file, "Host a\n  Port 1234\n")
	if c, err := d.resolve(t.Context(), Addr{Host: "a"}); err != nil || c.port != 1234 {
		t.Errorf("got %+v, %v; want port 1234", c, err)
	}
}

// TestSSHIsKilled: a host that can't run ssh now may be able to soon; what ssh
// itself refuses, it goes on refusing.
func TestSSHIsKilled(t *testing.T) {
	program := filepath.Join(t.TempDir(), "ssh")
	var passing *DialError
	var lasting *ConfigError
	for text, want := range map[string]any{
		"kill -9 $$":                    &passing,
		"echo Bad option >&2; exit 255": &lasting,
		"exit 255":                      &lasting,
	} {
		write(t, program, "#!/bin/sh\n"+text+"\n")
		if err := os.Chmod(program, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := NewDialer(Options{SSHProgram: program}).resolve(t.Context(), Addr{Host: "a"})
		if !errors.As(err, want) {
			t.Errorf("with an ssh that does %q: %T %v", text, err, err)
		}
	}
}

// TestMatchNeedsOpenSSH: without OpenSSH's client, what isn't understood is
// refused rather than left out.
func TestMatchNeedsOpenSSH(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	write(t, file, "Match user bob\n  Port 1\n")
	d := NewDialer(Options{ConfigFile: file, SSHProgram: "/nonexistent/ssh"})
	if _, err := d.resolve(t.Context(), Addr{Host: "a"}); err == nil {
		t.Error("Match user was accepted")
	}
}
