package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Listen listens at an address: HOST:PORT, or :PORT or PORT for this host alone. Numbers about jobs
// are for whoever can reach them, so other hosts must be let in expressly, as with 0.0.0.0:PORT or
// [::]:PORT.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is no address for metrics: give a port, or HOST:PORT", addr)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	return l, nil
}

// asked says whether a request's Host is one by which this listener is reached. What listens on
// this host alone isn't reached by a name: a page that a browser here shows has made it point here.
func asked(addr net.Addr, host string) bool {
	if own, ok := addr.(*net.TCPAddr); !ok || !own.IP.IsLoopback() {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}

// collectLimit is how long one reply may take to make.
const collectLimit = 10 * time.Second

// Serve answers GET /metrics on l with what collect gives, until ctx ends. It closes l, and returns
// when all has ended.
func Serve(
	ctx context.Context, l net.Listener, log *slog.Logger,
	collect func(context.Context) (*Page, error),
) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !asked(l.Addr(), r.Host) {
			http.Error(w, "ask for the numbers by localhost or by an address",
				http.StatusMisdirectedRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), collectLimit)
		defer cancel()
		page, err := collect(ctx)
		if err != nil {
			log.Warn("metrics could not be collected", "err", err)
			http.Error(w, "the numbers could not be collected", http.StatusServiceUnavailable)
			return
		}
		var body bytes.Buffer
		if _, err := page.WriteTo(&body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(body.Bytes()) // who has gone needs no answer
	})
	server := &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(stopped)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(last) != nil {
			server.Close()
		}
	})
	err := server.Serve(l)
	if !end() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics at %s: %w", strings.TrimSpace(l.Addr().String()), err)
}
