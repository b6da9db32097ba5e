package ssh

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	xssh "golang.org/x/crypto/ssh"

	"jobserver/userfile"
)

// A verdict is what known_hosts files say about a key that a name presents. It follows
// check_hostkeys_by_key_or_type of OpenSSH's hostfile.c.
type verdict int

const (
	keyNew     verdict = iota // there is no key of this name
	keyKnown                  // this key, or the authority of this certificate
	keyChanged                // there are other keys of this name
	keyRevoked                // by a line about this name
)

// judge gives the verdict of the lines about a name, and the line that decided.
func judge(lines []knownKey, key xssh.PublicKey) (verdict, knownKey) {
	cert, _ := key.(*xssh.Certificate)
	v, by := keyNew, knownKey{}
	for _, l := range lines {
		switch {
		case l.marker == revoked:
			if sameKey(l.key, plainKey(key)) || cert != nil && sameKey(l.key, cert.SignatureKey) {
				return keyRevoked, l
			}
		case v == keyKnown:
		case l.marker == authority && cert != nil && sameKey(l.key, cert.SignatureKey),
			l.marker == noMarker && cert == nil && sameKey(l.key, key):
			v, by = keyKnown, l
		case l.marker == noMarker && cert == nil &&
			(v == keyNew || l.key.Type() == key.Type() && by.key.Type() != key.Type()):
			v, by = keyChanged, l
		}
	}
	return v, by
}

// check decides about a key that the machine of c presents, from address ip if it isn't nil. Its
// errors are *HostKeyError.
func (hk *hostKeys) check(c *config, key xssh.PublicKey, ip net.IP) error {
	if e := checkStrength(c, key); e != nil {
		return e
	}
	if e := checkRevoked(c, key); e != nil {
		return e
	}
	err := hk.checkKnown(c, key)
	// As in OpenSSH, what is behind the loopback address is no machine of its own.
	if err != nil || !c.checkIP || ip == nil || ip.IsLoopback() {
		return err
	}
	return hk.checkIP(c, key, ip)
}

// checkKnown is check by the known_hosts files.
func (hk *hostKeys) checkKnown(c *config, key xssh.PublicKey) error {
	var rejected string
	if cert, ok := key.(*xssh.Certificate); ok {
		v, by := hk.lookUp(c, cert)
		switch v {
		case keyRevoked:
			return wrongKey(c, key, v, by)
		case keyKnown:
			if rejected = checkCertificate(c, cert); rejected == "" {
				return nil
			}
		}
		key = cert.Key // as in OpenSSH: what it is for may be known by itself
	}
	v, by := hk.lookUp(c, key)
	if v == keyKnown {
		return nil
	}
	e := wrongKey(c, key, v, by)
	if v == keyNew && rejected != "" {
		e.Unknown, e.Detail = false, "is a certificate that doesn't hold: "+rejected
	}
	return e
}

// lookUp judges by the lines about the machine's name, and where there is no key, by those without
// its port.
func (hk *hostKeys) lookUp(c *config, key xssh.PublicKey) (verdict, knownKey) {
	v, by := judge(hk.of(c.hostKeyName()), key)
	if plain := c.plainName(); v == keyNew && plain != "" {
		if v2, by2 := judge(hk.of(plain), key); v2 == keyKnown || v2 == keyRevoked {
			return v2, by2
		}
	}
	return v, by
}

func wrongKey(c *config, key xssh.PublicKey, v verdict, by knownKey) *HostKeyError {
	e := &HostKeyError{Addr: c.addr.String(), KeyType: key.Type(),
		Fingerprint: xssh.FingerprintSHA256(key),
		File:        by.file, Line: by.line, Revoked: v == keyRevoked, Unknown: v == keyNew}
	if v == keyNew {
		e.Lax = c.strict
		if len(c.userHosts) > 0 {
			e.File = c.userHosts[0]
		}
		if why := c.takesNoKeys(); why != nil {
			e.Advice = fmt.Sprintf("no key can be recorded, since %v: %s", why, knownHostsAdvice)
		}
	}
	return e
}

// takesNoKeys tells why no key can be recorded where the configuration wants it; nil if one can.
func (c *config) takesNoKeys() error {
	if len(c.userHosts) == 0 {
		return errors.New("UserKnownHostsFile is none")
	}
	return userfile.Replaceable(c.userHosts[0])
}

const knownHostsAdvice = "name another file with UserKnownHostsFile, or start the daemon with " +
	"--known-hosts FILE"

// checkIP is CheckHostIP: the address mustn't have another key on record than the name.
func (hk *hostKeys) checkIP(c *config, key xssh.PublicKey, ip net.IP) error {
	v, by := judge(hk.of(knownName(ip.String(), c.port)), plainKey(key))
	if v != keyChanged && v != keyRevoked {
		return nil
	}
	e := wrongKey(c, key, v, by)
	if v == keyChanged {
		e.Detail = fmt.Sprintf("is the one of its name, and its address %s has another on record "+
			"(CheckHostIP)", ip)
	}
	return e
}

// checkCertificate tells why the certificate of a known authority doesn't hold for the machine of
// c; "" if it does.
func checkCertificate(c *config, cert *xssh.Certificate) string {
	name := c.principal()
	switch {
	case len(cert.ValidPrincipals) > 0 && !slices.Contains(cert.ValidPrincipals, name):
		return fmt.Sprintf("it is for %s, not for %s", strings.Join(cert.ValidPrincipals, ", "),
			name)
	case cert.CertType != xssh.HostCert:
		return "it is none of a host"
	case c.caAlgos != nil && !slices.Contains(c.caAlgos, cert.Signature.Format):
		return fmt.Sprintf("it is signed with %s, which CASignatureAlgorithms leaves out",
			cert.Signature.Format)
	case cert.Signature.Format == xssh.KeyAlgoRSA && c.caAlgos == nil:
		return "it is signed with ssh-rsa, which uses SHA-1"
	}
	if err := (&xssh.CertChecker{}).CheckCert(name, cert); err != nil {
		return strings.TrimPrefix(err.Error(), "ssh: ")
	}
	return ""
}

// checkStrength holds RequiredRSASize.
func checkStrength(c *config, key xssh.PublicKey) error {
	bits := rsaBits(key)
	if bits == 0 || bits >= c.minRSA {
		return nil
	}
	return &HostKeyError{Addr: c.addr.String(), KeyType: key.Type(),
		Fingerprint: xssh.FingerprintSHA256(key),
		Detail: fmt.Sprintf("is too short: %d bits, and RequiredRSASize is %d", bits,
			c.minRSA),
		Advice: longerKey}
}

const longerKey = "give the machine a longer key, or one of type ed25519"

// rsaBits is the length of an RSA key, 0 of others.
func rsaBits(key xssh.PublicKey) int {
	if k, ok := plainKey(key).(xssh.CryptoPublicKey); ok {
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok {
			return r.N.BitLen()
		}
	}
	return 0
}

// algorithms are the host key algorithms to ask a machine for: those of the
// keys that are known, so that it doesn't present another one that isn't.
func (hk *hostKeys) algorithms(c *config) (algos []string, known bool) {
	lines := hk.of(c.hostKeyName())
	if plain := c.plainName(); plain != "" &&
		!slices.ContainsFunc(lines, func(k knownKey) bool { return k.marker != revoked }) {
		lines = hk.of(plain)
	}
	// Certificates first, where an authority is known for the machine.
	if slices.ContainsFunc(lines, func(k knownKey) bool { return k.marker == authority }) {
		algos = append(algos, certAlgorithms()...)
	}
	for _, k := range lines {
		if k.marker == noMarker {
			algos, known = append(algos, keyAlgorithms(k.key.Type())...), true
		}
	}
	allowed := c.hostKeyAlgos
	if allowed == nil {
		allowed = xssh.SupportedAlgorithms().HostKeys
	}
	pick := func(algos []string) (list []string) {
		for _, a := range algos {
			if slices.Contains(allowed, a) && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
		return list
	}
	if known {
		if list := pick(algos); len(list) > 0 {
			return list, true
		}
	}
	// Of what is known nothing is allowed: as in OpenSSH, the others are left.
	return pick(append(algos, hostKeyPreference()...)), false
}

// keyAlgorithms are the algorithms by which a key of a type can sign.
func keyAlgorithms(typ string) []string {
	if typ == xssh.KeyAlgoRSA {
		return []string{xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256, xssh.KeyAlgoRSA}
	}
	return []string{typ}
}

func certAlgorithms() []string {
	return []string{xssh.CertAlgoED25519v01, xssh.CertAlgoECDSA256v01, xssh.CertAlgoECDSA384v01,
		xssh.CertAlgoECDSA521v01,
		xssh.CertAlgoRSASHA512v01, xssh.CertAlgoRSASHA256v01}
}

// hostKeyPreference is the order in which a machine is asked for a key that
// isn't known yet, the one that people compare most often first.
func hostKeyPreference() []string {
	return []string{xssh.KeyAlgoED25519, xssh.KeyAlgoECDSA256, xssh.KeyAlgoECDSA384,
		xssh.KeyAlgoECDSA521,
		xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256, xssh.KeyAlgoRSA}
}

// otherType is the error for a machine that shares no algorithm for its host key with those of the
// keys that are known of it: it has changed, unless it has a key of a known type after all, and
// only signs in another way.
func (hk *hostKeys) otherType(c *config, theirs, ours []string) error {
	lines := hk.of(c.hostKeyName())
	if plain := c.plainName(); len(lines) == 0 && plain != "" {
		lines = hk.of(plain)
	}
	lines = slices.DeleteFunc(lines, func(k knownKey) bool { return k.marker != noMarker })
	same := func(k knownKey) bool {
		return slices.ContainsFunc(keyAlgorithms(k.key.Type()), func(a string) bool {
			return slices.Contains(theirs, a)
		})
	}
	if len(lines) == 0 || slices.ContainsFunc(lines, same) {
		return &AlgorithmError{Addr: c.addr.String(), What: "host key", Theirs: theirs, Ours: ours}
	}
	return &HostKeyError{Addr: c.addr.String(), File: lines[0].file, Line: lines[0].line,
		Detail: fmt.Sprintf("has changed: the machine has none of a known type, but %s",
			strings.Join(theirs, ", "))}
}
