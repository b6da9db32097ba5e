package web

import (
	"context"
	"crypto/subtle"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"jobserver/api"
)

// policy is what the page may do: load what comes from here, and nothing else. No script or markup
// that data might bring is ever run, as texts can't become either.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for " +
	"'script'; trusted-types 'none'"

const (
	// maxBody is how long the body of a request may be.
	maxBody = 1 << 20
	// bodyTime is how long it may take to come: what sends it slower holds nothing longer.
	bodyTime = 10 * time.Second
)

// guard refuses what doesn't come from our own page in this user's browser, whatever it asks for:
// names that lead here but aren't ours (a rebound name), pages of other sites and other ports, and
// other users of this computer.
func (s *server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusForbidden, api.Errorf(api.Denied, "another page asks for this"))
	}))
	checked := cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		if r.ContentLength != 0 { // also of what is refused: the server reads it, to go on after it
			r.Body = s.limited(w, r)
		}
		switch {
		case !s.isHost(r.Host):
			s.fail(
				w,
				r,
				http.StatusMisdirectedRequest,
				api.Errorf(api.Denied, "this is not %s", r.Host).
					WithHint("open the address that `jobserver web` has printed"),
			)
		case !s.sameOrigin(r):
			s.fail(w, r, http.StatusForbidden, api.Errorf(api.Denied, "another page asks for this"))
		case !s.Open && !isOurs(r.Context()):
			s.fail(
				w,
				r,
				http.StatusForbidden,
				api.Errorf(api.Denied, "this page is another user's").
					WithHint("start your own with `jobserver web`"),
			)
		case r.ContentLength != 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			h.Set("Connection", "close")
			s.fail(w, r, http.StatusBadRequest,
				api.Errorf(api.Invalid, "a %s has no body", r.Method))
		default:
			checked.ServeHTTP(w, r)
		}
	})
}

// limited is the body of a request, of which neither length nor time is without limit.
func (s *server) limited(w http.ResponseWriter, r *http.Request) io.ReadCloser {
	conn := http.NewResponseController(w)
	// What a test answers has no connection.
	_ = conn.SetReadDeadline(s.Now().Add(bodyTime))
	return &limitedBody{http.MaxBytesReader(w, r.Body, maxBody), conn}
}

type limitedBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

// Read lifts the limit of time when all is here: from then on the server reads on to see whether
// the client leaves.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.conn.SetReadDeadline(time.Time{}) // likewise
	}
	return n, err
}

// isHost says whether a request names the address that is listened at; localhost is one for
// loopback.
func (s *server) isHost(host string) bool {
	if host == s.host {
		return true
	}
	name, port, err := net.SplitHostPort(host)
	_, ours, _ := net.SplitHostPort(s.host)
	if err != nil || port != ours {
		return false
	}
	addr, ok := s.Addr.(*net.TCPAddr)
	switch {
	case !ok:
		return false
	case addr.IP.IsLoopback():
		return name == "localhost"
	case addr.IP.IsUnspecified():
		// the user opened it: by which name it is reached, nobody here knows
		return s.Open
	}
	return false
}

// sameOrigin says that a request for data comes from our own page, as far as the browser says where
// it comes from. CrossOriginProtection lets reads pass, since their answers can't be seen; but a
// request that follows a log holds a connection, and nobody else should.
func (s *server) sameOrigin(r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		return true
	}
	for _, origin := range r.Header.Values("Origin") {
		if origin != "" && origin != "http://"+r.Host {
			return false
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "" && site != "same-origin" && site != "none" {
			return false
		}
	}
	return true
}

// hasToken compares without telling by its time how much was right.
func (s *server) hasToken(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") &&
		subtle.ConstantTimeCompare([]byte(token), []byte(s.Token)) == 1
}

// peerIs says what the system tells of the other end of a connection.
type peerIs int

const (
	peerUntold peerIs = iota // nothing: there are systems that don't
	peerFound                // whose it is
	peerGone                 // that it is there no more
)

// peer is who is at the other end of a connection. It is found out with the first request.
type peer struct {
	conn net.Conn
	once sync.Once
	ours bool
}

type peerKey struct{}

// withPeer remembers the connection of a request.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{conn: conn})
}

// isOurs says that the process at the other end is ours or root's, as far as the system tells. One
// that has gone already is nobody's: it could be another user's, which sends a change and leaves.
func isOurs(ctx context.Context) bool {
	p, ok := ctx.Value(peerKey{}).(*peer)
	if !ok {
		return true // a test without a connection
	}
	p.once.Do(func() {
		switch uid, is := peerUID(p.conn); is {
		case peerFound:
			p.ours = uid == 0 || uid == os.Geteuid()
		case peerUntold:
			p.ours = true
		}
	})
	return p.ours
}
