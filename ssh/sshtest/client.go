package sshtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A Client is the side of those who connect: a key pair, a known_hosts file
// and an ssh configuration with a Host block for each machine. Several
// machines may share one.
type Client struct {
	Dir        string // holds the files below
	KeyFile    string // private key, ed25519, without a passphrase
	KnownHosts string
	ConfigFile string

	mu *sync.Mutex // held while a file is added to
}

// NewClient makes a client side without machines in dir.
func NewClient(dir string) (*Client, error) {
	c := &Client{
		Dir:        dir,
		KeyFile:    filepath.Join(dir, "id_ed25519"),
		KnownHosts: filepath.Join(dir, "known_hosts"),
		ConfigFile: filepath.Join(dir, "config"),
		mu:         new(sync.Mutex),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := GenerateKey("ed25519", c.KeyFile); err != nil {
		return nil, err
	}
	for _, name := range []string{c.KnownHosts, c.ConfigFile} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// AddHost adds a Host block to the configuration: alias stands for
// user@host:port, with this client's key and known_hosts file. extra lines
// stand first, so they win.
func (c *Client) AddHost(alias, user, host string, port int, extra ...string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Host %s\n", alias)
	for _, line := range append(extra, "HostName "+host, fmt.Sprintf("Port %d", port), "User "+user,
		fmt.Sprintf("IdentityFile %q", c.KeyFile), "IdentitiesOnly yes", "IdentityAgent none",
		"UserKnownHostsFile "+c.KnownHosts, "GlobalKnownHostsFile /dev/null", "HashKnownHosts no") {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return c.add(c.ConfigFile, b.String())
}

// Know adds a public key, in the form of a .pub file, to known_hosts.
func (c *Client) Know(host string, port int, key string) error {
	words := strings.Fields(key)
	if len(words) < 2 {
		return fmt.Errorf("know %s: %q is not a public key", host, key)
	}
	name := host
	if port != 22 {
		name = fmt.Sprintf("[%s]:%d", host, port)
	}
	return c.add(c.KnownHosts, fmt.Sprintf("%s %s %s\n", name, words[0], words[1]))
}

func (c *Client) add(file, text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}
