package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	xssh "golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// A hostKeys is what the known_hosts files say. It is not changed once loaded.
type hostKeys struct {
	db    *knownhosts.HostKeyDB
	real  map[string]string // the file that a cleaned copy stands for
	stamp string            // of the files when they were read
}

// knownHosts loads the files of c, or takes them as they were loaded before
// when they are the same still.
func (d *Dialer) knownHosts(c *config) (*hostKeys, error) {
	files := slices.Concat(c.userHosts, c.globalHosts)
	key, stamp := strings.Join(files, "\n"), fileStamp(files...)
	d.mu.Lock()
	hk := d.hosts[key]
	d.mu.Unlock()
	if hk != nil && hk.stamp == stamp {
		return hk, nil
	}
	hk, err := loadHostKeys(files, d.opts.Logger)
	if err != nil {
		return nil, err
	}
	hk.stamp = stamp
	d.mu.Lock()
	d.hosts[key] = hk
	d.mu.Unlock()
	return hk, nil
}

// loadHostKeys reads known_hosts files. One that doesn't exist is empty, and
// one that can't be read is left out with a warning: a key that isn't known
// refuses the connection, so both are safe. Lines that don't parse are left
// out with a warning too, where the library would refuse the whole file.
func loadHostKeys(files []string, log *slog.Logger) (*hostKeys, error) {
	hk := &hostKeys{real: map[string]string{}}
	var readable []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			log.Warn("known_hosts file left out", "file", name, "error", err)
			continue
		}
		if _, err := xknownhosts.New(name); err == nil {
			readable = append(readable, name)
			continue
		}
		clean, err := cleanCopy(name, b, log)
		if err != nil {
			return nil, fmt.Errorf("known_hosts file %s: %w", name, err)
		}
		defer os.Remove(clean)
		hk.real[clean] = name
		readable = append(readable, clean)
	}
	var err error
	hk.db, err = knownhosts.NewDB(readable...)
	return hk, err
}

// cleanCopy writes a copy of the file without the lines that don't parse; the
// others keep their numbers.
func cleanCopy(name string, content []byte, log *slog.Logger) (string, error) {
	tmp, err := os.CreateTemp("", "known_hosts")
	if err != nil {
		return "", err
	}
	tmp.Close()
	lines := bytes.SplitAfter(content, []byte("\n"))
	try := func(part [][]byte) error {
		if err := os.WriteFile(tmp.Name(), bytes.Join(part, nil), 0o600); err != nil {
			return err
		}
		_, err := xknownhosts.New(tmp.Name())
		return err
	}
	bad := badLines(lines, 0, try)
	for _, i := range bad {
		log.Warn("known_hosts line left out: it doesn't parse", "file", name, "line", i+1)
		lines[i] = []byte("\n")
	}
	if err := try(lines); err != nil {
		os.Remove(tmp.Name())
		return "", err
	}
	return tmp.Name(), nil
}

// badLines finds the lines that try refuses, by halves, so that the library
// alone decides what a good line is and few bad lines cost few tries.
func badLines(lines [][]byte, first int, try func([][]byte) error) []int {
	if len(lines) == 0 || try(lines) == nil {
		return nil
	}
	if len(lines) == 1 {
		return []int{first}
	}
	half := len(lines) / 2
	return append(badLines(lines[:half], first, try), badLines(lines[half:], first+half, try)...)
}

// plainName is name without its port, under which OpenSSH also looks for keys
// of a machine on an unusual port; "" if there is no other name.
func plainName(name string) string {
	host, port, err := net.SplitHostPort(name)
	if err != nil || port == "22" {
		return ""
	}
	return net.JoinHostPort(host, "22")
}

// algorithms are the host key algorithms to ask a machine for: those of the
// keys that are known, so that it doesn't present another one that isn't.
func (hk *hostKeys) algorithms(c *config) (algos []string, known bool) {
	name := c.hostKeyName()
	algos = hk.db.HostKeyAlgorithms(name)
	if plain := plainName(name); len(algos) == 0 && plain != "" {
		algos = hk.db.HostKeyAlgorithms(plain)
	}
	known = slices.ContainsFunc(algos, func(a string) bool { return !strings.Contains(a, "-cert-") })
	if !known {
		// Certificates first, where an authority is known for the machine.
		algos = append(algos, hostKeyPreference()...)
	}
	allowed := c.hostKeyAlgos
	if allowed == nil {
		allowed = xssh.SupportedAlgorithms().HostKeys
	}
	return slices.DeleteFunc(algos, func(a string) bool { return !slices.Contains(allowed, a) }), known
}

// hostKeyPreference is the order in which a machine is asked for a key that
// isn't known yet, the one that people compare most often first.
func hostKeyPreference() []string {
	return []string{xssh.KeyAlgoED25519, xssh.KeyAlgoECDSA256, xssh.KeyAlgoECDSA384, xssh.KeyAlgoECDSA521,
		xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256}
}

// check decides about a key that the machine of c presents. Its errors are
// *HostKeyError.
func (hk *hostKeys) check(c *config, key xssh.PublicKey) error {
	name, callback := c.hostKeyName(), hk.db.HostKeyCallback()
	// The library wants an address, but decides by the name alone.
	remote := &net.TCPAddr{IP: net.IPv4zero}
	err := callback(name, remote, key)
	if err == nil {
		return nil
	}
	if plain := plainName(name); plain != "" && knownhosts.IsHostUnknown(err) && callback(plain, remote, key) == nil {
		return nil
	}
	e := &HostKeyError{Addr: c.addr.String(), KeyType: key.Type(), Fingerprint: xssh.FingerprintSHA256(key)}
	var mismatch *xknownhosts.KeyError
	var revoked *xknownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		e.Revoked = true
		hk.locate(e, revoked.Revoked)
	case errors.As(err, &mismatch):
		if wanted, ok := hk.wanted(name, mismatch, key.Type()); ok {
			hk.locate(e, wanted)
			break
		}
		e.Unknown = true
		if len(c.userHosts) > 0 {
			e.File = c.userHosts[0]
		}
	default:
		// Certificates: expired, wrong principal, unknown authority, revoked.
		e.Detail = "is a certificate that doesn't hold: " + strings.TrimPrefix(err.Error(), "ssh: ")
	}
	return e
}

func (hk *hostKeys) locate(e *HostKeyError, k xknownhosts.KnownKey) {
	e.File, e.Line = k.Filename, k.Line
	if name, ok := hk.real[k.Filename]; ok {
		e.File = name
	}
}

// wanted picks the known key that a machine should have presented, of type
// typ if there is one. Authorities don't count: a machine without a
// certificate is unknown, not changed.
func (hk *hostKeys) wanted(name string, mismatch *xknownhosts.KeyError, typ string) (xknownhosts.KnownKey, bool) {
	known := hk.db.HostKeys(name)
	keys := slices.DeleteFunc(slices.Clone(mismatch.Want), func(w xknownhosts.KnownKey) bool {
		return slices.ContainsFunc(known, func(k knownhosts.PublicKey) bool { return k.Cert && sameKey(k, w.Key) })
	})
	if len(keys) == 0 {
		return xknownhosts.KnownKey{}, false
	}
	if i := slices.IndexFunc(keys, func(w xknownhosts.KnownKey) bool { return w.Key.Type() == typ }); i >= 0 {
		return keys[i], true
	}
	return keys[0], true
}

// otherType is the error for a machine that has no key of the types that are
// known of it.
func (hk *hostKeys) otherType(c *config, offered []string) error {
	e := &HostKeyError{Addr: c.addr.String(),
		Detail: fmt.Sprintf("has changed: the machine has none of a known type, but %s", strings.Join(offered, ", "))}
	var mismatch *xknownhosts.KeyError
	err := hk.db.HostKeyCallback()(c.hostKeyName(), &net.TCPAddr{IP: net.IPv4zero}, noKey{})
	if errors.As(err, &mismatch) && len(mismatch.Want) > 0 {
		hk.locate(e, mismatch.Want[0])
	}
	return e
}

// noKey equals no other key.
type noKey struct{}

func (noKey) Type() string                         { return "none" }
func (noKey) Marshal() []byte                      { return nil }
func (noKey) Verify([]byte, *xssh.Signature) error { return errors.New("no key") }
