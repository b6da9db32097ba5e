package job

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"jobserver/api"
	"jobserver/cli"
)

// Add is `job add CLASS CMD [CP_PATH]`.
type Add struct {
	Class  string `arg:"" name:"CLASS" predictor:"class" help:"The class of machines to run it on."`
	Cmd    string `arg:"" name:"CMD" help:"The command line, which a shell on the machine runs. {NAME} stands for a variable."`
	CpPath string `arg:"" optional:"" name:"CP_PATH" predictor:"dir" onhost:"" help:"Where to keep its results on the daemon's host, relative to this directory."`

	CodeFlag
	ShapeFlags
	PlaceFlags
	AfterFlags
	InputFlags
	LimitFlags
	FailsFlags
	Times       int           `name:"times" short:"x" default:"1" placeholder:"N" help:"Submit the job N times."`
	Retry       bool          `name:"retry" help:"Retry the job until it succeeds."`
	MaxFailures *int          `name:"max-failures" placeholder:"N" help:"Retry the job at most N times if it fails; -1 for no limit."`
	Timeout     cli.Minutes   `name:"timeout" placeholder:"DURATION" help:"Fail the job if it runs longer than this: minutes, or 30s, 2h30m, 1d."`
	Tag         string        `name:"tag" placeholder:"TAG" predictor:"tag" help:"Put the job under a tag, by id or name; a new name creates the tag."`
	Notify      bool          `name:"notify" help:"Notify when it ends."`
	Hold        bool          `name:"hold" help:"Submit the job held; 'job unhold' releases it."`
	Priority    int           `name:"priority" placeholder:"N" help:"Jobs with a higher priority start first within a class (0 by default)."`
	Env         cli.Variables `name:"env" placeholder:"NAME=VALUE" help:"Set an environment variable of the job; {NAME} in the value is a variable (repeatable)."`
	SecretEnv   []string      `name:"secret-env" sep:"none" placeholder:"NAME" help:"Pass on a secret: the variable NAME ('var set NAME --secret'), or NAME of your environment. It is never shown (repeatable)."`
	Flat        bool          `name:"flat" help:"Put results straight into CP_PATH instead of CP_PATH/JID."`
	MaxLog      cli.Size      `name:"max-log" placeholder:"SIZE" help:"Keep at most this much of its stdout and of its stderr, such as 500M: the beginning, and the end."`
	Follow      bool          `name:"follow" xor:"then" help:"Follow the log until the job ends, and exit with its exit code."`
	Wait        bool          `name:"wait" xor:"then" help:"Wait until the job has ended, and exit with its exit code."`
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
		Class: c.Class, Cmd: c.Cmd, CpPath: e.HostPath(c.CpPath), Dir: dir, Repeat: c.Times,
		MaxFailures: Retries(c.Retry, c.MaxFailures, 0), Timeout: c.Timeout.Duration,
		Tag: c.Tag, Notify: c.Notify, Hold: c.Hold, Priority: c.Priority,
		Env: c.Env, SecretEnv: e.SecretEnv(c.SecretEnv), Flat: c.Flat, MaxLog: int64(c.MaxLog),
	}
	c.ShapeFlags.Put(&spec)
	c.AfterFlags.Put(&spec)
	c.InputFlags.Put(e, &spec)
	if err := c.LimitFlags.Put(&spec, e.Now()); err != nil {
		return err
	}
	if spec.MaxFails, spec.CancelRest, err = c.FailsFlags.Read(); err != nil {
		return err
	}
	WarnOfArgument(e, "add "+c.Class, c.Cmd, c.CpPath, dir)
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if spec.Code, err = PinCode(ctx, e, d,
		CodeSource{Dir: c.Code, Apart: []string{spec.CpPath}}); err != nil {
		return err
	}
	if err := c.PlaceFlags.Put(ctx, e, d, &spec, false); err != nil {
		return err
	}
	reply, err := cli.Ask[api.AddJobsReply](ctx, d, "AddJobs",
		&api.AddJobsArgs{Jobs: []api.JobSpec{spec}})
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

// WarnOfArgument warns of a CP_PATH that is more likely a word of the command before it, which
// wants quotes, or that nobody puts a variable of the shell's into.
func WarnOfArgument(e *cli.Env, as, cmd, path, dir string) {
	switch {
	case looksLikeArgument(cmd, path, dir):
		e.Warn([]string{fmt.Sprintf("the command is only %q, and its results go to %s: "+
			"did you mean %s %s '%s %s'?", cmd, path, e.Name, as, cmd, path)})
	case strings.HasPrefix(path, "$"):
		e.Warn([]string{fmt.Sprintf("the results go to ./%s: no shell puts %s in there; ~ is the "+
			"home directory, {NAME} a variable", path, strings.SplitN(path, "/", 2)[0])})
	}
}

// looksLikeArgument tells whether a CP_PATH is more likely a word of a command that wants quotes:
// the command is one word, and the path neither has a slash nor is there.
func looksLikeArgument(cmd, path, dir string) bool {
	if path == "" || strings.ContainsAny(path, "/{~") ||
		strings.ContainsAny(strings.TrimSpace(cmd), " \t\n/") {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, path))
	return err != nil
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
	return waitFor(ctx, e, d, ids, waitOptions{})
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
