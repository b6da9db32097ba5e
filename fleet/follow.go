package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jobserver/agent"
	"jobserver/failpoint"
)

// pollWait is how long the agent holds a Poll of a run that
// says nothing: so long that it is no traffic to speak of.
const pollWait = time.Hour

// maxMarks bounds what is kept of a run's RESULTS and METRIC lines, in bytes: they go into the daemon's records.
const maxMarks = 4 << 20

// progress is how far a run has been followed. It belongs to the task that has the run.
type progress struct {
	out, err logFile
	marksOff int64
	results  []string
	metrics  []string
	marked   int // bytes of both
	unmarked int // lines beyond maxMarks

	whyLost string // known before it is looked for
	refetch bool   // its log was wrong and is being fetched once more
}

// follow is the task of following one run to its end, or to
// the end of the link. The run is released in both cases.
func (m *machine) follow(l *link, r *run) {
	v, err := m.pull(l, r)
	switch {
	case err == nil:
		m.finish(r, v)
	case linkBroke(l, err), r.ctx.Err() != nil:
		m.do(func() { m.release(r) })
	default:
		// The agent answers, but not to this: its files may be damaged. It is asked again at the next connection.
		m.log.Warn("a run can't be followed", "run", r.id.Name(), "err", err)
		m.do(func() { r.stuck = true })
	}
}

// pull takes what a run writes to the host's files until it has ended.
func (m *machine) pull(l *link, r *run) (verdict, error) {
	var ahead *poll // the next one, sent before the bytes of its predecessor are written
	defer func() { ahead.drop() }()
	ending := agent.NoCause
	for {
		if err := r.openLogs(); err != nil {
			if err := m.f.disk.wait(r.ctx, l.ctx, m.f.opt.LogDir, err); err != nil {
				return verdict{}, err
			}
			continue
		}
		p := ahead
		if ahead = nil; p == nil {
			p = r.poll(l, ending, agent.PollReply{MarksOff: r.marksOff})
		}
		reply, err := p.wait()
		if err != nil {
			return verdict{}, err
		}
		ending = reply.Ending
		if len(reply.Out)+len(reply.Err) >= readAhead && reply.Exit == nil {
			ahead = r.poll(l, ending, reply)
		}
		r.take(reply)
		if err := errors.Join(r.out.append(reply.Out), r.err.append(reply.Err)); err != nil {
			// The machine keeps the bytes: they are asked for again when the host has room for them.
			ahead.drop()
			ahead = nil
			if err := m.f.disk.wait(r.ctx, l.ctx, m.f.opt.LogDir, err); err != nil {
				return verdict{}, err
			}
			continue
		}
		m.f.disk.fine()
		failpoint.Hit("fleet.log-appended")
		v, ended := r.judge(m, l, reply)
		l.client.Release(&reply)
		if ended {
			return v, nil
		}
	}
}

// readAhead is from which size of a reply on the next one is
// asked for at once: whoever writes so much writes more.
const readAhead = 1 << 20

// poll is a Poll under way.
type poll struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when reply and err are there
	reply  agent.PollReply
	err    error
}

// poll asks for what follows a reply whose bytes are still to be written.
func (r *run) poll(l *link, ending agent.Cause, after agent.PollReply) *poll {
	p := &poll{done: make(chan struct{})}
	request := agent.PollRequest{
		Run:      r.id,
		OutOff:   r.out.size + int64(len(after.Out)),
		ErrOff:   r.err.size + int64(len(after.Err)),
		MarksOff: after.MarksOff,
		Wait:     pollWait,
		Ending:   ending,
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(r.ctx)
	ask := func() {
		defer close(p.done)
		p.reply, p.err = l.client.Poll(ctx, request)
		if errors.Is(p.err, agent.ErrNoRun) {
			p.reply, p.err = agent.PollReply{State: agent.None}, nil
		}
	}
	if len(after.Out)+len(after.Err) > 0 {
		go ask() // wait or drop wait for it
	} else {
		ask()
	}
	return p
}

func (p *poll) wait() (agent.PollReply, error) {
	<-p.done
	p.cancel()
	return p.reply, p.err
}

// drop gives a poll up that may be nil.
func (p *poll) drop() {
	if p != nil {
		p.cancel()
		<-p.done
	}
}

// take keeps the marks of a reply.
func (r *run) take(reply agent.PollReply) {
	for _, mark := range reply.Marks {
		if r.marked += len(mark.Text); r.marked > maxMarks {
			r.unmarked++
			continue
		}
		switch mark.Kind {
		case agent.Results:
			r.results = append(r.results, mark.Text)
		case agent.Metric:
			r.metrics = append(r.metrics, mark.Text)
		}
	}
	if reply.MarksOff > r.marksOff {
		r.marksOff = reply.MarksOff
	}
}

// judge tells whether a reply, whose bytes are in the files, is the last one.
func (r *run) judge(m *machine, l *link, reply agent.PollReply) (verdict, bool) {
	said := len(reply.Out)+len(reply.Err)+len(reply.Marks) > 0
	switch {
	case reply.Exit != nil:
		note := r.verify(reply.Exit)
		if note != "" && !r.refetch {
			m.log.Warn("a log differs from what the machine recorded; it is fetched again", "run", r.id.Name(), "why", note)
			r.refetch = true
			r.rewindLogs()
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
		return verdict{lost: "its directory is not on the machine any more"}, true
	case reply.State == agent.Ambiguous:
		return verdict{lost: "its start was interrupted, nobody can tell whether it ran"}, true
	}
	if boot := l.client.Machine().BootID; r.spec != nil && boot != "" && r.spec.BootID != "" && r.spec.BootID != boot {
		return verdict{lost: "the machine has rebooted while it ran"}, true
	}
	return verdict{lost: "its supervisor died without a record of how it ended"}, true
}

// whyShutDown says what ended a run whose supervisor was told to end.
func whyShutDown(l *link, x *agent.Exit) string {
	switch facts := l.client.Machine(); {
	case facts.BootID != x.BootID:
		return "the machine was shut down while it ran"
	case facts.KillsUserProcesses:
		return "the machine ended it when the connection ended: allow it to stay there with `loginctl enable-linger`"
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
		case s.file.size != s.size:
			return fmt.Sprintf("the %s has %d bytes here, the machine wrote %d", s.name, s.file.size, s.size)
		case s.file.crc != s.crc:
			return fmt.Sprintf("the checksum of the %s is %08x here, %08x on the machine", s.name, s.file.crc, s.crc)
		}
	}
	return ""
}

// openLogs makes the files ready for appending, if they aren't.
func (r *run) openLogs() error { return errors.Join(r.out.open(), r.err.open()) }

// rewindLogs makes the logs begin anew.
func (r *run) rewindLogs() { r.out.rewind, r.err.rewind = true, true }

// rewind makes everything about a run be fetched anew.
func (r *run) rewind() {
	r.rewindLogs()
	r.marksOff, r.marked, r.unmarked, r.results, r.metrics, r.refetch = 0, 0, 0, nil, nil, false
}
