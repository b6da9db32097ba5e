// Package service answers the calls of clients: requests become plans and reads of the scheduler's
// loop, and its records become the types that cross the socket. A file has the calls about one
// noun.
package service

import (
	"context"
	"log/slog"
	"time"

	"jobserver/api"
	"jobserver/daemon/retention"
	"jobserver/daemon/wire"
	"jobserver/disk"
	"jobserver/fleet"
	"jobserver/sched"
)

// Options have what the calls need of the daemon.
type Options struct {
	Loop  *sched.Loop
	Fleet *fleet.Fleet
	Now   func() time.Time
	Log   *slog.Logger

	// About has what stays as it is while the daemon runs: version, paths, driver.
	About api.Status
	// MinFree must be free on the disk of the state, in bytes, for new work to be taken.
	MinFree int64
	// Timelines answers when attempts ran.
	Timelines *Timelines
	// Retention forgets what ended long ago.
	Retention *retention.Keeper
	// Stop has the daemon stop, as a signal does. It never waits.
	Stop func()
	// CodeCame is told that pinned code has come. It never waits.
	CodeCame func()
}

// service answers the calls of one connection.
type service struct {
	*Options
	ctx  context.Context // ends with the connection
	peer api.Peer
}

// Methods are the calls that the daemon answers on the connection of a peer, which ends with ctx.
func Methods(ctx context.Context, o *Options, peer api.Peer) []api.Method {
	return (&service{Options: o, ctx: ctx, peer: peer}).methods()
}

// methods are the calls that the daemon answers, by the names that the client knows.
func (s *service) methods() []api.Method {
	return []api.Method{
		api.HandleBrief("Ping", s.Ping),
		api.HandleBrief("Status", s.Status),
		api.HandleBrief("Stop", s.Stop),
		api.HandleTurn("Events", s.Events),
		api.HandleBrief("Changes", s.Changes),
		api.HandleTurn("Timeline", s.Timeline),
		api.Handle("Complete", s.Complete),

		api.Handle("AddJobs", s.AddJobs),
		api.Handle("ListJobs", s.ListJobs),
		api.Handle(api.ChangeJobs, s.ChangeJobs),
		api.Handle("Why", s.Why),
		api.HandleBrief("WhyMany", s.WhyMany),
		api.Handle("Show", s.Show),
		api.HandleBrief("Wait", s.Wait),
		api.HandleTurn("JobLog", s.JobLog),
		api.HandleTurn("JobOutput", s.JobOutput),
		api.Handle("JobFiles", s.JobFiles),
		api.HandleTurn("ReadFiles", s.ReadFiles),

		api.Handle("AddMatrix", s.AddMatrix),
		api.Handle("AddStages", s.AddStages),
		api.Handle("ListMatrices", s.ListMatrices),
		api.Handle("ChangeMatrix", s.ChangeMatrix),
		api.Handle("MatrixCells", s.MatrixCells),
		api.Handle("MatrixMap", s.MatrixMap),
		api.Handle("PutCode", s.PutCode),
		api.Handle("Places", s.Places),

		api.Handle("ListMachines", s.ListMachines),
		api.Handle("AddProvider", s.AddProvider),
		api.Handle("Partitions", s.Partitions),
		api.Handle("AddMachines", s.AddMachines),
		api.Handle("SetupMachines", s.SetupMachines),
		api.Handle("ChangeMachines", s.ChangeMachines),
		api.HandleBrief("CheckMachines", s.CheckMachines),
		api.Handle("Trust", s.Trust),

		api.Handle("ListVars", s.ListVars),
		api.Handle("SetVar", s.SetVar),
		api.Handle("ListResources", s.ListResources),
		api.Handle("SetResource", s.SetResource),
		api.Handle("NewTag", s.NewTag),
		api.Handle("ListTags", s.ListTags),
	}
}

// maxWait is how long a call may wait for something to happen; clients ask again.
const maxWait = time.Minute

// outcome is the result of a request. When it had been done before, its plan isn't made again, and
// only the ids are known: the client has lost its connection, or the daemon ended, before the
// answer came.
type outcome struct {
	sched.Plan
	repeated bool
}

// do carries out a plan, and logs who asked for what.
func (s *service) do(
	id string, newWork bool, what string,
	plan func(st *sched.State, now time.Time) (sched.Plan, error),
) (outcome, error) {
	p, repeated, err := s.Loop.Do(s.ctx, id, newWork, plan)
	done := outcome{p, repeated}
	switch {
	case err != nil:
		s.Log.Info("refused: "+what, "uid", s.peer.UID, "pid", s.peer.PID, "err", err)
		return done, wire.Error(err)
	case repeated:
		s.Log.Debug("asked again: "+what, "uid", s.peer.UID, "pid", s.peer.PID, "request", id)
	case len(done.Changes) > 0:
		s.Log.Info(what, "uid", s.peer.UID, "pid", s.peer.PID, "changes", len(done.Changes))
	}
	return done, nil
}

// read looks at the state; what f returns crosses the socket.
func (s *service) read(f func(st *sched.State) error) error {
	var failed error
	if err := s.Loop.Read(s.ctx, func(st *sched.State) { failed = f(st) }); err != nil {
		return wire.Error(err)
	}
	return wire.Error(failed)
}

// Ping says that the daemon is there, and how it is.
func (s *service) Ping(_ *api.Empty, reply *api.Status) error { return s.Status(nil, reply) }

// Stop has the daemon stop; jobs run on. The answer is the last on this connection.
func (s *service) Stop(_ *api.Empty, reply *api.StopReply) error {
	s.Log.Info("stop the daemon", "uid", s.peer.UID, "pid", s.peer.PID)
	reply.PID = s.About.PID
	s.Options.Stop()
	return nil
}

// Status tells how the daemon is.
func (s *service) Status(_ *api.Empty, reply *api.Status) error {
	*reply = s.About
	reply.Machines = map[string]int{}
	free, err := disk.Free(s.About.StateDir)
	if err != nil {
		free = -1
	}
	reply.HostFreeBytes, reply.DiskFull = free, err == nil && free < s.MinFree
	return s.read(func(st *sched.State) error {
		reply.Jobs = wire.Counts(st.Counts())
		reply.Matrices = len(st.Matrices())
		reply.Cursor = st.Changes()
		reply.NextID = st.NextID()
		reply.Classes = classStatus(st, s.Now())
		for _, addr := range st.Machines() {
			m, _ := st.Machine(addr)
			reply.Machines[string(m.Link)]++
		}
		reply.Owing = wire.Owing(st)
		for _, v := range st.Verdicts(time.Now()) {
			reply.Verdicts = append(reply.Verdicts, wire.Verdict(&v))
		}
		return nil
	})
}

// Events gives what happened after a cursor.
func (s *service) Events(args *api.EventsArgs, reply *api.EventsReply, turn api.Turn) error {
	ctx, cancel := context.WithTimeout(s.ctx, min(args.Wait, maxWait))
	defer cancel()
	events, cursor, gap, err := s.Loop.Events().
		After(ctx, args.Since, clamp(args.Max, sched.MaxPage))
	if err != nil {
		return wire.Error(err)
	}
	if err := turn(); err != nil {
		return err
	}
	reply.Cursor, reply.Gap = cursor, gap
	for i := range events {
		reply.Events = append(reply.Events, wire.Event(&events[i]))
	}
	return nil
}

// Complete gives the candidates for a word of a command line.
func (s *service) Complete(args *api.CompleteArgs, reply *api.CompleteReply) error {
	return s.read(func(st *sched.State) error {
		for _, c := range st.Complete(args.Kind, args.Prefix, clamp(args.Limit, 200)) {
			reply.Candidates = append(reply.Candidates,
				api.Candidate{Value: c.Value, Description: c.Description})
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
