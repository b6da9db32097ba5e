package ssh

import (
	"log/slog"
	"time"

	"jobserver/failpoint"
)

// Options configure a Dialer. The zero value uses the user's own configuration.
type Options struct {
	// ConfigFile is read instead of ~/.ssh/config and the system-wide file.
	ConfigFile string
	// Identity is a private key file that is offered before the configured ones.
	Identity string
	// KnownHosts is used instead of the configured UserKnownHostsFile.
	KnownHosts string

	// KeepaliveInterval is the time between two keepalives; 15 s if zero.
	KeepaliveInterval time.Duration
	// KeepaliveTimeout is how long the machine may take to answer one before
	// the connection counts as lost; 15 s if zero.
	KeepaliveTimeout time.Duration
	// DialTimeout limits connecting, the handshake and the login, for each
	// jump host and the machine by itself. If zero, it is ConnectTimeout of
	// the configuration, or else 20 s. Waiting for the limits of the Dialer
	// doesn't count.
	DialTimeout time.Duration

	// Ciphers are offered in this order. If empty, they are those that the
	// configuration sets, or else the fastest first (aes128-gcm).
	Ciphers []string

	// Logger takes warnings (a bad line in known_hosts, a key file that can't
	// be read); none if nil.
	Logger *slog.Logger

	// OpenSSH makes connections with the system's ssh.
	OpenSSH bool
	// SSHProgram is OpenSSH's client; if empty, it is looked up in PATH.
	SSHProgram string
}

// Limits of a Dialer.
const (
	maxDials        = 32 // at the same time
	maxDialsPerAddr = 4  // at the same time, to one host:port; sshd's MaxStartups drops from 10 on
	// addresses looked up in the configuration at the same time: each may run ssh
	maxLookUps = 32
)

const (
	defaultKeepaliveInterval = 15 * time.Second
	defaultKeepaliveTimeout  = 15 * time.Second
	defaultDialTimeout       = 20 * time.Second
)

// withDefaults fills in what is zero, except DialTimeout, which the
// configuration may set for each machine.
func (o Options) withDefaults() Options {
	if o.KeepaliveInterval <= 0 {
		o.KeepaliveInterval = failpoint.Duration("keepalive", defaultKeepaliveInterval)
	}
	if o.KeepaliveTimeout <= 0 {
		o.KeepaliveTimeout = failpoint.Duration("keepalive", defaultKeepaliveTimeout)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SSHProgram == "" {
		o.SSHProgram = "ssh"
	}
	return o
}
