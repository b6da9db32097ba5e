package service

import (
	"context"
	"time"

	"jobserver/api"
)

// JobOutput gives bytes of both streams of a run, with the order in which they came.
func (s *service) JobOutput(
	args *api.OutputArgs, reply *api.OutputReply, turn api.Turn,
) error {
	ctx, cancel := context.WithTimeout(s.ctx, min(max(args.Wait, 0), maxWait))
	defer cancel()
	ticker := time.NewTicker(logLook)
	defer ticker.Stop()
	for {
		some, err := s.output(args, reply, turn)
		if err != nil || some || reply.EOF {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// output reads what there is by now, and says whether that is anything.
func (s *service) output(
	args *api.OutputArgs, reply *api.OutputReply, turn api.Turn,
) (some bool, err error) {
	*reply = api.OutputReply{EOF: true}
	// The order is read last: what is known of bytes comes before them, and never too late.
	for _, one := range []struct {
		kind   logKind
		offset int64
		most   int
		to     *[]byte
	}{
		{logOut, args.Out.Offset, min(args.Out.Max, maxLogRead), &reply.Out},
		{logErr, args.Err.Offset, min(args.Err.Max, maxLogRead), &reply.Err},
		{logWeave, args.Weave, maxLogRead, &reply.Weave},
	} {
		request := api.LogArgs{JID: args.JID, Attempt: args.Attempt, Step: args.Step,
			Rank: args.Rank}
		var found api.LogReply
		ended, err := s.findLog(&request, one.kind, &found)
		if err != nil {
			return false, err
		}
		if err := s.isThere(&request, one.kind, &found, ended); err != nil {
			return false, err
		}
		reply.Attempt, reply.More, reply.Status = found.Attempt, found.More, found.Status
		if err := readLog(&found, one.offset, max(one.most, 0), turn); err != nil {
			return false, err
		}
		*one.to = found.Data
		reply.EOF = reply.EOF && ended && one.offset+int64(len(found.Data)) >= found.Size
		some = some || len(found.Data) > 0
	}
	return some, nil
}
