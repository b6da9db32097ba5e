package sshtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// A Machine is an sshd that runs.
type Machine struct {
	*Client
	Name string // Host alias in ConfigFile; enough to connect with it
	Addr string // user@host:port, for those without ConfigFile
	Host string // IP address
	Port int
	User string
	Home string // HOME of its commands; XDG_STATE_HOME is Home/.local/state

	dir  string
	sshd string // the program
	mark string // NAME=VALUE in the environment of all its commands
	log  logBuffer
	cmd  *exec.Cmd     // nil while stopped
	read chan struct{} // closed when the log of cmd is read to its end
}

// New runs a machine with its files in dir, until Close.
func New(dir string, opts ...Option) (*Machine, error) {
	m, err := newMachine(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("start a machine: %w", err)
	}
	return m, nil
}

func newMachine(dir string, opts []Option) (*Machine, error) {
	s := &settings{hostKeys: []string{"ed25519"}}
	for _, o := range opts {
		o(s)
	}
	sshd, _, err := programs()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if s.client == nil {
		if s.client, err = NewClient(filepath.Join(dir, "client")); err != nil {
			return nil, err
		}
	}
	u, err := user.Current()
	if err != nil {
		return nil, err
	}
	m := &Machine{
		Client: s.client,
		Host:   loopback(),
		User:   u.Username,
		Home:   filepath.Join(dir, "home"),
		dir:    dir,
		sshd:   sshd,
		mark:   fmt.Sprintf("SSHTEST_MACHINE=%x", rand.Uint64()),
	}
	if err := m.prepare(s); err != nil {
		return nil, err
	}
	// Another process may take the port between the choice and its use.
	for range 5 {
		if m.Port, err = freePort(m.Host); err != nil {
			return nil, err
		}
		if err = m.configure(s); err != nil {
			return nil, err
		}
		if err = m.start(); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	m.Addr = m.User + "@" + net.JoinHostPort(m.Host, strconv.Itoa(m.Port))
	m.Name = s.name
	if m.Name == "" {
		m.Name = "m" + strconv.Itoa(m.Port)
	}
	if err := m.introduce(s); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// loopback picks an address, so that machines don't share limits that count
// by address.
func loopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.0.%d.%d", rand.IntN(250), 2+rand.IntN(250))
}

// freePort picks a port below those that the kernel gives to outgoing
// connections, so that Restart finds it free.
func freePort(host string) (int, error) {
	var err error
	for range 100 {
		port := 10000 + rand.IntN(20000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// prepare makes the files that don't depend on the port.
func (m *Machine) prepare(s *settings) error {
	if err := os.MkdirAll(m.Home, 0o700); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		// sshd's privilege separation directory, which a package's service
		// makes at its start. Only root needs it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return err
		}
	}
	for _, typ := range s.hostKeys {
		if err := GenerateKey(typ, m.HostKeyFile(typ)); err != nil {
			return err
		}
	}
	if s.banner == "" && s.shell == "" {
		return nil
	}
	shell := s.shell
	if shell == "" {
		shell = "/bin/sh"
	}
	if err := os.WriteFile(filepath.Join(m.dir, "banner"), []byte(s.banner), 0o600); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\ncat '%s/banner'\nif [ -z \"$SSH_ORIGINAL_COMMAND\" ]; then "+
		"exec '%s'; fi\nexec '%s' -c \"$SSH_ORIGINAL_COMMAND\"\n", m.dir, shell, shell)
	return os.WriteFile(m.loginShell(), []byte(script), 0o700)
}

func (m *Machine) loginShell() string { return filepath.Join(m.dir, "login") }

// HostKeyFile is the private host key of a type; the public one is beside it.
func (m *Machine) HostKeyFile(typ string) string { return filepath.Join(m.dir, "host_"+typ) }

// configure writes sshd_config.
func (m *Machine) configure(s *settings) error {
	var b strings.Builder
	for _, line := range s.serverConfig {
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintf(&b, "ListenAddress %s\nPort %d\n", m.Host, m.Port)
	for _, typ := range s.hostKeys {
		fmt.Fprintf(&b, "HostKey %s\n", m.HostKeyFile(typ))
	}
	// One line: of several SetEnv lines only the first counts.
	b.WriteString("SetEnv")
	for _, v := range append([]string{"HOME=" + m.Home, "XDG_STATE_HOME=" +
		filepath.Join(m.Home, ".local", "state"), m.mark}, s.env...) {
		fmt.Fprintf(&b, " \"%s\"", v)
	}
	fmt.Fprintf(&b, "\nAuthorizedKeysFile %s.pub\n", m.KeyFile)
	b.WriteString("StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin " +
		"yes\nPasswordAuthentication no\n" +
		"KbdInteractiveAuthentication no\nUseDNS no\nPrintMotd no\nLogLevel VERBOSE\n")
	if s.banner != "" || s.shell != "" {
		fmt.Fprintf(&b, "ForceCommand exec '%s'\n", m.loginShell())
	}
	return os.WriteFile(filepath.Join(m.dir, "sshd_config"), []byte(b.String()), 0o600)
}

// introduce makes the machine known to its client side.
func (m *Machine) introduce(s *settings) error {
	for _, typ := range s.hostKeys {
		key, err := os.ReadFile(m.HostKeyFile(typ) + ".pub")
		if err != nil {
			return err
		}
		if err := m.Know(m.Host, m.Port, string(key)); err != nil {
			return err
		}
	}
	return m.AddHost(m.Name, m.User, m.Host, m.Port, s.clientConfig...)
}

// start runs sshd and waits until it listens.
func (m *Machine) start() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(m.sshd, "-D", "-e", "-f", filepath.Join(m.dir, "sshd_config"))
	cmd.Stderr = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	listening, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		defer r.Close()
		m.readLog(r, listening)
	}()
	m.cmd, m.read = cmd, read
	select {
	case <-listening:
		return nil
	case <-read:
		// It ended: the port is taken, or the configuration is wrong.
		_ = m.cmd.Wait()
		m.cmd = nil
		return fmt.Errorf("sshd ended: %s", strings.TrimSpace(m.LogText()))
	}
}

// readLog keeps what sshd logs until all of its processes have ended, and
// closes listening when it is ready.
func (m *Machine) readLog(r io.Reader, listening chan<- struct{}) {
	var once sync.Once
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		m.log.add(line)
		if strings.Contains(line, "Server listening on") {
			once.Do(func() { close(listening) })
		}
		if err != nil {
			return
		}
	}
}

// LogText returns what sshd has logged up to now.
func (m *Machine) LogText() string { return m.log.text() }

// A logBuffer may be used from any goroutine.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *logBuffer) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.WriteString(s)
}

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
