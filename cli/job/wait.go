package job

import (
	"context"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// Wait is `job wait JID…`.
type Wait struct {
	selectors
	Timeout cli.Minutes `name:"timeout" placeholder:"DURATION" help:"Give up after this long, with exit code 124."`
	Any     bool        `name:"any" help:"Wait until one of them has ended: print its id, and exit with its exit code."`
	Status  string      `name:"status" placeholder:"STATUS" suggest:"running,paused,copying,done,held" help:"Wait until they have come to this status instead of their end: running, paused, copying, done, …"`
}

// Run waits until all the jobs have ended.
func (c *Wait) Run(ctx context.Context, e *cli.Env) error {
	words, d, err := c.connect(ctx, e)
	if err != nil {
		return err
	}
	defer d.Close()
	if c.Status == "" { // else what has ended may have come to it before
		if words, err = unfinished(ctx, d, words); err != nil {
			return err
		}
	}
	if len(words) == 0 {
		e.Note("all of them have ended: there is nothing to wait for")
		return nil
	}
	return waitFor(ctx, e, d, words, waitOptions{c.Timeout.Duration, c.Any, c.Status})
}

// waitOptions say how long is waited, and for what.
type waitOptions struct {
	limit time.Duration // 0: without end
	any   bool          // one of the jobs is enough
	until string        // the status that they are to come to; "" : their end
}

// partly tells whether it isn't the end of all jobs that is waited for.
func (o *waitOptions) partly() bool { return o.any || o.until != "" }

// unfinished puts the jobs that haven't ended in the place of words that name no particular jobs,
// such as class=gpu: those that ended long ago are none of a wait's business, and neither are those
// that are submitted while it lasts. Jobs, matrices and tags that are named stay as they are.
func unfinished(ctx context.Context, d cli.Daemon, words []string) ([]string, error) {
	narrowed := slices.ContainsFunc(words, func(word string) bool {
		return strings.HasPrefix(word, sinceWord) || strings.HasPrefix(word, api.WhereWord)
	})
	var named, open []string
	for _, word := range words {
		particular := !strings.HasPrefix(word, "class=") && !strings.HasPrefix(word, "machine=") &&
			!strings.HasPrefix(word, "status=") && !strings.HasPrefix(word, ":")
		if particular && !narrowed {
			named = append(named, word)
		} else {
			open = append(open, word)
		}
	}
	if len(open) == 0 {
		return words, nil
	}
	var ids []uint64
	args := api.ListJobsArgs{Selectors: open}
	err := eachPage(ctx, d, args, func(page *api.ListJobsReply) error {
		for i := range page.Jobs {
			switch page.Jobs[i].Status {
			case api.StatusWaiting, api.StatusHeld, api.StatusRunning, api.StatusCopying:
				ids = append(ids, page.Jobs[i].JID)
			}
		}
		return nil
	})
	return append(named, ranges(ids)...), err
}

// ranges are ascending ids as selectors: 3..9 and 11.
func ranges(ids []uint64) []string {
	var words []string
	for i := 0; i < len(ids); {
		j := i + 1
		for j < len(ids) && ids[j] == ids[j-1]+1 {
			j++
		}
		words = append(words, idRange(ids[i:j]))
		i = j
	}
	return words
}

// waitFor waits until the jobs that the words select have ended, and then ends as the contract of
// the exit codes has it: one job's own code, or 1 if any of several failed. A bar on a terminal
// shows how far they are.
func waitFor(
	ctx context.Context, e *cli.Env, d cli.Daemon, words []string, o waitOptions,
) error {
	var deadline time.Time
	if o.limit > 0 {
		deadline = e.Now().Add(o.limit)
	}
	progress := show.NewProgress(e)
	defer progress.Clear()
	var cursor uint64
	blocked := blockedNote{env: e, progress: progress}
	for {
		wait := min(cli.WaitPoll, blocked.patience())
		if !deadline.IsZero() {
			wait = min(wait, max(deadline.Sub(e.Now()), 0))
		}
		reply, err := cli.Ask[api.WaitReply](ctx, d, "Wait",
			&api.WaitArgs{Selectors: words, Wait: wait, Cursor: cursor, Any: o.any, Until: o.until})
		if err != nil {
			return err
		}
		if o.partly() && !reply.Knows {
			return api.Errorf(api.Incompatible, "the daemon is of an older version, and can only "+
				"wait for the end of all jobs").WithHint("start it again with this version")
		}
		cursor = reply.Cursor
		progress.Left = reply.Left
		progress.Show(reply.Counts)
		blocked.look(reply.Blocked)
		switch {
		case reply.Done:
			progress.Clear()
			if o.partly() {
				return partResult(e, reply, o)
			}
			return waitResult(e, words, reply)
		case reply.Stuck:
			progress.Clear()
			return api.Errorf(api.Conflict, "wait: %s can't start: %s",
				view.Counted(reply.Counts.Unfinished(), "job"), reply.Blocked)
		case !deadline.IsZero() && !e.Now().Before(deadline):
			progress.Clear()
			err := api.Errorf(api.Timeout, "wait: %d of %d jobs have not ended after %s",
				reply.Counts.Unfinished(), reply.Total, o.limit)
			if o.until != "" {
				err = api.Errorf(api.Timeout, "wait: %d of %d jobs are not %s after %s",
					reply.Total-reply.Reached, reply.Total, o.until, o.limit)
			}
			if reply.Blocked != "" {
				return err.WithHint("nothing runs; %s", reply.Blocked)
			}
			if reply.Left != nil {
				return err.WithHint("as far as the cells that are done tell, they need %s more",
					show.LeftText(reply.Left))
			}
			return err
		}
	}
}

// blockedAfter is how long nothing has to run before somebody who waits is told why: a machine that
// is just being connected is no news.
const blockedAfter = 3 * time.Second

// blockedNote tells once, for each reason, why nothing runs of what is waited for.
type blockedNote struct {
	env      *cli.Env
	progress *show.Progress
	why      string
	since    time.Time
	told     bool
	looked   bool
}

// patience is how long to wait before looking again whether still nothing runs.
func (b *blockedNote) patience() time.Duration {
	if !b.looked {
		return 0 // where nothing happens, no answer would come
	}
	if b.why == "" || b.told {
		return cli.WaitPoll
	}
	return max(blockedAfter-b.env.Now().Sub(b.since), 10*time.Millisecond)
}

func (b *blockedNote) look(why string) {
	b.looked = true
	switch {
	case why != b.why:
		b.why, b.since, b.told = why, b.env.Now(), false
	case why != "" && !b.told && b.env.Now().Sub(b.since) >= blockedAfter:
		b.told = true
		b.progress.Clear()
		b.env.Note("nothing runs; %s", view.Clean(why))
	}
}

// partResult ends a wait for one of the jobs, or for another status than their end.
func partResult(e *cli.Env, reply *api.WaitReply, o waitOptions) error {
	if reply.Error != "" {
		e.Note("job %d: %s", reply.JID, view.Clean(reply.Error))
	}
	if reply.Never {
		return cli.ExitStatus(cli.ExitFailed)
	}
	if o.any {
		if err := e.PrintIDs([]uint64{reply.JID}); err != nil {
			return err
		}
	}
	if reply.ExitCode != 0 {
		return cli.ExitStatus(reply.ExitCode)
	}
	return nil
}

// waitResult turns what became of the jobs into the command's end. Results that were not copied
// fail no job, as the copy can be tried again; but who waits for them hasn't got them.
func waitResult(e *cli.Env, words []string, reply *api.WaitReply) error {
	if reply.Total == 1 {
		if reply.Error != "" {
			e.Note("job %d: %s", reply.JID, view.Clean(reply.Error))
		}
		if reply.ExitCode == 0 {
			return nil
		}
		return cli.ExitStatus(reply.ExitCode)
	}
	c := reply.Counts
	if c.Uncopied > 0 {
		which := view.Clean(uncopiedOf(words))
		e.Note("the results of %s were not copied, or not all: `%s why %s` says why, `%s ls %s` "+
			"lists all "+
			"that are still to be copied", view.Counted(c.Uncopied, "job"), e.Name, which, e.Name,
			which)
	}
	if bad := c.Failed + c.Canceled + c.Lost; bad > 0 && reply.ExitCode != 0 {
		e.Note("%d of %d jobs did not succeed: %d failed, %d canceled, %d lost", bad, reply.Total,
			c.Failed, c.Canceled, c.Lost)
	}
	if reply.ExitCode != 0 {
		return cli.ExitStatus(cli.ExitFailed)
	}
	return nil
}

// uncopiedOf selects those whose results were not copied, of the jobs that the words select.
func uncopiedOf(words []string) string {
	const filter = ":uncopied"
	if len(words) > 3 { // of jobs one by one
		return filter
	}
	which := make([]string, len(words))
	for i, word := range words {
		which[i] = strings.TrimSuffix(word, filter) + filter
	}
	return strings.Join(which, " ")
}
