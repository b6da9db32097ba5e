package matrix

import (
	"context"
	"fmt"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// toChange is the matrix that a command changes.
type toChange struct {
	named
	cli.ChangeFlags
}

// Commands that say no more than what is to be done.
type (
	Cancel struct{ toChange } // `matrix cancel ID`
	Rm     struct{ toChange } // `matrix rm ID`
	Hold   struct{ toChange } // `matrix hold ID`
	Unhold struct{ toChange } // `matrix unhold ID`
)

// Run cancels what is left.
func (c *Cancel) Run(ctx context.Context, e *cli.Env) error {
	return c.do(ctx, e, api.MatrixCancel)
}

// Run forgets the matrix.
func (c *Rm) Run(ctx context.Context, e *cli.Env) error { return c.do(ctx, e, api.MatrixForget) }

// Run holds the matrix.
func (c *Hold) Run(ctx context.Context, e *cli.Env) error { return c.do(ctx, e, api.MatrixHold) }

// Run lets the matrix start.
func (c *Unhold) Run(ctx context.Context, e *cli.Env) error {
	return c.do(ctx, e, api.MatrixUnhold)
}

// Rerun is `matrix rerun ID`.
type Rerun struct {
	toChange
	Failed bool   `name:"failed" xor:"which" help:"Only the cells that failed or were lost."`
	Lost   bool   `name:"lost" xor:"which" help:"Only the cells that were lost."`
	All    bool   `name:"all" xor:"which" help:"Rerun all cells that have ended (the default)."`
	Where  string `name:"where" placeholder:"CONDITION" help:"Only the cells for which this holds, such as 'A<B' or 'MODE!=slow && REPEAT==0'."`
}

// Run runs cells again.
func (c *Rerun) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e,
		api.ChangeMatrixArgs{Op: api.MatrixRerun, Failed: c.Failed, Lost: c.Lost, Where: c.Where})
}

// do does what needs no more than its name to all of them.
func (c *toChange) do(ctx context.Context, e *cli.Env, op string) error {
	return c.change(ctx, e, api.ChangeMatrixArgs{Op: op})
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
		e.Note("%s of matrix %d would be %s", view.Counted(would.Changed, "job"), would.Matrix.ID,
			matrixDone(args.Op))
		return nil
	}
	if would.Changed > cli.ChangeLimit && !c.Yes {
		question := fmt.Sprintf("%s %d jobs of matrix %d", matrixVerb(args.Op), would.Changed,
			would.Matrix.ID)
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
		e.NoteRepeated(fmt.Sprintf("%s of matrix %d %s, or as many as there were then",
			view.Counted(would.Changed, "job"), would.Matrix.ID, matrixDone(args.Op)))
	} else {
		e.Note("%s of matrix %d %s", view.Counted(reply.Changed, "job"), reply.Matrix.ID,
			matrixDone(args.Op))
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
