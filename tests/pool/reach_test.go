package pool_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"jobserver/api"
	"jobserver/ssh/sshtest"
)

// A machine whose host key isn't on record is set aside until somebody has looked at the key; so is
// one whose key has changed.
func TestTrust(t *testing.T) {
	p := newPool(t)
	m := p.machine("gpu1")
	other := p.machine("gpu2")
	if err := os.Truncate(p.client.KnownHosts, 0); err != nil {
		t.Fatal(err)
	}
	aside := func(m api.Machine) bool {
		return m.State == "refused" && m.Class == "error-unknown-host"
	}
	p.J(t, "machine", "add", "gpu1", "gpu2", "foo")
	for _, addr := range []string{"gpu1", "gpu2"} {
		got := p.becomes(addr, aside)
		contains(t, got.LastError, "the host key is unknown", "SHA256:")
		contains(t, got.Hint, "jobserver machine trust -m "+addr)
	}
	p.J(t, "add", "foo", "true")

	out, errs, code, err := p.Run(t.Context(), "machine", "trust", "-m", "gpu1")
	if err != nil || code != 1 {
		t.Errorf("without anybody to ask it gives %d, %v", code, err)
	}
	contains(t, out, "gpu1", "unknown", "ssh-ed25519", fingerprint(t, m))
	contains(t, errs, "--yes")
	contains(t, p.J(t, "machine", "trust", "-c", "error-unknown-host", "--yes"), "gpu1", "gpu2",
		"known", fingerprint(t, other))
	p.J(t, "wait", "1")
	for _, addr := range []string{"gpu1", "gpu2"} {
		p.becomes(addr, func(m api.Machine) bool { return connected(m) && m.Class == "foo" })
	}

	// It is installed anew.
	file := m.HostKeyFile("ed25519")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := sshtest.GenerateKey("ed25519", file); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.KillSessions(); err != nil {
		t.Fatal(err)
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	got := p.becomes("gpu1", aside)
	contains(t, got.LastError, "the host key has changed", "known_hosts:")
	contains(t, got.Hint, "if the machine was installed anew", "machine trust -m gpu1")
	out, _, _, err = p.Run(t.Context(), "machine", "trust", "-m", "gpu1", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, out, `"known":"changed"`, fingerprint(t, m))
	p.J(t, "machine", "trust", "-m", "gpu1", "--yes")
	p.becomes("gpu1", func(m api.Machine) bool { return connected(m) && m.Class == "foo" })
}

// fingerprint is the machine's own, as somebody at its console reads it.
func fingerprint(t *testing.T, m *machine) string {
	t.Helper()
	out, err := exec.Command("ssh-keygen", "-l", "-f", m.HostKeyFile("ed25519")+".pub").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))[1]
}

// Through a jump host that is no machine of the pool, and whose key has to be trusted as well.
func TestJumpHost(t *testing.T) {
	p := newPool(t)
	jump := p.machine("jump")
	p.machine("inner", sshtest.ClientConfig("ProxyJump jump"))
	known, err := os.ReadFile(p.client.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	_, inner, _ := strings.Cut(string(known), "\n") // the first line is the jump host's
	if err := os.WriteFile(p.client.KnownHosts, []byte(inner), 0o600); err != nil {
		t.Fatal(err)
	}
	p.J(t, "machine", "add", "inner", "foo")
	got := p.becomes("inner", func(m api.Machine) bool { return m.State == "refused" })
	contains(t, got.LastError, "jump", "the host key is unknown")
	contains(t, got.Hint, "machine trust -m jump")
	contains(t, p.J(t, "machine", "trust", "-m", "jump", "--yes"), "jump", fingerprint(t, jump))
	p.J(t, "machine", "trust", "-m", "inner", "--yes") // known already: it comes back
	p.J(t, "add", "foo", "echo hello from {MACHINE}")
	p.J(t, "wait", "1")
	if log := p.J(t, "log", "-c", "1"); log != "hello from inner\n" {
		t.Errorf("its log is %q", log)
	}
}

// What our own transport refuses to do, with a hint, the system's ssh does.
func TestTransportOpenSSH(t *testing.T) {
	p := newPool(t, "--transport", "openssh")
	gate := p.machine("gate")
	p.machine("inner",
		sshtest.ClientConfig("ProxyCommand ssh -F "+p.client.ConfigFile+" -W %h:%p gate"))
	p.J(t, "machine", "add", "inner", "foo")
	p.J(t, "add", "foo", "echo hello")
	p.J(t, "wait", "1")
	if log := p.J(t, "log", "-c", "1"); log != "hello\n" {
		t.Errorf("its log is %q", log)
	}
	if !strings.Contains(gate.LogText(), "Accepted publickey") {
		t.Error("the gate was not used")
	}
	contains(t, p.J(t, "machine", "check", "inner"), "inner", "ok")
}

func TestProxyCommandHint(t *testing.T) {
	p := newPool(t)
	p.machine("inner", sshtest.ClientConfig("ProxyCommand ssh -W %h:%p gate"))
	p.J(t, "machine", "add", "inner", "foo")
	got := p.becomes("inner", func(m api.Machine) bool { return m.State == "refused" })
	contains(t, got.LastError, "ProxyCommand")
	contains(t, got.Hint, "--transport openssh")
}

// Keys, users and ports that differ by machine come from the ssh configuration.
func TestRefusedKeys(t *testing.T) {
	p := newPool(t)
	p.machine("gpu1", sshtest.ClientConfig("User no-such-user"))
	p.machine("gpu2")
	p.J(t, "machine", "add", "gpu1", "gpu2", "foo")
	got := p.becomes("gpu1", func(m api.Machine) bool { return m.State == "refused" })
	contains(t, got.LastError, "gpu1", "accepts none of our keys for user no-such-user")
	contains(t, got.Hint, "ssh")
	p.J(t, "add", "foo", "true", "-x", "3")
	p.J(t, "wait", "1..3")
	if j := p.job(3); j.Machine != "gpu2" {
		t.Errorf("it ran on %s", j.Machine)
	}
	_, errs, _, err := p.Run(t.Context(), "machine", "ls")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, errs, "gpu1: hint: ")
}
