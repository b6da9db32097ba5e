package sched

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"jobserver/sched/statepb"
)

// checkIdle checks that no machine has room beside a job that it may have. It looks at each machine
// and each job that waits, where Decide takes care not to, and holds where Decide has said that
// nothing more is to be done.
func (s *State) checkIdle() error {
	if s.looked == 0 {
		return nil
	}
	now := Time(s.looked)
	errs := []error{s.checkIdleGangs(now)}
	for _, name := range sorted(s.classes) {
		c := s.classes[name]
		if s.dirty[name] || c.reserved != nil || s.reserved != nil {
			// it is still to be looked at; or something is kept for one that needs more than there
			// is
			continue
		}
		for _, m := range c.machines {
			if s.free(m) == 0 || !s.givesWork(m, now) {
				continue
			}
			for _, sh := range c.line {
				if s.atLimit(sh) || s.poolKept(sh, now) != nil {
					// it waits for others of its matrix or tag; or something of the pool is kept
					continue
				}
				for _, it := range sh.queue {
					if j := it.record(); s.mayHave(j, m, now) {
						errs = append(errs,
							fmt.Errorf("%s has room, and job %d of its class waits", m.Addr, it.id))
						break
					}
				}
			}
		}
	}
	return errors.Join(errs...)
}

// givesWork says that a machine is to be given work: nothing keeps it from that, neither a verdict
// nor the user.
func (s *State) givesWork(m *machine, now time.Time) bool {
	if m.link != LinkConnected || m.Draining || m.Removing || m.OwnUntil > now.UnixNano() {
		return false
	}
	if m.Until != 0 && m.Until <= now.UnixNano() || s.setupDue(m, now) {
		return false
	}
	if m.Suspect == 0 && m.Own == 0 {
		return true
	}
	others := slices.ContainsFunc(m.class.machines, func(o *machine) bool {
		return o != m && o.link == LinkConnected && !o.Draining && !o.Removing && o.Suspect == 0 &&
			o.Own == 0
	})
	return s.mayTry(m) && (m.RestUntil <= now.UnixNano() || !others)
}

// mayHave says that a job which waits may be given to a machine that has a slot for it.
func (s *State) mayHave(j *statepb.Job, m *machine, now time.Time) bool {
	if len(j.Needs.GetAmounts()) > 0 || isGang(j.Needs) || !s.hasRoom(j.Needs, m) ||
		!fits(j, m, now) {
		// what else there is of resources, and who comes before whom, is checked elsewhere
		return false
	}
	if j.Avoid == "" || !slices.ContainsFunc(j.Attempts,
		func(a *statepb.Attempt) bool { return a.Machine == m.Addr && failedAttempt(a) }) {
		return true
	}
	return !slices.ContainsFunc(m.class.machines, func(o *machine) bool { // that is better
		return o.sound() && fits(j, o, now) && !s.setupDue(o, now) &&
			(m.suspect() || s.avoidsUntil(j) > now.UnixNano()) &&
			!slices.ContainsFunc(j.Attempts, func(a *statepb.Attempt) bool {
				return a.Machine == o.Addr && failedAttempt(a)
			})
	})
}
