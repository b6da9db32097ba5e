package matrix

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
)

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
	id, name := cli.IDOrName(c.Matrix)
	reply, err := cli.Ask[api.ListMatricesReply](ctx, d, "ListMatrices",
		&api.ListMatricesArgs{ID: id, Name: name})
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
	w, end := e.Folded()
	out := show.Fields{W: w, Width: 12}
	out.Add(fmt.Sprintf("matrix %d", m.ID), cmp.Or(m.Name, m.Class))
	out.Add("class", m.Class)
	out.Text("command", m.Cmd)
	for _, axis := range m.Vars {
		out.Add(axis.Name, strings.Join(axis.Values, ", "))
	}
	out.Add("repeats", show.NumberText(m.Repeats))
	out.Add("results in", m.CpPath)
	out.Add("metrics in", m.Metrics)
	out.Add("at most", show.NumberText(m.AtMost))
	out.Add("max fails", show.NumberText(m.MaxFails))
	out.Add("time left", show.LeftText(m.Left))
	if m.Held {
		why := []string{cmp.Or(m.HeldWhy, "yes")}
		if m.TrialAt != nil {
			why = append(why, "it is tried with one cell at "+e.TimePointerText(m.TrialAt),
				e.Called(fmt.Sprintf("`jobserver matrix unhold %d` lets it go on at once", m.ID)))
		}
		out.Join("held", why...)
	}
	end()
	fmt.Fprintln(e.Stdout)
	return show.WriteListing(e.Stdout, e, &show.Listing{Jobs: m.Jobs, Counts: m.Counts})
}

// named names the matrix that a command is about.
type named struct {
	Matrix string `arg:"" name:"ID" predictor:"matrix" help:"The matrix, by id or name."`
}
