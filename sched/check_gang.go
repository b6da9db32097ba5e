package sched

import (
	"errors"
	"fmt"
	"time"

	"jobserver/sched/statepb"
)

// checkRanks checks an attempt under way on several machines: each of them once, each run with a
// name of its own, and none begun before all were ready.
func checkRanks(j *statepb.Job, a *statepb.Attempt) error {
	if len(a.Ranks) == 0 {
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	machines, tokens := map[string]bool{}, map[string]bool{}
	for i, r := range a.Ranks {
		if machines[r.Machine] {
			bad("job %d has %s twice", j.Id, r.Machine)
		}
		machines[r.Machine] = true
		if r.Idle != (r.Token == "") || tokens[r.Token] && !r.Idle {
			bad("rank %d of job %d has the token %q", i, j.Id, r.Token)
		}
		tokens[r.Token] = true
		if r.StepStarted && !prepared(a) {
			bad("rank %d of job %d has begun before all were ready", i, j.Id)
		}
	}
	if first := a.Ranks[0]; first.Machine != a.Machine || first.Token != a.Token {
		bad("job %d is on %s as %s, and its first rank on %s as %s", j.Id, a.Machine, a.Token,
			first.Machine, first.Token)
	}
	if len(alive(a)) == 0 {
		bad("job %d runs, and none of its ranks does", j.Id)
	}
	return errors.Join(errs...)
}

// checkIdleGangs checks that no gang waits which could have all of its machines, when nothing is
// kept for anybody.
func (s *State) checkIdleGangs(now time.Time) error {
	if s.reserved != nil || len(s.dirty) > 0 {
		return nil
	}
	for _, c := range s.classes {
		if c.reserved != nil {
			return nil
		}
	}
	for name, c := range s.classes {
		for _, sh := range c.line {
			if !isGang(sh.needs) || s.atLimit(sh) || s.poolKept(sh, now) != nil ||
				s.lingers(sh.first().record()) != nil {
				continue
			}
			if ms := s.muster(sh.first().record(), nil, nil, now); ms != nil {
				return fmt.Errorf("gang %d of class %s waits, and could have %d machines",
					sh.first().id, name, len(ms))
			}
		}
	}
	return nil
}
