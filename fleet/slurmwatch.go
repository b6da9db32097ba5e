package fleet

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"jobserver/sched"
	"jobserver/slurm"
)

// view is one look at the queue.
type view struct {
	slurm.Answer
	began time.Time
	whole bool // all jobs were listed; else those that were asked for
}

// watch looks at the queue and judges every allocation. No answer says nothing about any of them.
func (l *login) watch() {
	l.last = l.f.opt.Now()
	ids, whole := l.whatToAsk()
	script := slurm.List()
	if !whole {
		script = slurm.Look(ids)
	}
	answer, err := l.ask(script)
	if l.ctx.Err() != nil {
		return
	}
	v := view{answer, l.last, whole}
	if !l.answered(v, ids, err) {
		l.fails++
		l.next = l.f.opt.Now().Add(doubled(l.pace, l.fails-1, l.longest()))
		return
	}
	l.fails = 0
	l.say("", "")
	if whole {
		l.listed = v.began
		l.findStrays(v)
	}
	l.next = time.Time{}
	news := false
	for _, id := range slices.Sorted(maps.Keys(l.all)) {
		if a := l.all[id]; whole || slices.Contains(ids, a.Job) {
			news = l.judge(a, v) || news
		}
	}
	l.plan(news)
}

// whatToAsk are the jobs that are looked at by their numbers, or all are.
func (l *login) whatToAsk() (ids []string, whole bool) {
	var missed []string
	for _, a := range l.all {
		if !a.seen && a.Job == "" || a.releasing && !a.seen || a.denied {
			return nil, true
		}
		if ids = append(ids, a.Job); a.missed {
			missed = append(missed, a.Job)
		}
	}
	if len(missed) > 0 {
		slices.Sort(missed)
		return missed[:min(len(missed), maxByNumber)], false
	}
	slices.Sort(ids)
	return ids, len(ids) == 0 || len(ids) > maxByNumber || l.listed.IsZero() ||
		l.last.Sub(l.listed) > 10*l.longest()
}

// answered tells whether the look has told anything.
func (l *login) answered(v view, ids []string, err error) bool {
	if err != nil {
		l.failed(err)
		return false
	}
	if v.whole {
		end, ok := v.Ends["list"]
		if !ok || end.Code != 0 {
			l.fault(end.Words())
		}
		return ok && end.Code == 0
	}
	for _, id := range ids {
		if !v.Answered(id) {
			l.fault(v.Ends[id].Words())
			return false
		}
	}
	return true
}

// findStrays cancels what has a name of ours and was never asked for, or is settled: at logins
// where all that was asked for is known.
func (l *login) findStrays(v view) {
	if len(l.providers) == 0 {
		return
	}
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, j := range v.Jobs {
		n, ok := slurm.ParseName(l.f.opt.ServerID, j.Name)
		if ok && !l.f.asked[n] && !slurm.Final(j.State) && j.State != "COMPLETING" {
			l.strays = append(l.strays, j)
		}
	}
}

// judge draws from a look what it says of an allocation; news tells that something has changed.
func (l *login) judge(a *allocation, v view) (news bool) {
	own, others := l.ofName(a, v)
	for _, j := range others {
		if !slurm.Final(j.State) && j.State != "COMPLETING" {
			l.strays = append(l.strays, j)
		}
	}
	switch {
	case own == nil && a.seen:
		l.vanished(a, v)
		return true
	case own == nil:
		return l.missed(a, v)
	}
	a.Job, a.seen, a.doubtful, a.words = own.ID, true, time.Time{}, ""
	a.missed, a.denied = false, false
	if slurm.Final(own.State) {
		l.gone(a, own.State, own.Reason)
		return true
	}
	seen := sched.Allocated{ID: a.ID, Job: own.ID, State: own.State, Reason: plain(own.Reason),
		Node: plain(own.Node), Nodes: own.Nodes, Start: l.hostTime(own.Start, v),
		End: l.hostTime(own.End, v)}
	if slurm.KindOf(own.State) == slurm.Waits {
		seen.End = time.Time{}
	}
	was := a.reported
	if seen.State != was.State && slurm.KindOf(seen.State) == slurm.Holds {
		l.log.Info("an allocation stands still", "name", a.name, "job", own.ID,
			"state", plain(own.State), "reason", seen.Reason)
	}
	if !same(seen, was) {
		a.reported = seen
		l.f.report(seen)
	}
	// That the start is expected at another time is none.
	return seen.Job != was.Job || seen.State != was.State || seen.Node != was.Node
}

// vanished is a look that didn't find an allocation which has been seen. It is gone when it is in
// no list, and its number is unknown: a command that prints nothing is not enough.
func (l *login) vanished(a *allocation, v view) {
	if v.whole {
		a.missed = true
	} else {
		a.denied = true
	}
	if a.missed && a.denied {
		l.gone(a, slurm.Unknown, "")
		return
	}
	l.next = l.last.Add(l.pace / 5)
}

// ofName finds the job that an allocation is: the one that it was before, else the oldest that
// lives, else the oldest. others are second ones of the same name.
func (l *login) ofName(a *allocation, v view) (own *slurm.Job, others []slurm.Job) {
	var jobs []slurm.Job
	for _, j := range v.Jobs {
		// sbatch leaves a record of some that it refused.
		if j.Name == a.name && (j.State != "FAILED" || j.Node != "" || j.ID == a.Job) {
			jobs = append(jobs, j)
		}
	}
	number := func(j slurm.Job) uint64 {
		n, _ := strconv.ParseUint(j.ID, 10, 64) // digits only; what is larger is the oldest
		return n
	}
	rank := func(j slurm.Job) int {
		switch {
		case j.ID == a.Job && a.seen:
			return 0
		case !slurm.Final(j.State):
			return 1
		}
		return 2
	}
	slices.SortFunc(jobs, func(x, y slurm.Job) int {
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		switch nx, ny := number(x), number(y); {
		case nx < ny:
			return -1
		case nx > ny:
			return 1
		}
		return 0
	})
	if len(jobs) == 0 || a.seen && jobs[0].ID != a.Job {
		return nil, jobs
	}
	return &jobs[0], jobs[1:]
}

// missed is a look that didn't find an allocation of which it isn't known whether it was submitted.
func (l *login) missed(a *allocation, v view) (news bool) {
	if !v.whole {
		l.listed = time.Time{}
		l.next = l.last.Add(l.pace / 5)
		return true
	}
	enough := a.doubtful.IsZero() || v.began.Sub(a.doubtful) >= l.longest() ||
		a.refused && v.began.After(a.doubtful)
	switch {
	case a.releasing && enough && (a.doubtful.IsZero() || v.began.After(a.canceled) &&
		!a.canceled.IsZero()):
		l.gone(a, slurm.NotSubmitted, "")
		return true
	case a.releasing || a.doubtful.IsZero() || !enough:
		return true // looked for as long as it takes
	}
	// It isn't there. Should it come all the same, it has the name of the next one.
	if a.words != "" {
		l.f.report(sched.AllocationRefused{ID: a.ID, Words: plain(a.words)})
	}
	now := l.f.opt.Now()
	a.due, a.doubtful, a.Job = now, time.Time{}, ""
	if a.refused {
		a.due, a.refused = now.Add(l.longest()), false
	}
	return true
}

// gone says that nothing of an allocation lives any more, as far as Slurm knows.
func (l *login) gone(a *allocation, state, reason string) {
	l.forget(a)
	if a.abandoned.IsZero() {
		l.f.report(sched.AllocationGone{ID: a.ID, State: state, Reason: plain(reason)})
	}
}

// hostTime is a time of the queue's by the host's clock.
func (l *login) hostTime(t time.Time, v view) time.Time {
	if t.IsZero() || v.Now.IsZero() {
		return t
	}
	return v.began.Add(t.Sub(v.Now)).Round(time.Second)
}

// same tells whether there is nothing new; clocks are read a little apart.
func same(x, y sched.Allocated) bool {
	near := func(x, y time.Time) bool {
		return x.IsZero() == y.IsZero() && x.Sub(y).Abs() <= 3*time.Second
	}
	return x.ID == y.ID && x.Job == y.Job && x.State == y.State && x.Reason == y.Reason &&
		x.Node == y.Node && slices.Equal(x.Nodes, y.Nodes) &&
		near(x.Start, y.Start) && near(x.End, y.End)
}

// plan says when the queue is looked at next: while something is to happen, the less often the
// longer it takes.
func (l *login) plan(news bool) {
	waits, searched := false, false
	for _, a := range l.all {
		waits = waits || a.releasing || slurm.KindOf(a.reported.State) != slurm.Runs
		searched = searched || !a.seen && !a.doubtful.IsZero()
	}
	switch {
	case news || searched:
		l.wait = l.pace
	case waits:
		l.wait = min(l.wait*5/4, l.longest())
	case len(l.all) == 0:
		l.wait = 10 * l.longest() // only for strays
	default:
		l.wait = l.longest()
	}
	if at := l.last.Add(l.wait); l.next.IsZero() || at.Before(l.next) {
		l.next = at
	}
}
