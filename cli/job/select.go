package job

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/userfile"
	"jobserver/view"
)

// selectors are the arguments of commands that take jobs. The daemon reads them; "-" and times are
// read here.
type selectors struct {
	JID []string `arg:"" name:"JID" sep:"none" predictor:"job" help:"Jobs: 17, 3..9, last, last~2, %93 (a matrix), %93,LR=0.1 (some of its cells), @nightly (a tag), :failed, :uncopied, class=foo, machine=ADDR; - reads them from stdin."`
	narrow
}

// narrow are the flags that narrow the jobs that the words of a command select.
type narrow struct {
	Since string `name:"since" placeholder:"TIME" help:"Only jobs that ended since then, or haven't ended: 2h, 3d, 14:30, 2026-11-30 or 2026-11-30T14:30."`
	Where string `name:"where" sep:"none" placeholder:"CONDITION" help:"Only jobs of matrices for whose variables this holds, such as 'LR<0.1 && MODE!=slow'."`
}

// connect reaches the daemon, and gives the words to send to it.
// Those of stdin are read first: they may be long in coming.
func (s selectors) connect(
	ctx context.Context, e *cli.Env,
) (words []string, d cli.Daemon, err error) {
	if words, err = s.narrow.words(e, s.JID); err != nil {
		return nil, nil, err
	}
	d, err = e.Connect(ctx)
	return words, d, err
}

// words are the selectors to send: with those of stdin in the place of "-", times as the daemon
// takes them, and the flags as words.
func (n narrow) words(e *cli.Env, words []string) ([]string, error) {
	expanded, err := expandStdin(e, words)
	if err != nil {
		return nil, err
	}
	if n.Since != "" {
		expanded = append(expanded, sinceWord+n.Since)
	}
	for i, word := range expanded {
		text, ok := strings.CutPrefix(word, sinceWord)
		if !ok {
			continue
		}
		at, err := view.ParsePast(text, e.Now())
		if err != nil {
			return nil, api.Errorf(api.Usage, "since %s: %v", text, err).
				WithHint("write 2h, 3d, 14:30, 2026-11-30 or 2026-11-30T14:30")
		}
		expanded[i] = sinceWord + at.Format(time.RFC3339)
	}
	if n.Where != "" {
		expanded = append(expanded, api.WhereWord+n.Where)
	}
	return expanded, nil
}

// sinceWord begins a word that narrows the others to what has ended since a time.
const sinceWord = "since="

// expandStdin puts the words of stdin in the place of "-".
func expandStdin(e *cli.Env, words []string) ([]string, error) {
	var out []string
	for _, word := range words {
		if word != "-" {
			out = append(out, word)
			continue
		}
		read, err := readWords(e.Stdin)
		if err != nil {
			return nil, fmt.Errorf("read job selectors from stdin: %w", err)
		}
		out = append(out, read...)
	}
	if len(out) == 0 && len(words) > 0 {
		return nil, api.Errorf(api.NoMatch, "stdin names no job")
	}
	return out, nil
}

// readWords reads words with any white space between them.
func readWords(r io.Reader) ([]string, error) {
	text, err := io.ReadAll(r)
	return strings.Fields(string(userfile.Text(text))), err
}

// jobsFull are the jobs that the selectors match, with all that is known of them, in order of id.
func jobsFull(ctx context.Context, d cli.Daemon, words []string) ([]api.Job, error) {
	var jobs []api.Job
	args := api.ListJobsArgs{Selectors: words, Full: true}
	err := eachPage(ctx, d, args, func(page *api.ListJobsReply) error {
		jobs = append(jobs, page.Jobs...)
		return nil
	})
	if err == nil && len(jobs) == 0 {
		err = api.Errorf(api.NoMatch, "no job matches %s", shorten(words))
	}
	return jobs, err
}

// eachPage lists jobs page by page. The daemon makes the next one while page looks at the one
// before.
func eachPage(
	ctx context.Context, d cli.Daemon, args api.ListJobsArgs, page func(*api.ListJobsReply) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reply, err := cli.Ask[api.ListJobsReply](ctx, d, "ListJobs", &args)
	for err == nil && reply.Next != 0 {
		args.After = reply.Next
		var next *api.ListJobsReply
		var ahead errgroup.Group
		ahead.Go(func() (err error) {
			next, err = cli.Ask[api.ListJobsReply](ctx, d, "ListJobs", &args)
			return err
		})
		if err := page(reply); err != nil {
			cancel()
			_ = ahead.Wait() // nobody wants it any more
			return err
		}
		err = ahead.Wait()
		reply = next
	}
	if err != nil {
		return err
	}
	return page(reply)
}

// shorten names selectors in a message: there may be 100,000 of them.
func shorten(words []string) string {
	if len(words) <= 4 {
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("%s … (%d in all)", strings.Join(words[:3], " "), len(words))
}
