// Package sshtest runs real machines for tests and demonstrations: sshd on the
// loopback interface, each with a host key, a home and an environment of its
// own, and a proxy in front that can cut the network.
//
// A Machine is a process of sshd that belongs to whoever started it, and Close
// ends it with everything that was started through it. It needs OpenSSH's
// server, and works as root and as an ordinary user.
package sshtest

import (
	"errors"
	"testing"
	"time"
)

// A Client is the side of those who connect: a key pair, a known_hosts file
// and an ssh configuration with a Host block for each machine. Several
// machines may share one.
type Client struct {
	Dir        string // holds the files below
	KeyFile    string // private key, ed25519, without a passphrase
	KnownHosts string
	ConfigFile string
}

// A Machine is an sshd that runs.
type Machine struct {
	Client
	Name string // Host alias in ConfigFile; enough to connect with it
	Addr string // user@host:port, for those without ConfigFile
	Host string // IP address
	Port int
	User string
	Home string // HOME of its commands; XDG_STATE_HOME is Home/.local/state
}

// An Option of Start and New.
type Option func(*settings)

type settings struct{}

// Shared makes the machine known to c, and takes c's key, instead of a client
// side of its own.
func Shared(c *Client) Option { return func(*settings) {} }

// Named sets the Host alias; the default is m1, m2, … in one process.
func Named(name string) Option { return func(*settings) {} }

// ServerConfig adds lines to sshd_config.
func ServerConfig(lines ...string) Option { return func(*settings) {} }

// ClientConfig adds lines to the machine's Host block.
func ClientConfig(lines ...string) Option { return func(*settings) {} }

// Env sets variables (NAME=VALUE) of the machine's commands.
func Env(vars ...string) Option { return func(*settings) {} }

// Banner makes the machine print text to stdout before each command, as a
// login shell's rc file may.
func Banner(text string) Option { return func(*settings) {} }

// Shell runs commands with SHELL -c instead of the user's login shell.
func Shell(program string) Option { return func(*settings) {} }

// HostKeyTypes sets the types of the host keys, as ssh-keygen names them; the
// default is ed25519 alone.
func HostKeyTypes(types ...string) Option { return func(*settings) {} }

// Start runs a machine for a test, and ends it with the test. Without sshd the
// test is skipped, or fails where CI=true is set.
func Start(t testing.TB, opts ...Option) *Machine {
	t.Helper()
	m, err := New(t.TempDir(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// New runs a machine with its files in dir, until Close.
func New(dir string, opts ...Option) (*Machine, error) { return nil, errors.ErrUnsupported }

// NewClient makes a client side without machines in dir.
func NewClient(dir string) (*Client, error) { return nil, errors.ErrUnsupported }

// Close ends sshd, its connections, and every process that was started through them.
func (m *Machine) Close() error { return nil }

// Stop ends sshd and its connections; commands that survive that go on.
func (m *Machine) Stop() error { return nil }

// Restart starts sshd again on the same port, after Stop or instead of it.
func (m *Machine) Restart() error { return nil }

// Pause stops sshd and its connections where they are (SIGSTOP).
func (m *Machine) Pause() error { return nil }

// Resume lets them go on.
func (m *Machine) Resume() error { return nil }

// KillSessions kills the sshd processes of all connections, and says how many.
func (m *Machine) KillSessions() (int, error) { return 0, nil }

// KillAll kills every process that was started through the machine, as a
// reboot would, but not sshd itself.
func (m *Machine) KillAll() (int, error) { return 0, nil }

// LogText returns what sshd has logged up to now.
func (m *Machine) LogText() string { return "" }

// A Proxy forwards TCP connections to a target, and fails on demand.
type Proxy struct {
	Addr string // 127.0.0.1:port
	Host string
	Port int
}

// NewProxy starts a proxy for a test, and ends it with the test.
func NewProxy(t testing.TB, target string) *Proxy { return nil }

// ListenProxy starts a proxy, until Close.
func ListenProxy(target string) (*Proxy, error) { return nil, errors.ErrUnsupported }

// Cut makes the network silent: nothing arrives any more, in either direction
// and on new connections too, and nobody is told.
func (p *Proxy) Cut() {}

// Heal ends Cut and SetDrop. What was sent meanwhile arrives now.
func (p *Proxy) Heal() {}

// SetDelay delays everything by d in each direction.
func (p *Proxy) SetDelay(d time.Duration) {}

// SetDrop throws bytes away that arrive from now on, in both directions.
func (p *Proxy) SetDrop(on bool) {}

// Reset ends all connections with a TCP reset.
func (p *Proxy) Reset() {}

// ResetAfter resets each connection once n more bytes have passed in both
// directions together.
func (p *Proxy) ResetAfter(n int64) {}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error { return nil }
