package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"jobserver/disk"
)

// diskGate is where those wait who can't write to the host's disk. Trouble is announced when it
// begins for one of them and when it has ended for all, not by each.
type diskGate struct {
	log   *slog.Logger
	every time.Duration
	least int64 // bytes that must be free before it is tried again

	mu      sync.Mutex
	blocked int // runs whose logs can't be written; guarded by mu
}

// room is what must be free before writing logs is tried again, in bytes: enough for a reply of
// each kind.
const room = 8 << 20

// wait returns when writing to dir is worth another try after err, or with an error when ctx has
// ended. blocked is the caller's: until it calls fine, it is one of those in trouble.
func (g *diskGate) wait(ctx context.Context, dir string, blocked *bool, err error) error {
	if !*blocked {
		*blocked = true
		if g.count(1) == 1 {
			g.log.Error("logs can't be written at present; the machines keep them until it works "+
				"again", "err", err)
		}
	}
	for {
		if err := g.pause(ctx); err != nil {
			return err
		}
		if free, err := disk.Free(dir); err != nil || free >= g.least {
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

// fine is called by those who were in trouble, after something was written or when there is nothing
// to write any more.
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

// logSpace watches the room on the disk of the logs. What is to stay free there is for the state,
// which all work needs; when there is less, logs stay on their machines. Only a little of each
// still comes, so that most jobs can end.
type logSpace struct {
	dir  string
	keep int64 // bytes that are to stay free; 0: none

	mu   sync.Mutex
	at   time.Time // of the last look
	free int64     // then, less what was taken since
}

const (
	// spaceFor is how long a look at the disk is good.
	spaceFor = 100 * time.Millisecond
	// leanBytes of each run's log come when there is little room, as long as there is leanShare of
	// what is to stay free.
	leanBytes = 64 << 10
	leanShare = 8
)

// take is called before n bytes of a run's log are written. lean is the run's own: how many were
// while there was little room.
func (s *logSpace) take(lean *int, n int) error {
	if s.keep <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.at) > spaceFor {
		free, err := disk.Free(s.dir)
		if err != nil {
			return nil // what is wrong, writing will tell
		}
		s.at, s.free = now, free
	}
	switch {
	case s.free >= s.keep:
		*lean = 0
	case s.free < s.keep/leanShare, *lean+n > leanBytes:
		return fmt.Errorf("%w: %d MiB of %s, and %d MiB are to stay free", errLowSpace, s.free>>20,
			s.dir, s.keep>>20)
	default:
		*lean += n
	}
	s.free -= int64(n)
	return nil
}
