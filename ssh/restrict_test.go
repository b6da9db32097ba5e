package ssh

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"jobserver/ssh/sshtest"
)

// TestPrintedConfig: what ssh -G prints is read as ssh prints it.
func TestPrintedConfig(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		line  string
		jumps []string // each as ParseAddr has it
		hosts []string
	}{
		{line: "ProxyJump exp@127.0.0.1:2222", jumps: []string{"exp@127.0.0.1:2222"}},
		{line: "ProxyJump 127.0.0.1", jumps: []string{"127.0.0.1"}},
		{line: "ProxyJump exp@127.0.0.1", jumps: []string{"exp@127.0.0.1"}},
		{line: "ProxyJump 127.0.0.1:22", jumps: []string{"127.0.0.1:22"}},
		{line: "ProxyJump 10.1:22", jumps: []string{"10.1:22"}},
		{line: "ProxyJump 7:22", jumps: []string{"7:22"}},
		{line: "ProxyJump exp@localhost:2222", jumps: []string{"exp@localhost:2222"}},
		{line: "ProxyJump exp@[::1]:2222", jumps: []string{"exp@[::1]:2222"}},
		{line: "ProxyJump [::1]", jumps: []string{"::1"}},
		{line: "ProxyJump [fe80::1%%lo]:22", jumps: []string{"[fe80::1%lo]:22"}},
		{line: "ProxyJump ssh://u@10.0.0.1:2222", jumps: []string{"u@10.0.0.1:2222"}},
		{line: "ProxyJump a,b@10.0.0.1,c@10.0.0.2:22",
			jumps: []string{"a", "b@10.0.0.1", "c@10.0.0.2:22"}},
		{line: "ProxyJump 10.0.0.1,10.0.0.2", jumps: []string{"10.0.0.1", "10.0.0.2"}},
		{line: "ProxyJump none"},
		{line: `UserKnownHostsFile "/dir/my k/kh"`, hosts: []string{"/dir/my k/kh"}},
		{line: `UserKnownHostsFile '/dir/my k/kh'`, hosts: []string{"/dir/my k/kh"}},
		{line: `UserKnownHostsFile /dir/my\ k/kh /other`,
			hosts: []string{"/dir/my k/kh", "/other"}},
		{line: `UserKnownHostsFile "/dir/my k/kh" /other`,
			hosts: []string{"/dir/my k/kh", "/other"}},
		{line: `UserKnownHostsFile = "/a /b" "/c d" e`, hosts: []string{"/a /b", "/c d", "e"}},
		{line: `UserKnownHostsFile="/a  b"`, hosts: []string{"/a  b"}},
		{line: `UserKnownHostsFile "/a\"b/c" '/d e'`, hosts: []string{`/a"b/c`, "/d e"}},
		{line: `"UserKnownHostsFile" "/a b" "/c"`, hosts: []string{"/a b", "/c"}},
		{line: `UserKnownHostsFile "~/k h" ~/kh`, hosts: []string{home + "/k h", home + "/kh"}},
		{line: `UserKnownHostsFile "%d/k h" %d/%n`, hosts: []string{home + "/k h", home + "/gpu1"}},
		{line: `UserKnownHostsFile "${POOL}/k h"`, hosts: []string{"/pool/k h"}},
		{line: `UserKnownHostsFile rel other`, hosts: []string{"rel", "other"}},
		{line: `UserKnownHostsFile none`},
		{line: `UserKnownHostsFile /a	/b`, hosts: []string{"/a", "/b"}},
		{line: "Match host gpu1\nUserKnownHostsFile \"/a b\"\nMatch host x\nUserKnownHostsFile " +
			"/a b", hosts: []string{"/a b"}},
	} {
		t.Setenv("POOL", "/pool")
		file := filepath.Join(t.TempDir(), "config")
		write(t, file, test.line+"\n")
		c, err := NewDialer(Options{ConfigFile: file}).resolve(t.Context(), Addr{Host: "gpu1"})
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		var jumps []string
		for _, j := range c.proxyJump {
			a, err := ParseAddr(j)
			if err != nil {
				t.Errorf("%s: %v", test.line, err)
			}
			jumps = append(jumps, a.String())
		}
		if diff := cmp.Diff(test.jumps, jumps); diff != "" {
			t.Errorf("%s: jump hosts (-want +got):\n%s", test.line, diff)
		}
		if !strings.Contains(test.line, "UserKnown") {
			continue
		}
		if diff := cmp.Diff(test.hosts, c.userHosts); diff != "" {
			t.Errorf("%s: known_hosts files (-want +got):\n%s", test.line, diff)
		}
	}
}

// TestIncludedLists: lists of files are found where they are written, also if that is an included
// file, and told apart where that can't be read.
func TestIncludedLists(t *testing.T) {
	dir := t.TempDir()
	file, inner := filepath.Join(dir, "config"), filepath.Join(dir, "in ner")
	write(t, inner, `UserKnownHostsFile "/my k/kh" "/other"`)
	for _, include := range []string{"Include " + dir + "/in?ner", `Include "` + inner + `"`} {
		write(t, file, include+"\n")
		c, err := NewDialer(Options{ConfigFile: file}).resolve(t.Context(), Addr{Host: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"/my k/kh", "/other"}, c.userHosts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", include, diff)
		}
	}
}

// TestRestrictions: what a configuration forbids isn't reached, by either transport, for a reason
// that names it.
func TestRestrictions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		write(t, name, content)
		return name
	}
	m := sshtest.Start(t, sshtest.HostKeyTypes("ed25519", "rsa"),
		sshtest.ServerConfig("MaxStartups 100"))
	key := read(t, m.HostKeyFile("ed25519")+".pub")
	other := read(t, m.KeyFile+".pub")
	krl := filepath.Join(dir, "krl")
	if out, err := exec.Command("ssh-keygen", "-k", "-f", krl, m.HostKeyFile("ed25519")+
		".pub").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	otherKRL := filepath.Join(dir, "krl2")
	if out, err := exec.Command("ssh-keygen", "-k", "-f", otherKRL, m.KeyFile+
		".pub").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	try := func(name string, d *Dialer, alias, lines, want string) {
		c, err := d.Dial(t.Context(), alias)
		if err == nil {
			c.Close()
		}
		switch {
		case (err == nil) != (want == ""):
			t.Errorf("%s: %s: %v", name, lines, err)
		case err != nil && !strings.Contains(err.Error(), want) &&
			(name == "own" || want != "PubkeyAcceptedAlgorithms"): // which ssh doesn't say
			t.Errorf("%s: %s: %v, want %s", name, lines, err, want)
		case err != nil && !IsFinal(err):
			t.Errorf("%s: %s: %v passes", name, lines, err)
		case err != nil && strings.Contains(lines, "StrictHostKeyChecking") &&
			!strings.Contains(err.(Hinter).Hint(), "StrictHostKeyChecking"):
			t.Errorf("%s: the hint doesn't say that it isn't followed: %s", lines, err.(Hinter).
				Hint())
		}
	}
	var few errgroup.Group
	few.SetLimit(fewLogins)
	for i, test := range []struct {
		lines string
		want  string // in the error of our own transport; "": the machine is reached
	}{
		{"RevokedHostKeys " + file("revoked", "# of today\n"+key), "revoked"},
		{"RevokedHostKeys " + file("many", other+key+other), "revoked"},
		{`RevokedHostKeys "` + file("my revoked", key) + `"`, "revoked"},
		{"RevokedHostKeys " + file("others", other), ""},
		{"RevokedHostKeys " + file("empty", ""), ""},
		{"RevokedHostKeys none", ""},
		{"RevokedHostKeys /nonexistent", "RevokedHostKeys"},
		{"RevokedHostKeys " + krl, "revoked"},
		{"RevokedHostKeys " + otherKRL, ""},
		{"RevokedHostKeys " + file("badkrl", krlMagic+"x"), "RevokedHostKeys"},
		{"HostKeyAlgorithms rsa-sha2-512\nRequiredRSASize 8192", "RequiredRSASize"},
		{"HostKeyAlgorithms rsa-sha2-512", ""},
		{"PubkeyAcceptedAlgorithms rsa-sha2-256", "PubkeyAcceptedAlgorithms"},
		{"PubkeyAcceptedAlgorithms ssh-ed25519", ""},
		{"StrictHostKeyChecking no\nUserKnownHostsFile /nonexistent", "unknown"},
		{"StrictHostKeyChecking accept-new\nUserKnownHostsFile /nonexistent", "unknown"},
		{"NoHostAuthenticationForLocalhost yes\nUserKnownHostsFile /nonexistent", "unknown"},
		{"VerifyHostKeyDNS yes\nUserKnownHostsFile /nonexistent", "unknown"},
	} {
		alias := fmt.Sprintf("x%d", i)
		m.AddHost(alias, m.User, m.Host, m.Port, strings.Split(test.lines, "\n")...)
		for name, d := range map[string]*Dialer{"own": dialer(m), "openssh": dialer(m, openSSH)} {
			few.Go(func() error {
				try(name, d, alias, test.lines, test.want)
				return nil
			})
		}
	}
	_ = few.Wait() // try tells
}

// TestCheckHostIP: with it, the address must not have another key on record than the name.
func TestCheckHostIP(t *testing.T) {
	key, other := newSigner(t).PublicKey(), newSigner(t).PublicKey()
	ip := net.ParseIP("10.0.0.1")
	for _, test := range []struct {
		known string // beside the name's line; K and X stand for keys
		ip    net.IP
		port  int
		want  bool
	}{
		{"", ip, 22, true}, {"10.0.0.1 K", ip, 22, true}, {"10.0.0.1 X", ip, 22, false},
		{"10.0.0.1 X", net.ParseIP("10.0.0.2"), 22, true},
		{"10.0.0.1 X\n10.0.0.1 K", ip, 22, true}, {"10.0.0.* X", ip, 22, false},
		{"[10.0.0.1]:23 X", ip, 23, false}, {"10.0.0.1 X", ip, 23, true},
		{"@revoked 10.0.0.1 K", ip, 22, false}, {"127.0.0.1 X", net.ParseIP("127.0.0.1"), 22, true},
		{"10.0.0.1 X", nil, 22, true},
	} {
		file := filepath.Join(t.TempDir(), "kh")
		write(t, file, knownName("gpu1", test.port)+" "+publicText(key)+"\n"+
			strings.NewReplacer(" K", " "+publicText(key), " X", " "+publicText(other)).
				Replace(test.known)+"\n")
		hk := loadHostKeys([]string{file}, slog.New(slog.DiscardHandler))
		c := &config{addr: Addr{Host: "gpu1"}, hostName: "gpu1", port: test.port, checkIP: true}
		if err := hk.check(c, key, test.ip); (err == nil) != test.want {
			t.Errorf("%q at %v: %v", test.known, test.ip, err)
		}
		c.checkIP = false
		if err := hk.check(c, key, test.ip); err != nil {
			t.Errorf("%q without CheckHostIP: %v", test.known, err)
		}
	}
}

// TestNoCommonAlgorithm: an sshd that is too old hasn't changed its key.
func TestNoCommonAlgorithm(t *testing.T) {
	t.Parallel()
	for line, hint := range map[string]string{
		"HostKeyAlgorithms ssh-rsa": "HostKeyAlgorithms +ssh-rsa",
		"KexAlgorithms diffie-hellman-group1-sha1": "KexAlgorithms " +
			"+diffie-hellman-group1-sha1",
		"Ciphers aes256-cbc":                                         "Ciphers +aes256-cbc",
		"Ciphers aes128-ctr\nMACs hmac-md5":                          "MACs +hmac-md5",
		"HostKeyAlgorithms rsa-sha2-512,ssh-rsa":                     "",
		"Ciphers aes128-ctr\nMACs hmac-sha2-512,umac-64@openssh.com": "",
	} {
		m := sshtest.Start(t, sshtest.HostKeyTypes("rsa"),
			sshtest.ServerConfig(strings.Split(line, "\n")...))
		for name, d := range map[string]*Dialer{"own": dialer(m), "openssh": dialer(m, openSSH)} {
			if hint == "" {
				mustDial(t, d, m.Name)
				continue
			}
			e := wantError[*AlgorithmError](t, d, m.Name, true)
			if !strings.Contains(e.Hint(), hint) {
				t.Errorf("%s: %s: %v (%s)", name, line, e, e.Hint())
			}
		}
		if hint == "" || !strings.Contains(hint, "ssh-rsa") {
			continue
		}
		// Allowed, it works; and trust says what it is about.
		wantKeys[*AlgorithmError](t, dialer(m), m.Name)
		m.AddHost("allowed", m.User, m.Host, m.Port, hint)
		mustDial(t, dialer(m), "allowed")
		if keys, err := dialer(m).HostKeys(t.Context(), "allowed"); err != nil || len(keys) != 1 ||
			!keys[0].Known {
			t.Errorf("host keys: %+v, %v", keys, err)
		}
	}
}

// TestKnownTypeNotAllowed: where the configuration allows no algorithm of the keys on record, the
// machine is asked for another one, and nobody is told that its key has changed if it has none.
func TestKnownTypeNotAllowed(t *testing.T) {
	t.Parallel()
	const line = "HostKeyAlgorithms rsa-sha2-512"
	one := sshtest.Start(t, sshtest.HostKeyTypes("ed25519"), sshtest.ClientConfig(line))
	two := sshtest.Start(t, sshtest.HostKeyTypes("ed25519", "rsa"), sshtest.ClientConfig(line))
	write(t, two.KnownHosts, knownAs(two)+" "+read(t, two.HostKeyFile("ed25519")+".pub"))
	for _, change := range []func(*Options){func(*Options) {}, openSSH} {
		e := wantError[*AlgorithmError](t, dialer(one, change), one.Name, true)
		if want := "HostKeyAlgorithms +ssh-ed25519"; !strings.Contains(e.Hint(), want) {
			t.Errorf("%v (%s), want %s", e, e.Hint(), want)
		}
		wantError[*HostKeyError](t, dialer(two, change), two.Name, true)
	}
}

func wantKeys[E error](t *testing.T, d *Dialer, addr string) {
	t.Helper()
	_, err := d.HostKeys(t.Context(), addr)
	if _, ok := err.(E); !ok {
		t.Errorf("host keys: %T %v", err, err)
	}
}

// TestRecordKeys: keys are only recorded in regular files, links are followed, and what is there
// stays what it is.
func TestRecordKeys(t *testing.T) {
	key := newSigner(t).PublicKey()
	line := "gpu1 " + publicText(key) + "\n"
	for name, test := range map[string]struct {
		make func(dir string) error // of dir/kh
		want string                 // in the error
	}{
		"new": {func(string) error { return nil }, ""},
		"regular": {func(dir string) error {
			return os.WriteFile(dir+"/kh", []byte("x\n"), 0o644)
		}, ""},
		"link": {func(dir string) error {
			return os.Symlink("to", dir+"/kh")
		}, "link to a file that isn't there"},
		"link to file": {func(dir string) error {
			return firstError(os.WriteFile(dir+"/to", nil, 0o600), os.Symlink(dir+"/to", dir+"/kh"))
		}, ""},
		"link to link": {func(dir string) error {
			return firstError(os.WriteFile(dir+"/to", nil, 0o600), os.Symlink("to", dir+"/l"),
				os.Symlink("l", dir+"/kh"))
		}, ""},
		"link to device": {func(dir string) error {
			return os.Symlink("/dev/null", dir+"/kh")
		}, "not a regular file"},
		"directory": {func(dir string) error {
			return os.Mkdir(dir+"/kh", 0o700)
		}, "directory"},
		"socket": {func(dir string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/kh", Net: "unix"})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, "kh"},
		"pipe": {func(dir string) error {
			return syscall.Mkfifo(dir+"/kh", 0o600)
		}, "not a regular file"},
		"device without an end": {func(dir string) error {
			return os.Symlink("/dev/zero", dir+"/kh")
		}, "not a regular file"},
		"link to itself": {func(dir string) error { return os.Symlink("kh", dir+"/kh") }, "kh"},
	} {
		dir := t.TempDir()
		if err := test.make(dir); err != nil {
			t.Fatal(err)
		}
		file := dir + "/kh"
		before, _ := os.Lstat(file)
		err := recordKeys(file, "gpu1", []xssh.PublicKey{key}, false)
		after, _ := os.Lstat(file)
		if before != nil && after != nil && (before.Mode() != after.Mode()) {
			t.Errorf("%s: was %v, is %v", name, before.Mode(), after.Mode())
		}
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %s", name, err, test.want)
			}
			continue
		}
		if err != nil || !strings.HasSuffix(read(t, file), line) {
			t.Errorf("%s: %v", name, err)
		}
		hk := loadHostKeys([]string{file}, slog.New(slog.DiscardHandler))
		if !slices.ContainsFunc(hk.of("gpu1"),
			func(k knownKey) bool { return sameKey(k.key, key) }) {
			t.Errorf("%s: the key isn't known afterwards", name)
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
