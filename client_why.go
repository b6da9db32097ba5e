package main

import (
	"context"
	"fmt"

	"jobserver/api"
)

// matrixWhy is `matrix why ID`.
type matrixWhy struct{ matrixName }

// Run groups the failures of the matrix.
func (c *matrixWhy) Run(ctx context.Context, e *Env) error {
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	id, name := IdOrName(c.Matrix)
	found, err := Ask[api.ListMatricesReply](ctx, d, "ListMatrices", &api.ListMatricesArgs{ID: id, Name: name})
	if err != nil {
		return err
	}
	return whyMany(ctx, e, d, []string{fmt.Sprintf("%%%d", found.Matrices[0].ID)})
}
