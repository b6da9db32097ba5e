package matrix

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
	"jobserver/grid"
	"jobserver/view"
)

// applyStages submits the stages of a file, or what is missing of them: all or none.
func (c *Apply) applyStages(ctx context.Context, e *cli.Env, x *grid.Experiment, dir string) error {
	if x.Name == "" {
		return api.Errorf(api.Usage, "the stages have no name in common").
			WithHint("write `name: …` into the file, or give --name")
	}
	if c.Rerun != "" && !slices.ContainsFunc(x.Stages, func(one *grid.Experiment) bool {
		return one.Stage.Name == c.Rerun
	}) {
		return api.Errorf(api.Usage, "there is no stage %q in %s", c.Rerun, c.File).
			WithHint("its stages are %s", strings.Join(stageNames(x), ", "))
	}
	args := &api.AddStagesArgs{Rerun: c.Rerun, DryRun: c.DryRun}
	names := stageNames(x)
	for _, one := range x.Stages {
		m, warnings, err := c.args(e, one, dir)
		if err != nil {
			return err
		}
		for _, w := range warnings {
			e.Warn([]string{fmt.Sprintf("stage %s: %s", one.Stage.Name, w)})
		}
		m.Matrix.Name = x.Name + "." + one.Stage.Name
		spec := api.StageSpec{Matrix: m.Matrix, Stage: one.Stage.Name, Join: one.Stage.Join}
		for _, name := range one.Stage.After {
			spec.After = append(spec.After, slices.Index(names, name))
		}
		args.Stages = append(args.Stages, spec)
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	pinned := map[string]*api.Code{}
	for i, one := range x.Stages {
		source := c.source(e, one, dir)
		key := source.Dir + "\x00" + strings.Join(source.Apart, "\x00")
		if pinned[key] == nil {
			if pinned[key], err = job.PinCode(ctx, e, d, source); err != nil {
				return err
			}
		}
		args.Stages[i].Matrix.Job.Code = pinned[key]
		if err := c.place(ctx, e, d, one, dir, &args.Stages[i].Matrix.Job); err != nil {
			return err
		}
	}
	if err := c.setUpStages(ctx, e, d, x, args); err != nil {
		return err
	}
	reply, err := cli.Ask[api.AddStagesReply](ctx, d, "AddStages", args)
	if err != nil {
		return err
	}
	e.Warn(reply.Warnings)
	return printStages(e, args, reply)
}

func stageNames(x *grid.Experiment) (names []string) {
	for _, one := range x.Stages {
		names = append(names, one.Stage.Name)
	}
	return names
}

// setUpStages runs what stages need to have run on the machines of their classes, once for all that
// need the same. The whole is checked before.
func (c *Apply) setUpStages(
	ctx context.Context, e *cli.Env, d cli.Daemon, x *grid.Experiment, args *api.AddStagesArgs,
) error {
	if !slices.ContainsFunc(x.Stages,
		func(one *grid.Experiment) bool { return len(one.Setup) > 0 }) {
		return nil
	}
	dry := *args
	dry.DryRun = true
	would, err := cli.Ask[api.AddStagesReply](ctx, d, "AddStages", &dry)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for i, one := range x.Stages {
		key := one.Class + "\x00" + strings.Join(one.Setup, "\x00")
		if len(one.Setup) == 0 || done[key] || would.Stages[i].Cells == 0 && !c.Setup {
			continue
		}
		done[key] = true
		if err := c.setUp(ctx, e, d, one); err != nil {
			return err
		}
	}
	return nil
}

// newStage is a stage that was submitted, as `matrix apply` prints it.
type newStage struct {
	Stage string `json:"stage"`
	Name  string `json:"name"`
	newMatrix
}

// printStages says what was submitted, or what would be.
func printStages(e *cli.Env, args *api.AddStagesArgs, reply *api.AddStagesReply) error {
	var rows []newStage
	for i := range reply.Stages {
		one, spec := &reply.Stages[i], &args.Stages[i]
		if args.DryRun {
			e.Note("%s:", spec.Matrix.Name)
			if err := printSample(e, one); err != nil {
				return err
			}
			continue
		}
		if !e.ForScripts() {
			e.Note("%s, %s", spec.Stage, stageNote(one))
		}
		rows = append(rows, newStage{spec.Stage, spec.Matrix.Name,
			newMatrix{one.ID, one.FirstJID, one.Cells, one.Growth}})
	}
	switch {
	case args.DryRun:
		return nil
	case e.Structured():
		return cli.List(e, rows, newStageColumns())
	case e.Told():
		return nil
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(e.Stdout, row.ID); err != nil {
			return err
		}
	}
	return nil
}

// stageNote says what becomes of a stage.
func stageNote(reply *api.AddMatrixReply) string {
	text := fmt.Sprintf("matrix %d: %s", reply.ID, view.Counted(reply.Cells, "job"))
	switch {
	case reply.Growth != nil && reply.Cells == 0:
		return fmt.Sprintf("matrix %d: nothing to run; %s", reply.ID, growthText(reply.Growth))
	case reply.Growth != nil:
		return text + "; " + growthText(reply.Growth)
	case reply.Repeated:
		return text
	}
	return text + ", " + jobRange(reply.FirstJID, reply.Cells)
}

func newStageColumns() []view.Column[newStage] {
	of := func(key string, value func(newStage) any) view.Column[newStage] {
		return view.Column[newStage]{Key: key, Value: func(r newStage) string {
			return fmt.Sprint(value(r))
		}}
	}
	return []view.Column[newStage]{
		of("stage", func(r newStage) any { return r.Stage }),
		of("name", func(r newStage) any { return r.Name }),
		of("id", func(r newStage) any { return r.ID }),
		of("first_jid", func(r newStage) any { return r.FirstJID }),
		of("cells", func(r newStage) any { return r.Cells }),
	}
}
