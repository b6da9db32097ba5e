package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"jobserver/agent"
	"jobserver/failpoint"
	"jobserver/redact"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// run is a run that is wanted on a machine: to be started, followed or settled. Its life:
//
//	asked for → started (unless known) → followed → over → durable → settled
//
// One task of the link has it from the moment that it is started until it is over or the link
// breaks; then the actor gives it to the next link. Fields belong to the actor, those of progress
// to the task.
type run struct {
	ref    *statepb.RunRef
	id     agent.RunID
	spec   *sched.Run      // nil of one that is only to be settled
	ctx    context.Context // ends when it is dropped
	stop   context.CancelFunc
	silent atomic.Bool // sched hears nothing of it but Settled

	known   bool // it may have been started before: only to be followed
	ready   bool // all is ready for it, and it isn't to start yet
	busy    bool // a task has it, or it is in toStart
	over    bool // its end is known, and was reported
	lost    bool // its directory is of no further use
	dropped bool // to be removed when no task has it any more, unless it is owed
	gone    bool // removed

	cancel   bool           // its tree is to be ended
	retime   *time.Duration // a timeout to be delivered
	telling  bool           // a task delivers these, or waits for its next try
	steer                   // a pause that is to be delivered
	refusal  string         // why the last of these was refused: it is logged once
	canceled bool           // the cancel was delivered

	durable    bool                // its logs are safe
	settling   *statepb.Obligation // what sched wants of it in the end
	forgetting bool                // a task removes its directory, or it rests
	rest       rest                // between two tries of that
	stopped    bool                // it was reported that nothing of it lives
	sent       map[content]int     // how often this was sent for it
	inputs     string              // the directory of its inputs on the machine, when it is made
	preparing  context.CancelFunc  // ends the task that sees to its inputs
	resting    bool                // until it is noted what was read for it

	progress
}

// want is sched's Start.
func (m *machine) want(s sched.Run) {
	id := m.f.runID(s.Ref)
	r := m.runs[id]
	if r == nil {
		r = m.add(id, s.Ref)
		r.spec, r.known = &s, s.Known
		m.limitLogs(r, s.MaxLog)
	} else if r.spec != nil && r.spec.Prepare && !s.Prepare {
		r.spec, r.ready = &s, false // those that it starts with are ready too
	}
	if r.resting && !slices.ContainsFunc(s.Inputs,
		func(in *statepb.Input) bool { return in.Hash == "" }) {
		r.spec.Inputs, r.resting, r.busy = s.Inputs, false, false
	}
	if s.Known && r.retime == nil {
		r.retime = &s.Timeout // it may have been changed while we were away
	}
	r.cancel = r.cancel || s.Cancel
	if s.Pause != nil && r.pause == nil {
		r.pause = s.Pause // it may have been delivered while we were away: then it changes nothing
	}
	m.advance(r)
}

func (m *machine) add(id agent.RunID, ref *statepb.RunRef) *run {
	r := &run{ref: ref, id: id}
	r.ctx, r.stop = context.WithCancel(m.ctx)
	r.out.top, r.err.top, r.weave.top = m.f.opt.LogDir, m.f.opt.LogDir, m.f.opt.LogDir
	r.out.path = sched.LogPath(m.f.opt.LogDir, ref, false)
	r.err.path = sched.LogPath(m.f.opt.LogDir, ref, true)
	r.weave.path, r.weave.limit = sched.WeavePath(m.f.opt.LogDir, ref), maxWeave
	m.runs[id] = r
	return r
}

// limitLogs bounds a run's logs by its own limit, or the daemon's. Its agent has the same, and may
// not keep to it.
func (m *machine) limitLogs(r *run, limit int64) {
	limit = cmp.Or(limit, m.f.opt.MaxLog)
	r.out.limit, r.err.limit = limit, limit
}

func (m *machine) remove(r *run) {
	if m.runs[r.id] == r {
		delete(m.runs, r.id)
	}
	r.gone = true
	r.rest.end()
	r.stop()
	m.f.disk.fine(&r.blocked) // no task has it
}

// cancel is sched's Cancel.
func (m *machine) cancel(ref *statepb.RunRef) {
	r := m.runs[m.f.runID(ref)]
	if r == nil {
		return
	}
	r.cancel = true
	if m.unrest(r) {
		return
	}
	if m.leaveUpload(r) {
		m.release(r)
		return
	}
	r.stopPreparing()
	m.advance(r)
}

// retime is sched's Retime.
func (m *machine) retime(ref *statepb.RunRef, timeout time.Duration) {
	r := m.runs[m.f.runID(ref)]
	if r == nil {
		return
	}
	if r.spec != nil {
		r.spec.Timeout = timeout // for a start that is still to come
	}
	r.retime = &timeout
	m.advance(r)
}

// settle is sched's Settle. A run that isn't known here, after a restart, is followed to its end
// once more: only that tells whether its log is complete and safe.
func (m *machine) settle(o *statepb.Obligation) {
	id := m.f.runID(o.Run)
	r := m.runs[id]
	if r == nil {
		r = m.add(id, o.Run)
		r.known = true
		r.silent.Store(true)
		m.limitLogs(r, o.MaxLog)
	}
	r.settling, r.dropped = o, false
	r.cancel = r.cancel || o.Cancel
	if o.Stopped && !r.busy && !r.over { // all but its directory was seen to before
		r.over, r.lost, r.durable, r.stopped = true, true, true, true
	}
	m.advance(r)
}

// drop is sched's Drop: also of what is owed, if it isn't to be owed any more. A run that a task
// has stays until the task lets go of it: should it be owed then, the same run is settled, and no
// start of it can be under way beside.
func (m *machine) drop(ref *statepb.RunRef) {
	r := m.runs[m.f.runID(ref)]
	if r == nil {
		return
	}
	r.silent.Store(true)
	r.settling = nil
	switch {
	case m.leaveUpload(r), r.resting:
		m.remove(r)
	case r.busy:
		r.dropped = true
		r.stop()
		r.stopPreparing()
	default:
		m.remove(r)
	}
}

// advance takes the next step with a run, if there is a link.
func (m *machine) advance(r *run) {
	l := m.link
	if l == nil || r.gone {
		return
	}
	switch {
	case r.over:
		if r.durable && r.settling != nil && !r.forgetting {
			r.forgetting = true
			m.toForget = append(m.toForget, r)
		}
		return
	case r.busy:
	case r.known:
		r.busy = true
		l.spawn(func() { m.follow(l, r) })
	case r.cancel:
		r.busy = true
		l.spawn(func() { m.withdraw(l, r) })
		return
	case r.ready:
		return
	default:
		r.busy = true
		m.toStart = append(m.toStart, r)
		return
	}
	if r.known && !r.telling && (r.cancel && !r.canceled || r.retime != nil) {
		m.tell(l, r)
	}
	if r.known && !r.steering && r.pause != nil {
		m.steerRun(l, r)
	}
}

// release takes a run back from a task that did not bring it to its end: its link broke, or it was
// dropped.
func (m *machine) release(r *run) {
	r.busy, r.inputs = false, ""
	if r.dropped {
		m.remove(r)
		return
	}
	if r.ctx.Err() != nil {
		r.ctx, r.stop = context.WithCancel(m.ctx)
	}
	m.advance(r)
}

// startRuns sends all starts that have gathered in one message.
func (m *machine) startRuns() {
	l := m.link
	var batch []*run
	var specs []agent.Spec
	type coded struct {
		batch []*run
		specs []agent.Spec
	}
	type kind struct {
		hash    string // of its code
		prepare bool
	}
	others := map[kind]*coded{} // those that need code, or are only to be made ready
	for _, r := range m.toStart {
		if r.dropped || r.cancel {
			m.release(r)
			continue
		}
		if r.hasInputs() && r.inputs == "" {
			ctx, cancel := context.WithCancel(l.ctx)
			r.preparing = cancel
			l.spawn(func() {
				defer cancel()
				m.prepare(ctx, l, r)
			})
			continue
		}
		if r.spec.Stdin != "" {
			begin := m.begin(r.spec.Prepare)
			l.spawn(func() { m.startWithStdin(l, r, begin) })
			continue
		}
		if k := (kind{r.spec.Code, r.spec.Prepare}); k != (kind{}) {
			if others[k] == nil {
				others[k] = &coded{}
			}
			c := others[k]
			c.batch, c.specs = append(c.batch, r), append(c.specs, m.spec(r))
			continue
		}
		batch, specs = append(batch, r), append(specs, m.spec(r))
	}
	m.toStart = nil
	for k, c := range others {
		begin := m.begin(k.prepare)
		if k.hash == "" {
			l.spawn(func() { begin(l, c.batch, c.specs) })
		} else {
			l.spawn(func() { m.withCode(l, k.hash, c.batch, c.specs, begin) })
		}
	}
	if len(batch) > 0 {
		l.spawn(func() { m.startBatch(l, batch, specs) })
	}
}

// spec is a run as its agent takes it.
func (m *machine) spec(r *run) agent.Spec {
	s := r.spec
	spec := agent.Spec{
		Run:     r.id,
		BootID:  s.BootID,
		Command: s.Command,
		Timeout: s.Timeout,
		MaxLog:  s.MaxLog,
		Dir:     s.Cwd,
		CPUs:    s.CPUs,
		Memory:  s.Memory,
	}
	if s.Ref.Driver {
		// it is the machine's; a run of this host that a reboot ended is told by its directory
		spec.BootID = ""
	}
	if spec.MaxLog == 0 {
		spec.MaxLog = m.f.opt.MaxLog
	}
	for _, word := range s.Argv {
		spec.Argv = append(spec.Argv, []byte(word))
	}
	for _, v := range s.Env {
		name, value, _ := strings.Cut(v, "=")
		spec.Env = append(spec.Env, agent.Pair{Name: name, Value: value})
	}
	if r.inputs != "" {
		spec.Env = append(spec.Env, agent.Pair{Name: agent.InputsVariable, Value: r.inputs})
	}
	for _, name := range slices.Sorted(maps.Keys(s.Secrets)) {
		spec.Secrets = append(spec.Secrets, agent.Pair{Name: name, Value: string(s.Secrets[name])})
	}
	return spec
}

// startBatch is the task of starting runs; each goes on as a task of its own.
func (m *machine) startBatch(l *link, batch []*run, specs []agent.Spec) {
	failpoint.Hit("fleet.start-due")
	answered := m.doubtSoon()
	results, err := l.client.Start(l.ctx, specs)
	answered()
	failpoint.Hit("fleet.start-answered")
	for i, result := range results {
		m.started(l, batch[i], result)
	}
	batch, specs = batch[len(results):], specs[len(results):]
	switch {
	case err == nil:
	case unanswered(l, err):
		m.releaseAll(batch)
	case errors.Is(err, agent.ErrBusy): // with our own calls: it says nothing about the runs
		_ = m.f.disk.pause(l.ctx) // the end of the link is seen by release
		m.releaseAll(batch)
	case len(batch) == 1 && errors.Is(err, agent.ErrProtocol):
		// What the agent says can't be read: the run may have been started all the same.
		batch[0].whyLost = err.Error()
		m.mayRun(l, batch[0])
	case len(batch) == 1:
		m.finish(batch[0], verdict{notStarted: err.Error()})
	default: // one of them is to blame
		for i := range batch {
			m.startBatch(l, batch[i:i+1], specs[i:i+1])
		}
	}
}

// unanswered tells whether nothing is known of what was asked for, since the link broke, or since
// the agent doesn't answer: then the link is given up, so that it is asked over another one. It is
// for what an agent says at once. Removals and copies take as long as the machine's disks, are
// tried again by themselves, and leave the link to others.
func unanswered(l *link, err error) bool {
	if linkBroke(l) {
		return true
	}
	if !errors.Is(err, agent.ErrStalled) {
		return false
	}
	l.giveUp(fmt.Errorf("the agent doesn't answer: %w", err))
	return true
}

// patient is for calls that an agent answers at once.
func (m *machine) patient(ctx context.Context) context.Context {
	return agent.Patient(ctx, m.f.opt.AnswerTime)
}

// stopPreparing ends the task that sees to the inputs of a run, if there is one.
func (r *run) stopPreparing() {
	if r.preparing != nil {
		r.preparing()
	}
}

// releaseAll takes runs back from a task that has started none of them.
func (m *machine) releaseAll(batch []*run) {
	m.do(func() {
		for _, r := range batch {
			m.release(r)
		}
	})
}

// linkBroke tells a call that failed with its link, after which nothing is known, from one that the
// agent answered. The link itself is asked: the client knows of its end before any call does, and
// kinds of errors come in answers, too.
func linkBroke(l *link) bool { return l.ctx.Err() != nil || l.client.Err() != nil }

// started takes the agent's answer to one start.
func (m *machine) started(l *link, r *run, result agent.StartResult) {
	switch result.Status {
	case agent.StartOK:
		if !result.StartedAt.IsZero() {
			// What is wrong with its log, follow will see.
			_ = r.openLogs()
			if !r.silent.Load() {
				m.f.report(sched.Started{Ref: r.ref, At: result.StartedAt})
			}
		}
	case agent.StartOtherBoot:
		// It can't be started any more, but it may have ended before the machine went down.
		r.whyLost = fmt.Sprintf("the machine has rebooted since it was dispatched (%s)",
			result.Reason)
	case agent.StartAmbiguous:
		m.finish(r,
			verdict{lost: "its start was interrupted, nobody can tell whether it ran: " +
				result.Reason})
		return
	default:
		m.finish(r,
			verdict{notStarted: result.Reason, impossible: result.Status == agent.StartImpossible})
		return
	}
	m.mayRun(l, r)
}

// mayRun goes on with a run that is on the machine, or may be.
func (m *machine) mayRun(l *link, r *run) {
	m.do(func() {
		r.known = true
		m.advance(r) // a cancel that came meanwhile
	})
	l.spawn(func() { m.follow(l, r) })
}

// withdraw cancels a run of which nobody knows whether its start ever reached the machine.
func (m *machine) withdraw(l *link, r *run) {
	err := l.client.Control(m.patient(l.ctx), r.id, agent.Control{Cancel: true})
	switch {
	case err == nil:
		m.do(func() {
			r.known, r.canceled = true, true
			m.release(r)
		})
	case errors.Is(err, agent.ErrNoRun):
		m.finish(r, verdict{notStarted: "canceled before it was started"})
	case unanswered(l, err):
		m.do(func() { m.release(r) })
	default: // it may be there and run: its end is awaited, and tell tries again
		m.do(func() {
			r.known = true
			m.release(r)
		})
	}
}

// tell delivers a cancel or a new timeout. What is refused, as by a machine whose disk is full, is
// told again after a while, on the next link if this one breaks.
func (m *machine) tell(l *link, r *run) {
	r.telling = true
	k := agent.Control{Cancel: r.cancel}
	retime := r.retime
	if retime != nil {
		k.SetTimeout, k.Timeout = true, *retime
	}
	l.spawn(func() {
		err := l.client.Control(m.patient(l.ctx), r.id, k)
		if err == nil || errors.Is(err, agent.ErrNoRun) {
			// where there is no run, there is nothing to be told
			m.do(func() { m.told(r, k, retime) })
			return
		}
		if !unanswered(l, err) {
			m.do(func() { m.logRefusal(r, err) })
			_ = m.f.disk.pause(l.ctx) // the end of the link is seen by advance
		}
		m.do(func() {
			r.telling = false
			m.advance(r)
		})
	})
}

// told takes note of what was delivered.
func (m *machine) told(r *run, k agent.Control, retime *time.Duration) {
	r.telling, r.refusal = false, ""
	r.canceled = r.canceled || k.Cancel
	if r.retime == retime {
		r.retime = nil
	}
	m.advance(r)
}

// logRefusal logs that an instruction was refused, once for each reason.
func (m *machine) logRefusal(r *run, err error) {
	if reason := err.Error(); reason != r.refusal {
		r.refusal = reason
		m.log.Warn("an instruction was refused; it is given again", "run", r.id.Name(), "err", err)
	}
}

// verdict is how a run came to its end. One of the fields is set; exit may be with any.
type verdict struct {
	exit       *agent.Exit
	lost       string
	died       bool // lost: its supervisor died
	notStarted string
	impossible bool   // not started: no machine could
	hold       bool   // not started: an input can't be had, which is nobody's failure
	note       string // what was wrong with the log
}

// finish reports a run's end and hands its logs to be made durable.
func (m *machine) finish(r *run, v verdict) {
	outcome := r.outcome(v)
	failpoint.Hit("fleet.run-ended")
	if !r.silent.Load() {
		m.f.report(outcome)
	}
	m.do(func() {
		r.busy, r.over = false, true
		if r.dropped {
			m.remove(r)
			return
		}
		r.lost = v.exit == nil
		m.f.logs.add(func(err error) {
			m.do(func() { m.synced(r, err) })
		})
	})
}

// secrets gives those that the run was given.
func (r *run) secrets() redact.Redactor {
	if r.spec == nil {
		return nil
	}
	var values []string
	for _, v := range r.spec.Secrets {
		values = append(values, string(v))
	}
	return redact.New(append(values, r.spec.Hidden...)...)
}

// outcome is a verdict as sched hears it.
func (r *run) outcome(v verdict) sched.Outcome {
	switch {
	case v.exit != nil && v.exit.Cause == agent.NotStarted: // the answer to its start was lost
		return sched.NotStarted{Ref: r.ref, Reason: v.exit.StartError,
			JobsFault: v.exit.Impossible()}
	case v.exit != nil:
		result := r.result(v.exit, v.note)
		if r.spec != nil && r.spec.Setup &&
			(result.ExitCode != 0 || result.Signal != "" || result.Cause != statepb.Cause_EXITED) {
			result.LastWords = lastSaid(r.secrets(), r.err.path, r.out.path)
		}
		return sched.Ended{Ref: r.ref, Result: result}
	case v.lost != "":
		return sched.RunLost{Ref: r.ref, Reason: v.lost, Died: v.died}
	default:
		return sched.NotStarted{Ref: r.ref, Reason: v.notStarted, JobsFault: v.impossible,
			Hold: v.hold}
	}
}

// synced takes the end of a sync that covers a run's logs. After one that went wrong nobody knows
// what is on the disk: the logs are fetched again, into blocks that have to be written again.
func (m *machine) synced(r *run, err error) {
	if err == nil || r.lost {
		r.durable = true
		m.advance(r)
		return
	}
	m.f.tasks.Go(func() {
		if m.f.disk.pause(m.ctx) != nil {
			return
		}
		m.do(func() {
			r.rewind()
			r.over, r.known = false, true
			r.silent.Store(true)
			m.advance(r)
		})
	})
}
