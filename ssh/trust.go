package ssh

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	xssh "golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
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
	known, err := d.knownHosts(target)
	if err != nil {
		return nil, &ConfigError{Addr: addr, Err: err}
	}
	var keys []HostKey
	// A machine presents one key a connection, of the type that it is asked for.
	for _, algorithms := range [][]string{
		{xssh.KeyAlgoED25519},
		{xssh.KeyAlgoECDSA256, xssh.KeyAlgoECDSA384, xssh.KeyAlgoECDSA521},
		{xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256},
	} {
		key, err := d.presentedKey(ctx, hops, algorithms)
		if err != nil {
			return nil, err
		}
		if key != nil {
			k := HostKey{Type: key.Type(), Fingerprint: xssh.FingerprintSHA256(key), Key: key.Marshal()}
			var wrong *HostKeyError
			err := known.check(target, key)
			if k.Known = err == nil; errors.As(err, &wrong) {
				k.Changed, k.Revoked = !wrong.Unknown && !wrong.Revoked, wrong.Revoked
			}
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, &DialError{Addr: addr, Op: "ask for its host keys", Err: errors.New("it has none of type ed25519, ecdsa or rsa")}
	}
	return keys, nil
}

// presentedKey is the machine's key for one of algorithms, nil if it has none.
func (d *Dialer) presentedKey(ctx context.Context, hops []*config, algorithms []string) (xssh.PublicKey, error) {
	before, target := hops[:len(hops)-1], hops[len(hops)-1]
	l, err := d.connect(ctx, before)
	if err != nil {
		return nil, err
	}
	defer l.close()
	var key xssh.PublicKey
	err = d.extend(ctx, l, target, login{algorithms: algorithms, inspect: func(k xssh.PublicKey) error {
		key = k
		return errSeen
	}})
	var none *xssh.AlgorithmNegotiationError
	switch {
	case errors.Is(err, errSeen):
		return key, nil
	case errors.As(err, &none) && strings.Contains(none.What, "host key"):
		return nil, nil
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
	if len(c.userHosts) == 0 {
		return &ConfigError{Addr: addr, Err: errors.New("UserKnownHostsFile is none: there is no file to record a host key in")}
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
	if err := recordKeys(c.userHosts[0], knownhosts.Normalize(c.hostKeyName()), lines, c.hashHosts); err != nil {
		return fmt.Errorf("record the host key of %s: %w", addr, err)
	}
	return nil
}

// recordKeys puts keys into the known_hosts file as those of name, which is
// normalized.
func recordKeys(file, name string, keys []xssh.PublicKey, hash bool) error {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	old, err := os.ReadFile(file)
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
		if hash {
			kept = fmt.Appendf(kept, "%s %s %s\n", xknownhosts.HashHostname(name), key.Type(), base64.StdEncoding.EncodeToString(key.Marshal()))
		} else {
			kept = fmt.Appendf(kept, "%s\n", knownhosts.Line([]string{name}, key))
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if lost {
		if err := replaceFile(file+".old", old); err != nil {
			return err
		}
	}
	return replaceFile(file, kept)
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
		others := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return strings.EqualFold(n, name) })
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

// replaceFile writes name so that there is the old content or the new one at
// any moment, with the mode that it had, or 0600.
func replaceFile(name string, content []byte) (err error) {
	mode := fs.FileMode(0o600)
	if st, err := os.Stat(name); err == nil {
		mode = st.Mode().Perm()
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(content); err != nil {
		return err
	}
	if err := tmp.Chmod(mode); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// isHashOf tells whether hashed, |1|SALT|HASH as in a known_hosts file
// (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), stands for name.
func isHashOf(hashed, name string) bool {
	part := strings.Split(hashed, "|")
	if len(part) != 4 || part[1] != "1" {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(part[2])
	if err != nil {
		return false
	}
	want, err := base64.StdEncoding.DecodeString(part[3])
	if err != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return hmac.Equal(mac.Sum(nil), want)
}
