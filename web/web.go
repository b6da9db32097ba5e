// Package web shows a daemon as a page: a handler for HTTP that is a client of the daemon like any
// other, made for one user's browser on the same computer.
//
// Who gets in has the token, a new one of 130 bits at each start. It is in the fragment of the URL
// that is printed, which browsers send to nobody; each request for data has it in a header. There
// is no cookie: browsers send them to all ports of an address, and any user may listen on one. See
// guard.go.
//
// What pages show comes from one follower (package live), however many there are.
package web

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"jobserver/api"
	"jobserver/live"
)

// Options of a server.
type Options struct {
	Follower *live.Follower
	Token    string   // see NewToken
	Addr     net.Addr // that is listened at
	ReadOnly bool     // nothing can be changed
	Name     string   // of the daemon's host, for the title
	Version  string   // of this program
	Log      *slog.Logger
	Now      func() time.Time
	// Open lets requests come from other computers: Addr isn't a loopback one, and the user said
	// so.
	Open bool
}

// NewToken makes a token.
func NewToken() string { return rand.Text() }

// server answers requests.
type server struct {
	Options
	assets *assets
	host   string // that requests have to name
}

// Handler answers all requests.
func Handler(o Options) (http.Handler, error) {
	a, err := loadAssets()
	if err != nil {
		return nil, err
	}
	if addr, ok := o.Addr.(*net.TCPAddr); ok && addr.IP.IsLoopback() {
		o.Open = false // who else could come isn't let in only because the user didn't mind
	}
	s := &server{Options: o, assets: a, host: o.Addr.String()}
	mux := http.NewServeMux()
	for pattern, get := range map[string]func(*http.Request) (any, error){
		"GET /api/state":               s.getState,
		"GET /api/jobs":                s.getJobs,
		"GET /api/jobs/{id}":           s.getJob,
		"GET /api/jobs/{id}/why":       s.getWhy,
		"GET /api/why":                 s.getWhyMany,
		"GET /api/machines":            s.getMachines,
		"GET /api/resources":           s.getResources,
		"GET /api/matrices":            s.getMatrices,
		"GET /api/matrices/{id}":       s.getMatrix,
		"GET /api/matrices/{id}/table": s.getTable,
		"GET /api/matrices/{id}/cell":  s.getCell,
		"GET /api/timeline":            s.getTimeline,
		"GET /api/events":              s.getEvents,
		"POST /api/jobs":               s.changeJobs,
		"POST /api/machines":           s.changeMachines,
		"POST /api/matrices":           s.changeMatrices,
	} {
		mux.Handle(pattern, s.data(get))
	}
	mux.Handle("GET /api/live", s.secret(s.stream))
	mux.Handle("GET /api/jobs/{id}/log", s.secret(s.log))
	mux.Handle("GET /api/matrices/{id}/map", s.secret(s.matrixMap))
	mux.Handle("GET /api/matrices/{id}/plot.svg", s.secret(s.plot))
	mux.Handle("/api/", s.secret(func(w http.ResponseWriter, _ *http.Request) error {
		return api.Errorf(api.NotFound, "there is no such address")
	}))
	mux.HandleFunc("/", s.asset)
	return s.guard(mux), nil
}

// Server is an http.Server that serves the handler, with limits that a browser doesn't meet.
func Server(ctx context.Context, o Options) (*http.Server, error) {
	h, err := Handler(o)
	if err != nil {
		return nil, err
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		// Of a request's answer; the stream has its own for each piece. No call takes so long.
		WriteTimeout:   2 * time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
		ConnContext:    withPeer,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		// What it has to say of clients that break off, names their addresses and nobody's faults.
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}, nil
}

// data answers with JSON.
func (s *server) data(get func(*http.Request) (any, error)) http.Handler {
	return s.secret(func(w http.ResponseWriter, r *http.Request) error {
		reply, err := get(r)
		if err != nil {
			return err
		}
		return s.write(w, r, http.StatusOK, reply)
	})
}

// secret lets in who has the token, and answers with the errors of h.
func (s *server) secret(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if !s.hasToken(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			s.fail(
				w,
				r,
				http.StatusUnauthorized,
				api.Errorf(api.Denied, "this page doesn't know the token").
					WithHint("open the address that `jobserver web` has printed"),
			)
			return
		}
		if err := proper(r); err != nil {
			s.fail(w, r, statusOf(err), err)
			return
		}
		// Also when the client seems to be gone, as one whose body took too long does: without an
		// answer it would be told that all is well.
		if err := h(w, r); err != nil {
			s.fail(w, r, statusOf(err), err)
		}
	})
}

// proper refuses what no page asks for, and of which only a part would be understood: what is left
// out of a query may be the selector.
func proper(r *http.Request) error {
	if r.Method == http.MethodHead {
		return api.Errorf(api.Invalid, "there is no HEAD of what isn't a file: use GET")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return api.Errorf(api.Invalid, "read the query of the address: %v", err)
	}
	for name, values := range query {
		if !utf8.ValidString(name + strings.Join(values, "")) {
			return api.Errorf(api.Invalid, "read the query of the address: %q=%q is no text", name,
				values)
		}
	}
	return nil
}

// failure is an error as JSON.
type failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Kind  string `json:"kind"`
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	f := failure{Error: err.Error(), Kind: string(api.KindOf(err))}
	var told *api.Error
	if errors.As(err, &told) {
		f.Hint = told.Hint
	}
	if err := s.write(w, r, status, f); err != nil {
		s.Log.Debug("an answer was not sent", "err", err)
	}
}

// statusOf is the HTTP status of an error.
func statusOf(err error) int {
	switch api.KindOf(err) {
	case api.Invalid, api.Usage:
		return http.StatusBadRequest
	case api.NotFound, api.NoMatch:
		return http.StatusNotFound
	case api.Denied:
		return http.StatusForbidden
	case api.Conflict, api.Confirm, api.Full:
		return http.StatusConflict
	case api.Unavailable, api.OutcomeUnknown:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (s *server) write(w http.ResponseWriter, r *http.Request, status int, reply any) error {
	body, err := json.Marshal(reply)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	return writeBody(w, r, status, body)
}

// writeBody sends a body, compressed when that is worth it.
func writeBody(w http.ResponseWriter, r *http.Request, status int, body []byte) error {
	if len(body) > 1400 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		body = compressed(body)
	}
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}
