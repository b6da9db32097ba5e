package matrix

import (
	"context"
	"fmt"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
)

// Why is `matrix why ID`.
type Why struct{ named }

// Run groups the failures of the matrix.
func (c *Why) Run(ctx context.Context, e *cli.Env) error {
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	id, name := cli.IDOrName(c.Matrix)
	found, err := cli.Ask[api.ListMatricesReply](ctx, d, "ListMatrices",
		&api.ListMatricesArgs{ID: id, Name: name})
	if err != nil {
		return err
	}
	return job.WhyMany(ctx, e, d, []string{fmt.Sprintf("%%%d", found.Matrices[0].ID)})
}
