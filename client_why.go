package main

import (
	"context"
	"fmt"

	"jobserver/api"
)

// matrixWhy is `matrix why ID`.
type matrixWhy struct{ matrixName }

// Run groups the failures of the matrix.
func (c *matrixWhy) Run(ctx context.Context, e *env) error {
	d, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	id, name := idOrName(c.Matrix)
	found, err := ask[api.ListMatricesReply](ctx, d, "ListMatrices", &api.ListMatricesArgs{ID: id, Name: name})
	if err != nil {
		return err
	}
	return whyMany(ctx, e, d, []string{fmt.Sprintf("%%%d", found.Matrices[0].ID)})
}
