package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"jobserver/api"
	"jobserver/sched"
	"jobserver/version"
)

// service answers the calls of one connection (service_*.go): it turns requests into plans and reads of the
// scheduler's loop, and the scheduler's records into the types that cross the socket.
type service struct {
	*daemonParts
	ctx  context.Context // ends with the connection
	peer api.Peer
	log  *slog.Logger
}

// methods are the calls that the daemon answers, by the names that the client knows.
func (s *service) methods() []api.Method {
	return []api.Method{
		api.Handle("Ping", s.Ping),
		api.Handle("Status", s.Status),
		api.Handle("Events", s.Events),
		api.Handle("Complete", s.Complete),

		api.Handle("AddJobs", s.AddJobs),
		api.Handle("ListJobs", s.ListJobs),
		api.Handle("Bulk", s.Bulk),
		api.Handle("Why", s.Why),
		api.Handle("WhyMany", s.WhyMany),
		api.Handle("Show", s.Show),
		api.Handle("Wait", s.Wait),
		api.Handle("JobLog", s.JobLog),

		api.Handle("AddMatrix", s.AddMatrix),
		api.Handle("ListMatrices", s.ListMatrices),
		api.Handle("ChangeMatrix", s.ChangeMatrix),
		api.Handle("MatrixCells", s.MatrixCells),
		api.Handle("PutCode", s.PutCode),

		api.Handle("ListMachines", s.ListMachines),
		api.Handle("AddMachines", s.AddMachines),
		api.Handle("SetupMachines", s.SetupMachines),
		api.Handle("ChangeMachines", s.ChangeMachines),
		api.Handle("CheckMachines", s.CheckMachines),
		api.Handle("Trust", s.Trust),

		api.Handle("ListVars", s.ListVars),
		api.Handle("SetVar", s.SetVar),
		api.Handle("NewTag", s.NewTag),
		api.Handle("ListTags", s.ListTags),
	}
}

// maxWait is how long a call may wait for something to happen; clients ask again.
const maxWait = time.Minute

// outcome is what a request came to. When it had been done before, its plan isn't made again, and
// only the ids are known: the client has lost its connection, or the daemon ended, before the answer came.
type outcome struct {
	sched.Plan
	repeated bool
}

// do carries out a plan, and logs who asked for what.
func (s *service) do(id string, newWork bool, what string, plan func(st *sched.State, now time.Time) (sched.Plan, error)) (outcome, error) {
	p, repeated, err := s.loop.Do(s.ctx, id, newWork, plan)
	done := outcome{p, repeated}
	switch {
	case err != nil:
		s.log.Info("refused: "+what, "uid", s.peer.UID, "pid", s.peer.PID, "err", err)
		return done, wireError(err)
	case repeated:
		s.log.Debug("asked again: "+what, "uid", s.peer.UID, "pid", s.peer.PID, "request", id)
	case len(done.Changes) > 0:
		s.log.Info(what, "uid", s.peer.UID, "pid", s.peer.PID, "changes", len(done.Changes))
	}
	return done, nil
}

// read looks at the state; what f returns crosses the socket.
func (s *service) read(f func(st *sched.State) error) error {
	var failed error
	if err := s.loop.Read(s.ctx, func(st *sched.State) { failed = f(st) }); err != nil {
		return wireError(err)
	}
	return wireError(failed)
}

// wireError gives the scheduler's errors the form that crosses the socket. What is neither a refusal nor the end of
// somebody's patience is a fault of ours, and says so.
func wireError(err error) error {
	var refusal *sched.Error
	var own *api.Error
	switch {
	case err == nil, errors.As(err, &own), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, sched.ErrClosed):
		return api.Errorf(api.Unavailable, "%w", err)
	case !errors.As(err, &refusal):
		return api.Bugf("%w", err)
	}
	kind := api.Internal
	switch refusal.Kind {
	case sched.Invalid:
		kind = api.Invalid
	case sched.NotFound:
		kind = api.NotFound
	case sched.NoMatch:
		kind = api.NoMatch
	case sched.Conflict:
		kind = api.Conflict
	case sched.Full:
		kind = api.Full
	case sched.Confirm:
		kind = api.Confirm
	case sched.Unknown:
		kind = api.OutcomeUnknown
	case sched.Stopping:
		kind = api.Unavailable
	case sched.Internal:
		return api.Bugf("%w", err)
	}
	return api.Wrap(kind, err)
}

// Ping says that the daemon is there, and how it is.
func (s *service) Ping(_ *api.Empty, reply *api.Status) error { return s.Status(nil, reply) }

// Status tells how the daemon is.
func (s *service) Status(_ *api.Empty, reply *api.Status) error {
	*reply = api.Status{
		Version: version.String(), PID: processID, StateDir: s.settings.StateDir, LogDir: s.settings.LogDir, Socket: s.socket,
		Driver: s.settings.Driver, ServerID: s.recovery.ServerID, StartedAt: s.started,
		Machines: map[string]int{}, HostFreeBytes: freeBytes(s.settings.StateDir),
	}
	reply.DiskFull = reply.HostFreeBytes >= 0 && reply.HostFreeBytes < s.stateMinFree()
	return s.read(func(st *sched.State) error {
		reply.Jobs = countsOf(st.Counts())
		reply.Matrices = len(st.Matrices())
		reply.Cursor = st.Changes()
		for _, addr := range st.Machines() {
			m, _ := st.Machine(addr)
			reply.Machines[string(m.Link)]++
		}
		return nil
	})
}

// Events gives what happened after a cursor.
func (s *service) Events(args *api.EventsArgs, reply *api.EventsReply) error {
	ctx, cancel := context.WithTimeout(s.ctx, min(args.Wait, maxWait))
	defer cancel()
	events, cursor, gap, err := s.loop.Events().After(ctx, args.Since, clamp(args.Max, sched.MaxPage))
	if err != nil {
		return wireError(err)
	}
	reply.Cursor, reply.Gap = cursor, gap
	for i := range events {
		reply.Events = append(reply.Events, eventOf(&events[i]))
	}
	return nil
}

// Complete gives the candidates for a word of a command line.
func (s *service) Complete(args *api.CompleteArgs, reply *api.CompleteReply) error {
	return s.read(func(st *sched.State) error {
		for _, c := range st.Complete(args.Kind, args.Prefix, clamp(args.Limit, 200)) {
			reply.Candidates = append(reply.Candidates, api.Candidate{Value: c.Value, Description: c.Description})
		}
		return nil
	})
}

// clamp takes n when it is between 1 and most, else most.
func clamp(n, most int) int {
	if n < 1 || n > most {
		return most
	}
	return n
}
