package job

import (
	"context"

	"jobserver/api"
	"jobserver/cli"
)

// Prune is `job prune [JID…] --older AGE`.
type Prune struct {
	JID   []string `arg:"" optional:"" name:"JID" sep:"none" predictor:"job" help:"The jobs, all by default; see 'help job rm' for the forms."`
	Older cli.Age  `name:"older" required:"" placeholder:"AGE" help:"Only those that ended longer ago: 90d, 12h."`
	narrow
	cli.ChangeFlags
}

// Run has the daemon forget the jobs. What is needed still is named, and kept.
func (c *Prune) Run(ctx context.Context, e *cli.Env) error {
	jobs := selectors{JID: c.JID, narrow: c.narrow}
	return changeSelected(ctx, e, jobs, c.ChangeFlags,
		api.ChangeJobsArgs{Op: api.OpPrune, Older: c.Older.Duration})
}
