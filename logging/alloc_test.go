//go:build !race

package logging

import (
	"io"
	"log/slog"
	"testing"
)

// TestEnabledAllocations compares a line with the one of slog's own handler.
// Under the race detector a sync.Pool forgets at random, so it isn't run there.
func TestEnabledAllocations(t *testing.T) {
	text := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
	limit := countAllocations(t, text)
	if n := countAllocations(t, openDiscard(t, "debug")); n > limit {
		t.Errorf("an enabled line allocates %v times, slog's TextHandler %v times", n, limit)
	}
}
