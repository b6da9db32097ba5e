package job

import (
	"context"
	"io"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/joblog"
)

// mergedLog reads both streams of a run in the order in which they came.
type mergedLog struct {
	args    api.OutputArgs
	weave   joblog.Weave
	noted   bool // something of the order was known
	unknown int  // bytes that were passed on without it
}

func newMergedLog(args api.LogArgs, line func(stderr bool, p []byte) error) *mergedLog {
	return &mergedLog{weave: joblog.Weave{Line: line}, args: api.OutputArgs{JID: args.JID,
		Attempt: args.Attempt, Step: args.Step, Rank: args.Rank, Wait: args.Wait}}
}

// read asks once and passes on what came. news is false when that was nothing, and so nothing more
// was to be waited for.
func (m *mergedLog) read(ctx context.Context, d cli.Daemon) (
	reply *api.OutputReply, news bool, err error,
) {
	m.args.Out.Max, m.args.Err.Max = 0, 0
	if m.weave.Want(false) {
		m.args.Out.Max = logChunk
	}
	if m.weave.Want(true) {
		m.args.Err.Max = logChunk
	}
	reply, err = cli.Ask[api.OutputReply](ctx, d, "JobOutput", &m.args)
	if err != nil {
		return nil, false, err
	}
	m.args.Out.Offset += int64(len(reply.Out))
	m.args.Err.Offset += int64(len(reply.Err))
	m.args.Weave += int64(len(reply.Weave))
	m.noted = m.noted || len(reply.Weave) > 0
	m.weave.Order(reply.Weave)
	m.weave.Text(false, reply.Out)
	m.weave.Text(true, reply.Err)
	if reply.EOF {
		m.weave.End()
	}
	if err := m.weave.Go(); err != nil {
		return nil, false, err
	}
	news = len(reply.Out)+len(reply.Err)+len(reply.Weave) > 0
	if reply.EOF || !news {
		m.unknown += m.weave.Left()
		err = m.weave.Hurry()
	}
	return reply, news, err
}

// note says what isn't known of the order.
func (m *mergedLog) note(e *cli.Env, name logName) {
	switch {
	case m.weave.Misfit():
		e.Note("%s: what is kept of the order of its two streams doesn't fit them: the order may "+
			"be wrong", name)
	case m.unknown == 0:
	case m.noted:
		e.Note("%s: in which order the last %d bytes of its two streams came isn't known", name,
			m.unknown)
	default:
		e.Note("%s: in which order its two streams came isn't known, so that standard output "+
			"comes first", name)
	}
}

// catMerged writes what both streams of a run hold by now.
func catMerged(
	ctx context.Context, e *cli.Env, d cli.Daemon, log logFile, w io.Writer, tagged bool,
) error {
	m := newMergedLog(api.LogArgs{JID: log.jid, Attempt: log.attempt, Step: log.step,
		Rank: log.rank}, (&mergedWriter{w: w, tagged: tagged}).line)
	for {
		reply, news, err := m.read(ctx, d)
		if err != nil {
			return err
		}
		if reply.EOF || !news {
			break
		}
	}
	if err := m.weave.Open(); err != nil {
		return err
	}
	m.note(e, log.name())
	return nil
}

// mergedPatience is how long bytes wait for those that came before them, which are on their way
// here.
const mergedPatience = time.Second

// followMerged follows both streams of a job, through its attempts and, of a setup, their steps.
// whole keeps back lines until they are.
func followMerged(
	ctx context.Context, e *cli.Env, d cli.Daemon, job api.Job, opt followOptions,
	w io.WriteCloser, whole bool,
) error {
	out := &mergedWriter{w: w}
	args := api.LogArgs{JID: job.JID, Attempt: opt.Attempt, Rank: opt.rank}
	for {
		args.Wait = cli.WaitPoll
		m := newMergedLog(args, out.line)
		for {
			m.args.Wait = cli.WaitPoll
			if m.weave.Left() > 0 {
				m.args.Wait = mergedPatience
			}
			reply, _, err := m.read(ctx, d)
			if err != nil {
				return err
			}
			if reply.Attempt != 0 {
				m.args.Attempt, args.Attempt = reply.Attempt, reply.Attempt
			}
			if reply.EOF || !whole {
				if err := m.weave.Open(); err != nil {
					return err
				}
			}
			if !reply.EOF {
				continue
			}
			m.note(e, logFile{jid: job.JID, attempt: args.Attempt, step: args.Step,
				rank: opt.rank}.name())
			if !reply.More {
				return w.Close()
			}
			break
		}
		if more, err := nextLog(ctx, d, &args, opt.Attempt != 0); err != nil {
			return err
		} else if !more {
			return w.Close()
		}
	}
}

// mergedWriter writes lines of two streams, each with a line of its own.
type mergedWriter struct {
	w      io.Writer
	tagged bool // each has a byte before it that says which stream it is of

	open bool // the last one has no end yet
	last bool // it was of stderr
}

// The tags of lines.
const (
	tagOut = 'o'
	tagErr = 'e'
)

func (m *mergedWriter) line(stderr bool, p []byte) error {
	var out []byte
	if m.open && m.last != stderr {
		out, m.open = append(out, '\n'), false
	}
	if m.tagged && !m.open {
		tag := byte(tagOut)
		if stderr {
			tag = tagErr
		}
		out = append(out, tag)
	}
	m.open, m.last = p[len(p)-1] != '\n', stderr
	_, err := m.w.Write(append(out, p...))
	return err
}
