package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"jobserver/agent"
)

// A machine may let us in before the directory of its runs is there, as when homes are mounted
// late, or aren't any more. Its runs live, or have ended there and say so, while an agent that
// begins a directory of its own knows nothing of them, and they would be lost. So where runs are
// expected, an agent takes the machine back only if it was taken over before; else the machine is
// away, and is looked at again, until somebody gives the runs up or has waited long enough.

// rootless has what is known of a machine whose runs' directory may be away.
type rootless struct {
	mu       sync.Mutex
	expected bool      // runs or results are there
	boots    []string  // in which the runs began, or were to; "": any, as of results
	promised bool      // they are, and will be asked for
	since    time.Time // when it was first seen that it is away; zero: it isn't
}

// expect notes whether there is something on the machine that it has to have.
func (m *machine) expect() {
	expected, boots := false, []string(nil)
	if len(m.copies) > 0 {
		expected, boots = true, append(boots, "")
	}
	for _, r := range m.runs {
		if r.spec == nil || r.over {
			continue
		}
		expected = expected || r.known
		if !slices.Contains(boots, r.spec.BootID) {
			boots = append(boots, r.spec.BootID)
		}
	}
	m.rootless.mu.Lock()
	m.rootless.expected, m.rootless.boots = expected, boots
	m.rootless.mu.Unlock()
}

// promise says that runs are there, though they aren't wanted yet.
func (w *rootless) promise(runs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.promised = w.promised || runs
}

// wait is how long is waited for the directory on a machine in such a boot, of what is waited at
// the most. Nothing lives through a boot: what can still come is the ends of runs, from a file
// system that is mounted a little later than sshd is there.
func (w *rootless) wait(boot string, most time.Duration) time.Duration {
	if boot == "" || len(w.boots) == 0 || slices.Contains(w.boots, "") ||
		slices.Contains(w.boots, boot) {
		return most
	}
	return most / 30
}

// take takes the machine over, or back where runs are expected.
func (m *machine) take(ctx context.Context, l *link) error {
	w := &m.rootless
	now := time.Now() // which goes on evenly, whatever becomes of the clock
	left, back := w.mustWait(l.client.Machine().BootID, m.f.opt.RootWait, now)
	if !back {
		return l.client.TakeOver(ctx, m.f.opt.ServerID, m.id)
	}
	err := l.client.TakeBack(ctx, m.f.opt.ServerID, m.id)
	switch {
	case err == nil:
		w.found()
	case errors.Is(err, agent.ErrNoRoot):
		w.missed(now)
		return &rootError{fmt.Errorf("%s: %w: is its file system mounted?", m.addr, err),
			left.Round(time.Second)}
	}
	return err
}

// mustWait tells whether the machine may only be taken back, and for how long that is still waited
// for. When it has been waited long enough, nothing is expected any more.
func (w *rootless) mustWait(boot string, most time.Duration, now time.Time) (
	left time.Duration, back bool,
) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left = w.wait(boot, most)
	if !w.since.IsZero() {
		left -= now.Sub(w.since)
	}
	if !w.expected && !w.promised || left <= 0 {
		w.since, w.promised = time.Time{}, false
		return 0, false
	}
	return left, true
}

// found notes that the directory is there.
func (w *rootless) found() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.promised = time.Time{}, false
}

// missed notes that it is away.
func (w *rootless) missed(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		w.since = now
	}
}

// rootError says that the directory of a machine's runs is away.
type rootError struct {
	error
	left time.Duration // for which it is waited for
}

func (e *rootError) Error() string {
	return fmt.Sprintf("%v (they are lost if it isn't back in %v)", e.error, e.left)
}

func (e *rootError) Unwrap() error { return e.error }

// Hint says what can be done.
func (e *rootError) Hint() string {
	return "mount it, or put it back; if it was removed, `jobserver job lost ID` gives a job up " +
		"at once"
}
