package ssh

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"jobserver/ssh/sshtest"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func fingerprint(t *testing.T, public string) string {
	t.Helper()
	key, _, _, _, err := xssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	return xssh.FingerprintSHA256(key)
}

// knownAs is the name of m in known_hosts.
func knownAs(m *sshtest.Machine) string { return fmt.Sprintf("[%s]:%d", m.Host, m.Port) }

func TestUnknownHostKey(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	write(t, m.KnownHosts, "")
	e := wantError[*HostKeyError](t, dialer(m), m.Name, true)
	if want := fingerprint(t, read(t, m.HostKeyFile("ed25519")+".pub")); !e.Unknown ||
		e.Fingerprint != want || e.File != m.KnownHosts {
		t.Errorf("got %+v, want unknown with %s", e, want)
	}
	if !strings.Contains(e.Hint(), "machine trust") {
		t.Errorf("hint %q", e.Hint())
	}
	// A known_hosts file that doesn't exist at all is the same.
	if err := os.Remove(m.KnownHosts); err != nil {
		t.Fatal(err)
	}
	wantError[*HostKeyError](t, dialer(m), m.Name, true)
}

func TestChangedHostKey(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	write(t, m.KnownHosts, "# comment\n"+knownAs(m)+" "+read(t, m.KeyFile+".pub"))
	e := wantError[*HostKeyError](t, dialer(m), m.Name, true)
	if e.Unknown || e.File != m.KnownHosts || e.Line != 2 ||
		!strings.Contains(e.Error(), "has changed") {
		t.Errorf("got %v (%+v), want changed, line 2", e, e)
	}
}

// TestChangedHostKeyType has a machine that lost the type that is known of it.
func TestChangedHostKeyType(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.HostKeyTypes("ecdsa"))
	write(t, m.KnownHosts, knownAs(m)+" "+read(t, m.KeyFile+".pub"))
	e := wantError[*HostKeyError](t, dialer(m), m.Name, true)
	if e.Unknown || e.Line != 1 {
		t.Errorf("got %+v", e)
	}
}

func TestRevokedHostKey(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	write(t, m.KnownHosts, read(t, m.KnownHosts)+"@revoked * "+
		read(t, m.HostKeyFile("ed25519")+".pub"))
	e := wantError[*HostKeyError](t, dialer(m), m.Name, true)
	if !e.Revoked || e.Line != 2 {
		t.Errorf("got %+v, want revoked, line 2", e)
	}
}

// TestEd25519Only has a machine with several keys of which only one is known:
// it must be asked for that one.
func TestEd25519Only(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.HostKeyTypes("ecdsa", "rsa", "ed25519"))
	write(t, m.KnownHosts, knownAs(m)+" "+read(t, m.HostKeyFile("ed25519")+".pub"))
	mustDial(t, dialer(m), m.Name)
}

// TestKnownWithoutPort: as in OpenSSH, a key that is known for the host counts
// on its other ports too.
func TestKnownWithoutPort(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	write(t, m.KnownHosts, m.Host+" "+read(t, m.HostKeyFile("ed25519")+".pub"))
	mustDial(t, dialer(m), m.Name)
}

func TestHostKeyAlias(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.ClientConfig("HostKeyAlias pool"))
	write(t, m.KnownHosts, "pool "+read(t, m.HostKeyFile("ed25519")+".pub"))
	mustDial(t, dialer(m), m.Name)
}

func TestBadKnownHostsLine(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	good := read(t, m.KnownHosts)
	write(t, m.KnownHosts, "this is nonsense\nx ssh-ed25519 !!!\n"+good+"|1|broken ssh-rsa AAAA\n")
	var log bytes.Buffer
	d := dialer(m, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	mustDial(t, d, m.Name)
	for _, line := range []string{"line=1", "line=2", "line=4"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no warning for %s in %s", line, &log)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 3 {
		t.Errorf("%d warnings, want 3: %s", n, &log)
	}
	// Numbers in errors are those of the file as it is.
	write(t, m.KnownHosts, "nonsense\n\n"+knownAs(m)+" "+read(t, m.KeyFile+".pub"))
	if e := wantError[*HostKeyError](t, d, m.Name, true); e.File != m.KnownHosts || e.Line != 3 {
		t.Errorf("got %+v, want line 3 of %s", e, m.KnownHosts)
	}
}

// certify signs a public key with an authority, as ssh-keygen does it.
func certify(t *testing.T, ca, public string, args ...string) {
	t.Helper()
	out, err := exec.Command("ssh-keygen",
		append(append([]string{"-q", "-s", ca, "-I", "test"}, args...), public)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	sshtest.Require(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca")
	if err := sshtest.GenerateKey("ed25519", ca); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "users.pub")
	write(t, users, read(t, ca+".pub"))
	host := filepath.Join(dir, "host")
	if err := sshtest.GenerateKey("ed25519", host); err != nil {
		t.Fatal(err)
	}
	certify(t, ca, host+".pub", "-h", "-n", "pool")
	m := sshtest.Start(t, sshtest.ClientConfig("HostKeyAlias pool"), sshtest.ServerConfig(
		"HostKey "+host, "HostCertificate "+host+"-cert.pub", "TrustedUserCAKeys "+users,
		"AuthorizedKeysFile none"))
	write(t, m.KnownHosts, "@cert-authority pool "+read(t, ca+".pub"))
	// Without a certificate the machine lets nobody in.
	wantError[*AuthError](t, dialer(m), m.Name, true)
	certify(t, ca, m.KeyFile+".pub", "-n", m.User)
	mustDial(t, dialer(m), m.Name)

	write(t, m.KnownHosts, "@cert-authority other "+read(t, ca+".pub"))
	if e := wantError[*HostKeyError](t, dialer(m), m.Name, true); !e.Unknown {
		t.Errorf("got %+v, want unknown", e)
	}
	write(t, m.KnownHosts, "@cert-authority pool "+read(t, m.KeyFile+".pub"))
	if e := wantError[*HostKeyError](t, dialer(m), m.Name, true); !e.Unknown {
		t.Errorf("got %+v, want an unknown authority", e)
	}
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	if err := os.Rename(m.KeyFile+".pub", filepath.Join(t.TempDir(), "away")); err != nil {
		t.Fatal(err)
	}
	if err := sshtest.GenerateKey("ed25519", filepath.Join(m.Dir, "other")); err != nil {
		t.Fatal(err)
	}
	write(t, m.KeyFile+".pub", read(t, filepath.Join(m.Dir, "other.pub")))
	e := wantError[*AuthError](t, dialer(m), m.Name, true)
	if len(e.Tried) != 1 || !strings.Contains(e.Error(), m.KeyFile) || e.User != m.User {
		t.Errorf("got %+v", e)
	}
}

func TestTooManyKeys(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.ServerConfig("MaxAuthTries 1"))
	other := filepath.Join(m.Dir, "other")
	if err := sshtest.GenerateKey("ed25519", other); err != nil {
		t.Fatal(err)
	}
	d := dialer(m, func(o *Options) { o.Identity = other })
	if e := wantError[*AuthError](t, d, m.Name, true); len(e.Tried) != 2 {
		t.Errorf("got %+v", e)
	}
}

func TestNoKey(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	if err := os.Chmod(m.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if e := wantError[*AuthError](t, dialer(m), m.Name, true); !strings.Contains(e.Error(),
		"chmod 600") {
		t.Error(e)
	}
	if err := os.Remove(m.KeyFile); err != nil {
		t.Fatal(err)
	}
	if e := wantError[*AuthError](t, dialer(m), m.Name, true); !strings.Contains(e.Error(),
		"no such file") {
		t.Error(e)
	}
}

// startAgent serves a keyring on a socket until the test ends.
func startAgent(t *testing.T, ring agent.Agent) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
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
			agent.ServeAgent(ring, c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		os.RemoveAll(dir)
	})
	return socket
}

func rawKey(t *testing.T, file string) any {
	t.Helper()
	key, err := xssh.ParseRawPrivateKey([]byte(read(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAgent(t *testing.T) {
	t.Parallel()
	sshtest.Require(t)
	ring := agent.NewKeyring()
	socket := startAgent(t, ring)
	m := sshtest.Start(t, sshtest.ClientConfig("IdentityAgent "+socket))
	key := rawKey(t, m.KeyFile)
	// The key gets a passphrase: now only the agent can use it.
	if out, err := exec.Command("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f",
		m.KeyFile).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	e := wantError[*AuthError](t, dialer(m), m.Name, true)
	if len(e.Locked) != 1 || !strings.Contains(e.Hint(), "ssh-add "+m.KeyFile) {
		t.Errorf("locked %q, hint %q", e.Locked, e.Hint())
	}
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	mustDial(t, dialer(m), m.Name)
	// The public half alone is enough to choose the agent's key.
	if err := os.Remove(m.KeyFile); err != nil {
		t.Fatal(err)
	}
	mustDial(t, dialer(m), m.Name)
}

// TestAgentKeysLast has an agent with more keys than sshd lets us try: the
// configured one comes first, and IdentitiesOnly leaves the others out.
func TestAgentKeysLast(t *testing.T) {
	t.Parallel()
	sshtest.Require(t)
	ring := agent.NewKeyring()
	socket := startAgent(t, ring)
	for i := range 8 {
		name := filepath.Join(t.TempDir(), fmt.Sprint("k", i))
		if err := sshtest.GenerateKey("ed25519", name); err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: rawKey(t, name)}); err != nil {
			t.Fatal(err)
		}
	}
	m := sshtest.Start(t, sshtest.ClientConfig("IdentityAgent "+socket, "IdentitiesOnly no"))
	mustDial(t, dialer(m), m.Name)
	if strings.Contains(m.LogText(), "Failed publickey") {
		t.Error("other keys were tried before the configured one")
	}
}

func TestHostKeysAndTrust(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.HostKeyTypes("rsa", "ed25519", "ecdsa"))
	d := dialer(m)
	other := "other.example,[" + m.Host + "]:" + fmt.Sprint(m.Port) + " " +
		read(t, m.KeyFile+".pub")
	before := "# mine\n" + other
	write(t, m.KnownHosts, before)
	keys, err := d.HostKeys(t.Context(), m.Name)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, k := range keys {
		types = append(types, k.Type)
		if k.Known {
			t.Errorf("%s is said to be known", k.Type)
		}
	}
	if want := []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"}; !slices.Equal(types,
		want) {
		t.Errorf("types %v, want %v", types, want)
	}
	if want := fingerprint(t, read(t, m.HostKeyFile("ed25519")+
		".pub")); keys[0].Fingerprint != want {
		t.Errorf("fingerprint %s, want %s", keys[0].Fingerprint, want)
	}
	if err := d.Trust(t.Context(), m.Name, keys...); err != nil {
		t.Fatal(err)
	}
	mustDial(t, d, m.Name)
	if got := read(t, m.KnownHosts+".old"); got != before {
		t.Errorf("backup is %q, want %q", got, before)
	}
	got := read(t, m.KnownHosts)
	if !strings.HasPrefix(got, "# mine\nother.example ssh-ed25519 ") ||
		strings.Count(got, knownAs(m)+" ") != 3 {
		t.Errorf("known_hosts is\n%s", got)
	}
	if keys, err = d.HostKeys(t.Context(), m.Name); err != nil || !keys[0].Known || !keys[2].Known {
		t.Errorf("after Trust: %+v, %v", keys, err)
	}
	// Trusting again changes nothing.
	if err := d.Trust(t.Context(), m.Name, keys...); err != nil {
		t.Fatal(err)
	}
	if again := read(t, m.KnownHosts); again != got {
		t.Errorf("known_hosts became\n%s", again)
	}
}

func TestTrustHashes(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	if out, err := exec.Command("ssh-keygen", "-q", "-H", "-f",
		m.KnownHosts).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := dialer(m)
	mustDial(t, d, m.Name)
	keys, err := d.HostKeys(t.Context(), m.Name)
	if err != nil {
		t.Fatal(err)
	}
	before := read(t, m.KnownHosts)
	if err := d.Trust(t.Context(), m.Name, keys...); err != nil {
		t.Fatal(err)
	}
	got := read(t, m.KnownHosts)
	if strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "|1|") || got == before {
		t.Errorf("known_hosts is %q, want one hashed line in place of %q", got, before)
	}
	mustDial(t, d, m.Name)
}
