package logging

import (
	"fmt"
	"log/slog"
	"math"
	"strings"
)

// LevelTrace is log4rs's level below debug.
const LevelTrace = slog.Level(-8)

// The two ends of what a logger or a threshold can ask for: nothing passes
// levelOff, and everything passes levelAll, which is what "trace" means.
const (
	levelOff = slog.Level(math.MaxInt)
	levelAll = slog.Level(math.MinInt)
)

// parseLevel reads a level as a configuration names it, in any case.
func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "off":
		return levelOff, nil
	case "error":
		return slog.LevelError, nil
	case "warn":
		return slog.LevelWarn, nil
	case "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "trace":
		return levelAll, nil
	}
	return 0, fmt.Errorf("unknown level %q (off, error, warn, info, debug or trace)", s)
}

// levelName is the name that {l} prints. slog's levels between two of
// log4rs's count as the lower one, which is also the one that lets them pass.
func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "ERROR"
	case l >= slog.LevelWarn:
		return "WARN"
	case l >= slog.LevelInfo:
		return "INFO"
	case l >= slog.LevelDebug:
		return "DEBUG"
	}
	return "TRACE"
}
