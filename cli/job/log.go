package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/joblog"
)

// Log is `job log`.
type Log struct {
	JID []string `arg:"" optional:"" name:"JID" sep:"none" predictor:"job" help:"The jobs; see 'help job rm' for the forms."`
	narrow
	Running bool `name:"running" short:"r" help:"Select all running jobs."`
	Error   bool `name:"error" short:"e" aliases:"err,stderr" xor:"stream" help:"Read stderr instead of stdout."`
	Merged  bool `name:"merged" aliases:"both" xor:"stream" help:"Print the lines of both stdout and stderr, in the order in which they came; those that came within a moment may be in either order."`
	Less    bool `name:"less" short:"l" xor:"how" help:"Open the log in less."`
	Tail    bool `name:"tail" short:"t" aliases:"follow" xor:"how" help:"Print the log and follow it until the job ends."`
	Cat     bool `name:"cat" short:"c" xor:"how" help:"Print the log."`
	Lines   int  `name:"lines" short:"n" placeholder:"N" help:"Print the last N lines of each log."`
	Bare    bool `name:"no-headers" help:"Don't print a header before each of several logs."`
	Raw     bool `name:"raw" short:"R" help:"With -l, show colours, as less -R does."`
	Gzip    bool `name:"gzip" short:"z" help:"Read the compressed log. Without this flag, a compressed log is found too."`
	Rank    *int `name:"rank" placeholder:"N" help:"Of a job that runs on each of several machines, read the log of the Nth, counted from 0, instead of all."`
	Attempt *int `name:"attempt" placeholder:"N" help:"Read the log of the Nth attempt, counted from 1, instead of the last."`
}

// Run prints the paths of the jobs' logs, or what is in them.
func (c *Log) Run(ctx context.Context, e *cli.Env) error {
	words, err := c.narrow.words(e, c.JID)
	if err != nil {
		return err
	}
	if len(words) == 0 && !c.Running {
		return api.Errorf(api.Usage, "which job's log?").
			WithHint("%s job log JID, or -r for all that run", e.Name)
	}
	if c.Lines < 0 {
		return api.Errorf(api.Usage, "-n %d: a log has no such lines", c.Lines)
	}
	attempt := 0 // the last
	if c.Attempt != nil {
		if attempt = *c.Attempt; attempt < 1 {
			return api.Errorf(api.Usage, "--attempt %d: attempts count from 1", attempt).
				WithHint("without --attempt it is the last one's log")
		}
	}
	if c.Rank != nil && *c.Rank < 0 {
		return api.Errorf(api.Usage, "--rank %d: ranks count from 0", *c.Rank)
	}
	c.Cat = c.Cat || c.Merged && !c.Less && !c.Tail
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	jobs, err := c.jobs(ctx, d, words)
	if err != nil {
		return err
	}
	if c.Tail {
		return followJobs(ctx, e, d, jobs, followOptions{Stderr: c.Error, Merged: c.Merged,
			Attempt: attempt, Rank: c.Rank})
	}
	logs, err := c.logs(jobs, attempt)
	if err != nil {
		return err
	}
	switch {
	case c.Less:
		return c.page(ctx, e, d, logs)
	case c.Cat || c.Lines > 0:
		return c.print(ctx, e, d, logs)
	case e.Structured():
		rows := make([]logRow, len(logs))
		for i, log := range logs {
			rows[i] = logRow{logName: log.name(), Path: c.path(e, log.path)}
		}
		return cli.List(e, rows, pathColumns())
	}
	for _, log := range logs {
		path := c.path(e, log.path)
		if _, err := os.Stat(path); !e.Remote() && errors.Is(err, fs.ErrNotExist) {
			e.Note("%s: there is no file, as nothing was printed: it is made with the first byte",
				log.name())
		}
		if _, err := fmt.Fprintln(e.Stdout, path); err != nil {
			return err
		}
	}
	return nil
}

// jobs are the jobs whose logs are asked for.
func (c *Log) jobs(ctx context.Context, d cli.Daemon, words []string) ([]api.Job, error) {
	if !c.Running {
		return jobsFull(ctx, d, words)
	}
	var jobs []api.Job
	err := eachPage(ctx, d, api.ListJobsArgs{Selectors: words, Running: true, Full: true},
		func(page *api.ListJobsReply) error {
			jobs = append(jobs, page.Jobs...)
			return nil
		})
	if err == nil && len(jobs) == 0 {
		err = api.Errorf(api.NoMatch, "no job runs")
	}
	return jobs, err
}

// logFile is one log: of one stream of an attempt, or of one step of a setup.
type logFile struct {
	jid     uint64
	attempt int
	step    int
	rank    int // of a job that runs on each of several machines, from 1; 0: there is one log
	stderr  bool
	merged  bool   // both streams
	path    string // on the daemon's host
}

// logs are the files of the jobs. A job that has none yet is
// an error: a path that nothing will ever be at helps nobody. Attempt 0 is the last of each.
func (c *Log) logs(jobs []api.Job, wanted int) ([]logFile, error) {
	var logs []logFile
	for _, job := range jobs {
		attempt, path, errPath := job.Attempt, job.Log, job.ErrLog
		if wanted != 0 {
			found := false
			for _, a := range job.Attempts {
				if a.Attempt == wanted {
					attempt, path, errPath, found = a.Attempt, a.Log, a.ErrLog, true
				}
			}
			if !found {
				return nil, api.Errorf(api.NotFound, "job %d has no attempt %d: there were %d",
					job.JID, wanted, job.Attempt)
			}
		}
		switch {
		case job.Setup && len(job.LogFull) > 0 && wanted == 0 && !c.Error:
			for step, path := range job.LogFull {
				logs = append(logs, logFile{jid: job.JID, attempt: attempt, step: step,
					merged: c.Merged, path: path})
			}
			continue
		case c.Error:
			path = errPath
		}
		if path == "" {
			return nil, api.Errorf(api.NotFound,
				"job %d has no log: it is %s, and has never started", job.JID, job.Status).
				WithHint("`jobserver job log -t %d` waits for it, `jobserver job why %d` tells "+
					"why it doesn't start", job.JID, job.JID)
		}
		ranks, err := c.ranks(&job, attempt)
		if err != nil {
			return nil, err
		}
		if ranks == nil {
			ranks = []logFile{{jid: job.JID, attempt: attempt, stderr: c.Error,
				merged: c.Merged, path: path}}
		}
		logs = append(logs, ranks...)
	}
	return logs, nil
}

// ranks are the logs of an attempt that runs on each of several machines, nil of any other.
func (c *Log) ranks(job *api.Job, attempt int) (logs []logFile, err error) {
	for _, a := range job.Attempts {
		for _, r := range a.Ranks {
			if a.Attempt != attempt || !r.Rank.Set || c.Rank != nil && *c.Rank != r.Rank.Value {
				continue
			}
			path := r.Log
			if c.Error {
				path = r.ErrLog
			}
			logs = append(logs, logFile{jid: job.JID, attempt: attempt, rank: r.Rank.Value + 1,
				stderr: c.Error, merged: c.Merged, path: path})
		}
	}
	if len(logs) == 0 && c.Rank != nil {
		return nil, api.Errorf(api.NotFound, "job %d has no rank %d", job.JID, *c.Rank).
			WithHint("`jobserver job show %d` lists its machines", job.JID)
	}
	return logs, nil
}

// path is the log's path, or that of its compressed form where only that is left.
func (c *Log) path(e *cli.Env, path string) string {
	if e.Remote() {
		return path
	}
	if c.Gzip {
		if _, err := os.Stat(joblog.Plain(path) + ".gz"); err == nil {
			return joblog.Plain(path) + ".gz"
		}
	}
	if found, err := joblog.Find(path); err == nil {
		return found
	}
	return path
}

// page shows the logs in less: by their paths where it can read them, else through a pipe.
func (c *Log) page(ctx context.Context, e *cli.Env, d cli.Daemon, logs []logFile) error {
	var args []string
	if c.Raw {
		args = append(args, "-R")
	}
	pager, err := exec.LookPath("less")
	if err != nil {
		return api.Errorf(api.Internal, "open the log: %v", err).
			WithHint("install less, or print the log with %s job log -c", e.Name)
	}
	piped := e.Remote() || c.Merged
	var paths []string
	for _, log := range logs {
		path := c.path(e, log.path)
		_, err := os.Stat(path)
		piped = piped || joblog.Plain(path) != path || errors.Is(err, fs.ErrNotExist)
		paths = append(paths, path)
	}
	if !piped {
		return runPager(e, exec.CommandContext(ctx, pager, append(append(args, "--"), paths...)...),
			nil)
	}
	return runPager(e, exec.CommandContext(ctx, pager, args...), func(w io.Writer) error {
		return catLogs(ctx, e, d, logs, w)
	})
}

// runPager runs less, with what feed writes as its input. A user who leaves it early closes the
// pipe: no error.
func runPager(e *cli.Env, cmd *exec.Cmd, feed func(io.Writer) error) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Raw.Stdout, e.Raw.Stderr
	if feed == nil {
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("open the log in less: %w", err)
		}
		return nil
	}
	cmd.Stdin = nil
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("open the log in less: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("open the log in less: %w", err)
	}
	feedErr := feed(pipe)
	pipe.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("open the log in less: %w", err)
	}
	if feedErr != nil && !cli.IsBrokenPipe(feedErr) {
		return feedErr
	}
	return nil
}

// catLogs writes what is in the logs: read here where the files are, else through the socket.
func catLogs(ctx context.Context, e *cli.Env, d cli.Daemon, logs []logFile, w io.Writer) error {
	for _, log := range logs {
		if err := catLog(ctx, e, d, log, w); err != nil {
			return err
		}
	}
	return nil
}

func catLog(ctx context.Context, e *cli.Env, d cli.Daemon, log logFile, w io.Writer) error {
	if log.merged {
		return catMerged(ctx, e, d, log, w, false)
	}
	if _, err := joblog.Find(log.path); e.Remote() || errors.Is(err, fs.ErrNotExist) {
		return fetchLog(ctx, d, log, w) // the daemon knows whether there should be something
	}
	return copyLog(log, w)
}

// copyLog writes a log's file, compressed or not.
func copyLog(log logFile, w io.Writer) error {
	file, err := joblog.Open(log.path)
	if err != nil {
		return api.Errorf(api.NotFound, "read the log of job %d: %w", log.jid, err).
			WithHint("--keep-logs of `jobserver serve` may have removed it, or somebody else")
	}
	defer file.Close()
	if _, err := io.Copy(w, file.Reader()); err != nil {
		return fmt.Errorf("read the log of job %d: %w", log.jid, err)
	}
	return nil
}

// logChunk is how much of a log one call asks for.
const logChunk = 1 << 20

// fetchLog writes what a log holds by now, through the socket.
func fetchLog(ctx context.Context, d cli.Daemon, log logFile, w io.Writer) error {
	args := api.LogArgs{JID: log.jid, Attempt: log.attempt, Step: log.step, Stderr: log.stderr,
		Rank: log.rank, Max: logChunk}
	for {
		reply, err := cli.Ask[api.LogReply](ctx, d, "JobLog", &args)
		if err != nil {
			return err
		}
		if len(reply.Data) == 0 {
			return nil
		}
		if _, err := w.Write(reply.Data); err != nil {
			return err
		}
		args.Offset += int64(len(reply.Data))
	}
}
