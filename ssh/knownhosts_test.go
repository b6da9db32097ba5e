package ssh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	xssh "golang.org/x/crypto/ssh"

	"jobserver/ssh/sshtest"
)

// relayVar has the test program copy between its standard streams and the address that is the
// variable's value: it is the ProxyCommand with which ssh reaches a machine whatever its name.
const relayVar = "JOBSERVER_SSH_TEST_RELAY"

func relay(addr string) int {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 1
	}
	go io.Copy(conn, os.Stdin)
	io.Copy(os.Stdout, conn)
	return 0
}

func newSigner(t *testing.T) xssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// publicText is a key as known_hosts files have it.
func publicText(key xssh.PublicKey) string {
	return strings.TrimSpace(string(xssh.MarshalAuthorizedKey(key)))
}

// TestKnownNames compares for which names a line counts with ssh-keygen -F: each of the names with
// each of the lines.
func TestKnownNames(t *testing.T) {
	t.Parallel()
	sshtest.Require(t)
	names := []string{"a", "b", "ab", "gpu1", "gpu10", "gpu1.lab", "gpu1.lab.example", "lab",
		"10.0.0.1", "10.0.0.12", "10.0.1.1",
		"[10.0.0.1]:2222", "::1", "[::1]:2222", "fe80::1", "[gpu1]:2222", "[gpu1]:22",
		"[gpu1.lab]:2222", "[gpu10]:2222", "[gpu1]:22222",
		"x_y", "x-y", "münchen", "a.b.c", "localhost", "*", "?", "!a", "a,b"}
	patterns := []string{"*", "?", "??", "*.*", "gpu*", "gpu?", "gpu1", "GPU1", "Gpu*", "*.lab",
		"*.lab.example", "gpu1.*", "*gpu*", "g*1", "g*1*",
		"!gpu1", "*,!gpu1", "!gpu1,*", "gpu*,!gpu10", "gpu*,!*.lab", "!*,gpu1", "gpu1,10.0.0.1",
		"10.0.0.*", "10.0.?.1", "[10.0.0.1]:2222",
		"10.0.0.1", "[*]:2222", "[gpu1]:2222", "[gpu1]:*", "[gpu*]:2222", "[gpu*]:22?2",
		"[gpu1]:22", "[gpu1]", "gpu1:2222", "::1", "[::1]:2222",
		"[::1]:22", "fe80::*", "*:*", "a,b,ab", "a,,b", ",", "a,", ",a", "**", "*?", "?*", "a*b",
		"**b", "x?y", "x_y", "x-*", "m*n", "münchen", "m??nchen",
		"m???nchen", "!", "*,!", "!!a", "!!a,*", "a.b.c", "a.*.c", "*.b.*", "a.b", "localhost",
		"LOCALHOST", "gpu[1]", "gpu{1}", `gpu\1`, "'gpu1'",
		`"gpu1"`, "|gpu1", "|1|", "|1|x|y", "|2|AAAA|AAAA", "@gpu1"}
	key := publicText(newSigner(t).PublicKey())
	var lines []string
	for _, p := range patterns {
		lines = append(lines, p+" "+key, "@cert-authority "+p+" "+key, "@revoked\t"+p+"\t"+
			strings.ReplaceAll(key, " ", "\t"))
	}
	for _, n := range names {
		lines = append(lines, hashed(n)+" "+key, "@revoked "+hashed(n)+" "+key, hashed(n)+",x "+key)
	}
	lines = append(lines, "", "# gpu1 "+key, "#gpu1 "+key, "  gpu1 "+key, "\tgpu1\t"+key, "gpu1 "+
		key+" comment of words", "@nonsense gpu1 "+key, "@revoked @revoked gpu1 "+key,
		"@revoked", "gpu1 "+key+"\r", "gpu1  "+key)
	file := filepath.Join(t.TempDir(), "known_hosts")
	write(t, file, strings.Join(lines, "\n")+"\n")
	hk := loadHostKeys([]string{file}, slog.New(slog.DiscardHandler))
	for _, name := range names {
		var ours []int
		for _, k := range hk.of(name) {
			ours = append(ours, k.line)
		}
		if diff := cmp.Diff(keygenFinds(t, file, name), ours); diff != "" {
			t.Errorf("lines for %s (-ssh-keygen +ours):\n%s", name, diff)
		}
	}
	t.Logf("%d names, %d lines", len(names), len(lines))
}

// hashed is a name as HashKnownHosts has it.
func hashed(name string) string {
	salt := []byte("twenty bytes of salt")
	encode := base64.StdEncoding.EncodeToString
	return "|1|" + encode(salt) + "|" + encode(hashOf(salt, name))
}

// keygenFinds gives the lines of a known_hosts file that ssh-keygen finds for a name.
func keygenFinds(t *testing.T, file, name string) []int {
	t.Helper()
	out, err := exec.Command("ssh-keygen", "-F", name, "-f", file).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // it exits with 1 for none
		t.Fatal(err)
	}
	var found []int
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, " found: line "); ok &&
			strings.HasPrefix(line, "# Host ") {
			word, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			n, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, n)
		}
	}
	return found
}

// A keyCase is a machine of a name that presents a key, and what known_hosts says.
type keyCase struct {
	// the file: K is the machine's key, X another one, CA the authority of its certificate
	known   string
	name    string // as the user gives it; default gpu1
	port    int    // default 22
	cert    string // what the certificate is for, separated by commas; none if empty
	options string // lines of the configuration
}

// keyCases are to be judged as ssh judges them.
func keyCases() []keyCase {
	const p = 2222
	return []keyCase{
		{known: ""}, {known: "gpu1 K"}, {known: "gpu1 X"}, {known: "gpu1 X\ngpu1 K"},
		{known: "gpu1 K\ngpu1 X"}, {known: "gpu2 K"},
		{known: "GPU1 K"}, {known: "gpu1 K", name: "GPU1"}, {known: "gpu* K"},
		{known: "gpu*,!gpu1 K"}, {known: "!gpu1,* K"}, {known: "* K"},
		{known: "#gpu1"}, {known: "gpu1 K", port: p}, {known: "[gpu1]:2222 K", port: p},
		{known: "[gpu1]:2222 K"}, {known: "[gpu1]:22 K"},
		{known: "[gpu1]:2222 X\ngpu1 K", port: p}, {known: "[gpu1]:2222 K\ngpu1 X", port: p},
		{known: "gpu1 X", port: p},
		{known: "[gpu1]:2223 K\ngpu1 K", port: p}, {known: "[gpu1]:2223 X\ngpu1 K", port: p},
		{known: "[gpu*]:2222 K", port: p}, {known: "gpu* K", port: p},
		{known: "[gpu1]:* K", port: p}, {known: "*:2222 K", port: p},
		{known: hashed("gpu1") + " K"}, {known: hashed("[gpu1]:2222") + " K", port: p},
		{known: hashed("gpu1") + " K", port: p}, {known: hashed("gpu2") + " K"},
		{known: hashed("gpu1") + " X"}, {known: hashed("GPU1") + " K", name: "GPU1"},
		// Lines that say nothing.
		{known: "gpu1"}, {known: "gpu1 ssh-ed25519"}, {known: "gpu1 ssh-ed25519 AAAA"},
		{known: "gpu1 ssh-ed25519 !!!!\ngpu1 K"}, {known: "gpu1 ssh-rsa B"},
		{known: "gpu1 ssh-ed25519 B"}, {known: "@nonsense gpu1 K"}, {known: "@revoked"},
		{known: "@cert-authority gpu1", cert: "gpu1"}, {known: "gpu1 K\r"},
		{known: "gpu1 1024 35 B"}, {known: "gpu1\tK"}, {known: " gpu1 K"},
		{known: "gpu1  K comment"}, {known: "# gpu1 K"}, {known: "\n\n# x\ngpu1 K"},
		// Revoked.
		{known: "gpu1 K\n@revoked gpu1 K"}, {known: "@revoked gpu1 K\ngpu1 K"},
		{known: "gpu1 K\n@revoked * K"}, {known: "gpu1 K\n@revoked gpu2 K"},
		{known: "gpu1 K\n@revoked gpu1 X"}, {known: "@revoked gpu1 K"},
		{known: "[gpu1]:2222 K\n@revoked gpu1 K", port: p},
		{known: "gpu1 K\n@revoked [gpu1]:2222 K", port: p},
		{known: "gpu1 K\n@revoked gpu1 K", port: p}, {known: "gpu1 K\n@revoked *,!gpu1 K"},
		{known: "gpu1 K\n@revoked " + hashed("gpu1") + " K"}, {known: "gpu1 K\n@revoked gpu1 CA"},
		{known: "gpu1 K\n@revoked gpu1 CA", cert: "gpu1"},
		// Authorities.
		{known: "@cert-authority gpu1 CA", cert: "gpu1"},
		{known: "@cert-authority * CA", cert: "gpu1"}, {known: "@cert-authority gpu1 CA"},
		{known: "@cert-authority gpu1 K"}, {known: "@cert-authority gpu1 X", cert: "gpu1"},
		{known: "@cert-authority gpu2 CA", cert: "gpu1"},
		{known: "@cert-authority gpu1 CA", cert: "gpu2"},
		{known: "@cert-authority gpu1 CA", cert: "gpu*"},
		{known: "@cert-authority gpu1 CA", cert: "gpu2,gpu1"},
		{known: "@cert-authority gpu1 CA", cert: "GPU1", name: "GPU1"},
		{known: "@cert-authority gpu1 CA", cert: "gpu1", name: "GPU1"},
		{known: "@cert-authority gpu1 CA", cert: "gpu1", port: p},
		{known: "@cert-authority [gpu1]:2222 CA", cert: "gpu1", port: p},
		{known: "@cert-authority [gpu1]:2222 CA", cert: "[gpu1]:2222", port: p},
		{known: "@cert-authority [gpu*]:* CA", cert: "gpu1", port: p},
		{known: "@cert-authority gpu1 CA", cert: "gpu2", port: p},
		{known: "@cert-authority " + hashed("gpu1") + " CA", cert: "gpu1"},
		{known: "@cert-authority gpu1 CA\ngpu1 K", cert: "gpu2"},
		{known: "@cert-authority gpu1 CA\ngpu1 X", cert: "gpu2"},
		{known: "@cert-authority gpu1 CA\ngpu1 X", cert: "gpu1"}, {known: "gpu1 K", cert: "gpu1"},
		{known: "gpu1 X", cert: "gpu1"},
		{known: "gpu1 K", cert: "gpu1", port: p},
		{known: "@cert-authority gpu1 CA\n@revoked gpu1 CA", cert: "gpu1"},
		{known: "@cert-authority gpu1 CA\n@revoked gpu1 K", cert: "gpu1"},
		{known: "@cert-authority gpu1 CA\n@revoked gpu1 X", cert: "gpu1"},
		{known: "@cert-authority gpu1 CA\n@revoked gpu2 CA", cert: "gpu1"},
		{known: "@cert-authority gpu1 CA\ngpu1 K\n@revoked gpu1 CA", cert: "gpu1"},
		{known: "@cert-authority *,!gpu1 CA", cert: "gpu1"}, {known: "gpu1 CA", cert: "gpu1"},
		{known: "[gpu1]:2222 X\n@cert-authority gpu1 CA", cert: "gpu1", port: p},
		{known: "[gpu1]:2222 K\n@cert-authority gpu1 X", cert: "gpu1", port: p},
		// Aliases.
		{known: "pool K", options: "HostKeyAlias pool"},
		{known: "gpu1 K", options: "HostKeyAlias pool"},
		{known: "pool K", options: "HostKeyAlias pool", port: p},
		{known: "[pool]:2222 K", options: "HostKeyAlias pool", port: p},
		{known: "pool K", options: "HostKeyAlias Pool"},
		{known: "Pool K", options: "HostKeyAlias Pool"},
		{known: hashed("Pool") + " K", options: "HostKeyAlias Pool"},
		{known: "@cert-authority pool CA", cert: "pool", options: "HostKeyAlias pool"},
		{known: "@cert-authority pool CA", cert: "gpu1", options: "HostKeyAlias pool"},
		{known: "[gpu1]:2222 K", options: "HostKeyAlias [gpu1]:2222"},
		// Addresses, and the name that the configuration has.
		{known: "10.0.0.1 K", name: "10.0.0.1"}, {known: "10.0.0.* K", name: "10.0.0.1"},
		{known: "[10.0.0.1]:2222 K", name: "10.0.0.1", port: p},
		{known: "::1 K", name: "::1"}, {known: "[::1]:22 K", name: "::1"},
		{known: "[::1]:2222 K", name: "::1", port: p}, {known: "::1 K", name: "::1", port: p},
		{known: "gpu1.lab K", options: "HostName %h.lab"},
		{known: "gpu1 K", options: "HostName %h.lab"},
		{known: "gpu1.lab K", options: "HostName GPU1.LAB"},
	}
}

// TestKnownHostsAsSSH has every case judged by ssh itself, and by us.
func TestKnownHostsAsSSH(t *testing.T) {
	t.Parallel()
	sshtest.Require(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	key, other, ca := newSigner(t), newSigner(t), newSigner(t)
	texts := strings.NewReplacer(" K", " "+publicText(key.PublicKey()), " X", " "+
		publicText(other.PublicKey()), " CA", " "+publicText(ca.PublicKey()),
		"\tK", "\t"+publicText(key.PublicKey()), " B", " "+
			strings.Fields(publicText(key.PublicKey()))[1])
	var wg sync.WaitGroup
	places := make(chan struct{}, 4)
	accepted := make([]bool, len(keyCases()))
	for i, c := range keyCases() {
		if c.name == "" {
			c.name = "gpu1"
		}
		presented := key
		if c.cert != "" {
			presented = certified(t, key, ca, strings.Split(c.cert, ",")...)
		}
		dir := t.TempDir()
		known, config := filepath.Join(dir, "known"), filepath.Join(dir, "config")
		write(t, known, texts.Replace(c.known)+"\n")
		write(t, config, fmt.Sprintf("UserKnownHostsFile %s\nGlobalKnownHostsFile "+
			"none\nIdentityFile none\nIdentityAgent none\nStrictHostKeyChecking yes\n"+
			"BatchMode yes\nPort %d\nHostKeyAlgorithms "+
			"ssh-ed25519-cert-v01@openssh.com,ssh-ed25519\n%s\n", known, max(c.port, 22),
			c.options))
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			theirs := acceptedBySSH(t, presented, func(addr string) *exec.Cmd {
				return exec.CommandContext(t.Context(), "ssh", "-F", config, "-T",
					"-o", "ProxyCommand=env "+relayVar+"="+addr+" "+program, "--", c.name, "true")
			})
			a := Addr{Host: c.name}
			cfg, err := NewDialer(Options{ConfigFile: config}).resolve(t.Context(), a)
			if err != nil {
				t.Error(err)
				return
			}
			err = loadHostKeys(cfg.userHosts, slog.New(slog.DiscardHandler)).
				check(cfg, presented.PublicKey(), nil)
			if (err == nil) != theirs {
				t.Errorf("%+v: accepted by ssh: %v; by us: %v", c, theirs, err)
			}
			accepted[i] = err == nil
		})
	}
	wg.Wait()
	if n := len(slices.DeleteFunc(accepted, func(ok bool) bool { return !ok })); n < 30 ||
		n > len(keyCases())-30 {
		t.Errorf("%d of %d cases accepted: the table says little", n, len(keyCases()))
	}
}

// certified gives key a certificate of a host, for principals.
func certified(t *testing.T, key, ca xssh.Signer, principals ...string) xssh.Signer {
	t.Helper()
	cert := &xssh.Certificate{Key: key.PublicKey(), CertType: xssh.HostCert,
		ValidPrincipals: principals,
		ValidAfter:      uint64(time.Now().Add(-time.Hour).Unix()),
		ValidBefore:     xssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// acceptedBySSH tells whether an ssh goes on to log in, once it has seen a machine's key.
func acceptedBySSH(t *testing.T, key xssh.Signer, command func(addr string) *exec.Cmd) bool {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return false
	}
	defer l.Close()
	accepted := make(chan bool, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			accepted <- false
			return
		}
		defer conn.Close()
		tried := false
		server := &xssh.ServerConfig{NoClientAuth: true,
			NoClientAuthCallback: func(xssh.ConnMetadata) (*xssh.Permissions, error) {
				tried = true
				return nil, errors.New("that was all")
			}}
		server.AddHostKey(key)
		_, _, _, _ = xssh.NewServerConn(conn, server)
		accepted <- tried
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	out, _ := command(l.Addr().String()).CombinedOutput()
	l.Close()
	ok := <-accepted
	if !ok && !strings.Contains(string(out), "erification failed") {
		t.Errorf("ssh never came to the key: %s", out)
	}
	return ok
}
