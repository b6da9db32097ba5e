package ssh

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	xssh "golang.org/x/crypto/ssh"

	"jobserver/userfile"
)

// A HostKey is a public key of a machine.
type HostKey struct {
	Type        string // such as ssh-ed25519
	Fingerprint string // SHA256:…, as ssh-keygen -l prints it
	Known       bool   // the known_hosts files have it for this machine
	Changed     bool   // they have another key of it
	Revoked     bool   // they say that this key must not be used any more
	Key         []byte // in the wire format
}

// errSeen ends a handshake whose host key was all that was wanted.
var errSeen = errors.New("the host key was seen")

// HostKeys returns the keys that the machine presents now, without checking
// them and without logging in to it. Jump hosts on the way are checked, and
// logged in to. With Options.OpenSSH too, this package makes the connection.
func (d *Dialer) HostKeys(ctx context.Context, addr string) ([]HostKey, error) {
	a, err := ParseAddr(addr)
	if err != nil {
		return nil, &ConfigError{Addr: addr, Err: err}
	}
	hops, err := d.route(ctx, a)
	var beyond *ConfigError
	if errors.As(err, &beyond) && beyond.OpenSSH {
		return nil, &DialError{Addr: addr, Op: "ask for its host keys", Err: beyond.Err,
			Advice: "log in once by hand, and compare the fingerprint that is shown: ssh " + addr}
	}
	if err != nil {
		return nil, err
	}
	target := hops[len(hops)-1]
	known := d.knownHosts(target)
	var keys []HostKey
	var theirs []string // algorithms of the machine, where it has no key for ours
	// A machine presents one key a connection, of the type that it is asked for.
	for _, algorithms := range [][]string{
		{xssh.KeyAlgoED25519},
		{xssh.KeyAlgoECDSA256, xssh.KeyAlgoECDSA384, xssh.KeyAlgoECDSA521},
		{xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256, xssh.KeyAlgoRSA},
	} {
		if !slices.Contains(target.hostKeyAlgos, xssh.KeyAlgoRSA) {
			// SHA-1, for those who ask for it
			algorithms = slices.DeleteFunc(algorithms, func(a string) bool {
				return a == xssh.KeyAlgoRSA
			})
		}
		key, err := d.presentedKey(ctx, hops, algorithms)
		var none *AlgorithmError
		if errors.As(err, &none) && none.What == "host key" {
			theirs = none.Theirs
			continue
		}
		if err != nil {
			return nil, err
		}
		k := HostKey{Type: key.Type(), Fingerprint: xssh.FingerprintSHA256(key), Key: key.Marshal()}
		var wrong *HostKeyError
		err = known.check(target, key, nil)
		if k.Known = err == nil; errors.As(err, &wrong) {
			k.Changed, k.Revoked = !wrong.Unknown && !wrong.Revoked, wrong.Revoked
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, &AlgorithmError{Addr: addr, What: "host key", Theirs: theirs,
			Ours: hostKeyPreference()[:6]}
	}
	return keys, nil
}

// presentedKey is the machine's key for one of algorithms, an *AlgorithmError if it has none.
func (d *Dialer) presentedKey(
	ctx context.Context, hops []*config, algorithms []string,
) (xssh.PublicKey, error) {
	before, target := hops[:len(hops)-1], hops[len(hops)-1]
	l, err := d.connect(ctx, before)
	if err != nil {
		return nil, err
	}
	defer l.close()
	var key xssh.PublicKey
	err = d.extend(ctx, l, target,
		login{algorithms: algorithms, inspect: func(k xssh.PublicKey) error {
			key = k
			return errSeen
		}})
	if errors.Is(err, errSeen) {
		return key, nil
	}
	return nil, err
}

// Trust records keys as those of addr in the user's known_hosts file, in place
// of all that it has for exactly this name; what it says about patterns stays.
// A file that loses lines is kept as FILE.old. Names are hashed if those in
// the file are, or, in an empty file, if HashKnownHosts says so.
func (d *Dialer) Trust(ctx context.Context, addr string, keys ...HostKey) error {
	a, err := ParseAddr(addr)
	if err != nil {
		return &ConfigError{Addr: addr, Err: err}
	}
	c, err := d.resolve(ctx, a)
	if err != nil {
		return err
	}
	if why := c.takesNoKeys(); why != nil {
		return &ConfigError{Addr: addr, Advice: knownHostsAdvice,
			Err: fmt.Errorf("no host key can be recorded, since %w", why)}
	}
	var lines []xssh.PublicKey
	for _, k := range keys {
		key, err := xssh.ParsePublicKey(k.Key)
		if err != nil {
			return fmt.Errorf("record the host key of %s: %w", addr, err)
		}
		lines = append(lines, key)
	}
	d.trusting.Lock()
	defer d.trusting.Unlock()
	if err := recordKeys(c.userHosts[0], c.hostKeyName(), lines, c.hashHosts); err != nil {
		return fmt.Errorf("record the host key of %s: %w", addr, err)
	}
	return nil
}

// recordKeys puts keys into the known_hosts file as those of name.
func recordKeys(file, name string, keys []xssh.PublicKey, hash bool) error {
	old, err := userfile.ReadRegular(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	kept, lost := forgetName(old, name)
	if len(kept) > 0 && kept[len(kept)-1] != '\n' {
		kept = append(kept, '\n')
	}
	if len(bytes.TrimSpace(old)) > 0 {
		hash = bytes.HasPrefix(old, []byte("|1|")) || bytes.Contains(old, []byte("\n|1|"))
	}
	for _, key := range keys {
		shown := name
		if hash {
			var salt [sha1.Size]byte
			rand.Read(salt[:]) // never fails
			shown = "|1|" + base64.StdEncoding.EncodeToString(salt[:]) + "|" +
				base64.StdEncoding.EncodeToString(hashOf(salt[:], name))
		}
		kept = fmt.Appendf(kept, "%s %s %s\n", shown, key.Type(),
			base64.StdEncoding.EncodeToString(key.Marshal()))
	}
	if lost {
		if err := userfile.Replace(file+".old", old, 0o600, 0o700); err != nil {
			return err
		}
	}
	return userfile.Replace(file, kept, 0o600, 0o700)
}

// forgetName takes the keys of exactly name out of the content of a
// known_hosts file. Lines with a marker stay, and so do patterns; of a list of
// names only this one goes.
func forgetName(content []byte, name string) (kept []byte, lost bool) {
	for line := range bytes.Lines(content) {
		end := bytes.IndexAny(line, " \t")
		if end < 1 || line[0] == '#' || line[0] == '@' {
			kept = append(kept, line...)
			continue
		}
		names, rest := line[:end], line[end+1:]
		if names[0] == '|' {
			if isHashOf(string(names), name) {
				lost = true
				continue
			}
			kept = append(kept, line...)
			continue
		}
		all := strings.Split(string(names), ",")
		others := slices.DeleteFunc(slices.Clone(all), func(n string) bool {
			return strings.EqualFold(n, name)
		})
		switch len(others) {
		case len(all):
			kept = append(kept, line...)
		case 0:
			lost = true
		default:
			lost = true
			kept = fmt.Appendf(kept, "%s %s", strings.Join(others, ","), rest)
		}
	}
	return kept, lost
}
