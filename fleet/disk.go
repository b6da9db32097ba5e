package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// diskGate is where those wait who can't write to the host's disk. Trouble is announced when it begins and
// when it ends, not by each of them.
type diskGate struct {
	log     *slog.Logger
	every   time.Duration
	trouble atomic.Bool
}

// room is what must be free before writing logs is tried again, in bytes: enough for a reply of each kind.
const room = 8 << 20

// wait returns when writing to dir is worth another try after
// err, or with an error when one of the contexts has ended.
func (g *diskGate) wait(ctx, link context.Context, dir string, err error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(link, func() { cancel(context.Cause(link)) })()
	if !g.trouble.Swap(true) {
		g.log.Error("logs can't be written at present; the machines keep them until it works again", "err", err)
	}
	for {
		if err := g.pause(ctx); err != nil {
			return err
		}
		if free, err := freeBytes(dir); err != nil || free >= room {
			return nil // what else is wrong, the next try will tell
		}
	}
}

// pause waits for the time between two tries.
func (g *diskGate) pause(ctx context.Context) error {
	timer := time.NewTimer(g.every)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fine is called after something was written.
func (g *diskGate) fine() {
	if g.trouble.Load() && g.trouble.Swap(false) {
		g.log.Info("logs are written again")
	}
}

// freeBytes is what an ordinary user may still write to dir's file system.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}
