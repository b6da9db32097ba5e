package sched

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/sched/statepb"
	"jobserver/slurm"
)

// Why a job waits for Slurm, in words.

// slurmSays tells what keeps a provider from giving a job its allocation, and what helps.
type slurmSays struct {
	p     *provider
	never bool   // none that it could get will do
	text  string // "" : nothing
	hint  string
}

// whySlurm says what each provider of a job's class does about it.
func (s *State) whySlurm(j *statepb.Job) []slurmSays {
	var all []slurmSays
	for _, p := range s.providersOf(j.Class) {
		w := slurmSays{p: p}
		if w.text = s.neverServes(p, j); w.text != "" {
			w.never = true
			w.hint = fmt.Sprintf("`jobserver machine add %s %s` with a longer --time or other "+
				"--sbatch arguments, or ask for less", p.Addr, p.Class)
		} else {
			w.text, w.hint = s.slurmState(p)
		}
		all = append(all, w)
	}
	return all
}

// slurmState says how a provider stands with Slurm.
func (s *State) slurmState(p *provider) (text, hint string) {
	switch {
	case p.Removing:
		return p.Addr + " is being removed", ""
	case p.Resting != "":
		return fmt.Sprintf("%s rests, as %s", p.Addr, p.Resting),
			fmt.Sprintf("when that is mended, `%s` has it ask again", resumeCommand(p.Addr))
	case p.Draining:
		return p.Addr + " asks for no more allocations",
			fmt.Sprintf("`%s` ends that", resumeCommand(p.Addr))
	case p.problem != "":
		return fmt.Sprintf("%s: %s", p.Addr, p.problem), p.hint
	case p.Refused > 0:
		return fmt.Sprintf("%s: an allocation couldn't be submitted, and is tried again: %s",
				p.Addr, p.Words),
			fmt.Sprintf("`jobserver machine add %s %s --sbatch=…` changes what is asked for; "+
				"after %d refusals in a row it asks for no more", p.Addr, p.Class, maxRefused)
	}
	if text, hint := s.pending(p); text != "" {
		return fmt.Sprintf("%s: %s", p.Addr, text), hint
	}
	exist, waiting := s.countAllocations(p.Addr)
	switch {
	case s.gainsNothing(p):
		return fmt.Sprintf("%s: no agent answers in %d allocations that run, and no more are "+
				"asked for until one does", p.Addr, maxUnanswered),
			fmt.Sprintf("what keeps each of them is said above; "+
				"`jobserver machine rm --force -m %s` gives all back", p.Addr)
	case exist >= int(p.Max):
		return fmt.Sprintf("%s has %s, as many as it may have at a time", p.Addr,
				plural(exist, "allocation", "allocations")),
			fmt.Sprintf("`jobserver machine add %s %s --max %d` lets it have more", p.Addr,
				p.Class, 2*p.Max)
	case waiting > 0:
		return p.Addr + ": an allocation is being submitted", ""
	case exist > 0:
		return fmt.Sprintf("%s has %s at work", p.Addr, plural(exist, "allocation",
			"allocations")), ""
	}
	return p.Addr + ": an allocation is about to be asked for", ""
}

// pending sums up the allocations of a provider that wait: Priority, 3 allocations pending since
// 14:02, estimated start 15:30.
func (s *State) pending(p *provider) (text, hint string) {
	n, since, start := 0, int64(0), time.Time{}
	reason := ""
	for _, a := range s.allocationsOf(p.Addr) {
		if a.Node != "" || a.Job == "" || a.Released != "" || slurm.KindOf(a.state) != slurm.Waits {
			continue
		}
		n++
		if since == 0 {
			since, reason = a.AskedAt, a.reason
		}
		if !a.start.IsZero() && (start.IsZero() || a.start.Before(start)) {
			start = a.start
		}
	}
	if n == 0 {
		return "", ""
	}
	text = fmt.Sprintf("%s, %s pending since %s", cmp.Or(reason, "no reason yet"),
		plural(n, "allocation", "allocations"), Time(since).Format("15:04"))
	if !start.IsZero() {
		text += ", estimated start " + start.Format("15:04")
	}
	return text, slurm.ReasonHint(reason)
}

// whyAllocation explains a job that no machine of its class can take, and for which an allocation
// is needed.
func (s *State) whyAllocation(says []slurmSays) (summary, hint string) {
	for _, w := range says {
		if !w.never {
			summary, hint = "it waits for an allocation of Slurm's", slurmHint(says)
			if text, _ := s.pending(w.p); text != "" {
				return "it waits for Slurm: " + text, hint
			}
		}
	}
	if summary == "" {
		summary = fmt.Sprintf("no allocation for class %s could ever run it", says[0].p.Class)
		hint = says[0].hint
	}
	return summary, hint
}

// warnSlurm warns of a job that no allocation of its class could ever run, and for which there is
// nothing else.
func (p *planner) warnSlurm(j *statepb.Job) {
	says := p.s.whySlurm(j)
	if len(says) == 0 || !p.s.classes[j.Class].onlyPilots() ||
		slices.ContainsFunc(says, func(w slurmSays) bool { return !w.never }) {
		return
	}
	text := "it waits until something else can run it: " + says[0].text
	if !slices.Contains(p.Warnings, text) {
		p.warn("%s", text)
	}
}

// onlyPilots says that a class has no machines but allocations of Slurm's.
func (c *class) onlyPilots() bool {
	return c == nil || !slices.ContainsFunc(c.machines, func(m *machine) bool {
		return !m.isPilot()
	})
}

// gangOfPilots refuses a job that wants several machines of a class which has none but allocations
// of Slurm's, in a way in which these can't be had.
func (s *State) gangOfPilots(class string, n *statepb.Needs) error {
	if !isGang(n) || nodesFor(n) > 0 {
		return nil
	}
	for _, l := range lots(class, n) {
		if len(s.providersOf(l.class)) == 0 || !s.classes[l.class].onlyPilots() {
			continue
		}
		if len(n.With) > 0 {
			return errorf(Invalid, "--with: class %s has what Slurm allocates, which a job has "+
				"by itself, and not together with machines of other classes", l.class).
				hint("leave --with out: `--machines %d` of class %s is an allocation of %[1]d "+
					"nodes, on which the job starts what it wants with srun",
					max(gangSize(n), 2), l.class)
		}
		return errorf(Invalid, "--each: class %s has what Slurm allocates, and there a job on "+
			"several machines begins on the first of them", l.class).
			hint("leave --each out: the job gets an allocation of %d nodes, and "+
				"`srun --ntasks-per-node=1 COMMAND` in it runs on each, with SLURM_PROCID as "+
				"its rank", l.count)
	}
	return nil
}

// moreTimeHint helps a job that needs more time than an allocation has.
func (s *State) moreTimeHint(j *statepb.Job) string {
	for _, p := range s.providersOf(j.Class) {
		return fmt.Sprintf("`jobserver machine add %s %s --time …` gives allocations more time, "+
			"and `jobserver job restart %d` runs it again", p.Addr, p.Class, j.Id)
	}
	return fmt.Sprintf("`jobserver job restart %d` runs it again", j.Id)
}

// slurmHint is the first thing that helps with providers.
func slurmHint(says []slurmSays) string {
	for _, w := range says {
		if w.hint != "" && !w.never {
			return w.hint
		}
	}
	return ""
}

// stateOfPilot says what Slurm does with a pilot, "" when that is nothing else than running it, as
// far as is known, or when a machine isn't one.
func (s *State) stateOfPilot(m *machine) string {
	a := s.allocations[m.Allocation]
	if a == nil || a.state == "" || slurm.KindOf(a.state) == slurm.Runs {
		return ""
	}
	return "its allocation is " + strings.ToLower(strings.ReplaceAll(a.state, "_", " "))
}

// IsSuspended says that a job stands still where it runs, as Slurm has suspended its allocation.
func (s *State) IsSuspended(j *statepb.Job) bool {
	a := last(j)
	if a == nil || j.Status != Running || a.Driver {
		return false
	}
	m := s.machines[a.Machine]
	if m == nil || !m.isPilot() {
		return false
	}
	state := s.allocations[m.Allocation].state
	return state == slurmSuspended || state == slurmStopped
}

// reasonOf is why a machine is away or refused.
func (s *State) reasonOf(m *machine) string {
	if m.link != LinkConnected {
		if state := s.stateOfPilot(m); state != "" {
			return state
		}
	}
	return m.reason
}

// whyOOM says, of a job that a signal 9 has ended on a pilot, what its memory was, "" otherwise.
func (s *State) whyOOM(a *statepb.Attempt) string {
	if !IsSlurm(a.Machine) || a.Signal != "KILL" && a.Signal != "SIGKILL" && a.ExitCode != 137 ||
		a.Cause != statepb.Cause_EXITED {
		return ""
	}
	text := fmt.Sprintf("attempt %d was killed, as happens to what takes more memory than its "+
		"allocation has", a.Number)
	if m := s.machines[a.Machine]; m != nil {
		if r := m.resource(memoryName); All(r) > 0 {
			text += ", " + AmountText(All(r), true)
		}
	}
	return text + "; `--sbatch=--mem=…` of `jobserver machine add` says how much that is, and " +
		"`--needs mem=…` of a job asks for it"
}
