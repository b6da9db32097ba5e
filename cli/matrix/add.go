package matrix

import (
	"context"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
	"jobserver/cli/show"
	"jobserver/view"
)

// defaultRetries is how often a matrix's job is run again by default.
const defaultRetries = 3

// Add is `matrix add CLASS CMD CP_PATH KEY=V1,V2…`.
type Add struct {
	Class  string   `arg:"" name:"CLASS" predictor:"class" help:"The class of machines that may run it."`
	Cmd    string   `arg:"" name:"CMD" help:"The command line, with {KEY} for the values."`
	CpPath string   `arg:"" name:"CP_PATH" predictor:"dir" help:"Where the daemon's host keeps the results; may have {KEY}s, too."`
	Vars   []string `arg:"" name:"KEY=V1,V2" sep:"none" help:"A variable and its values: texts, ranges (1..8, 1..64*2, 0.1..0.5/5), @FILE for its lines; \\, or quotes for a comma in a value."`

	sweepFlags
	job.CodeFlag
	Times       int           `name:"times" short:"x" default:"1" placeholder:"N" help:"Run each combination N times."`
	Timeout     cli.Minutes   `name:"timeout" placeholder:"DURATION" help:"Fail a job when it runs longer: minutes, or 30s, 2h30m, 1d."`
	MaxFailures *int          `name:"max-failures" placeholder:"N" help:"Run a failed job again, N times at most: 3 by default, -1 is without limit."`
	Notify      bool          `name:"notify" help:"Tell when it has ended."`
	Name        string        `name:"name" placeholder:"NAME" help:"A name for it. When a matrix of this name is there, only cells run that it lacks, or that failed or were lost."`
	Tag         string        `name:"tag" placeholder:"TAG" predictor:"tag" help:"Put its jobs under a tag, by id or name; a new name makes the tag."`
	Hold        bool          `name:"hold" help:"Submit it held: 'matrix unhold' lets it start."`
	Priority    int           `name:"priority" placeholder:"N" help:"Higher ones of a class start first; 0 by default."`
	Env         cli.Variables `name:"env" placeholder:"NAME=VALUE" help:"Set a variable of the jobs' environment. May be repeated."`
	Flat        bool          `name:"flat" help:"Put the results straight into CP_PATH, not into CP_PATH/JID."`
	MaxLog      cli.Size      `name:"max-log" placeholder:"SIZE" help:"Keep at most this much of each stream of a job, as 500M."`
	Metrics     string        `name:"metrics" placeholder:"FILE" help:"The jobs leave their numbers in this file among their results, CSV or JSON: 'matrix table' and 'plot' take them from there."`
	DryRun      bool          `name:"dry-run" help:"Show what would be submitted, and submit nothing."`
}

// Run submits the matrix.
func (c *Add) Run(ctx context.Context, e *cli.Env) error {
	if c.DryRun {
		if err := e.ForPeople("matrix add --dry-run", "without -q and -o it prints the first commands, as they would run"); err != nil {
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
	sweep, err := c.spec(c.Vars, c.Times, localFiles(dir))
	if err != nil {
		return api.Wrap(api.Usage, err)
	}
	m, warnings, err := matrixOfGrid(sweep)
	if err != nil {
		return err
	}
	e.Warn(warnings)
	m.Name, m.Metrics = c.Name, c.Metrics
	m.Job = api.JobSpec{
		Class: c.Class, Cmd: c.Cmd, CpPath: c.CpPath, Dir: dir, Repeat: m.Job.Repeat,
		MaxFailures: job.Retries(false, c.MaxFailures, defaultRetries), Timeout: c.Timeout.Duration,
		Tag: c.Tag, Notify: c.Notify, Hold: c.Hold, Priority: c.Priority,
		Env: c.Env, Flat: c.Flat, MaxLog: int64(c.MaxLog),
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if m.Job.Code, err = job.PinCode(ctx, e, d, job.CodeSource{Dir: c.Code, Apart: []string{c.CpPath}, Dry: c.DryRun}); err != nil {
		return err
	}
	return submitMatrix(ctx, e, d, &api.AddMatrixArgs{Matrix: m, DryRun: c.DryRun, Again: c.Name != ""})
}

// newMatrix is a matrix that was submitted, as `matrix add` prints it.
type newMatrix struct {
	ID       uint64      `json:"id"`
	FirstJID uint64      `json:"first_jid"`
	Cells    int         `json:"cells"`
	Growth   *api.Growth `json:"growth,omitempty"` // when the matrix was there
}

func printMatrixID(e *cli.Env, reply *api.AddMatrixReply) error {
	if e.Structured() {
		return cli.List(e, []newMatrix{{reply.ID, reply.FirstJID, reply.Cells, reply.Growth}}, newMatrixColumns())
	}
	if e.Told() {
		return nil
	}
	_, err := fmt.Fprintln(e.Stdout, reply.ID)
	return err
}

// printSample shows what a dry run would submit.
func printSample(e *cli.Env, reply *api.AddMatrixReply) error {
	for _, cmd := range reply.Sample {
		if _, err := fmt.Fprintln(e.Stdout, view.Clean(cmd)); err != nil {
			return err
		}
	}
	if more := reply.Cells - len(reply.Sample); more > 0 {
		fmt.Fprintf(e.Stdout, "… and %d more\n", more)
	}
	if reply.Growth != nil {
		e.Note("%s of matrix %d would be submitted: %s", view.Counted(reply.Cells, "job"), reply.ID, growthText(reply.Growth))
		return nil
	}
	e.Note("%s would be submitted", view.Counted(reply.Cells, "job"))
	return nil
}

// Ls is `matrix ls [ID]`.
type Ls struct {
	Matrix string `arg:"" optional:"" name:"ID" predictor:"matrix" help:"One matrix, by id or name: with its jobs. In -o csv and -o id it is the matrix alone; 'job ls %ID' has the jobs."`
}

// Run lists the matrices.
func (c *Ls) Run(ctx context.Context, e *cli.Env) error {
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	id, name := cli.IdOrName(c.Matrix)
	reply, err := cli.Ask[api.ListMatricesReply](ctx, d, "ListMatrices", &api.ListMatricesArgs{ID: id, Name: name})
	if err != nil {
		return err
	}
	if c.Matrix != "" && len(reply.Matrices) == 0 {
		return api.Errorf(api.NotFound, "there is no matrix %s", c.Matrix)
	}
	if c.Matrix == "" || e.ForScripts() {
		return cli.List(e, reply.Matrices, show.MatrixColumns(e))
	}
	return writeMatrix(e, &reply.Matrices[0])
}

// writeMatrix prints one matrix with its jobs.
func writeMatrix(e *cli.Env, m *api.Matrix) error {
	out := show.Fields{W: e.Stdout, Width: 12}
	out.Add(fmt.Sprintf("matrix %d", m.ID), cli.FirstNonEmpty(m.Name, m.Class))
	out.Add("class", m.Class)
	out.Add("command", m.Cmd)
	for _, axis := range m.Vars {
		out.Add(axis.Name, strings.Join(axis.Values, ", "))
	}
	out.Add("repeats", show.NumberText(m.Repeats))
	out.Add("results in", m.CpPath)
	out.Add("metrics in", m.Metrics)
	out.Add("time left", show.LeftText(m.Left))
	if m.Held {
		out.Join("held", cli.FirstNonEmpty(m.HeldWhy, "yes"))
	}
	fmt.Fprintln(e.Stdout)
	return show.WriteListing(e.Stdout, e, &show.Listing{Jobs: m.Jobs, Counts: m.Counts})
}

// named names the matrix that a command is about.
type named struct {
	Matrix string `arg:"" name:"ID" predictor:"matrix" help:"The matrix, by id or name."`
}

// toChange is the matrix that a command changes.
type toChange struct {
	named
	cli.ChangeFlags
}

type Cancel struct{ toChange }

// Run cancels what is left.
func (c *Cancel) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixCancel})
}

type Rm struct{ toChange }

// Run forgets the matrix.
func (c *Rm) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixForget})
}

type Hold struct{ toChange }

// Run holds the matrix.
func (c *Hold) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixHold})
}

type Unhold struct{ toChange }

// Run lets the matrix start.
func (c *Unhold) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixUnhold})
}

type Rerun struct {
	toChange
	Failed bool   `name:"failed" xor:"which" help:"Only the cells that failed or were lost."`
	Lost   bool   `name:"lost" xor:"which" help:"Only the cells that were lost."`
	All    bool   `name:"all" xor:"which" help:"All cells that have ended, which is the default."`
	Where  string `name:"where" placeholder:"CONDITION" help:"Of these only the cells for which this holds, as 'A<B' or 'MODE!=slow && REPEAT==0'."`
}

// Run runs cells again.
func (c *Rerun) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixRerun, Failed: c.Failed, Lost: c.Lost, Where: c.Where})
}

// change does one thing to the whole matrix, after asking when it concerns many jobs.
func (c *toChange) change(ctx context.Context, e *cli.Env, args api.ChangeMatrixArgs) error {
	args.Matrix = c.Matrix
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	args.DryRun = true
	would, err := cli.Ask[api.ChangeMatrixReply](ctx, d, "ChangeMatrix", &args)
	if err != nil {
		return err
	}
	if c.DryRun {
		e.Note("%s of matrix %d would be %s", view.Counted(would.Changed, "job"), would.Matrix.ID, matrixDone(args.Op))
		return nil
	}
	if would.Changed > cli.ChangeLimit && !c.Yes {
		question := fmt.Sprintf("%s %d jobs of matrix %d", matrixVerb(args.Op), would.Changed, would.Matrix.ID)
		if err := e.Sure(ctx, question, e.Interactive()); err != nil {
			return err
		}
	}
	args.Mutation, args.DryRun = api.Mutation{}, false
	reply, err := cli.Ask[api.ChangeMatrixReply](ctx, d, "ChangeMatrix", &args)
	if err != nil {
		return err
	}
	if reply.Repeated {
		e.NoteRepeated(fmt.Sprintf("%s of matrix %d %s, or as many as there were then", view.Counted(would.Changed, "job"), would.Matrix.ID, matrixDone(args.Op)))
	} else {
		e.Note("%s of matrix %d %s", view.Counted(reply.Changed, "job"), reply.Matrix.ID, matrixDone(args.Op))
	}
	if len(reply.JIDs) > 0 {
		return e.PrintIDs(reply.JIDs)
	}
	return nil
}

func matrixVerb(op string) string {
	switch op {
	case api.MatrixForget:
		return "cancel and forget"
	case api.MatrixRerun:
		return "run again"
	}
	return op
}

func matrixDone(op string) string {
	switch op {
	case api.MatrixCancel:
		return "canceled"
	case api.MatrixForget:
		return "forgotten"
	case api.MatrixHold:
		return "held"
	case api.MatrixUnhold:
		return "waiting"
	case api.MatrixRerun:
		return "run again"
	}
	return "changed"
}

func newMatrixColumns() []view.Column[newMatrix] {
	return []view.Column[newMatrix]{
		show.OnlyCSV("id", func(m newMatrix) string { return fmt.Sprint(m.ID) }),
		show.OnlyCSV("first_jid", func(m newMatrix) string { return fmt.Sprint(m.FirstJID) }),
		show.OnlyCSV("cells", func(m newMatrix) string { return fmt.Sprint(m.Cells) }),
	}
}
