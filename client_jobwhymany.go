package main

import (
	"context"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/view"
)

// fewJobs is up to how many jobs `job why` explains one by one; more are grouped by what made them fail.
const fewJobs = 5

// namesMany says that a selector is for a whole matrix or tag.
func namesMany(word string) bool { return strings.HasPrefix(word, "%") || strings.HasPrefix(word, "@") }

// whyMany tells what made many jobs fail.
func whyMany(ctx context.Context, e *env, d Daemon, words []string) error {
	reply, err := ask[api.WhyManyReply](ctx, d, "WhyMany", &api.WhyManyArgs{Selectors: words})
	if err != nil {
		return err
	}
	if e.structured() {
		return list(e, []api.WhyManyReply{*reply}, whyManyColumns())
	}
	if e.forScripts() {
		return list(e, reply.Groups, failureColumns())
	}
	c := reply.Counts
	fmt.Fprintf(e.stdout, "%s: %d done, %d failed, %d lost, %d canceled, %d to go\n",
		view.Counted(c.Total(), "job"), c.Done, c.Failed, c.Lost, c.Canceled, c.Unfinished())
	if c.Uncopied > 0 {
		whyUncopied(e, words, reply)
	}
	if len(reply.Groups) == 0 {
		fmt.Fprintln(e.stdout, "no attempt has failed")
		return nil
	}
	fmt.Fprintln(e.stdout)
	if err := list(e, reply.Groups, failureColumns()); err != nil {
		return err
	}
	if len(reply.Standouts) > 0 {
		fmt.Fprintln(e.stdout)
	}
	for _, line := range reply.Standouts {
		fmt.Fprintln(e.stdout, view.Clean(line))
	}
	return nil
}

// whyUncopied tells why results were not copied, of one job of each sort.
func whyUncopied(e *env, words []string, reply *api.WhyManyReply) {
	fmt.Fprintf(e.stdout, "the results of %s were not copied; `%s ls %s` lists them\n", view.Counted(reply.Counts.Uncopied, "job"), e.name, view.Clean(uncopiedOf(words)))
	for _, g := range reply.Uncopied {
		fmt.Fprintf(e.stdout, "  %s, such as %d: %s\n", view.Counted(g.Jobs, "job"), g.Example, view.Clean(g.Error))
		if g.Hint != "" {
			fmt.Fprintf(e.stdout, "  hint: %s\n", view.Clean(e.called(g.Hint)))
		}
	}
}

// failureColumns are those of the groups.
func failureColumns() []view.Column[api.FailureGroup] {
	type g = api.FailureGroup
	cause := plain("Cause", "cause", func(g g) string { return g.Cause })
	cause.Min = 12
	line := plain("Last line", "last_line", func(g g) string { return g.LastLine })
	line.Give, line.Min = 3, 16
	machines := plain("Machines", "machines", func(g g) string {
		var parts []string
		for _, m := range g.Machines {
			parts = append(parts, fmt.Sprintf("%s (%d)", m.Name, m.Count))
		}
		return strings.Join(parts, " ")
	})
	machines.Give, machines.Min = 2, 12
	jobs := plain("Such as", "examples", func(g g) string { return idList(g.Examples) })
	jobs.Give, jobs.Min = 4, 6
	attempts := plain("Attempts", "attempts", func(g g) string { return fmt.Sprint(g.Attempts) })
	attempts.Right = true
	final := plain("Jobs lost to it", "final", func(g g) string { return fmt.Sprint(g.Final) })
	final.Right, final.Title = true, "For good"
	return []view.Column[g]{attempts, final, cause, line, machines, jobs}
}

// whyManyColumns hold the whole reply, for JSON.
func whyManyColumns() []view.Column[api.WhyManyReply] {
	return []view.Column[api.WhyManyReply]{
		onlyCSV("standouts", func(r api.WhyManyReply) string { return strings.Join(r.Standouts, "\n") }),
	}
}
