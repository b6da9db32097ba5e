package job

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"jobserver/api"
	"jobserver/cli"
)

// selectors are the arguments of commands that take jobs. The daemon reads them; only "-" is read here.
type selectors struct {
	JID []string `arg:"" name:"JID" sep:"none" predictor:"job" help:"Jobs: 17, 3..9, last, last~2, %93 (a matrix), @nightly (a tag), :failed, class=foo, machine=ADDR, :uncopied; - reads them from stdin."`
}

// connect reaches the daemon, and gives the words to send to it.
// Those of stdin are read first: they may be long in coming.
func (s selectors) connect(ctx context.Context, e *cli.Env) (words []string, d cli.Daemon, err error) {
	if words, err = expandStdin(e, s.JID); err != nil {
		return nil, nil, err
	}
	d, err = e.Connect(ctx)
	return words, d, err
}

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
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	scanner.Split(bufio.ScanWords)
	var words []string
	for scanner.Scan() {
		words = append(words, scanner.Text())
	}
	return words, scanner.Err()
}

// Add is `job add CLASS CMD [CP_PATH]`.
type Add struct {
	Class  string `arg:"" name:"CLASS" predictor:"class" help:"The class of machines that may run it."`
	Cmd    string `arg:"" name:"CMD" help:"The command line, run by a shell on the machine. {NAME} is a variable."`
	CpPath string `arg:"" optional:"" name:"CP_PATH" predictor:"dir" help:"Where the daemon's host keeps its results; relative to this directory."`

	CodeFlag
	Times       int           `name:"times" short:"x" default:"1" placeholder:"N" help:"Submit it N times."`
	Retry       bool          `name:"retry" help:"Run it again when it fails, until it succeeds."`
	MaxFailures *int          `name:"max-failures" placeholder:"N" help:"Run it again when it fails, N times at most; -1 is without limit."`
	Timeout     cli.Minutes   `name:"timeout" placeholder:"DURATION" help:"Fail it when it runs longer: minutes, or 30s, 2h30m, 1d."`
	Tag         string        `name:"tag" placeholder:"TAG" predictor:"tag" help:"Put it under a tag, by id or name; a new name makes the tag."`
	Notify      bool          `name:"notify" help:"Tell when it has ended."`
	Hold        bool          `name:"hold" help:"Submit it held: 'job unhold' lets it start."`
	Priority    int           `name:"priority" placeholder:"N" help:"Higher ones of a class start first; 0 by default."`
	Env         cli.Variables `name:"env" placeholder:"NAME=VALUE" help:"Set a variable of its environment. May be repeated."`
	Flat        bool          `name:"flat" help:"Put the results straight into CP_PATH, not into CP_PATH/JID."`
	MaxLog      cli.Size      `name:"max-log" placeholder:"SIZE" help:"Keep at most this much of each of its streams, as 500M."`
	Follow      bool          `name:"follow" xor:"then" help:"Then follow its log until it ends, and exit with its code."`
	Wait        bool          `name:"wait" xor:"then" help:"Then wait until it has ended, and exit with its code."`
}

// Run submits the job.
func (c *Add) Run(ctx context.Context, e *cli.Env) error {
	dir, err := e.WorkDir()
	if err != nil {
		return err
	}
	if c.Times < 1 {
		return api.Errorf(api.Usage, "-x %d: a job is submitted once or more", c.Times)
	}
	spec := api.JobSpec{
		Class: c.Class, Cmd: c.Cmd, CpPath: c.CpPath, Dir: dir, Repeat: c.Times,
		MaxFailures: Retries(c.Retry, c.MaxFailures, 0), Timeout: c.Timeout.Duration,
		Tag: c.Tag, Notify: c.Notify, Hold: c.Hold, Priority: c.Priority,
		Env: c.Env, Flat: c.Flat, MaxLog: int64(c.MaxLog),
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if spec.Code, err = PinCode(ctx, e, d, CodeSource{Dir: c.Code, Apart: []string{spec.CpPath}}); err != nil {
		return err
	}
	reply, err := cli.Ask[api.AddJobsReply](ctx, d, "AddJobs", &api.AddJobsArgs{Jobs: []api.JobSpec{spec}})
	if err != nil {
		return err
	}
	e.Warn(reply.Warnings)
	// With --follow the log is the data, and only bare ids may stand before it.
	if !c.Follow && !c.Wait || e.ForScripts() && !(c.Follow && e.Structured()) {
		if err := e.PrintIDs(reply.JIDs); err != nil {
			return err
		}
	}
	if !c.Follow && !c.Wait {
		return nil
	}
	return c.attend(ctx, e, d, reply.JIDs)
}

// attend stays with the new jobs until they have ended, or somebody has enough of it.
func (c *Add) attend(ctx context.Context, e *cli.Env, d cli.Daemon, jids []uint64) error {
	e.Note("%s", jobWord(jids))
	err := c.followOrWait(ctx, e, d, jids)
	if ctx.Err() != nil {
		goes, them := "goes", "it"
		if len(jids) > 1 {
			goes, them = "go", "them"
		}
		e.Note("%s %s on; `%s rm %s` cancels %s", jobWord(jids), goes, e.Name, idRange(jids), them)
	}
	return err
}

func (c *Add) followOrWait(ctx context.Context, e *cli.Env, d cli.Daemon, jids []uint64) error {
	ids := make([]string, len(jids))
	jobs := make([]api.Job, len(jids))
	for i, id := range jids {
		ids[i], jobs[i].JID = fmt.Sprint(id), id
	}
	if c.Follow {
		if err := followJobs(ctx, e, d, jobs, followOptions{Both: true}); err != nil {
			return err
		}
	}
	return waitFor(ctx, e, d, ids, 0)
}

// Retries is the number of times that a job may be run again.
func Retries(retry bool, maxFailures *int, otherwise int) int {
	switch {
	case maxFailures != nil:
		return max(*maxFailures, -1)
	case retry:
		return -1
	}
	return otherwise
}

// jobWord is "job 17" or "jobs 17..19".
func jobWord(ids []uint64) string {
	if len(ids) == 1 {
		return "job " + idRange(ids)
	}
	return "jobs " + idRange(ids)
}

// idRange selects new jobs, whose ids follow each other.
func idRange(ids []uint64) string {
	if len(ids) == 1 {
		return fmt.Sprint(ids[0])
	}
	return fmt.Sprintf("%d..%d", ids[0], ids[len(ids)-1])
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

// eachPage lists jobs page by page. The daemon makes the next one while page looks at the one before.
func eachPage(ctx context.Context, d cli.Daemon, args api.ListJobsArgs, page func(*api.ListJobsReply) error) error {
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
