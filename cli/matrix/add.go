package matrix

import (
	"context"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
)

// defaultRetries is how often a matrix's job is run again by default.
const defaultRetries = 3

// Add is `matrix add CLASS CMD CP_PATH KEY=V1,V2…`.
type Add struct {
	Class  string   `arg:"" name:"CLASS" predictor:"class" help:"The class of machines to run it on."`
	Cmd    string   `arg:"" name:"CMD" help:"The command line, in which {KEY} stands for a value."`
	CpPath string   `arg:"" name:"CP_PATH" predictor:"dir" onhost:"" help:"Where to keep the results on the daemon's host; may contain {KEY}."`
	Vars   []string `arg:"" name:"KEY=V1,V2" sep:"none" help:"A variable and its values: texts, ranges (1..8, 1..64*2, 0.1..0.5/5) or @FILE for the lines of a file. Write \\, or use quotes for a comma in a value."`

	gridFlags
	job.CodeFlag
	job.ShapeFlags
	job.PlaceFlags
	job.AfterFlags
	job.InputFlags
	job.LimitFlags
	job.FailsFlags
	AfterCell   string        `name:"after-cell" placeholder:"MATRIX" predictor:"matrix" help:"Start each cell when the matching cells of this matrix are done: those with the same values of the variables that both have, and the same repeat."`
	Times       int           `name:"times" short:"x" default:"1" placeholder:"N" help:"Run each combination N times."`
	Timeout     cli.Minutes   `name:"timeout" placeholder:"DURATION" help:"Fail a job that runs longer than this: minutes, or 30s, 2h30m, 1d."`
	MaxFailures *int          `name:"max-failures" placeholder:"N" help:"Retry a failed job at most N times (3 by default; -1 for no limit)."`
	Notify      bool          `name:"notify" help:"Notify when it ends."`
	Name        string        `name:"name" placeholder:"NAME" help:"Name the matrix. If one of this name exists, only the cells it lacks, and those that failed or were lost, are run."`
	Tag         string        `name:"tag" placeholder:"TAG" predictor:"tag" help:"Put the jobs under a tag, by id or name; a new name creates the tag."`
	Hold        bool          `name:"hold" help:"Submit the matrix held; 'matrix unhold' releases it."`
	Priority    int           `name:"priority" placeholder:"N" help:"Jobs with a higher priority start first within a class (0 by default)."`
	Env         cli.Variables `name:"env" placeholder:"NAME=VALUE" help:"Set an environment variable of the jobs; {NAME} in the value is a variable (repeatable)."`
	SecretEnv   []string      `name:"secret-env" sep:"none" placeholder:"NAME" help:"Pass on a secret: the variable NAME ('var set NAME --secret'), or NAME of your environment. It is never shown (repeatable)."`
	Flat        bool          `name:"flat" help:"Put results straight into CP_PATH instead of CP_PATH/JID."`
	MaxLog      cli.Size      `name:"max-log" placeholder:"SIZE" help:"Keep at most this much of each job's stdout and stderr, such as 500M: the beginning, and the end."`
	Metrics     string        `name:"metrics" placeholder:"FILE" help:"A file (CSV or JSON) in each job's results from which 'matrix table' and 'plot' read its numbers."`
	DryRun      bool          `name:"dry-run" help:"Show what would be submitted, without submitting it."`
}

// Run submits the matrix.
func (c *Add) Run(ctx context.Context, e *cli.Env) error {
	if c.DryRun {
		if err := e.ForPeople("matrix add --dry-run", "without -q and -o it prints the first "+
			"commands, as they would run"); err != nil {
			return err
		}
	}
	dir, err := e.WorkDir()
	if err != nil {
		return err
	}
	if c.Times < 1 {
		return api.Errorf(api.Usage, "-x %d: a combination is run once or more", c.Times)
	}
	if err := checkPath(c.CpPath); err != nil {
		return err
	}
	job.WarnOfArgument(e, "matrix add "+c.Class, c.Cmd, c.CpPath, dir)
	spec, err := c.spec(c.Vars, c.Times, localFiles(e, dir))
	if err != nil {
		return api.Wrap(api.Usage, err)
	}
	m, warnings, err := matrixOfGrid(spec)
	if err != nil {
		return err
	}
	e.Warn(warnings)
	m.Name, m.Metrics = c.Name, c.Metrics
	m.Job = api.JobSpec{
		Class: c.Class, Cmd: c.Cmd, CpPath: e.HostPath(c.CpPath), Dir: dir, Repeat: m.Job.Repeat,
		MaxFailures: job.Retries(false, c.MaxFailures, defaultRetries), Timeout: c.Timeout.Duration,
		Tag: c.Tag, Notify: c.Notify, Hold: c.Hold, Priority: c.Priority,
		Env: c.Env, SecretEnv: e.SecretEnv(c.SecretEnv), Flat: c.Flat, MaxLog: int64(c.MaxLog),
	}
	c.ShapeFlags.Put(&m.Job)
	c.AfterFlags.Put(&m.Job)
	c.InputFlags.Put(e, &m.Job)
	if err := c.LimitFlags.Put(&m.Job, e.Now()); err != nil {
		return err
	}
	if m.MaxFails, m.CancelRest, err = c.FailsFlags.Read(); err != nil {
		return err
	}
	m.Job.After.Cells = c.AfterCell
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if m.Job.Code, err = job.PinCode(ctx, e, d,
		job.CodeSource{Dir: c.Code, Apart: []string{c.CpPath}, Dry: c.DryRun}); err != nil {
		return err
	}
	if err := c.PlaceFlags.Put(ctx, e, d, &m.Job, c.DryRun); err != nil {
		return err
	}
	return submitMatrix(ctx, e, d,
		&api.AddMatrixArgs{Matrix: m, DryRun: c.DryRun, Again: c.Name != ""})
}
