package service

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/redact"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/userfile"
)

// AddJobs submits jobs.
func (s *service) AddJobs(args *api.AddJobsArgs, reply *api.AddJobsReply) error {
	specs := make([]sched.JobSpec, len(args.Jobs))
	for i := range args.Jobs {
		if err := s.hasCode(args.Jobs[i].Code); err != nil {
			return err
		}
		if err := s.hasStdin(args.Jobs[i].Stdin); err != nil {
			return err
		}
		spec, err := jobSpec(&args.Jobs[i])
		if err != nil {
			return err
		}
		specs[i] = spec
	}
	done, err := s.do(args.RequestID, true, fmt.Sprintf("submit %d jobs", len(specs)),
		func(st *sched.State, _ time.Time) (sched.Plan, error) {
			return st.PlanSubmission(specs, s.About.Driver != "")
		})
	reply.JIDs, reply.Warnings = done.IDs, done.Warnings
	return err
}

// jobSpec makes CP_PATH absolute, and looks whether it can be
// written: better to hear of it now than in the morning.
func jobSpec(j *api.JobSpec) (sched.JobSpec, error) {
	spec := sched.JobSpec{
		Class: j.Class, Cmd: j.Cmd, CpPath: j.CpPath, Dir: j.Dir, Repeat: j.Repeat,
		MaxFailures: j.MaxFailures, Timeout: j.Timeout,
		Tag: j.Tag, Notify: j.Notify, Hold: j.Hold, Priority: j.Priority, Env: j.Env,
		SecretEnv: j.SecretEnv, Flat: j.Flat, MaxLog: j.MaxLog,
		Slots: j.Slots, Exclusive: j.Exclusive, Needs: j.Needs,
		Machines: j.Machines, Each: j.Each, With: j.With,
		After:      afterSpec(&j.After),
		StartAfter: j.StartAfter, RetryOn: j.RetryOn, NoRetryOn: j.NoRetryOn, AtMost: j.AtMost,
		MaxFails: j.MaxFails, CancelRest: j.CancelRest,
		Pin: j.Pin, Cwd: j.Cwd, Stdin: j.Stdin, StdinName: j.StdinName, Label: j.Label,
	}
	if c := j.Code; c != nil {
		spec.Code = &statepb.Code{Hash: c.Hash, Commit: c.Commit, Diff: c.Diff, Cut: c.Cut}
	}
	for _, in := range j.Inputs {
		path := in.Path
		if !strings.HasPrefix(path, "{") { // with its value it may be absolute
			path = hostPath(spec.Dir, path)
		}
		spec.Inputs = append(spec.Inputs, sched.InputSpec{Name: in.Name, Path: path})
	}
	if spec.CpPath == "" {
		return spec, nil
	}
	spec.CpPath = hostPath(spec.Dir, spec.CpPath)
	if !filepath.IsAbs(spec.CpPath) {
		return spec, api.Errorf(api.Invalid,
			"CP_PATH %q is relative, and the client didn't say to what", j.CpPath)
	}
	return spec, writable(spec.CpPath)
}

// hostPath is a path of this host that a client who stands in dir has named.
func hostPath(dir, path string) string {
	home, err := os.UserHomeDir()
	if err != nil && strings.HasPrefix(path, "~") {
		return path
	}
	return userfile.Path(dir, home, path)
}

// writable checks the part of a CP_PATH before its first variable:
// the nearest directory that exists has to be one, and writable.
func writable(path string) error {
	if i := strings.IndexByte(path, '{'); i >= 0 {
		path = filepath.Dir(path[:i] + "x")
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case os.IsNotExist(err) && dir != "/":
			continue
		case err != nil:
			return api.Errorf(api.Invalid, "CP_PATH can't be written: %v", err).
				WithHint("name a directory that the daemon's user may write")
		case !info.IsDir():
			return api.Errorf(api.Invalid, "CP_PATH can't be written: %s is not a directory", dir).
				WithHint("name a directory that the daemon's user may write")
		}
		if err := mayWrite(dir); err != nil {
			return api.Errorf(api.Invalid, "CP_PATH can't be written: %s: %v", dir, err).
				WithHint("name a directory that the daemon's user may write")
		}
		return nil
	}
}

// ChangeJobs changes all jobs that the selectors match.
func (s *service) ChangeJobs(args *api.ChangeJobsArgs, reply *api.ChangeJobsReply) error {
	if args.Op == api.OpPrune {
		return s.prune(args, reply)
	}
	operation := sched.Operation{
		Op: sched.Op(args.Op), Repeat: args.Repeat, Timeout: args.Timeout, Tag: args.Tag,
		Retry: args.Retry, Signal: args.Signal, Reason: args.Reason, Set: setSpec(&args.Set),
	}
	cmds := map[uint64]string{}
	var tried sched.Plan
	if args.DryRun || args.Op == api.OpSet { // which is of all jobs or none: looked at before
		var err error
		if tried, err = s.tryChange(args, operation, cmds); err != nil {
			return err
		}
		if args.DryRun {
			fillChanges(reply, &tried, cmds)
			return nil
		}
	}
	newWork := args.Op == api.OpClone || args.Op == api.OpRestart
	what := fmt.Sprintf("%s %s", args.Op,
		strings.Join(args.Selectors[:min(len(args.Selectors), 10)], " "))
	done, err := s.do(args.RequestID, newWork, what,
		func(st *sched.State, _ time.Time) (plan sched.Plan, err error) {
			if operation.Jobs, err = changed(st, args, cmds); err != nil {
				return plan, err
			}
			return st.PlanOperation(operation)
		})
	reply.JIDs, reply.Repeated = done.IDs, done.repeated
	if err != nil {
		return err
	}
	if args.Op == api.OpSet {
		done.Warnings = tried.Warnings // pieces have none
	}
	fillChanges(reply, &done.Plan, cmds)
	return nil
}

// changed gives the jobs that a change is for, and what the first of them run.
func changed(
	st *sched.State, args *api.ChangeJobsArgs, cmds map[uint64]string,
) ([]uint64, error) {
	ids, err := selectJobs(st, args.Selectors)
	if err != nil {
		return nil, err
	}
	if len(args.Selectors) == 0 {
		return nil, api.Errorf(api.Invalid, "no jobs are named").
			WithHint("name them, for example 17, 3..9, %%93:failed or @nightly")
	}
	if args.Dependents {
		ids = st.WithDependents(ids)
	}
	if args.Max > 0 && len(ids) > args.Max && !args.DryRun {
		return nil, api.Errorf(api.Confirm, "%d jobs match, more than %d", len(ids), args.Max).
			WithHint("--yes does it; --dry-run shows them")
	}
	for _, id := range ids[:min(len(ids), sched.MaxPage)] {
		if j := st.Job(id); j != nil {
			cmds[id] = string(j.Cmd)
		}
	}
	return ids, nil
}

// tryChange tells what a change would come to, a few jobs at a time, so that others get their turn
// in between. A change that was asked for before isn't tried: it has altered what it is tried on.
func (s *service) tryChange(
	args *api.ChangeJobsArgs, operation sched.Operation, cmds map[uint64]string,
) (all sched.Plan, err error) {
	var ids []uint64
	err = s.read(func(st *sched.State) (err error) {
		if !st.Asked(args.RequestID) {
			ids, err = changed(st, args, cmds)
		}
		return err
	})
	if err != nil {
		return all, err
	}
	next := uint64(0)
	for operation.Jobs = range slices.Chunk(ids, sched.OperationPiece) {
		var plan sched.Plan
		err := s.read(func(st *sched.State) (err error) {
			plan, next, err = st.TryOperation(operation, next)
			return err
		})
		if err != nil {
			return all, err
		}
		all.Fates = append(all.Fates, plan.Fates...)
		all.Warnings = append(all.Warnings, plan.Warnings...)
	}
	return all, nil
}

func fillChanges(reply *api.ChangeJobsReply, plan *sched.Plan, cmds map[uint64]string) {
	reply.Total, reply.Changed = len(plan.Fates), plan.Changed()
	reply.Warnings = plan.Warnings
	for i := range plan.Fates[:min(len(plan.Fates), sched.MaxPage)] {
		f := &plan.Fates[i]
		job := api.ChangedJob{
			JID: f.Job, Status: sched.StatusName(f.Status), Cmd: cmds[f.Job], Changed: f.Changed,
			Note: f.Note, NewJIDs: f.New,
		}
		if n := len(f.New); n > 0 {
			job.NewJID = f.New[n-1]
		}
		reply.Matched = append(reply.Matched, job)
	}
}

// Why explains a job in plain words, and of one that failed it has what it printed last.
func (s *service) Why(args *api.JIDArgs, reply *api.WhyReply) error {
	var newest *statepb.RunRef // that failed
	var hidden redact.Redactor
	err := s.read(func(st *sched.State) error {
		id, err := oneJob(st, args.Selector)
		if err != nil {
			return err
		}
		why, err := st.Why(id, time.Now())
		if err != nil {
			return err
		}
		*reply = api.WhyReply{
			JID: id, Status: sched.StatusName(st.Status(id)), Summary: why.Summary,
			Details: why.Details, Hint: why.Hint,
		}
		record := st.Job(id)
		if found := findings(record); len(found) > 0 && found[len(found)-1].failed {
			newest, hidden = found[len(found)-1].ref, wire.Hidden(st, record)
		}
		j := wire.Job(st, s.About.LogDir, record, false)
		if j.Status == api.StatusDone && j.Unwanted() {
			reply.Summary += ", but the results that it named were not copied: no CP_PATH was given"
			reply.Hint = fmt.Sprintf("they are still on %s, unless in the job's scratch "+
				"directory; "+
				"`jobserver job add CLASS CMD CP_PATH` has results copied", j.Machine)
		}
		return nil
	})
	if err != nil || newest == nil {
		return err
	}
	for _, stderr := range []bool{true, false} {
		path := sched.LogPath(s.About.LogDir, newest, stderr)
		if reply.Output = lastLines(path, whyLines, hidden); len(reply.Output) > 0 {
			break
		}
	}
	return nil
}

// whyLines is how much of its output is quoted when a job is explained.
const whyLines = 5

// Show gives everything about one job.
func (s *service) Show(args *api.JIDArgs, reply *api.Job) error {
	one := make([]api.Job, 1)
	err := s.read(func(st *sched.State) error {
		id, err := oneJob(st, args.Selector)
		if err == nil {
			one[0] = wire.Job(st, s.About.LogDir, st.Job(id), true)
		}
		return err
	})
	s.locate(one)
	*reply = one[0]
	return err
}

// oneJob is the job that a selector matches, which must be exactly one.
func oneJob(st *sched.State, selector string) (uint64, error) {
	ids, err := selectJobs(st, []string{selector})
	if err != nil {
		return 0, err
	}
	if len(ids) != 1 {
		return 0, api.Errorf(api.Invalid, "%s matches %d jobs, and one is wanted", selector,
			len(ids)).WithHint("`jobserver job ls %s` lists them", selector)
	}
	return ids[0], nil
}

// ListVars lists the variables; a secret's value stays here.
func (s *service) ListVars(_ *api.Empty, reply *api.ListVarsReply) error {
	return s.read(func(st *sched.State) error {
		for _, v := range st.Vars() {
			reply.Vars = append(reply.Vars, wire.Variable(v))
		}
		return nil
	})
}

// SetVar sets or unsets a variable.
func (s *service) SetVar(args *api.SetVarArgs, _ *api.Empty) error {
	what := "set variable " + args.Name
	if args.Unset {
		what = "unset variable " + args.Name
	}
	_, err := s.do(args.RequestID, false, what,
		func(st *sched.State, _ time.Time) (sched.Plan, error) {
			return st.PlanVar(args.Name, args.Value, args.Secret, args.Unset)
		})
	return err
}

// NewTag makes a tag.
func (s *service) NewTag(args *api.NewTagArgs, reply *api.Tag) error {
	done, err := s.do(args.RequestID, false, "make tag "+args.Name,
		func(st *sched.State, _ time.Time) (sched.Plan, error) {
			return st.PlanTag(args.Name)
		})
	if err != nil {
		return err
	}
	return s.read(func(st *sched.State) error {
		*reply = wire.Tag(st, done.IDs[0])
		return nil
	})
}

// ListTags lists tags.
func (s *service) ListTags(args *api.ListTagsArgs, reply *api.ListTagsReply) error {
	return s.read(func(st *sched.State) error {
		if args.Tag != "" {
			id, err := st.FindTag(args.Tag)
			if err != nil {
				return err
			}
			reply.Tags = append(reply.Tags, wire.Tag(st, id))
			return nil
		}
		for _, id := range st.Tags() {
			reply.Tags = append(reply.Tags, wire.Tag(st, id))
		}
		return nil
	})
}
