//go:build linux

package daemon

import (
	"context"
	"net"

	"jobserver/api"
	"jobserver/metrics"
)

// listenMetrics listens where --metrics says; nil without it.
func listenMetrics(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := metrics.Listen(ctx, addr)
	if err != nil {
		return nil, api.Errorf(api.Usage, "%v", err).
			WithHint("--metrics 9184 serves them to this host alone, " +
				"--metrics 0.0.0.0:9184 to all who reach it")
	}
	return l, nil
}

// closeListener closes what may be nil.
func closeListener(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}
