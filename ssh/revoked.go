package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"jobserver/userfile"
)

// krlMagic is how a key revocation list begins (PROTOCOL.krl of OpenSSH); other files have public
// keys as text.
const krlMagic = "SSHKRL\n\x00"

// krlTime is how long ssh-keygen may take for a look into a revocation list.
const krlTime = 10 * time.Second

const revocationsAdvice = "make the file readable, or take RevokedHostKeys out of the ssh " +
	"configuration"

// checkRevoked holds RevokedHostKeys. As in OpenSSH, a file that can't be read refuses every
// machine.
func checkRevoked(c *config, key xssh.PublicKey) error {
	if c.revokedKeys == "" {
		return nil
	}
	e := &HostKeyError{Addr: c.addr.String(), KeyType: key.Type(),
		Fingerprint: xssh.FingerprintSHA256(key), File: c.revokedKeys}
	content, err := userfile.ReadRegular(c.revokedKeys)
	if err == nil && bytes.HasPrefix(content, []byte(krlMagic)) {
		e.Revoked, err = inKRL(c.revokedKeys, key)
	} else if err == nil {
		e.Revoked, e.Line = inKeys(content, key)
	}
	switch {
	case err != nil:
		e.Detail = fmt.Sprintf("can't be looked up in RevokedHostKeys: %v", unwrapPath(err))
		e.Advice = revocationsAdvice
		return e
	case e.Revoked:
		return e
	}
	return nil
}

// inKeys looks for the key, or the authority of a certificate, among public keys, one a line.
func inKeys(content []byte, key xssh.PublicKey) (found bool, line int) {
	cert, _ := key.(*xssh.Certificate)
	for text := range bytes.Lines(content) {
		line++
		other, _, _, _, err := xssh.ParseAuthorizedKey(text)
		if err != nil {
			continue
		}
		other = plainKey(other)
		if sameKey(other, plainKey(key)) || cert != nil && sameKey(other, cert.SignatureKey) {
			return true, line
		}
	}
	return false, 0
}

// inKRL asks ssh-keygen, which knows all that such a list may say: serials, ids, hashes.
func inKRL(list string, key xssh.PublicKey) (bool, error) {
	program, err := exec.LookPath("ssh-keygen")
	if err != nil {
		return false, fmt.Errorf("it is a revocation list, for which ssh-keygen is needed: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), krlTime)
	defer cancel()
	file, err := os.CreateTemp("", "jobserver-key-*.pub")
	if err != nil {
		return false, err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(xssh.MarshalAuthorizedKey(key))
	if err = errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	out, err := exec.CommandContext(ctx, program, "-Q", "-f", list, file.Name()).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, nil
	case errors.As(err, &exit) && strings.Contains(string(out), "REVOKED"):
		return true, nil
	}
	return false, fmt.Errorf("ssh-keygen -Q: %w: %s", err, strings.TrimSpace(string(out)))
}
