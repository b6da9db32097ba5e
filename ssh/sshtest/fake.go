package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"path/filepath"
	"sync"
	"testing"

	xssh "golang.org/x/crypto/ssh"
)

// Fake starts an sshd that lets everybody in, answers keepalives, and does with each channel what
// the test says. It gives the alias under which the client knows it.
func Fake(
	t testing.TB, channel func(conn *xssh.ServerConn, c xssh.NewChannel),
) (alias string, client *Client) {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	fail(err)
	signer, err := xssh.NewSignerFromKey(key)
	fail(err)
	conf := &xssh.ServerConfig{PublicKeyCallback: func(
		xssh.ConnMetadata, xssh.PublicKey,
	) (*xssh.Permissions, error) {
		return nil, nil
	}}
	conf.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				conn, chans, reqs, err := xssh.NewServerConn(c, conf)
				if err != nil {
					return
				}
				tasks.Go(func() { xssh.DiscardRequests(reqs) }) // which answers keepalives
				for c := range chans {
					channel(conn, c)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		tasks.Wait()
	})
	client, err = NewClient(filepath.Join(t.TempDir(), "client"))
	fail(err)
	port := l.Addr().(*net.TCPAddr).Port
	fail(client.Know("127.0.0.1", port, string(xssh.MarshalAuthorizedKey(signer.PublicKey()))))
	fail(client.AddHost("fake", "x", "127.0.0.1", port))
	return "fake", client
}
