package matrix

import (
	"context"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
)

// Set is `matrix set ID`.
type Set struct {
	named
	job.SetFlags
	AtMost *int `name:"at-most" placeholder:"N" help:"Let at most N of its jobs hold slots at a time; 0 for no limit. Running jobs go on."`
}

// Run changes what the jobs of a matrix have in common.
func (c *Set) Run(ctx context.Context, e *cli.Env) error {
	if c.SetFlags.Empty() && c.AtMost == nil {
		return api.Errorf(api.Usage, "matrix set: nothing to change").
			WithHint("%s matrix set %s --at-most 10", e.Name, c.Matrix)
	}
	args := api.ChangeMatrixArgs{Matrix: c.Matrix, Op: api.MatrixSet}
	c.SetFlags.Put(&args.Set)
	args.Set.AtMost = api.Of(c.AtMost)
	reply, err := cli.Call[api.ChangeMatrixReply](ctx, e, "ChangeMatrix", &args)
	if err != nil {
		return err
	}
	e.Note("the settings of matrix %d were changed", reply.Matrix.ID)
	return nil
}
