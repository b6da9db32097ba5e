//go:build linux

package daemon

import (
	"context"
	"log/slog"

	"jobserver/sched"
)

// logEvents writes what happens to the daemon's log. It follows at its own pace: a console that
// blocks doesn't hold up the scheduler.
func (d *daemon) logEvents(ctx context.Context) {
	log := d.log.Logger("server::sched")
	d.loop.Events().Follow(ctx, d.unlogged, func(events []sched.Event, gap bool) bool {
		if gap {
			log.Warn("events came faster than they could be logged; some are left out")
		}
		for i := range events {
			logEvent(ctx, log, &events[i])
		}
		return true
	})
}

func logEvent(ctx context.Context, log *slog.Logger, e *sched.Event) {
	level := slog.LevelInfo
	if e.Warn {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, 4)
	if e.Job != 0 {
		attrs = append(attrs, slog.Uint64("job", e.Job))
	}
	if e.Attempt != 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Machine != "" {
		attrs = append(attrs, slog.String("machine", e.Machine))
	}
	if e.Matrix != 0 {
		attrs = append(attrs, slog.Uint64("matrix", e.Matrix))
	}
	log.LogAttrs(ctx, level, e.Text, attrs...)
}
