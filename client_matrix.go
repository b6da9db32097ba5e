package main

import (
	"context"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/view"
)

// matrixRetries is how often a matrix's job is run again by default.
const matrixRetries = 3

// matrixAdd is `matrix add CLASS CMD CP_PATH KEY=V1,V2…`.
type matrixAdd struct {
	Class  string   `arg:"" name:"CLASS" predictor:"class" help:"The class of machines that may run it."`
	Cmd    string   `arg:"" name:"CMD" help:"The command line, with {KEY} for the values."`
	CpPath string   `arg:"" name:"CP_PATH" predictor:"dir" help:"Where the daemon's host keeps the results; may have {KEY}s, too."`
	Vars   []string `arg:"" name:"KEY=V1,V2" sep:"none" help:"A variable and its values: texts, ranges (1..8, 1..64*2, 0.1..0.5/5), @FILE for its lines; \\, or quotes for a comma in a value."`

	sweepFlags
	codeFlag
	Times       int       `name:"times" short:"x" default:"1" placeholder:"N" help:"Run each combination N times."`
	Timeout     minutes   `name:"timeout" placeholder:"DURATION" help:"Fail a job when it runs longer: minutes, or 30s, 2h30m, 1d."`
	MaxFailures *int      `name:"max-failures" placeholder:"N" help:"Run a failed job again, N times at most: 3 by default, -1 is without limit."`
	Notify      bool      `name:"notify" help:"Tell when it has ended."`
	Name        string    `name:"name" placeholder:"NAME" help:"A name for it. When a matrix of this name is there, only cells run that it lacks, or that failed or were lost."`
	Tag         string    `name:"tag" placeholder:"TAG" predictor:"tag" help:"Put its jobs under a tag, by id or name; a new name makes the tag."`
	Hold        bool      `name:"hold" help:"Submit it held: 'matrix unhold' lets it start."`
	Priority    int       `name:"priority" placeholder:"N" help:"Higher ones of a class start first; 0 by default."`
	Env         variables `name:"env" placeholder:"NAME=VALUE" help:"Set a variable of the jobs' environment. May be repeated."`
	Flat        bool      `name:"flat" help:"Put the results straight into CP_PATH, not into CP_PATH/JID."`
	MaxLog      size      `name:"max-log" placeholder:"SIZE" help:"Keep at most this much of each stream of a job, as 500M."`
	Metrics     string    `name:"metrics" placeholder:"FILE" help:"The jobs leave their numbers in this file among their results, CSV or JSON: 'matrix table' and 'plot' take them from there."`
	DryRun      bool      `name:"dry-run" help:"Show what would be submitted, and submit nothing."`
}

// Run submits the matrix.
func (c *matrixAdd) Run(ctx context.Context, e *env) error {
	if c.DryRun {
		if err := e.forPeople("matrix add --dry-run", "without -q and -o it prints the first commands, as they would run"); err != nil {
			return err
		}
	}
	dir, err := e.workDir()
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
	e.warn(warnings)
	m.Name, m.Metrics = c.Name, c.Metrics
	m.Job = api.JobSpec{
		Class: c.Class, Cmd: c.Cmd, CpPath: c.CpPath, Dir: dir, Repeat: m.Job.Repeat,
		MaxFailures: retries(false, c.MaxFailures, matrixRetries), Timeout: c.Timeout.Duration,
		Tag: c.Tag, Notify: c.Notify, Hold: c.Hold, Priority: c.Priority,
		Env: c.Env, Flat: c.Flat, MaxLog: int64(c.MaxLog),
	}
	d, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if m.Job.Code, err = pinCode(ctx, e, d, codeSource{c.Code, []string{c.CpPath}, c.DryRun}); err != nil {
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

func printMatrixID(e *env, reply *api.AddMatrixReply) error {
	if e.structured() {
		return list(e, []newMatrix{{reply.ID, reply.FirstJID, reply.Cells, reply.Growth}}, newMatrixColumns())
	}
	if e.told() {
		return nil
	}
	_, err := fmt.Fprintln(e.stdout, reply.ID)
	return err
}

// printSample shows what a dry run would submit.
func printSample(e *env, reply *api.AddMatrixReply) error {
	for _, cmd := range reply.Sample {
		if _, err := fmt.Fprintln(e.stdout, view.Clean(cmd)); err != nil {
			return err
		}
	}
	if more := reply.Cells - len(reply.Sample); more > 0 {
		fmt.Fprintf(e.stdout, "… and %d more\n", more)
	}
	if reply.Growth != nil {
		e.note("%s of matrix %d would be submitted: %s", view.Counted(reply.Cells, "job"), reply.ID, growthText(reply.Growth))
		return nil
	}
	e.note("%s would be submitted", view.Counted(reply.Cells, "job"))
	return nil
}

// matrixLs is `matrix ls [ID]`.
type matrixLs struct {
	Matrix string `arg:"" optional:"" name:"ID" predictor:"matrix" help:"One matrix, by id or name: with its jobs. In -o csv and -o id it is the matrix alone; 'job ls %ID' has the jobs."`
}

// Run lists the matrices.
func (c *matrixLs) Run(ctx context.Context, e *env) error {
	d, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	id, name := idOrName(c.Matrix)
	reply, err := ask[api.ListMatricesReply](ctx, d, "ListMatrices", &api.ListMatricesArgs{ID: id, Name: name})
	if err != nil {
		return err
	}
	if c.Matrix != "" && len(reply.Matrices) == 0 {
		return api.Errorf(api.NotFound, "there is no matrix %s", c.Matrix)
	}
	if c.Matrix == "" || e.forScripts() {
		return list(e, reply.Matrices, matrixColumns(e))
	}
	return writeMatrix(e, &reply.Matrices[0])
}

// writeMatrix prints one matrix with its jobs.
func writeMatrix(e *env, m *api.Matrix) error {
	out := fields{e.stdout, 12}
	out.add(fmt.Sprintf("matrix %d", m.ID), firstNonEmpty(m.Name, m.Class))
	out.add("class", m.Class)
	out.add("command", m.Cmd)
	for _, axis := range m.Vars {
		out.add(axis.Name, strings.Join(axis.Values, ", "))
	}
	out.add("repeats", number0(m.Repeats))
	out.add("results in", m.CpPath)
	out.add("metrics in", m.Metrics)
	out.add("time left", leftText(m.Left))
	if m.Held {
		out.join("held", firstNonEmpty(m.HeldWhy, "yes"))
	}
	fmt.Fprintln(e.stdout)
	return writeListing(e.stdout, e, &listing{Jobs: m.Jobs, Counts: m.Counts})
}

// matrixName names the matrix that a command is about.
type matrixName struct {
	Matrix string `arg:"" name:"ID" predictor:"matrix" help:"The matrix, by id or name."`
}

// matrixToChange is the matrix that a command changes.
type matrixToChange struct {
	matrixName
	changeFlags
}

type matrixCancel struct{ matrixToChange }

// Run cancels what is left.
func (c *matrixCancel) Run(ctx context.Context, e *env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixCancel})
}

type matrixRm struct{ matrixToChange }

// Run forgets the matrix.
func (c *matrixRm) Run(ctx context.Context, e *env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixForget})
}

type matrixHold struct{ matrixToChange }

// Run holds the matrix.
func (c *matrixHold) Run(ctx context.Context, e *env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixHold})
}

type matrixUnhold struct{ matrixToChange }

// Run lets the matrix start.
func (c *matrixUnhold) Run(ctx context.Context, e *env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixUnhold})
}

type matrixRerun struct {
	matrixToChange
	Failed bool   `name:"failed" xor:"which" help:"Only the cells that failed or were lost."`
	Lost   bool   `name:"lost" xor:"which" help:"Only the cells that were lost."`
	All    bool   `name:"all" xor:"which" help:"All cells that have ended, which is the default."`
	Where  string `name:"where" placeholder:"CONDITION" help:"Of these only the cells for which this holds, as 'A<B' or 'MODE!=slow && REPEAT==0'."`
}

// Run runs cells again.
func (c *matrixRerun) Run(ctx context.Context, e *env) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: api.MatrixRerun, Failed: c.Failed, Lost: c.Lost, Where: c.Where})
}

// change does one thing to the whole matrix, after asking when it concerns many jobs.
func (c *matrixToChange) change(ctx context.Context, e *env, args api.ChangeMatrixArgs) error {
	args.Matrix = c.Matrix
	d, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	args.DryRun = true
	would, err := ask[api.ChangeMatrixReply](ctx, d, "ChangeMatrix", &args)
	if err != nil {
		return err
	}
	if c.DryRun {
		e.note("%s of matrix %d would be %s", view.Counted(would.Changed, "job"), would.Matrix.ID, matrixDone(args.Op))
		return nil
	}
	if would.Changed > changeLimit && !c.Yes {
		question := fmt.Sprintf("%s %d jobs of matrix %d", matrixVerb(args.Op), would.Changed, would.Matrix.ID)
		if err := e.sure(ctx, question, e.interactive()); err != nil {
			return err
		}
	}
	args.Mutation, args.DryRun = api.Mutation{}, false
	reply, err := ask[api.ChangeMatrixReply](ctx, d, "ChangeMatrix", &args)
	if err != nil {
		return err
	}
	if reply.Repeated {
		e.noteRepeated(fmt.Sprintf("%s of matrix %d %s, or as many as there were then", view.Counted(would.Changed, "job"), would.Matrix.ID, matrixDone(args.Op)))
	} else {
		e.note("%s of matrix %d %s", view.Counted(reply.Changed, "job"), reply.Matrix.ID, matrixDone(args.Op))
	}
	if len(reply.JIDs) > 0 {
		return e.printIDs(reply.JIDs)
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
		onlyCSV("id", func(m newMatrix) string { return fmt.Sprint(m.ID) }),
		onlyCSV("first_jid", func(m newMatrix) string { return fmt.Sprint(m.FirstJID) }),
		onlyCSV("cells", func(m newMatrix) string { return fmt.Sprint(m.Cells) }),
	}
}
