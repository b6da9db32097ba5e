package ssh

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Errors of a connection that is up. They are compared with errors.Is.
var (
	// ErrClosed is the reason of a connection or stream that this side closed.
	ErrClosed = errors.New("closed by this side")
	// ErrTooManySessions says that sshd's MaxSessions is reached: the command
	// was not started, and may be tried again when another one has ended.
	ErrTooManySessions = errors.New("the machine allows no more sessions on this connection " +
		"(MaxSessions)")
	// ErrKeepalive is the reason of a connection that gave no sign of life.
	ErrKeepalive = errors.New("no answer to a keepalive")
)

// A Hinter is an error that knows the user's next step. All error types of
// this package with a Hint method satisfy it.
type Hinter interface {
	error
	Hint() string
}

// IsFinal tells whether an error goes on until somebody changes something, here or on the machine:
// each error type says so itself, with a method Final, where it arises, also those of other
// packages. To try again soon is pointless then, or even harmful, as sshd bans addresses for failed
// logins. All others may pass by themselves.
func IsFinal(err error) bool {
	if f, ok := err.(interface{ Final() bool }); ok && f.Final() {
		return true
	}
	switch w := err.(type) {
	case interface{ Unwrap() error }:
		return IsFinal(w.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(w.Unwrap(), IsFinal)
	}
	return false
}

// A HostKeyError says that a machine's host key is unknown, changed or
// revoked. Nothing was sent to the machine but the key exchange.
type HostKeyError struct {
	Addr        string // as the caller gave it, or the jump host's
	Unknown     bool   // no known_hosts file has a key of this machine
	Revoked     bool   // the key is marked @revoked
	KeyType     string // of the key presented, such as ssh-ed25519; may be empty
	Fingerprint string // SHA256:…, of the key presented; empty if it presented none of a known type
	File        string // the known_hosts file at fault, or the one that would take the key
	Line        int    // in File; 0 if Unknown
	Detail      string // what was wrong, where the fields above don't say it
	// the StrictHostKeyChecking of the configuration, if it would accept the unknown key
	Lax    string
	Advice string // the next step, if it is not the usual one
}

// Final says that somebody has to look at the key.
func (e *HostKeyError) Final() bool { return true }

func (e *HostKeyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the host key ", e.Addr)
	switch {
	case e.Revoked:
		b.WriteString("is revoked")
	case e.Unknown:
		b.WriteString("is unknown")
	case e.Detail != "":
		b.WriteString(e.Detail)
	default:
		b.WriteString("has changed")
	}
	if e.Fingerprint != "" {
		fmt.Fprintf(&b, ": the machine presents %s %s", e.KeyType, e.Fingerprint)
	}
	switch {
	case e.File != "" && e.Line > 0:
		fmt.Fprintf(&b, " (see %s:%d)", e.File, e.Line)
	case e.File != "":
		fmt.Fprintf(&b, " (not in %s)", e.File)
	}
	return b.String()
}

// Hint says how to check the key and have it recorded.
func (e *HostKeyError) Hint() string {
	switch {
	case e.Advice != "":
		return e.Advice
	case e.Revoked:
		return fmt.Sprintf("the key must no longer be used; give the machine a new one, or "+
			"remove the key's line from %s", e.File)
	case e.Unknown && e.Lax != "":
		return fmt.Sprintf("StrictHostKeyChecking %s isn't followed, host keys are always "+
			"checked: record it with jobserver machine trust -m %s",
			e.Lax, e.Addr)
	case e.Unknown:
		return "compare the fingerprint with the machine's own, then record it: jobserver " +
			"machine trust -m " + e.Addr
	}
	return "if the machine was installed anew, compare the fingerprint, then record it: " +
		"jobserver machine trust -m " + e.Addr
}

// ByHand is the next step of somebody who sits at this host, and has no daemon that could record
// the key.
func (e *HostKeyError) ByHand() string {
	switch {
	case e.Revoked, e.Advice != "":
		return e.Hint()
	case e.Unknown:
		return fmt.Sprintf("log in once by hand, compare the fingerprint, and have it recorded: "+
			"ssh %s", words(e.Addr))
	}
	return fmt.Sprintf("if the host was installed anew, take its old key out (ssh-keygen -R "+
		"NAME), then log in once by hand: ssh %s", words(e.Addr))
}

// An AlgorithmError says that a machine's sshd and this transport know no common algorithm.
type AlgorithmError struct {
	Addr   string
	What   string   // for what: "host key", "key exchange", "client to server cipher"
	Theirs []string // those of the machine
	Ours   []string // those that we accept
}

func (e *AlgorithmError) Error() string {
	return fmt.Sprintf("%s: no common algorithm for the %s: the machine's sshd has only %s, and "+
		"this side accepts %s",
		e.Addr, e.What, strings.Join(e.Theirs, ", "), cmp.Or(strings.Join(e.Ours, ", "), "none"))
}

// Final says that one of the two sides has to be configured.
func (e *AlgorithmError) Final() bool { return true }

// Hint says how to bring the two together.
func (e *AlgorithmError) Hint() string {
	option := "Ciphers"
	switch {
	case e.What == "host key":
		option = "HostKeyAlgorithms"
	case strings.Contains(e.What, "exchange"):
		option = "KexAlgorithms"
	case strings.Contains(e.What, "MAC"):
		option = "MACs"
	}
	return fmt.Sprintf("update the machine's sshd; where that can't be, allow it what it has in "+
		"the ssh configuration: Host %s, %s +%s",
		e.Addr, option, strings.Join(e.Theirs, ","))
}

// An AuthError says that the machine let us in with none of our keys.
type AuthError struct {
	Addr  string
	User  string
	Tried []string // each key offered, and each that could not be, with the reason
	Err   error    // what the machine or the library said; may be nil
	// Locked names the keys that are protected by a passphrase and that no
	// agent holds.
	Locked  []string
	OpenSSH bool // the system's ssh has tried
}

func (e *AuthError) Error() string {
	s := fmt.Sprintf("%s: the machine accepts none of our keys for user %s", e.Addr, e.User)
	if len(e.Tried) == 0 {
		return s + " (there was no key to offer)"
	}
	return s + " (tried " + strings.Join(e.Tried, "; ") + ")"
}

func (e *AuthError) Unwrap() error { return e.Err }

// Final says that keys don't come to fit by themselves. They may, though, as with a home that is
// mounted late.
func (e *AuthError) Final() bool { return true }

// Hint says how to give the machine a key, or us the passphrase.
func (e *AuthError) Hint() string {
	if len(e.Locked) > 0 {
		return fmt.Sprintf("%s has a passphrase: load it into the ssh-agent that the daemon sees "+
			"(ssh-add %s)", e.Locked[0], e.Locked[0])
	}
	other := ", --identity FILE, or --transport openssh for other ways to log in"
	if e.OpenSSH {
		other = ", or --identity FILE"
	}
	return fmt.Sprintf("ssh -o BatchMode=yes %s must work for the daemon's user; try "+
		"ssh-copy-id%s", e.Addr, other)
}

// ByHand is the next step of somebody who sits at this host.
func (e *AuthError) ByHand() string {
	if len(e.Locked) > 0 {
		return fmt.Sprintf("%s has a passphrase: load it into your ssh-agent (ssh-add %s)",
			e.Locked[0], e.Locked[0])
	}
	return fmt.Sprintf("ssh -o BatchMode=yes %s must work without asking anything: ssh-copy-id, "+
		"or ssh-add for a key with a passphrase", words(e.Addr))
}

// A ResolveError says that the name of a machine has no address.
type ResolveError struct {
	Addr string
	Host string // the name that was looked up (HostName of the configuration)
	Err  error
	// NotFound says that there is no such name, where Err doesn't tell.
	NotFound bool
}

func (e *ResolveError) Error() string {
	name, why := "the name "+e.Host, e.Err.Error()
	if e.Host == e.Addr {
		name = "its name"
	}
	var dns *net.DNSError
	if errors.As(e.Err, &dns) { // whose own text has the name once more
		if why = dns.Err; dns.Server != "" {
			why += ", says " + dns.Server
		}
	}
	return fmt.Sprintf("%s: look up %s: %s", e.Addr, name, why)
}

func (e *ResolveError) Unwrap() error { return e.Err }

// Final tells a name that doesn't exist from a look-up that failed.
func (e *ResolveError) Final() bool {
	var dns *net.DNSError
	return e.NotFound || errors.As(e.Err, &dns) && dns.IsNotFound
}

// Hint says where the name comes from.
func (e *ResolveError) Hint() string {
	return fmt.Sprintf("check the name, or set HostName for it in the ssh configuration (ssh -G "+
		"%s shows what is in force)", words(e.Addr))
}

// A ConfigError says that the ssh configuration can't be read, or asks for
// something that this transport doesn't do.
type ConfigError struct {
	Addr string
	Err  error
	// OpenSSH says that the system's ssh could do it (ProxyCommand, unknown
	// algorithms).
	OpenSSH bool
	Advice  string // the next step, if it is not the usual one
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("%s: ssh configuration: %v", e.Addr, e.Err)
}

func (e *ConfigError) Unwrap() error { return e.Err }

// Final says that somebody has to change the configuration.
func (e *ConfigError) Final() bool { return true }

// Hint names the transport that can do it, or the command that shows the configuration.
func (e *ConfigError) Hint() string {
	switch {
	case e.Advice != "":
		return e.Advice
	case e.OpenSSH:
		return "use the system's ssh for this: --transport openssh"
	}
	return fmt.Sprintf("ssh -G %s shows the configuration in force", words(e.Addr))
}

// A DialError says that no connection came up for a reason that may pass:
// refused, timed out, reset.
type DialError struct {
	Addr   string
	Op     string // what was being done: "connect to 10.0.0.1:22", "handshake"
	Err    error
	Advice string // the next step, if it is not the usual one
}

func (e *DialError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Addr, e.Op, e.Err) }

func (e *DialError) Unwrap() error { return e.Err }

// Timeout tells whether the machine took too long.
func (e *DialError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Hint says how to look into it.
func (e *DialError) Hint() string {
	if e.Advice != "" {
		return e.Advice
	}
	return fmt.Sprintf("check that the machine is up and that sshd listens there: ssh -v %s",
		words(e.Addr))
}

// An ExitError says how a command ended, as the machine reported it.
type ExitError struct {
	Code   int    // exit code; -1 if a signal ended the command
	Signal string // without SIG, such as KILL; empty if it exited
	Stderr string // the last bytes that it wrote to stderr
}

func (e *ExitError) Error() string {
	s := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		s = "killed by signal " + e.Signal
	}
	if t := strings.TrimSpace(e.Stderr); t != "" {
		s += ": " + t
	}
	return s
}

// A LostError says that the connection went away under a command or a
// connection: what became of the command is unknown.
type LostError struct {
	Addr   string
	Err    error
	Stderr string // the last bytes of the command's stderr, if it had any
}

func (e *LostError) Error() string {
	s := fmt.Sprintf("%s: connection lost: %v", e.Addr, e.Err)
	if t := strings.TrimSpace(e.Stderr); t != "" {
		s += ": " + t
	}
	return s
}

func (e *LostError) Unwrap() error { return e.Err }
