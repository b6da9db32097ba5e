package service

import (
	"errors"
	"strings"

	"jobserver/api"
	"jobserver/daemon/retention"
	"jobserver/daemon/wire"
	"jobserver/sched"
)

// prune forgets the jobs that the selectors match, all without any, and that ended long ago.
func (s *service) prune(args *api.ChangeJobsArgs, reply *api.ChangeJobsReply) error {
	if args.Older <= 0 {
		return api.Errorf(api.Invalid, "prune: jobs that ended how long ago?").
			WithHint("for example --older 30d")
	}
	r := retention.Request{Before: s.Now().Add(-args.Older), Act: !args.DryRun, Most: args.Max}
	if len(args.Selectors) > 0 {
		err := s.read(func(st *sched.State) (err error) {
			r.Jobs, err = selectJobs(st, args.Selectors)
			return err
		})
		if err != nil {
			return err
		}
	}
	cmds := map[uint64]string{}
	result, err := s.Retention.Prune(s.ctx, r, func(st *sched.State, id uint64) {
		if j := st.Job(id); j != nil {
			cmds[id] = string(j.Cmd)
		}
	})
	var many *retention.TooManyError
	if errors.As(err, &many) {
		return api.Errorf(api.Confirm, "%v", many).
			WithHint("--yes does it; --dry-run shows them")
	}
	if err != nil {
		return wire.Error(err)
	}
	if !args.DryRun && result.Changed > 0 {
		s.Log.Info("prune "+strings.Join(args.Selectors[:min(len(args.Selectors), 10)], " "),
			"uid", s.peer.UID, "pid", s.peer.PID, "older", args.Older, "jobs", result.Changed)
	}
	fillChanges(reply, &sched.Plan{Fates: result.Fates}, cmds)
	reply.Total, reply.Changed = result.Total, result.Changed
	return nil
}
