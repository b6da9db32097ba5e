package ssh

import (
	"context"
	"errors"
)

// A Dialer makes connections. It holds the limits, so one process has one. Its
// methods may be called from any goroutine.
type Dialer struct {
	opts Options
}

// NewDialer returns a Dialer. It starts nothing and needs no end.
func NewDialer(opts Options) *Dialer {
	return &Dialer{opts: opts.withDefaults()}
}

// Dial connects to addr, [user@]host[:port], and logs in. ctx covers the dial
// only. Its errors are *ConfigError, *ResolveError, *DialError, *HostKeyError
// and *AuthError, each with a Hint, or ctx's.
func (d *Dialer) Dial(ctx context.Context, addr string) (Conn, error) {
	return nil, errors.ErrUnsupported
}

// A HostKey is a public key of a machine.
type HostKey struct {
	Type        string // such as ssh-ed25519
	Fingerprint string // SHA256:…, as ssh-keygen -l prints it
	Known       bool   // the known_hosts files have it for this machine
	Key         []byte // in the wire format
}

// HostKeys returns the keys that the machine presents now, without checking
// them and without logging in. Jump hosts on the way are checked, and logged
// in to.
func (d *Dialer) HostKeys(ctx context.Context, addr string) ([]HostKey, error) {
	return nil, errors.ErrUnsupported
}

// Trust records keys as those of addr in the user's known_hosts file, in place
// of all that it has for exactly this name. A file that loses lines is kept as
// FILE.old.
func (d *Dialer) Trust(ctx context.Context, addr string, keys ...HostKey) error {
	return errors.ErrUnsupported
}
