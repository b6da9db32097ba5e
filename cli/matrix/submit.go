package matrix

import (
	"context"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// submitMatrix submits a matrix, or shows what would be submitted, and says what came of it.
func submitMatrix(ctx context.Context, e *cli.Env, d cli.Daemon, args *api.AddMatrixArgs) error {
	reply, err := cli.Ask[api.AddMatrixReply](ctx, d, "AddMatrix", args)
	if err != nil {
		return err
	}
	e.Warn(reply.Warnings)
	if args.DryRun {
		return printSample(e, reply)
	}
	if !e.ForScripts() {
		noteMatrix(e, reply)
	}
	return printMatrixID(e, reply)
}

// noteMatrix says what was submitted.
func noteMatrix(e *cli.Env, reply *api.AddMatrixReply) {
	g := reply.Growth
	switch {
	case reply.Repeated:
		e.NoteRepeated(fmt.Sprintf("matrix %d has %s to run", reply.ID,
			view.Counted(reply.Cells, "job")))
	case g == nil:
		e.Note("matrix %d: %s, %s", reply.ID, view.Counted(reply.Cells, "job"),
			jobRange(reply.FirstJID, reply.Cells))
	case reply.Cells == 0:
		e.Note("matrix %d: nothing to run; %s", reply.ID, growthText(g))
	default:
		e.Note("matrix %d: %s; %s", reply.ID, view.Counted(reply.Cells, "job"), growthText(g))
	}
}

// jobRange names n jobs with consecutive ids.
func jobRange(first uint64, n int) string {
	if n == 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d..%d", first, first+uint64(n)-1)
}

// growthText says what became of the cells of a matrix that was there.
func growthText(g *api.Growth) string {
	words := []string{fmt.Sprintf("%d new", g.New), fmt.Sprintf("%d again", g.Again),
		fmt.Sprintf("%d done", g.Done)}
	for _, part := range []struct {
		n    int
		text string
	}{{g.Active, "waiting or running"}, {g.Canceled, "canceled, which stay so"},
		{g.Gone, "no longer in the grid, which stay as they are"}} {
		if part.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", part.n, part.text))
		}
	}
	if g.Settings {
		words = append(words, "other settings from now on")
	}
	return strings.Join(words, ", ")
}

// newMatrix is a matrix that was submitted, as `matrix add` prints it.
type newMatrix struct {
	ID       uint64      `json:"id"`
	FirstJID uint64      `json:"first_jid"`
	Cells    int         `json:"cells"`
	Growth   *api.Growth `json:"growth,omitempty"` // when the matrix was there
}

func printMatrixID(e *cli.Env, reply *api.AddMatrixReply) error {
	if e.Structured() {
		return cli.List(e, []newMatrix{{reply.ID, reply.FirstJID, reply.Cells, reply.Growth}},
			newMatrixColumns())
	}
	if e.Told() {
		return nil
	}
	_, err := fmt.Fprintln(e.Stdout, reply.ID)
	return err
}

// printSample shows what a dry run would submit.
func printSample(e *cli.Env, reply *api.AddMatrixReply) error {
	for _, cmd := range reply.Sample {
		if _, err := fmt.Fprintln(e.Stdout, view.Clean(cmd)); err != nil {
			return err
		}
	}
	if more := reply.Cells - len(reply.Sample); more > 0 {
		fmt.Fprintf(e.Stdout, "… and %d more\n", more)
	}
	if reply.Growth != nil {
		e.Note("%s of matrix %d would be submitted: %s", view.Counted(reply.Cells, "job"), reply.ID,
			growthText(reply.Growth))
		return nil
	}
	e.Note("%s would be submitted", view.Counted(reply.Cells, "job"))
	return nil
}

func newMatrixColumns() []view.Column[newMatrix] {
	return []view.Column[newMatrix]{
		show.OnlyCSV("id", func(m newMatrix) string { return fmt.Sprint(m.ID) }),
		show.OnlyCSV("first_jid", func(m newMatrix) string { return fmt.Sprint(m.FirstJID) }),
		show.OnlyCSV("cells", func(m newMatrix) string { return fmt.Sprint(m.Cells) }),
	}
}
