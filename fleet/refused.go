package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"jobserver/sched"
	"jobserver/ssh"
)

// A machine that can't be reached is either away, for a reason that may pass by itself, or refused,
// until somebody changes something. Which of the two says the error, where it arises: see
// ssh.IsFinal. Both are tried again, as nobody tells us when keys appear on a home that is mounted
// late, or when a name gets its address: away soon, refused after RefusedMin to RefusedMax, and at
// once when what decides about logins on this host changes.

// unreached plans the next dial, and says when it is.
func (m *machine) unreached(err error) {
	m.outOfSessions(err)
	if !ssh.IsFinal(err) {
		m.refused = false
		m.report(sched.Away{Addr: m.addr, Reason: err.Error()})
		m.later()
		return
	}
	if !m.refused {
		m.refused, m.tries = true, 0
	}
	delay := doubled(m.f.opt.RefusedMin, m.tries, m.f.opt.RefusedMax)
	m.tries++
	delay += rand.N(delay/10 + 1) // those that were refused together needn't ask together
	m.wait(delay)
	var key *ssh.HostKeyError
	m.report(sched.Refused{
		Addr: m.addr, Reason: err.Error(), HostKey: errors.As(err, &key),
		Hint: m.nextStep(err, m.f.opt.Now().Add(delay)),
	})
	stamp := m.f.dialer.Learned() // the first dial alone finds out which files decide about it
	maps.Copy(stamp, m.asked)
	m.f.refusals.watch(m, stamp)
}

// nextStep is the hint of an error, with when the machine is tried again.
func (m *machine) nextStep(err error, at time.Time) string {
	again := fmt.Sprintf("it is tried again at %s, and at once when the ssh configuration, "+
		"known_hosts or keys here change; "+
		"`jobserver machine check %s` tries it now", at.Format(time.TimeOnly), m.addr)
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) && hinter.Hint() != "" {
		return hinter.Hint() + "; " + again
	}
	return again
}

// wait keeps act from dialing for a while.
func (m *machine) wait(d time.Duration) {
	m.timer.Reset(d)
	m.waiting = true
}

// again makes the next dial of a machine that was refused due at once: what decides about it has
// changed. How often it was tried counts on, as the change may have nothing to do with it.
func (m *machine) again() {
	if m.refused {
		m.timer.Stop()
		m.waiting = false
	}
}

// refusals are the machines that were refused, each with what decided about logins before it was
// dialed.
type refusals struct {
	mu       sync.Mutex
	machines map[*machine]ssh.Stamp // guarded by mu
	some     chan struct{}          // has room for one: set when there are any
}

func newRefusals() *refusals {
	return &refusals{machines: map[*machine]ssh.Stamp{}, some: make(chan struct{}, 1)}
}

func (r *refusals) watch(m *machine, stamp ssh.Stamp) {
	r.mu.Lock()
	r.machines[m] = stamp
	r.mu.Unlock()
	select {
	case r.some <- struct{}{}:
	default:
	}
}

func (r *refusals) forget(m *machine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.machines, m)
}

// changed gives those about which something is different now, and forgets them; left tells whether
// others remain.
func (r *refusals) changed(now ssh.Stamp) (changed []*machine, left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m, before := range r.machines {
		if before.Differs(now) {
			changed = append(changed, m)
			delete(r.machines, m)
		}
	}
	return changed, len(r.machines) > 0
}

// watchRefusals looks at what decides about logins as long as there are machines that were refused,
// and has them tried again when it changes.
func (f *Fleet) watchRefusals(ctx context.Context) {
	tick := time.NewTicker(f.opt.RefusedLook)
	defer tick.Stop()
	for {
		select {
		case <-f.refusals.some:
		case <-ctx.Done():
			return
		}
		for left := true; left; {
			var changed []*machine
			changed, left = f.refusals.changed(f.loginStamp())
			for _, m := range changed {
				m.do(m.again)
			}
			if !left {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// loginStamp is about the files that decide whether machines let us in, and about the builds for
// them.
func (f *Fleet) loginStamp() ssh.Stamp {
	stamp := f.dialer.Stamp()
	stamp[f.builds.dir] = ""
	if st, err := os.Stat(f.builds.dir); err == nil {
		stamp[f.builds.dir] = st.ModTime().String()
	}
	return stamp
}
