package service

import (
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/sched"
)

// ListResources lists what the pool has.
func (s *service) ListResources(_ *api.Empty, reply *api.ListResourcesReply) error {
	return s.read(func(st *sched.State) error {
		reply.Resources = wire.Resources(st)
		return nil
	})
}

// SetResource says how much the pool has of something, or takes it away.
func (s *service) SetResource(args *api.SetResourceArgs, _ *api.Empty) error {
	what := "set resource " + args.Name
	if args.Unset {
		what = "unset resource " + args.Name
	}
	plan := func(st *sched.State, _ time.Time) (sched.Plan, error) {
		return st.PlanResource(args.Name, args.Value, args.Unset)
	}
	_, err := s.do(args.RequestID, false, what, plan)
	return err
}
