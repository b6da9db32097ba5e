package job

import (
	"context"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// fewJobs is up to how many jobs `job why` explains one by one; more are grouped by what made them
// fail.
const fewJobs = 5

// mostStandout is how wide the sentence about a value may be that stands out: it may be of any
// length.
const mostStandout = 200

// namesMany says that a selector is for a whole matrix or tag.
func namesMany(
	word string,
) bool {
	return strings.HasPrefix(word, "%") || strings.HasPrefix(word, "@")
}

// WhyMany tells what made many jobs fail.
func WhyMany(ctx context.Context, e *cli.Env, d cli.Daemon, words []string) error {
	reply, err := cli.Ask[api.WhyManyReply](ctx, d, "WhyMany", &api.WhyManyArgs{Selectors: words})
	if err != nil {
		return err
	}
	if e.Structured() {
		return cli.List(e, []api.WhyManyReply{*reply}, whyManyColumns())
	}
	if e.ForScripts() {
		return cli.List(e, reply.Groups, failureColumns())
	}
	c := reply.Counts
	fmt.Fprintf(e.Stdout, "%s: %d done, %d failed, %d lost, %d canceled, %d to go\n",
		view.Counted(c.Total(), "job"), c.Done, c.Failed, c.Lost, c.Canceled, c.Unfinished())
	if s := reply.Stopped; s != nil {
		fmt.Fprintf(e.Stdout, "%s %s, such as %d: %s\n", view.Counted(s.Jobs, "job"), s.Status,
			s.Example, view.Clean(s.Reason))
		if s.Hint != "" {
			fmt.Fprintf(e.Stdout, "  hint: %s\n", view.Clean(e.Called(s.Hint)))
		}
	}
	if c.Uncopied > 0 {
		whyUncopied(e, words, reply)
	}
	if len(reply.Groups) == 0 {
		fmt.Fprintln(e.Stdout, "no attempt has failed")
		return nil
	}
	fmt.Fprintln(e.Stdout)
	if err := cli.List(e, reply.Groups, failureColumns()); err != nil {
		return err
	}
	if len(reply.Standouts) > 0 {
		fmt.Fprintln(e.Stdout)
	}
	for _, line := range reply.Standouts {
		fmt.Fprintln(e.Stdout, view.Shorten(view.Clean(line), mostStandout))
	}
	return nil
}

// whyUncopied tells why results were not copied, of one job of each sort.
func whyUncopied(e *cli.Env, words []string, reply *api.WhyManyReply) {
	fmt.Fprintf(e.Stdout, "the results of %s were not copied; `%s ls %s` lists them\n",
		view.Counted(reply.Counts.Uncopied, "job"), e.Name, view.Clean(uncopiedOf(words)))
	for _, g := range reply.Uncopied {
		fmt.Fprintf(e.Stdout, "  %s, such as %d: %s\n", view.Counted(g.Jobs, "job"), g.Example,
			view.Clean(g.Error))
		if g.Hint != "" {
			fmt.Fprintf(e.Stdout, "  hint: %s\n", view.Clean(e.Called(g.Hint)))
		}
	}
}

// failureColumns are the columns of the groups of failures.
func failureColumns() []view.Column[api.FailureGroup] {
	type g = api.FailureGroup
	cause := show.Plain("Cause", "cause", func(g g) string { return g.Cause })
	cause.Min = 12
	line := show.Plain("Last line", "last_line", func(g g) string { return g.LastLine })
	line.Give, line.Min = 3, 16
	machines := show.Plain("Machines", "machines", func(g g) string {
		var parts []string
		for _, m := range g.Machines {
			parts = append(parts, fmt.Sprintf("%s (%d)", m.Name, m.Count))
		}
		return strings.Join(parts, " ")
	})
	machines.Give, machines.Min = 2, 12
	jobs := show.Plain("Such as", "examples", func(g g) string { return show.IDList(g.Examples) })
	jobs.Give, jobs.Min = 4, 6
	attempts := show.Plain("Attempts", "attempts", func(g g) string {
		return fmt.Sprint(g.Attempts)
	})
	attempts.Right = true
	final := show.Plain("Jobs lost to it", "final", func(g g) string { return fmt.Sprint(g.Final) })
	final.Right, final.Title = true, "For good"
	return []view.Column[g]{attempts, final, cause, line, machines, jobs}
}

// whyManyColumns hold the whole reply, for JSON.
func whyManyColumns() []view.Column[api.WhyManyReply] {
	return []view.Column[api.WhyManyReply]{
		show.OnlyCSV("standouts", func(r api.WhyManyReply) string {
			return strings.Join(r.Standouts, "\n")
		}),
	}
}
