package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"jobserver/userfile"
)

// A keyring is what we may log in with on one connection. Its agent signs
// until close.
type keyring struct {
	signers []xssh.Signer // in the order in which they are offered
	notes   []string      // for AuthError: each key, and each that can't be used, with the reason
	locked  []string      // files with a passphrase that no agent holds
	agent   net.Conn      // nil without an agent
}

func (k *keyring) close() {
	if k.agent != nil {
		k.agent.Close()
	}
}

// prints are the fingerprints of the keys that are offered.
func (k *keyring) prints() (prints []string) {
	for _, s := range k.signers {
		prints = append(prints, xssh.FingerprintSHA256(s.PublicKey()))
	}
	return prints
}

// newKeyring collects the keys of c. What can't be used is noted, and is no
// error: another key may do. The agent is dialled anew each time, as it may
// have been restarted, and has until deadline for everything.
func newKeyring(ctx context.Context, c *config, deadline time.Time) *keyring {
	k := &keyring{}
	var held []xssh.Signer
	if c.agentSocket != "" {
		var err error
		if held, err = k.askAgent(ctx, c.agentSocket, deadline); err != nil {
			k.notes = append(k.notes, fmt.Sprintf("agent %s: %v", c.agentSocket, err))
		}
	}
	certs := loadCertificates(c)
	var listed []xssh.PublicKey // the public keys of all identities, usable or not
	for _, name := range c.identities {
		id := loadIdentity(name)
		if id.public != nil {
			listed = append(listed, id.public)
			// An agent's key needs no passphrase, and may be in hardware.
			if i := slices.IndexFunc(held,
				func(s xssh.Signer) bool { return sameKey(s.PublicKey(), id.public) }); i >= 0 {
				id.signer, id.locked, id.err = held[i], false, nil
			}
		}
		switch {
		case id.signer != nil:
			k.offer(c, id.signer, certs, name)
		case id.locked:
			k.locked = append(k.locked, name)
			k.notes = append(k.notes, name+": has a passphrase, and no agent holds it")
		case id.err != nil && !(errors.Is(id.err, fs.ErrNotExist) && isDefaultIdentity(name)):
			k.notes = append(k.notes, fmt.Sprintf("%s: %v", name, id.err))
		}
	}
	for _, s := range held {
		if !c.onlyIdentities || slices.ContainsFunc(listed,
			func(p xssh.PublicKey) bool { return sameKey(p, plainKey(s.PublicKey())) }) {
			k.offer(c, s, certs, "agent")
		}
	}
	return k
}

// offer adds s, and before it the certificates for it, unless they are there already.
func (k *keyring) offer(c *config, s xssh.Signer, certs []*xssh.Certificate, origin string) {
	if bits := rsaBits(s.PublicKey()); bits != 0 && bits < c.minRSA {
		k.notes = append(k.notes,
			fmt.Sprintf("%s: has %d bits, and RequiredRSASize is %d", origin, bits, c.minRSA))
		return
	}
	add := func(s xssh.Signer) {
		s, ok := restrict(s, c.keyAlgos)
		if !ok {
			k.notes = append(k.notes,
				fmt.Sprintf("%s: PubkeyAcceptedAlgorithms leaves out %s", origin, s.PublicKey().
					Type()))
			return
		}
		if slices.ContainsFunc(k.signers,
			func(o xssh.Signer) bool { return sameKey(o.PublicKey(), s.PublicKey()) }) {
			return
		}
		k.signers = append(k.signers, s)
		p := s.PublicKey()
		k.notes = append(k.notes,
			fmt.Sprintf("%s %s %s", origin, p.Type(), xssh.FingerprintSHA256(p)))
	}
	for _, cert := range certs {
		if sameKey(cert.Key, s.PublicKey()) {
			if cs, err := xssh.NewCertSigner(cert, s); err == nil {
				add(cs)
			}
		}
	}
	add(s)
}

// restrict has s sign with those algorithms alone that PubkeyAcceptedAlgorithms allows, and tells
// whether there are any; nil are all.
func restrict(s xssh.Signer, allowed []string) (xssh.Signer, bool) {
	if allowed == nil {
		return s, true
	}
	typ := s.PublicKey().Type()
	var algos []string
	for _, plain := range keyAlgorithms(strings.TrimSuffix(typ, certSuffix)) {
		name := plain
		if strings.HasSuffix(typ, certSuffix) {
			name += certSuffix
		}
		if slices.Contains(allowed, name) {
			algos = append(algos, plain)
		}
	}
	if len(algos) == 0 {
		return s, false
	}
	if a, ok := s.(xssh.AlgorithmSigner); ok && rsaBits(s.PublicKey()) > 0 {
		if m, err := xssh.NewSignerWithAlgorithms(a, algos); err == nil {
			return m, true
		}
	}
	return s, true
}

// certSuffix ends the names of certificates' types and algorithms.
const certSuffix = "-cert-v01@openssh.com"

func (k *keyring) askAgent(
	ctx context.Context, socket string, deadline time.Time,
) ([]xssh.Signer, error) {
	conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	k.agent = conn
	// An agent that asks its user for a confirmation may never answer.
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return agent.NewClient(conn).Signers()
}

// An identity is what IdentityFile names: a private key, or a public one
// whose private half an agent holds.
type identity struct {
	public xssh.PublicKey // nil if unknown
	signer xssh.Signer    // nil if locked or in an agent
	locked bool           // has a passphrase
	err    error
}

func loadIdentity(name string) identity {
	b, err := userfile.ReadRegular(name)
	if err != nil {
		// The private key may be in the agent alone.
		return identity{public: readPublicKey(name + ".pub"), err: unwrapPath(err)}
	}
	if pub, _, _, _, err := xssh.ParseAuthorizedKey(b); err == nil {
		return identity{public: pub,
			err: errors.New("is a public key, and no agent holds its private half")}
	}
	if err := checkPrivate(name); err != nil {
		return identity{err: err}
	}
	signer, err := xssh.ParsePrivateKey(b)
	var locked *xssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		id := identity{public: locked.PublicKey, locked: true, err: err}
		if id.public == nil {
			id.public = readPublicKey(name + ".pub")
		}
		return id
	case err != nil:
		return identity{public: readPublicKey(name + ".pub"), err: err}
	}
	return identity{public: signer.PublicKey(), signer: signer}
}

// checkPrivate refuses a key of ours that others can read, as OpenSSH does.
func checkPrivate(name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return unwrapPath(err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if ok && int(sys.Uid) == os.Getuid() && st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("others may read it (mode %04o): chmod 600 it", st.Mode().Perm())
	}
	return nil
}

func readPublicKey(name string) xssh.PublicKey {
	b, err := userfile.ReadRegular(name)
	if err != nil {
		return nil
	}
	pub, _, _, _, err := xssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil
	}
	return pub
}

// loadCertificates reads CertificateFile, and IDENTITY-cert.pub beside each
// identity.
func loadCertificates(c *config) []*xssh.Certificate {
	names := slices.Clone(c.certificates)
	for _, id := range c.identities {
		names = append(names, strings.TrimSuffix(id, ".pub")+"-cert.pub")
	}
	var certs []*xssh.Certificate
	for _, name := range names {
		if cert, ok := readPublicKey(name).(*xssh.Certificate); ok {
			certs = append(certs, cert)
		}
	}
	return certs
}

func sameKey(a, b xssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// plainKey is the key that a certificate is for, or the key itself.
func plainKey(k xssh.PublicKey) xssh.PublicKey {
	// An agent's keys are bytes with a type until they are parsed.
	if p, err := xssh.ParsePublicKey(k.Marshal()); err == nil {
		k = p
	}
	if cert, ok := k.(*xssh.Certificate); ok {
		return cert.Key
	}
	return k
}

// isDefaultIdentity tells whether the file is one that OpenSSH looks for
// without being told: then nobody misses it.
func isDefaultIdentity(name string) bool {
	return strings.HasPrefix(filepath.Base(name), "id_") &&
		filepath.Base(filepath.Dir(name)) == ".ssh"
}

// unwrapPath takes the file name out of an error that is told with it anyway.
func unwrapPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
