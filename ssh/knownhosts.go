package ssh

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	xssh "golang.org/x/crypto/ssh"

	"jobserver/userfile"
)

// A marker is how a line of known_hosts begins (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
type marker string

const (
	noMarker  marker = ""
	authority marker = "@cert-authority"
	revoked   marker = "@revoked"
)

// A knownKey is a line of a known_hosts file.
type knownKey struct {
	marker marker
	hosts  string // patterns, separated by commas, or the hash of a name
	key    xssh.PublicKey
	file   string
	line   int
}

// A hostKeys is what the known_hosts files say. It is not changed once loaded.
type hostKeys struct {
	keys  []knownKey
	stamp string // of the files when they were read
}

// knownHosts loads the files of c, or takes them as they were loaded before
// when they are the same still.
func (d *Dialer) knownHosts(c *config) *hostKeys {
	files := slices.Concat(c.userHosts, c.globalHosts)
	key, stamp := strings.Join(files, "\n"), fileStamp(files...)
	d.mu.Lock()
	hk := d.hosts[key]
	d.mu.Unlock()
	if hk != nil && hk.stamp == stamp {
		return hk
	}
	hk = loadHostKeys(files, d.opts.Logger)
	hk.stamp = stamp
	d.mu.Lock()
	d.hosts[key] = hk
	d.mu.Unlock()
	return hk
}

// loadHostKeys reads known_hosts files. One that doesn't exist is empty, and
// one that can't be read is left out with a warning: a key that isn't known
// refuses the connection, so both are safe. Lines that don't parse are left
// out with a warning too, as OpenSSH leaves them out.
func loadHostKeys(files []string, log *slog.Logger) *hostKeys {
	hk := &hostKeys{}
	for _, name := range files {
		b, err := userfile.ReadRegular(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			log.Warn("known_hosts file left out", "file", name, "error", err)
			continue
		}
		number := 0
		for line := range bytes.Lines(b) {
			number++
			k, err := parseKnownLine(line)
			switch {
			case err != nil:
				log.Warn("known_hosts line left out: it doesn't parse", "file", name, "line",
					number, "error", err)
			case k.key != nil:
				k.file, k.line = name, number
				hk.keys = append(hk.keys, k)
			}
		}
	}
	return hk
}

// parseKnownLine parses a line; one without a key (blank, a comment) gives none.
func parseKnownLine(line []byte) (knownKey, error) {
	var k knownKey
	rest := strings.Trim(string(line), " \t\r\n")
	if rest == "" || rest[0] == '#' {
		return k, nil
	}
	next := func() (word string) {
		word = rest
		if i := strings.IndexAny(rest, " \t"); i >= 0 {
			word, rest = rest[:i], strings.TrimLeft(rest[i:], " \t")
			return word
		}
		rest = ""
		return word
	}
	if rest[0] == '@' {
		k.marker = marker(next())
		if k.marker != authority && k.marker != revoked {
			return k, fmt.Errorf("%s is no marker", k.marker)
		}
	}
	k.hosts = next()
	typ, blob := next(), next()
	if blob == "" {
		return k, errors.New("it has no key")
	}
	b, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return k, errors.New("the key isn't base64")
	}
	key, err := xssh.ParsePublicKey(b)
	if err != nil {
		return k, trimError(err)
	}
	if key.Type() != typ {
		return k, fmt.Errorf("the key is of type %s, not %s", key.Type(), typ)
	}
	k.key = key
	return k, nil
}

// of gives the lines that are about a name, in the order of the files.
func (hk *hostKeys) of(name string) []knownKey {
	var keys []knownKey
	for _, k := range hk.keys {
		if matchHosts(name, k.hosts) {
			keys = append(keys, k)
		}
	}
	return keys
}

// matchHosts tells whether the second field of a line stands for a name: as in OpenSSH, patterns
// are taken in lower case and names as they are, and one that is negated decides.
func matchHosts(name, hosts string) bool {
	if strings.HasPrefix(hosts, "|") {
		return isHashOf(hosts, name)
	}
	found := false
	for pattern := range strings.SplitSeq(hosts, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if matchPattern(name, strings.ToLower(pattern)) {
			if negated {
				return false
			}
			found = true
		}
	}
	return found
}

// matchPattern matches a pattern of ssh_config(5), "PATTERNS": * stands for any characters, ? for
// one.
func matchPattern(s, pattern string) bool {
	// After a mismatch, the last * takes one character more.
	p, i, star, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
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
	return hmac.Equal(hashOf(salt, name), want)
}

// hashOf is the hash of a name in a known_hosts file.
func hashOf(salt []byte, name string) []byte {
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return mac.Sum(nil)
}
