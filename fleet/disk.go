package fleet

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"jobserver/disk"
)

// diskGate is where those wait who can't write to the host's disk. Trouble is announced when it begins for one of
// them and when it has ended for all, not by each.
type diskGate struct {
	log   *slog.Logger
	every time.Duration

	mu      sync.Mutex
	blocked int // runs whose logs can't be written; guarded by mu
}

// room is what must be free before writing logs is tried again, in bytes: enough for a reply of each kind.
const room = 8 << 20

// wait returns when writing to dir is worth another try after err, or with an error when ctx has ended. blocked is the
// caller's: until it calls fine, it is one of those in trouble.
func (g *diskGate) wait(ctx context.Context, dir string, blocked *bool, err error) error {
	if !*blocked {
		*blocked = true
		if g.count(1) == 1 {
			g.log.Error("logs can't be written at present; the machines keep them until it works again", "err", err)
		}
	}
	for {
		if err := g.pause(ctx); err != nil {
			return err
		}
		if free, err := disk.Free(dir); err != nil || free >= room {
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

// fine is called by those who were in trouble, after something was written or when there is nothing to write any more.
func (g *diskGate) fine(blocked *bool) {
	if !*blocked {
		return
	}
	*blocked = false
	if g.count(-1) == 0 {
		g.log.Info("logs are written again")
	}
}

func (g *diskGate) count(more int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blocked += more
	return g.blocked
}
