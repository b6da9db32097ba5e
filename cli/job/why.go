package job

import (
	"context"
	"fmt"
	"slices"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
)

// Why is `job why JID…`.
type Why struct {
	selectors
}

// Run explains each job in plain words, and of many what made them fail.
func (c *Why) Run(ctx context.Context, e *cli.Env) error {
	words, d, err := c.connect(ctx, e)
	if err != nil {
		return err
	}
	defer d.Close()
	if slices.ContainsFunc(words, namesMany) {
		return WhyMany(ctx, e, d, words)
	}
	jobs, err := jobsFull(ctx, d, words)
	if err != nil {
		return err
	}
	if len(jobs) > fewJobs {
		return WhyMany(ctx, e, d, words)
	}
	var reasons []api.WhyReply
	for _, job := range jobs {
		why, err := cli.Ask[api.WhyReply](ctx, d, "Why",
			&api.JIDArgs{Selector: fmt.Sprint(job.JID)})
		if err != nil {
			return err
		}
		reasons = append(reasons, *why)
	}
	return cli.ListOrWrite(e, reasons, show.WhyColumns(), show.WriteWhy)
}
