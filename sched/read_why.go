package sched

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/sched/statepb"
	"jobserver/suggest"
)

// Reasoning says in plain words why a job is where it is.
type Reasoning struct {
	Summary string
	Details []string
	Hint    string
}

// Why explains a job.
func (s *State) Why(id uint64, now time.Time) (Reasoning, error) {
	j := s.Job(id)
	if j == nil {
		return Reasoning{}, errorf(NotFound, "no job %d", id)
	}
	var r Reasoning
	switch j.Status {
	case Waiting:
		r = s.whyWaiting(j, now)
	case Held:
		r.Summary = "it is held"
		r.Hint = fmt.Sprintf("`jobserver job unhold %d` lets it go on", id)
		if t := s.tags[j.Tag]; t != nil && t.FailedOut {
			r.Summary = "it is held: " + s.whyFailedOut(t)
			r.Hint = fmt.Sprintf("`jobserver job unhold @%s` lets all of them go on", t.Name)
		}
		if m := s.matrices[j.Matrix]; m != nil && m.Held {
			r = s.heldWhy(m)
		}
		if j.HeldWhy != "" {
			r = Reasoning{
				Summary: j.HeldWhy,
				Hint: fmt.Sprintf("when that has been seen to, `jobserver job unhold %d` tries "+
					"it again",
					id),
			}
		}
	case Running, Copying:
		r = s.whyRunning(j, now)
	case Done:
		r.Summary = "it has succeeded"
		if j.Results == statepb.Results_RESULTS_FAILED {
			r.Summary += ", but " + Uncopied(j)
			if copiedInPart(j) {
				r.Details = append(r.Details, "what came of them is in "+j.ResultsDir)
			}
			r.Hint = recopyHint(id, j.ResultsError)
		}
	case Failed, Lost, Canceled:
		r = s.whyEnded(j)
	}
	for _, a := range j.Attempts {
		if line := attemptLine(a); line != "" {
			r.Details = append(r.Details, line)
		}
		for _, line := range []string{s.whyOOM(a), tookMore(a)} {
			if line != "" {
				r.Details = append(r.Details, line)
			}
		}
		if o := s.debts.unremoved[a.Machine][a.Token]; o != nil {
			r.Details = append(r.Details, fmt.Sprintf("what is left of attempt %d on %s can't be "+
				"removed, and holds no slot: %s; "+
				"it is tried again, `jobserver machine clean -m %[2]s` tries it now", a.Number,
				a.Machine, o.Unremoved))
		}
	}
	return r, nil
}

// attemptLine sums an attempt up.
func attemptLine(a *statepb.Attempt) string {
	if a.Cause == statepb.Cause_CAUSE_NONE {
		return ""
	}
	if len(a.Ranks) > 0 {
		return fmt.Sprintf("attempt %d, on %s: %s, after %s", a.Number,
			joined(a.Ranks, func(r *statepb.Attempt) string { return r.Machine }), Reason(a),
			time.Duration(a.Duration).Round(time.Millisecond))
	}
	if a.Cause == statepb.Cause_MACHINE_LOST {
		// an error, which is a sentence, and no time that anybody measured
		return fmt.Sprintf("attempt %d on %s: %s", a.Number, a.Machine, Reason(a))
	}
	return fmt.Sprintf("attempt %d on %s %s after %s", a.Number, a.Machine, Reason(a),
		time.Duration(a.Duration).Round(time.Millisecond))
}

func (s *State) whyWaiting(j *statepb.Job, now time.Time) Reasoning {
	var r Reasoning
	if j.Setup != nil {
		return s.whySetup(j, now)
	}
	if at := Time(j.NotBefore); j.NotBefore != 0 && at.After(now) {
		r.Summary = fmt.Sprintf("its retry waits for another %s, since its attempt %s", at.Sub(now).
			Round(time.Second), j.Error)
		return r
	}
	if r, ok := s.whyAfter(j); ok {
		return r
	}
	if j.StartAfter > now.UnixNano() {
		r.Summary = fmt.Sprintf("it isn't to start before %s", Time(j.StartAfter).
			Format(time.DateTime))
		r.Hint = fmt.Sprintf("`jobserver job set %d --start-after now` lets it start", j.Id)
		return r
	}
	if why := s.whyLimit(j); why != "" {
		r.Summary = why
		if j.Matrix != 0 {
			r.Hint = fmt.Sprintf("`jobserver matrix set %d --at-most N` changes that", j.Matrix)
		}
		return r
	}
	if why := s.whyLingers(j, now); why != "" {
		r.Summary = why
		return r
	}
	if isGang(j.Needs) {
		return s.whyGang(j, now)
	}
	c := s.classes[j.Class]
	aside := s.asideFrom(j.Class)
	says := s.whySlurm(j)
	if (c == nil || len(c.machines) == 0) && len(says) > 0 {
		r.Summary, r.Hint = s.whyAllocation(says)
		for _, w := range says {
			r.Details = append(r.Details, w.text)
		}
		return r
	}
	if (c == nil || len(c.machines) == 0) && len(aside) > 0 {
		r.Summary = fmt.Sprintf("all machines of class %s are set aside", j.Class)
		for _, m := range aside {
			r.Details = append(r.Details, m.Addr+" is "+s.machineVerdict(m, now).Text)
		}
		r.Hint = resumeHint(aside)
		return r
	}
	if c == nil || len(c.machines) == 0 {
		r.Summary = fmt.Sprintf("no machine is in class %s", j.Class)
		if classes := s.Classes(); len(classes) > 0 {
			r.Details = append(r.Details, "the classes that have machines are "+
				strings.Join(classes, ", "))
			if near := suggest.Closest(j.Class, classes); near != "" {
				r.Details = append(r.Details, fmt.Sprintf("did you mean %s?", near))
			}
		}
		r.Hint = fmt.Sprintf(
			"`jobserver machine add ADDR %s` or `jobserver machine setup` adds one", j.Class,
		)
		return r
	}
	free, stopped := 0, aside
	for _, m := range c.machines {
		line, ok := s.whyNot(m, j, now)
		if ok {
			free++
		}
		if m.open() && s.machineVerdict(m, now).Text != "" {
			stopped = append(stopped, m)
		}
		r.Details = append(r.Details, line)
	}
	for _, m := range aside {
		r.Details = append(r.Details, m.Addr+" is "+s.machineVerdict(m, now).Text)
	}
	if why := s.whyPool(j, now); why != "" {
		r.Details = append(r.Details, why)
		free = 0
	}
	for _, w := range says {
		r.Details = append(r.Details, w.text)
	}
	for _, res := range []*reservation{c.reserved, s.reserved} {
		if res != nil && res.shape.first().id == j.Id {
			r.Details = append(r.Details, s.reservedText(res, now))
		}
	}
	ahead := s.ahead(c, j)
	switch {
	case free > 0 && ahead > 0 && j.Needs != nil:
		r.Summary = fmt.Sprintf("it is about to be given to a machine, as %d jobs of class %s "+
			"that come before it need what isn't free", ahead, j.Class)
	case ahead > 0:
		r.Summary = fmt.Sprintf("%d jobs of class %s come before it", ahead, j.Class)
	case free > 0:
		r.Summary = "it is next, and about to be given to a machine"
	case len(says) > 0 && c.onlyPilots():
		r.Summary, r.Hint = s.whyAllocation(says)
	default:
		r.Summary = fmt.Sprintf("it is next in class %s, but none of its %d machines can take it",
			j.Class, len(c.machines))
	}
	if free == 0 {
		r.Hint = cmp.Or(resumeHint(stopped), reachHint(c.machines), r.Hint, slurmHint(says))
	}
	return r
}

// reachHint is what is known to help with machines that refuse us, or can't be reached: of the
// first one of which anything is.
func reachHint(machines []*machine) string {
	for _, m := range machines {
		if m.link != LinkConnected && m.hint != "" {
			return m.Addr + ": " + m.hint
		}
	}
	return ""
}

// whyNot says why a machine doesn't take the job just now.
func (s *State) whyNot(m *machine, j *statepb.Job, now time.Time) (line string, ok bool) {
	switch {
	case m.link != LinkConnected:
		line = fmt.Sprintf("%s is %s", m.Addr, m.link)
		if reason := s.reasonOf(m); reason != "" {
			line += ": " + reason
		}
	case m.Draining || m.Removing:
		line = m.Addr + " is draining"
	case m.restsUntil() > now.UnixNano():
		line = m.Addr + " is " + s.machineVerdict(m, now).Text
	case (m.suspect() || m.Own > 0) && !s.mayTry(m):
		line = m.Addr + " is " + s.machineVerdict(m, now).Text + ", and one is on it"
	case s.setupDue(m, now):
		line = fmt.Sprintf("%s is to be set up by job %d", m.Addr, m.setups[0])
	case s.neverHas(j.Needs, m) != "":
		line = s.neverHas(j.Needs, m) + ", which is too little for the job"
	case s.free(m) == 0:
		line = m.Addr + " is busy with " + s.busyWith(m)
	case !s.hasRoom(j.Needs, m):
		line = s.whyNoRoom(j.Needs, m)
	case !fits(j, m, now):
		line = m.Addr + " expires before the job's timeout would"
	case s.keptFrom(m, j, now) != nil:
		kept := s.keptFrom(m, j, now).shape
		line = fmt.Sprintf("%s is reserved for job %d, which comes before it and needs %s", m.Addr,
			kept.first().id, NeedsText(kept.needs))
	case slices.Contains(s.avoided(j, s.class(m.Class).machines, now), m.Addr):
		line = m.Addr + " is passed over, as an attempt before failed there and there are others"
		if until := s.avoidsUntil(j); !m.suspect() && until > now.UnixNano() {
			line += fmt.Sprintf(" that may take it; from %s on it takes any", clockTime(until))
		}
	default:
		return m.Addr + " is free", true
	}
	return line, false
}

func (s *State) busyWith(m *machine) string {
	var parts []string
	for i, id := range m.slots {
		if id != 0 && slices.Index(m.slots, id) == i {
			parts = append(parts, fmt.Sprintf("job %d", id))
		}
	}
	if n := s.debts.ending[m.Addr]; n > 0 {
		parts = append(parts, plural(n, "run that is being ended", "runs that are being ended"))
	}
	if n := m.orphans.alive; n > 0 {
		parts = append(parts,
			fmt.Sprintf("%s (`jobserver machine clean -m %s` ends what nothing knows)",
				plural(n, "run that nothing knows", "runs that nothing knows"), m.Addr))
	}
	if len(parts) > 5 {
		parts = append(parts[:5], fmt.Sprintf("%d more", len(parts)-5))
	}
	return strings.Join(parts, ", ")
}

// ahead counts the waiting jobs of a class that come before the given one.
func (s *State) ahead(c *class, j *statepb.Job) int {
	n := 0
	for _, sh := range c.line {
		for _, it := range sh.queue {
			n += it.ahead(j)
		}
	}
	return n
}

// ahead counts the jobs of an item that come before the given one.
func (it *item) ahead(j *statepb.Job) int {
	switch {
	case it.priority < j.Priority, it.priority == j.Priority && it.id >= j.Id:
		return 0
	case it.job != nil:
		return 1
	case it.priority > j.Priority:
		return it.matrix.untouched
	}
	n, m := 0, it.matrix
	for k := m.next; k < m.Cells && m.id(k) < j.Id; k++ {
		if !m.isTouched(k) {
			n++
		}
	}
	return n
}

func (s *State) whySetup(j *statepb.Job, now time.Time) Reasoning {
	m := s.machines[j.Setup.Machine]
	switch {
	case m == nil:
		return Reasoning{Summary: "its machine is not in the pool"}
	case m.link != LinkConnected:
		r := Reasoning{Summary: fmt.Sprintf("its machine %s is %s", m.Addr, m.link), Hint: m.hint}
		if m.reason != "" {
			r.Summary += ": " + m.reason
		}
		return r
	case m.Draining || m.Removing:
		return Reasoning{Summary: m.Addr + " is draining",
			Hint: fmt.Sprintf("`jobserver machine resume -m %s` ends that", m.Addr)}
	case m.setups[0] != j.Id:
		return Reasoning{Summary: fmt.Sprintf("setup %d of %s comes before it", m.setups[0],
			m.Addr)}
	case !s.idle(m) && !s.batchFull(j.Setup):
		return Reasoning{Summary: fmt.Sprintf("%s is busy with %s; a setup waits until it is "+
			"idle", m.Addr, s.busyWith(m))}
	}
	if s.batchFull(j.Setup) {
		return Reasoning{Summary: fmt.Sprintf("%d machines of those that are set up together are "+
			"at it, which is as many as may be", j.Setup.Parallel)}
	}
	return Reasoning{Summary: fmt.Sprintf("it begins in %s, one machine after another",
		Time(j.Setup.StartAt).Sub(now).Round(time.Second))}
}

func (s *State) whyRunning(j *statepb.Job, now time.Time) Reasoning {
	a := last(j)
	r := Reasoning{Summary: fmt.Sprintf("it runs on %s, slot %d", a.Machine, a.Slot)}
	if len(a.Ranks) > 0 && j.Status == Running {
		r.Summary, r.Details = gangWhere(a)
	}
	m := s.machines[a.Machine]
	if live := s.live[j.Id]; len(a.Ranks) > 0 && live != nil {
		m, _ = s.outOfReach(live)
	}
	away := m != nil && m.link != LinkConnected
	if j.Status == Copying {
		r.Summary = "its results are being copied from " + a.Machine
		if j.CopyWaiting {
			r.Summary = "its results wait to be copied from " + a.Machine
			if j.ResultsError != "" {
				r.Summary += ": " + j.ResultsError
			}
		}
	}
	if s.steps[j.Id] {
		r.Summary = fmt.Sprintf("%s is between steps %d and %d of %d", a.Machine, a.Step+1,
			s.stepAfter(j)+1, len(j.Setup.Steps))
		if rebooting(j, a) {
			r.Summary = a.Machine + " reboots; its setup goes on when it is back"
		}
	}
	if j.Status == Running {
		whyPaused(j, now, &r)
	}
	if j.Canceling {
		r.Summary += ", and is being canceled"
	}
	if m != nil && !away {
		if state := s.stateOfPilot(m); state != "" {
			r.Details = append(r.Details, m.Addr+": "+state)
		}
	}
	if away {
		r.Details = append(r.Details, fmt.Sprintf("%s is %s: %s", m.Addr, m.link,
			s.reasonOf(m)))
		what := "it"
		if j.Status == Copying {
			what = "its results"
		}
		r.Hint = fmt.Sprintf("it goes on by itself when the machine is back; `jobserver job lost "+
			"%d` gives %s up", j.Id, what)
	}
	return r
}

// whyCanceled is what is known beyond that a job was canceled, as a continuation of that.
func whyCanceled(j *statepb.Job) string {
	a := last(j)
	switch {
	case j.Reason != "":
		return ": " + j.Reason
	case j.Error != "" && (a == nil || j.Error != Reason(a)): // of the job itself
		return ": " + j.Error
	case a == nil, Reason(a) == "", culprit(a).Cause == statepb.Cause_CANCELED_BY_USER:
		return ""
	}
	return "; its last attempt: " + Reason(a)
}

func (s *State) whyEnded(j *statepb.Job) Reasoning {
	var r Reasoning
	why := j.Error
	if a := last(j); why == "" && a != nil {
		why = Reason(a)
	}
	switch {
	case j.Status == Canceled:
		r.Summary = "it was canceled" + whyCanceled(j)
	case j.Status == Lost:
		r.Summary = "how it ended can't be known: " + why
		r.Hint = fmt.Sprintf("`jobserver job restart %d` runs it again", j.Id)
	default:
		r.Summary = "it " + why
		if strings.HasPrefix(why, "rank ") ||
			strings.HasPrefix(why, "step ") { // of a setup: "step 2 of 3 exited with code 4"
			r.Summary = "its " + why
		}
		switch {
		case strings.HasPrefix(j.Error, refused):
			r.Hint = shorterHint
			return r
		case strings.HasPrefix(j.Error, needsMoreTime):
			r.Hint = s.moreTimeHint(j)
			return r
		case j.Failures <= j.MaxFailures: // it was not for want of retries
		case j.MaxFailures == 1:
			r.Summary += ", and its one retry is used"
		case j.MaxFailures > 1:
			r.Summary += fmt.Sprintf(", and all %d retries are used", j.MaxFailures)
		}
		r.Hint = fmt.Sprintf("`jobserver job log -c %d` and `-e` show what it printed; "+
			"`jobserver job restart %d` runs it again", j.Id, j.Id)
	}
	return r
}

// copiedInPart says that some of a job's results came, and others didn't.
func copiedInPart(j *statepb.Job) bool {
	return j.Results == statepb.Results_RESULTS_FAILED && j.ResultsDir != "" &&
		last(j).GetResultsFiles() > 0
}

// Uncopied says of a job whose copy has failed what that comes to.
func Uncopied(j *statepb.Job) string {
	if copiedInPart(j) {
		return "not all of its results were copied: " + j.ResultsError
	}
	return "its results were not copied: " + j.ResultsError
}

// recopyHint says what helps when results were not copied.
func recopyHint(id uint64, why string) string {
	switch {
	case strings.Contains(why, "results are missing"):
		return "relative paths start in the login directory, wherever the job has gone; " +
			"$JOBSERVER_SCRATCH is a directory of its own"
	case strings.Contains(why, "record has that name"):
		return "let the job give the file another name: the daemon puts its record beside the " +
			"results under this one"
	case strings.Contains(why, "doesn't begin with RESULTS:"):
		return fmt.Sprintf("take what it names from the machine, or `jobserver job rm %d` to "+
			"have it"+
			" removed; let the next job print RESULTS: at the beginning of a line", id)
	case strings.Contains(why, "are one name in"):
		return "let the job give one of them another name, or give a CP_PATH on another file system"
	}
	again := fmt.Sprintf("`jobserver job recopy %d` copies them again; nothing runs again", id)
	if strings.Contains(why, "exists already") {
		return "move or remove what is in the way first; then " + again
	}
	return again
}
