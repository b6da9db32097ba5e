package job

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"jobserver/api"
	"jobserver/cli"
)

// followOptions say what of a job's output to follow.
type followOptions struct {
	Stderr  bool // stderr instead of stdout
	Both    bool // both, each to its own stream here
	Merged  bool // both, in the order in which they came
	Attempt int  // only this one; 0 is the newest and those that come after it
	Rank    *int // only this one; nil: all

	rank int // as LogArgs has it
}

// followJobs prints what the jobs have written and what they write, until all have ended. The lines
// of several jobs are told apart by the job's id before each.
func followJobs(
	ctx context.Context, e *cli.Env, d cli.Daemon, jobs []api.Job, opt followOptions,
) error {
	lines, logs := &lineLock{}, e.Logs()
	group, ctx := errgroup.WithContext(ctx)
	type followed struct {
		job    api.Job
		rank   int // from 1; 0: it has one log
		prefix string
	}
	var all []followed
	for _, job := range jobs {
		id := ""
		if len(jobs) > 1 {
			id = fmt.Sprintf("%d: ", job.JID)
		}
		ranks := job.Ranks()
		if opt.Rank != nil && *opt.Rank < ranks {
			all = append(all, followed{job, *opt.Rank + 1, id})
			continue
		} else if opt.Rank != nil {
			return api.Errorf(api.NotFound, "job %d has no rank %d", job.JID, *opt.Rank).
				WithHint("%s job show %d lists its machines", e.Name, job.JID)
		}
		for rank := 1; ranks > 1 && rank <= ranks; rank++ {
			all = append(all, followed{job, rank, id + rankPrefix(rank)})
		}
		if ranks == 1 {
			all = append(all, followed{job, 0, id})
		}
	}
	for _, one := range all {
		job, prefix, opt := one.job, one.prefix, opt
		opt.rank = one.rank
		if opt.Merged {
			group.Go(func() error {
				to := lines.writer(logs.Stdout, prefix)
				return followMerged(ctx, e, d, job, opt, to, prefix != "")
			})
			continue
		}
		if opt.Both || !opt.Stderr {
			group.Go(func() error {
				return followStream(ctx, d, job, opt, false, lines.writer(logs.Stdout, prefix))
			})
		}
		if opt.Both || opt.Stderr {
			to := logs.Stdout
			if opt.Both {
				to = logs.Stderr
			}
			group.Go(func() error {
				return followStream(ctx, d, job, opt, true, lines.writer(to, prefix))
			})
		}
	}
	return group.Wait()
}

// followStream follows one stream of a job, through its attempts and, of a setup, their steps.
func followStream(
	ctx context.Context, d cli.Daemon, job api.Job, opt followOptions, stderr bool,
	w io.WriteCloser,
) error {
	args := api.LogArgs{JID: job.JID, Attempt: opt.Attempt, Stderr: stderr, Max: logChunk,
		Rank: opt.rank, Wait: cli.WaitPoll}
	for {
		reply, err := cli.Ask[api.LogReply](ctx, d, "JobLog", &args)
		if err != nil {
			return err
		}
		if _, err := w.Write(reply.Data); err != nil {
			return err
		}
		args.Offset += int64(len(reply.Data))
		if reply.Attempt != 0 {
			args.Attempt = reply.Attempt // from now on this one, to its end
		}
		if !reply.EOF {
			continue
		}
		if !reply.More {
			return w.Close()
		}
		more, err := nextLog(ctx, d, &args, opt.Attempt != 0)
		if err != nil {
			return err
		}
		if !more {
			return w.Close()
		}
	}
}

// nextLog makes args those of the log that comes after an ended one: the attempt's next step, else
// the next attempt's first. If neither is there yet, it waits; more is false when the job has ended
// without.
func nextLog(
	ctx context.Context, d cli.Daemon, args *api.LogArgs, onlyAttempt bool,
) (more bool, err error) {
	step, attempt := *args, *args
	step.Step, step.Offset, step.Wait = args.Step+1, 0, 0
	attempt.Attempt, attempt.Step, attempt.Offset, attempt.Wait = args.Attempt+1, 0, 0, 0
	var cursor uint64
	for {
		for _, next := range []api.LogArgs{step, attempt} {
			if onlyAttempt && next.Attempt != args.Attempt {
				return false, nil
			}
			_, err := cli.Ask[api.LogReply](ctx, d, "JobLog", &next)
			if err == nil {
				next.Wait = cli.WaitPoll
				*args = next
				return true, nil
			}
			if api.KindOf(err) != api.NotFound {
				return false, err
			}
		}
		reply, err := cli.Ask[api.WaitReply](ctx, d, "Wait",
			&api.WaitArgs{Selectors: []string{fmt.Sprint(args.JID)}, Wait: cli.WaitPoll,
				Cursor: cursor})
		if err != nil || reply.Done && cursor != 0 {
			return false, err
		}
		cursor = reply.Cursor
	}
}

// lineLock keeps the lines of several jobs whole.
type lineLock struct{ mu sync.Mutex }

// writer writes to w, whole lines at a time with the prefix
// before each. Without a prefix it writes what comes as it comes.
func (l *lineLock) writer(w io.Writer, prefix string) io.WriteCloser {
	return &lineWriter{lock: l, w: w, prefix: prefix}
}

// lineMax is how much of a line is held back before it is broken.
const lineMax = 64 << 10

type lineWriter struct {
	lock   *lineLock
	w      io.Writer
	prefix string
	rest   []byte // of a line whose end hasn't come yet
}

// Write passes whole lines on.
func (l *lineWriter) Write(data []byte) (int, error) {
	if l.prefix == "" {
		l.lock.mu.Lock()
		defer l.lock.mu.Unlock()
		return l.w.Write(data)
	}
	l.rest = append(l.rest, data...)
	var out bytes.Buffer
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 && len(l.rest) < lineMax {
			break
		}
		if end < 0 {
			end = len(l.rest) - 1
		}
		out.WriteString(l.prefix)
		out.Write(l.rest[:end+1])
		if l.rest[end] != '\n' {
			out.WriteByte('\n')
		}
		l.rest = l.rest[end+1:]
	}
	l.lock.mu.Lock()
	defer l.lock.mu.Unlock()
	if _, err := l.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(data), nil
}

// Close passes on a last line that has no end.
func (l *lineWriter) Close() error {
	if len(l.rest) == 0 {
		return nil
	}
	_, err := l.Write([]byte("\n"))
	return err
}
