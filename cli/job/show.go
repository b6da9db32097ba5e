package job

import (
	"context"

	"jobserver/cli"
	"jobserver/cli/show"
)

// Show is `job show JID`.
type Show struct {
	selectors
}

// Run prints everything about the jobs.
func (c *Show) Run(ctx context.Context, e *cli.Env) error {
	words, d, err := c.connect(ctx, e)
	if err != nil {
		return err
	}
	defer d.Close()
	jobs, err := jobsFull(ctx, d, words)
	if err != nil {
		return err
	}
	return cli.ListOrWrite(e, jobs, show.JobColumns(), show.WriteJob)
}
