// Package sshtest runs real machines for tests and demonstrations: sshd on the
// loopback interface, each with a host key, a home and an environment of its
// own, and a proxy in front that can cut the network.
//
// A Machine belongs to whoever started it, and Close ends it with everything
// that was started through it. It needs OpenSSH's server (package
// openssh-server), and works as root and as an ordinary user. Its methods may
// be called from any goroutine, Stop, Restart and Close from one at a time.
package sshtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ErrNoServer says that OpenSSH's server is not installed.
var ErrNoServer = errors.New("sshd or ssh-keygen is missing: install openssh-server and " +
	"openssh-client")

// An Option of Start and New.
type Option func(*settings)

type settings struct {
	client       *Client
	name         string
	serverConfig []string
	clientConfig []string
	env          []string
	banner       string
	shell        string
	hostKeys     []string
}

// Shared makes the machine known to c, and takes c's key, instead of a client
// side of its own.
func Shared(c *Client) Option { return func(s *settings) { s.client = c } }

// Named sets the Host alias; the default is m and the port.
func Named(name string) Option { return func(s *settings) { s.name = name } }

// ServerConfig adds lines to sshd_config. They stand first, so they win.
func ServerConfig(lines ...string) Option {
	return func(s *settings) { s.serverConfig = append(s.serverConfig, lines...) }
}

// ClientConfig adds lines to the machine's Host block. They stand first, so they win.
func ClientConfig(lines ...string) Option {
	return func(s *settings) { s.clientConfig = append(s.clientConfig, lines...) }
}

// Env sets variables (NAME=VALUE) of the machine's commands.
func Env(vars ...string) Option { return func(s *settings) { s.env = append(s.env, vars...) } }

// Banner makes the machine print text to stdout before each command, as a
// login shell's rc file may.
func Banner(text string) Option { return func(s *settings) { s.banner = text } }

// Shell runs commands with SHELL -c instead of /bin/sh.
func Shell(program string) Option { return func(s *settings) { s.shell = program } }

// HostKeyTypes sets the types of the host keys, as ssh-keygen names them; the
// default is ed25519 alone.
func HostKeyTypes(types ...string) Option { return func(s *settings) { s.hostKeys = types } }

// Start runs a machine for a test, and ends it with the test. Without sshd the
// test is skipped, or fails where CI=true is set.
func Start(t testing.TB, opts ...Option) *Machine {
	t.Helper()
	Require(t)
	m, err := New(t.TempDir(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("end machine %s: %v", m.Name, err)
		}
		makeRemovable(m.Home)
		if t.Failed() {
			t.Logf("log of sshd %s:\n%s", m.Name, m.LogText())
		}
	})
	return m
}

// makeRemovable lets an ordinary user remove directories that are read-only,
// as code on a machine is. What can't be changed, the removal will tell.
func makeRemovable(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
}

// Require skips the test without OpenSSH, or fails it where CI=true is set.
func Require(t testing.TB) {
	t.Helper()
	if _, _, err := programs(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// programs finds sshd, which wants to be called by its whole path and is not
// in an ordinary user's PATH, and ssh-keygen.
func programs() (sshd, keygen string, err error) {
	for _, name := range []string{"sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"} {
		if sshd, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return "", "", ErrNoServer
	}
	if keygen, err = exec.LookPath("ssh-keygen"); err != nil {
		return "", "", ErrNoServer
	}
	return sshd, keygen, nil
}

// GenerateKey makes a key pair without a passphrase in file and file.pub. typ
// is one of ssh-keygen's: ed25519, ecdsa, rsa.
func GenerateKey(typ, file string) error {
	_, keygen, err := programs()
	if err != nil {
		return err
	}
	out, err := exec.Command(keygen, "-q", "-t", typ, "-N", "", "-C", "sshtest", "-f", file).
		CombinedOutput()
	if err != nil {
		return fmt.Errorf("make key %s: %w: %s", file, err, strings.TrimSpace(string(out)))
	}
	return nil
}
