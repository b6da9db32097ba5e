package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jobserver/agent"
	"jobserver/failpoint"
)

// maxMarks bounds what is kept of a run's RESULTS and METRIC lines, in bytes: they go into the
// daemon's records.
const maxMarks = 4 << 20

// markOverhead is what a line takes in the daemon's records beside its text, in bytes: empty ones
// shall have an end, too.
const markOverhead = 24

// maxWeave bounds what is kept of the order of a run's streams, in bytes: agents send no more.
const maxWeave = 1 << 20

// progress is how far a run has been followed. It belongs to the task that has the run.
type progress struct {
	out, err     logFile
	weave        logFile // in which order their bytes came; see agent.Weave
	marksOff     int64
	results      []string
	measurements []string
	marked       int // bytes of both
	unmarked     int // lines beyond maxMarks

	whyLost string // known before it is looked for
	blocked bool   // its logs can't be written
	refetch bool   // its log was wrong and is being fetched once more
	failure string // why it can't be followed at present: it is logged once
	empty   int    // polls in a row that were answered at once, with nothing new
	lean    int    // bytes written while the disk had little room
	wide    bool   // most of its logs comes over several channels
	narrow  bool   // that was tried in vain
}

// follow is the task of following one run to its end, or to
// the end of the link. The run is released in both cases.
func (m *machine) follow(l *link, r *run) {
	v, err := m.pull(l, r)
	switch {
	case err == nil:
		m.finish(r, v)
	case r.ctx.Err() != nil || unanswered(l, err):
		m.do(func() { m.release(r) })
	default:
		// The agent answers, but not to this: its files may be damaged, or it has run out of
		// something.
		if reason := err.Error(); reason != r.failure {
			r.failure = reason
			m.log.Warn("a run can't be followed at present; it is tried again", "run", r.id.Name(),
				"err", err)
		}
		ctx, cancel := r.during(l)
		_ = m.f.disk.pause(ctx) // whatever ended it, release sees
		cancel()
		m.do(func() { m.release(r) })
	}
}

// during is a context that ends with the run's or with the link.
func (r *run) during(l *link) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// pull takes what a run writes to the host's files until it has ended.
func (m *machine) pull(l *link, r *run) (verdict, error) {
	var last agent.PollReply
	ctx, cancel := r.during(l)
	defer cancel()
	for {
		if err := r.openLogs(); err != nil {
			if err := m.waitForDisk(l, r, err); err != nil {
				return verdict{}, err
			}
			continue
		}
		request := agent.PollRequest{Run: r.id, OutOff: r.out.offset(), ErrOff: r.err.offset(),
			MarksOff: r.marksOff, Wait: m.f.opt.PollWait, Ending: last.Ending,
			Pauses: last.Pause.Changes, Weave: true, WeaveOff: r.weave.offset(), Most: r.most(l)}
		began := time.Now()
		var logErr error
		keep := func(s agent.Stream, p []byte) error {
			logErr = m.keepLog(ctx, r, r.log(s), p)
			return logErr
		}
		reply, err := l.client.Poll(m.patient(r.ctx), request, keep)
		switch {
		case ctx.Err() != nil:
			return verdict{}, context.Cause(ctx)
		case logErr != nil:
			// The machine keeps the bytes: they are asked for again when the host has room for
			// them.
			if err := m.waitForDisk(l, r, logErr); err != nil {
				return verdict{}, err
			}
			continue
		case errors.Is(err, agent.ErrNoRun):
			reply = agent.PollReply{State: agent.None}
		case errors.Is(err, agent.ErrBeyondEnd) && !r.refetch:
			r.fetchAgain(m, err.Error())
			continue
		case err != nil:
			return verdict{}, err
		}
		r.failure = ""
		r.take(reply)
		m.takePause(r, last.Pause, reply.Pause)
		m.f.disk.fine(&r.blocked)
		failpoint.Hit("fleet.log-appended")
		if v, ended := r.judge(m, l, reply); ended {
			return v, nil
		}
		if err := m.pacePolls(ctx, r, last, reply, began); err != nil {
			return verdict{}, err
		}
		last = reply
		if err := m.catchUp(ctx, l, r, reply); ctx.Err() != nil {
			return verdict{}, context.Cause(ctx)
		} else if err != nil {
			if err := m.waitForDisk(l, r, err); err != nil {
				return verdict{}, err
			}
		}
	}
}

// keepLog writes output of a run to its file, as far as that may have it and the disk has room.
func (m *machine) keepLog(ctx context.Context, r *run, log *logFile, p []byte) error {
	if err := m.f.space.take(&r.lean, len(p)); err != nil {
		return err
	}
	excess := log.excess
	if err := log.append(p); err != nil {
		return err
	}
	if more := log.excess - excess; more > 0 {
		// of no use to anybody, and there may be no end to it
		return m.excess.wait(ctx, int(more))
	}
	return nil
}

// waitForDisk waits for another try to write the run's logs.
func (m *machine) waitForDisk(l *link, r *run, err error) error {
	ctx, cancel := r.during(l)
	defer cancel()
	return m.f.disk.wait(ctx, m.f.opt.LogDir, &r.blocked, err)
}

// log is where a stream of the run is kept.
func (r *run) log(s agent.Stream) *logFile {
	switch s {
	case agent.Weave:
		return &r.weave
	case agent.Stderr:
		return &r.err
	}
	return &r.out
}

// take keeps the marks of a reply.
func (r *run) take(reply agent.PollReply) {
	for _, mark := range reply.Marks {
		if r.marked += markOverhead + len(mark.Text); r.marked > maxMarks {
			r.unmarked++
			continue
		}
		switch mark.Kind {
		case agent.Results:
			r.results = append(r.results, mark.Text)
		case agent.Measurement:
			r.measurements = append(r.measurements, mark.Text)
		}
	}
	if reply.MarksOff > r.marksOff {
		r.marksOff = reply.MarksOff
	}
}

// judge tells whether a reply, whose bytes are in the files, is the last one.
func (r *run) judge(m *machine, l *link, reply agent.PollReply) (verdict, bool) {
	said := reply.Bytes > 0 || len(reply.Marks) > 0
	switch {
	case reply.Exit != nil && r.openLogs() != nil:
		return verdict{}, false // they are opened again, and the end is asked for once more
	case reply.Exit != nil:
		note := r.verify(reply.Exit)
		if note != "" && !r.refetch {
			r.fetchAgain(m, note)
			return verdict{}, false
		}
		if reply.Exit.Cause == agent.ShutDown {
			return verdict{lost: whyShutDown(l, reply.Exit)}, true
		}
		return verdict{exit: reply.Exit, note: note}, true
	case said || !gone(reply.State):
		return verdict{}, false
	case r.whyLost != "":
		return verdict{lost: r.whyLost}, true
	case reply.State == agent.None:
		return verdict{lost: "its directory is no longer on the machine"}, true
	case reply.State == agent.Ambiguous:
		return verdict{lost: "its start was interrupted, nobody can tell whether it ran"}, true
	}
	if boot := l.client.Machine().BootID; r.spec != nil && boot != "" && r.spec.BootID != "" &&
		r.spec.BootID != boot {
		return verdict{lost: "the machine has rebooted while it ran"}, true
	}
	return verdict{lost: "its supervisor died without a record of how it ended", died: true}, true
}

// whyShutDown says what ended a run whose supervisor was told to end.
func whyShutDown(l *link, x *agent.Exit) string {
	switch facts := l.client.Machine(); {
	case facts.BootID != x.BootID:
		return "the machine was shut down while it ran"
	case facts.KillsUserProcesses:
		return "the machine ended it when the connection ended: allow it to stay there with " +
			"`loginctl enable-linger`"
	default:
		return "its supervisor was told to end, as when the machine is shut down"
	}
}

// gone tells whether a run without exit record will never have one.
func gone(s agent.State) bool {
	return s == agent.None || s == agent.Vanished || s == agent.Ambiguous
}

// verify compares the files with the exit record; it returns what is wrong.
func (r *run) verify(x *agent.Exit) string {
	for _, s := range []struct {
		name string
		file *logFile
		size int64
		crc  uint32
	}{{"output", &r.out, x.OutLen, x.OutCRC}, {"error output", &r.err, x.ErrLen, x.ErrCRC}} {
		switch {
		case s.file.offset() != s.size:
			return fmt.Sprintf("the %s has %d bytes here, the machine wrote %d", s.name,
				s.file.offset(), s.size)
		case s.file.all != s.crc:
			return fmt.Sprintf("the checksum of the %s is %08x here, %08x on the machine", s.name,
				s.file.all, s.crc)
		}
	}
	return ""
}

// openLogs makes the files ready for appending, if they aren't.
func (r *run) openLogs() error {
	err := errors.Join(r.out.open(), r.err.open())
	if r.out.size+r.err.size == 0 && !r.weave.rewind {
		return err // most runs have but one stream, and none has an order before the first byte
	}
	return errors.Join(err, r.weave.open())
}

// fetchAgain begins anew with logs that aren't what the machine has, as after a power cut. It helps
// once, or not at all.
func (r *run) fetchAgain(m *machine, why string) {
	m.log.Warn("a log differs from what the machine recorded; it is fetched again", "run",
		r.id.Name(), "why", why)
	r.refetch = true
	r.rewindLogs()
}

// rewindLogs makes the logs begin anew.
func (r *run) rewindLogs() { r.out.rewind, r.err.rewind, r.weave.rewind = true, true, true }

// rewind makes everything about a run be fetched anew.
func (r *run) rewind() {
	r.rewindLogs()
	r.marksOff, r.marked, r.unmarked, r.results, r.measurements, r.refetch = 0, 0, 0, nil, nil,
		false
}
