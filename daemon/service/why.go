package service

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/joblog"
	"jobserver/redact"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/view"
)

// WhyMany groups what made many jobs fail by its cause, and says what the failures have in common.
func (s *service) WhyMany(args *api.WhyManyArgs, reply *api.WhyManyReply) error {
	var ids []uint64
	hidden := map[string]bool{} // what the jobs' own secrets are, and all others
	err := s.read(func(st *sched.State) (err error) {
		for _, secret := range wire.Secrets(st) {
			hidden[secret] = true
		}
		ids, err = selectJobs(st, args.Selectors)
		reply.Counts = wire.Counts(st.Count(ids))
		return err
	})
	if err != nil {
		return err
	}
	var found []finding
	var uncopied []copyFailure
	stopped := stoppedOf(reply.Counts)
	for page := range slices.Chunk(ids, sched.MaxPage) {
		err := s.read(func(st *sched.State) error {
			for _, id := range page {
				if j := st.Job(id); j != nil {
					if err := explain(st, j, stopped); err != nil {
						return err
					}
					found = append(found, findings(j)...)
					for _, secret := range sched.HiddenOf(j) {
						hidden[secret] = true
					}
					if j.Status == sched.Done && j.Results == statepb.Results_RESULTS_FAILED {
						why, err := st.Why(id, time.Now())
						if err != nil {
							return err
						}
						uncopied = append(uncopied, copyFailure{id, j.ResultsError, why.Hint})
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.readLastLines(s.ctx, found, redact.New(slices.Collect(maps.Keys(hidden))...))
	reply.Groups, reply.Standouts, reply.Uncopied = groupFailures(found), standouts(found),
		groupCopies(uncopied)
	if stopped != nil && stopped.Example != 0 {
		reply.Stopped = stopped
	}
	return nil
}

// stoppedOf says which of the jobs don't go on, nil where all do that can.
func stoppedOf(c api.Counts) *api.StoppedJobs {
	switch {
	case c.Held > 0:
		return &api.StoppedJobs{Jobs: c.Held, Status: sched.StatusName(sched.Held)}
	case c.Waiting > 0 && c.Running == 0:
		return &api.StoppedJobs{Jobs: c.Waiting, Status: sched.StatusName(sched.Waiting)}
	}
	return nil
}

// explain says of the first job that doesn't go on why that is.
func explain(st *sched.State, j *statepb.Job, stopped *api.StoppedJobs) error {
	if stopped == nil || stopped.Example != 0 ||
		sched.StatusName(st.Status(j.Id)) != stopped.Status {
		return nil
	}
	why, err := st.Why(j.Id, time.Now())
	if err != nil {
		return err
	}
	stopped.Example, stopped.Reason, stopped.Hint = j.Id, why.Summary, why.Hint
	return nil
}

// copyFailure is a job that is done, and whose results were not copied.
type copyFailure struct {
	job       uint64
	why, hint string
}

// groupCopies puts jobs together whose results were not copied for the same reason, but for
// numbers. The most frequent comes first.
func groupCopies(found []copyFailure) []api.CopyFailures {
	groups := map[string]*api.CopyFailures{}
	for _, f := range found {
		key := variable().ReplaceAllString(f.why, "#")
		if groups[key] == nil {
			groups[key] = &api.CopyFailures{Error: f.why, Hint: f.hint, Example: f.job}
		}
		groups[key].Jobs++
	}
	var out []api.CopyFailures
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, *groups[key])
	}
	slices.SortStableFunc(out, func(a, b api.CopyFailures) int { return b.Jobs - a.Jobs })
	return out[:min(len(out), maxGroups)]
}

// finding is an attempt that has succeeded or failed, with what it might have to do with that.
type finding struct {
	ref    *statepb.RunRef
	final  bool // it is the job's end
	failed bool
	cause  string // exited with code 1
	line   string // the last that it printed
	vars   []*statepb.Var
}

// findings gives the findings of a job. The record is the loop's; what is kept of it never changes.
func findings(j *statepb.Job) []finding {
	var found []finding
	for i, a := range j.Attempts {
		f := finding{
			ref:  &statepb.RunRef{Machine: a.Machine, Job: j.Id, Attempt: a.Number, Step: a.Step},
			vars: j.Vars, final: i == len(j.Attempts)-1 && sched.Final(j.Status),
		}
		switch a.Cause {
		case statepb.Cause_EXITED:
			f.failed = a.ExitCode != 0 || a.Signal != ""
		case statepb.Cause_TIMED_OUT, statepb.Cause_NOT_STARTED:
			f.failed = true
		case statepb.Cause_MACHINE_LOST:
			// else it ran again, and nobody is to blame
			f.failed = j.Status == sched.Lost && f.final
			if !f.failed {
				continue
			}
		default:
			continue
		}
		if f.failed {
			f.cause = sched.Reason(a)
		}
		found = append(found, f)
	}
	return found
}

// maxTails is how many logs are looked into for their last line.
const maxTails = 2000

// readLastLines looks into the logs of the failed attempts, the newest if there are very many.
func (s *service) readLastLines(ctx context.Context, found []finding, hidden redact.Redactor) {
	left := maxTails
	for i := range slices.Backward(found) {
		f := &found[i]
		if !f.failed || left == 0 || ctx.Err() != nil {
			continue
		}
		left--
		for _, stderr := range []bool{true, false} {
			if f.line = lastLine(sched.LogPath(s.About.LogDir, f.ref, stderr),
				hidden); f.line != "" {
				break
			}
		}
	}
}

// lastLine is the last line of a file that isn't blank, cut to what fits a table and without
// secrets; "" when there is none.
func lastLine(path string, hidden redact.Redactor) string {
	lines := lastLines(path, 1, hidden)
	if len(lines) == 0 {
		return ""
	}
	return lines[0]
}

// lastLines are the last lines of a file, at most n, as lastLine has one. Blank ones at the end
// don't count.
func lastLines(path string, n int, hidden redact.Redactor) []string {
	text, more, err := joblog.Tail(path, 4<<10)
	if err != nil {
		return nil
	}
	all := string(text)
	if more {
		all = "…" + all // a secret may have been cut
	}
	all = strings.TrimRight(hidden.Redact(all), " \t\r\n")
	if all == "" {
		return nil
	}
	lines := strings.Split(all, "\n")
	lines = lines[max(len(lines)-n, 0):]
	for i, line := range lines {
		line = strings.TrimSpace(strings.ToValidUTF8(line, "\uFFFD"))
		if len(line) > 200 {
			line = strings.ToValidUTF8(line[:200], "") + "…"
		}
		lines[i] = view.Clean(line)
	}
	return lines
}

// variable parts of a line: numbers, addresses of memory, and names of temporary files mostly end
// in some.
var variable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`0x[0-9a-fA-F]+|[0-9]+`)
})

// maxGroups is how many causes are told apart.
const maxGroups = 20

// groupFailures puts failed attempts together that ended the same way with the same words, but for
// numbers. The most frequent comes first.
func groupFailures(found []finding) []api.FailureGroup {
	type group struct {
		api.FailureGroup
		jobs     map[uint64]bool
		machines map[string]int
	}
	groups := map[string]*group{}
	for i := range found {
		f := &found[i]
		if !f.failed {
			continue
		}
		key := f.cause + "\n" + variable().ReplaceAllString(f.line, "#")
		g := groups[key]
		if g == nil {
			g = &group{FailureGroup: api.FailureGroup{Cause: f.cause, LastLine: f.line},
				jobs: map[uint64]bool{}, machines: map[string]int{}}
			groups[key] = g
		}
		g.Attempts++
		g.machines[f.ref.Machine]++
		g.jobs[f.ref.Job] = g.jobs[f.ref.Job] || f.final
	}
	var out []api.FailureGroup
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := groups[key]
		g.Jobs = len(g.jobs)
		g.Examples = slices.Sorted(maps.Keys(g.jobs))
		g.Examples = g.Examples[:min(len(g.Examples), 5)]
		for _, final := range g.jobs {
			if final {
				g.Final++
			}
		}
		for addr, n := range g.machines {
			g.Machines = append(g.Machines, api.FailureCount{Name: addr, Count: n})
		}
		slices.SortFunc(g.Machines, func(a, b api.FailureCount) int {
			return cmp.Or(b.Count-a.Count, cmp.Compare(a.Name, b.Name))
		})
		out = append(out, g.FailureGroup)
	}
	slices.SortStableFunc(out, func(a, b api.FailureGroup) int { return b.Attempts - a.Attempts })
	return out[:min(len(out), maxGroups)]
}

// share is how often something failed.
type share struct{ failed, all int }

func (s share) rate() float64 { return float64(s.failed) / float64(max(s.all, 1)) }

// standsOut says that one part fails mostly and the rest rarely: at least twice, in at least 60 %
// of the attempts, and four times as often as the rest, of which there is something.
func standsOut(part, rest share) bool {
	return part.failed >= 2 && part.rate() >= 0.6 && rest.all >= 2 && rest.rate() <= part.rate()/4
}

// standouts says which machines and which values of variables fail while the others don't.
func standouts(found []finding) []string {
	var all share
	machines, values := map[string]share{}, map[[2]string]share{}
	add := func(s share, failed bool) share {
		s.all++
		if failed {
			s.failed++
		}
		return s
	}
	for i := range found {
		f := &found[i]
		all = add(all, f.failed)
		machines[f.ref.Machine] = add(machines[f.ref.Machine], f.failed)
		for _, v := range f.vars {
			if !v.Secret {
				key := [2]string{v.Name, string(v.Value)}
				values[key] = add(values[key], f.failed)
			}
		}
	}
	rest := func(s share) share { return share{all.failed - s.failed, all.all - s.all} }
	var out []string
	for _, addr := range slices.Sorted(maps.Keys(machines)) {
		if s := machines[addr]; standsOut(s, rest(s)) {
			o := rest(s)
			out = append(out, fmt.Sprintf("machine %s stands out: %d of its %d attempts failed, "+
				"on the others %d of %d",
				addr, s.failed, s.all, o.failed, o.all))
		}
	}
	keys := slices.SortedFunc(maps.Keys(values), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	for _, key := range keys {
		if s := values[key]; standsOut(s, rest(s)) {
			o := rest(s)
			out = append(out, fmt.Sprintf("%s=%s stands out: %d of %d attempts with it failed, "+
				"without it %d of %d",
				key[0], view.Clean(key[1]), s.failed, s.all, o.failed, o.all))
		}
	}
	return out[:min(len(out), maxGroups)]
}
