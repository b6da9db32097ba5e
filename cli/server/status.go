package server

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
)

// Status is `status`.
type Status struct{}

// Run prints what the daemon is and holds.
func (c *Status) Run(ctx context.Context, e *cli.Env) error {
	status, err := cli.Call[api.Status](ctx, e, "Status", &api.Empty{})
	if err != nil {
		return err
	}
	if e.ForScripts() {
		return cli.List(e, []api.Status{*status}, show.StatusColumns())
	}
	w, end := e.Folded()
	defer end()
	out := show.Fields{W: w, Width: 16}
	out.Add("version", status.Version)
	out.Add("pid", fmt.Sprint(status.PID))
	out.Add("running since", e.TimeText(status.StartedAt))
	out.Add("state directory", status.StateDir)
	out.Add("job logs", status.LogDir)
	out.Add("socket", status.Socket)
	out.Add("driver", status.Driver)
	out.Add("server id", status.ServerID)
	fmt.Fprintf(w, "%-16s %s\n", "jobs", e.CountsLine(status.Jobs, 17))
	out.Add("matrices", fmt.Sprint(status.Matrices))
	out.Add("machines", machinesText(status.Machines))
	for _, v := range status.Verdicts {
		what := v.Machine
		if v.Matrix != 0 {
			what = fmt.Sprintf("matrix %d", v.Matrix)
		}
		out.Add("held back",
			fmt.Sprintf("%s is %s (%s ends that)", what, v.Text, e.Called("`"+v.Undo+"`")))
	}
	for _, o := range status.Owing {
		out.Add("left over", owingText(e, o))
	}
	if status.HostFreeBytes > 0 {
		out.Add("free disk", show.SizeText(status.HostFreeBytes))
	}
	if status.DiskFull {
		out.Add("disk full", "new work is refused until there is room again")
	}
	return nil
}

// machinesText is "3 connected, 1 away".
func machinesText(byState map[string]int) string {
	var states []string
	for state := range byState {
		states = append(states, state)
	}
	sort.Strings(states)
	var parts []string
	for _, state := range states {
		parts = append(parts, fmt.Sprintf("%d %s", byState[state], state))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// owingText says what is left on a machine, and what helps.
func owingText(e *cli.Env, o api.Owing) string {
	parts := api.Left(o.Ending, o.Unremoved)
	where := "on " + o.Machine
	if o.Gone {
		where += ", which has left the pool"
	}
	drop := e.Called(fmt.Sprintf("`jobserver machine clean --drop -m %s`", o.Machine))
	return fmt.Sprintf("%s %s (%s forgets that)", strings.Join(parts, ", "), where, drop)
}
