package sched

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// whyGang says why a job that wants several machines waits: how many of each class it could have.
func (s *State) whyGang(j *statepb.Job, now time.Time) Reasoning {
	var r Reasoning
	var short []string
	var stopped []*machine
	hint := ""
	wants := lots(j.Class, j.Needs)
	for i, l := range wants {
		c := s.class(l.class)
		one := shallow(j)
		one.Needs, one.Avoid, one.Attempts = l.needs, j.Avoid, j.Attempts
		could := 0
		for _, m := range c.machines {
			if m.isPilot() && m.Nodes == 0 {
				r.Details = append(r.Details, m.Addr+" is an allocation of its own")
				continue
			}
			line, ok := s.whyNot(m, one, now)
			if ok {
				could += max(int(m.Nodes), 1)
			}
			if m.open() && s.machineVerdict(m, now).Text != "" {
				stopped = append(stopped, m)
			}
			if !slices.Contains(r.Details, line) {
				r.Details = append(r.Details, line)
			}
		}
		for _, m := range s.asideFrom(l.class) {
			r.Details = append(r.Details, m.Addr+" is "+s.machineVerdict(m, now).Text)
			stopped = append(stopped, m)
		}
		hint = cmp.Or(hint, reachHint(c.machines))
		sameBefore := 0 // that those of its lots take which come before
		for _, before := range wants[:i] {
			if before.class == l.class {
				sameBefore += before.count
			}
		}
		if could-sameBefore < l.count {
			short = append(short, fmt.Sprintf("%s of class %s, which has %d that could take it now",
				plural(l.count, "machine", "machines"), l.class, max(could-sameBefore, 0)))
			if len(c.machines)+len(s.providersOf(l.class)) == 0 {
				hint = cmp.Or(hint,
					fmt.Sprintf("`jobserver machine add ADDR %s` adds one", l.class))
			}
		}
	}
	if why := s.whyPool(j, now); why != "" {
		short = append(short, "what the pool has too little of")
		r.Details = append(r.Details, why)
	}
	for _, res := range []*reservation{s.class(j.Class).reserved, s.reserved} {
		if res != nil && res.shape.first().id == j.Id {
			r.Details = append(r.Details, s.reservedText(res, now))
		}
	}
	says := s.whySlurm(j)
	for _, w := range says {
		r.Details = append(r.Details, w.text)
	}
	ahead := s.ahead(s.class(j.Class), j)
	switch {
	case len(short) > 0 && len(says) > 0 && s.classes[j.Class].onlyPilots():
		r.Summary, r.Hint = s.whyAllocation(says)
		r.Hint = cmp.Or(resumeHint(stopped), hint, r.Hint)
	case len(short) > 0:
		r.Summary = "it waits for " + strings.Join(short, ", and for ") +
			"; it gets all of its machines at once"
		r.Hint = cmp.Or(resumeHint(stopped), hint)
	case ahead > 0:
		r.Summary = fmt.Sprintf("%d jobs of class %s come before it", ahead, j.Class)
	default:
		r.Summary = "it is next, and about to be given to its machines"
	}
	return r
}

// gangWhere says where a job runs that has several machines, and how far its ranks are.
func gangWhere(a *statepb.Attempt) (summary string, details []string) {
	runs, living := runsOf(a), alive(a)
	summary = fmt.Sprintf("it runs on %d of its %s", len(living),
		plural(len(a.Ranks), "machine", "machines"))
	switch {
	case a.First > 0:
		summary += fmt.Sprintf(", and is being ended, since %s", Reason(a))
	case !prepared(a):
		ready := 0
		for _, r := range runs {
			if r.Prepared {
				ready++
			}
		}
		summary = fmt.Sprintf("%d of its %d machines are ready; it starts when all are", ready,
			len(runs))
	}
	for i, r := range a.Ranks {
		what := fmt.Sprintf("rank %d", r.Rank-1)
		if r.Rank == 0 {
			what = cmp.Or(r.With, fmt.Sprintf("machine %d", i+1))
		}
		how := "runs"
		switch {
		case r.Cause != 0 && succeededRun(r):
			how = "has succeeded"
		case r.Cause != 0:
			how = Reason(r)
		case r.Idle:
			how = "is held"
		case !prepared(a) && r.Prepared:
			how = "is ready"
		case !prepared(a):
			how = "is made ready"
		case !r.StepStarted:
			how = "is being started"
		}
		details = append(details, fmt.Sprintf("%s on %s %s", what, r.Machine, how))
	}
	return summary, details
}
