package matrix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
	"jobserver/grid"
	"jobserver/stats"
	"jobserver/userfile"
	"jobserver/view"
)

// Apply is `matrix apply FILE`.
type Apply struct {
	File string `arg:"" name:"FILE" predictor:"file" help:"The experiment, as YAML; - reads it from stdin. Its paths are relative to it."`

	Name   string `name:"name" placeholder:"NAME" help:"Use this name instead of the one in the file or the file's own."`
	Class  string `name:"class" short:"c" placeholder:"CLASS" predictor:"class" help:"Use this class instead of the one in the file."`
	Hold   bool   `name:"hold" help:"Submit the matrix held; 'matrix unhold' releases it."`
	Setup  bool   `name:"setup" help:"Run the file's setup on every machine of the class, even where it has run before."`
	Rerun  string `name:"rerun" placeholder:"STAGE" predictor:"stage" help:"Run this stage of the file again, as the file has it now, and all that comes after it."`
	DryRun bool   `name:"dry-run" help:"Show what would be submitted, without submitting it."`
}

// Run submits the experiment, or what is missing of it.
func (c *Apply) Run(ctx context.Context, e *cli.Env) error {
	if c.DryRun {
		if err := e.ForPeople("matrix apply --dry-run", "without -q and -o it prints the first "+
			"commands, as they would run"); err != nil {
			return err
		}
	}
	x, dir, err := c.read(e)
	if err != nil {
		return err
	}
	if len(x.Stages) > 0 {
		return c.applyStages(ctx, e, x, dir)
	}
	if c.Rerun != "" {
		return api.Errorf(api.Usage, "%s has no stages, so that none can run again", c.File).
			WithHint("`%s matrix rerun %s` runs cells of a matrix again", e.Name, x.Name)
	}
	args, warnings, err := c.args(e, x, dir)
	if err != nil {
		return err
	}
	e.Warn(warnings)
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if args.Matrix.Job.Code, err = job.PinCode(ctx, e, d, c.source(e, x, dir)); err != nil {
		return err
	}
	if err := c.place(ctx, e, d, x, dir, &args.Matrix.Job); err != nil {
		return err
	}
	if len(x.Setup) > 0 {
		// The whole is checked before anything of it is submitted.
		dry := *args
		dry.DryRun = true
		would, err := cli.Ask[api.AddMatrixReply](ctx, d, "AddMatrix", &dry)
		if err != nil {
			return err
		}
		if would.Cells > 0 || c.Setup {
			if err := c.setUp(ctx, e, d, x); err != nil {
				return err
			}
		}
	}
	return submitMatrix(ctx, e, d, args)
}

// place says where the jobs of an experiment, or of a stage, begin, what they read, and what they
// are called; paths begin in dir.
func (c *Apply) place(
	ctx context.Context, e *cli.Env, d cli.Daemon, x *grid.Experiment, dir string,
	spec *api.JobSpec,
) error {
	place := job.PlaceFlags{Cwd: x.Cwd, Stdin: x.Stdin, Label: x.Label}
	if x.Stdin != "" {
		place.Stdin = e.Path(dir, x.Stdin)
	}
	return place.Put(ctx, e, d, spec, c.DryRun)
}

// source is the code of the experiment, whose paths begin in dir.
func (c *Apply) source(e *cli.Env, x *grid.Experiment, dir string) job.CodeSource {
	at := func(path string) string { return e.Path(dir, path) }
	s := job.CodeSource{Dir: at(x.Code), Apart: []string{at(x.CpPath)}, Dry: c.DryRun}
	if c.File != "-" {
		s.Apart = append(s.Apart, c.File)
	}
	return s
}

// read reads the file, and says where its paths begin.
func (c *Apply) read(e *cli.Env) (*grid.Experiment, string, error) {
	dir, err := e.WorkDir()
	if err != nil {
		return nil, "", err
	}
	var data []byte
	if c.File == "-" {
		data, err = io.ReadAll(e.Stdin)
	} else {
		if !filepath.IsAbs(c.File) {
			dir = filepath.Join(dir, filepath.Dir(c.File))
		} else {
			dir = filepath.Dir(c.File)
		}
		data, err = os.ReadFile(c.File)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", api.Errorf(api.Usage, "there is no file %s", c.File)
	} else if err != nil {
		return nil, "", fmt.Errorf("read the experiment: %w", err)
	}
	x, err := grid.ParseExperiment(c.File, userfile.Text(data), localFiles(e, dir))
	if err != nil {
		return nil, "", api.Wrap(api.Usage, err)
	}
	for _, one := range append(x.Stages, x) {
		if c.Class != "" {
			one.Class = c.Class
		}
		one.CpPath = e.HostPath(one.CpPath)
	}
	x.Name = cmp.Or(c.Name, x.Name)
	if x.Name == "" && c.File != "-" {
		x.Name = strings.TrimSuffix(filepath.Base(c.File), filepath.Ext(c.File))
	}
	return x, dir, nil
}

// args submit the experiment.
func (c *Apply) args(
	e *cli.Env, x *grid.Experiment, dir string,
) (*api.AddMatrixArgs, []string, error) {
	m, warnings, err := matrixOfExperiment(x)
	if err != nil {
		return nil, nil, err
	}
	m.Name, m.Setup = x.Name, x.Setup
	if m.Metrics = x.Metrics.Text; m.Metrics != "" {
		if err := stats.CheckFile(m.Metrics); err != nil {
			return nil, nil, api.Wrap(api.Usage, x.At(x.Metrics.Line, "metrics: %v", err))
		}
		if x.CpPath == "" {
			return nil, nil, api.Wrap(api.Usage,
				x.At(x.Metrics.Line,
					"metrics: %s is to be among the results, and there is no cp_path", m.Metrics))
		}
	}
	spec := &m.Job
	spec.Class, spec.Cmd, spec.CpPath, spec.Dir = x.Class, strings.TrimRight(x.Command, "\n"),
		x.CpPath, dir
	spec.Tag, spec.Notify, spec.Hold, spec.Priority, spec.Flat = x.Tag, x.Notify, c.Hold,
		x.Priority, x.Flat
	spec.MaxFailures = job.Retries(false, x.Retries, defaultRetries)
	shape := job.ShapeFlags{Slots: cli.Count(x.Slots), Exclusive: x.Exclusive, Needs: x.Needs,
		Pin:       x.Pin,
		GangFlags: job.GangFlags{Machines: cli.Count(x.Machines), Each: x.Each, With: x.With}}
	shape.Put(spec)
	inputs := job.InputFlags{Input: x.Input}
	inputs.Put(e, spec)
	limits := job.LimitFlags{StartAfter: x.StartAfter, RetryOn: x.RetryOn, NoRetryOn: x.NoRetryOn,
		AtMost: cli.Count(x.AtMost)}
	if err := limits.Put(spec, e.Now()); err != nil {
		return nil, nil, err
	}
	m.MaxFails, m.CancelRest = x.MaxFails, x.Then == "cancel"
	spec.After = api.After{
		Done: x.After, Ended: x.AfterAny, Failed: x.AfterFailed, Cells: x.AfterCell,
		IfUnmet: x.IfUnmet,
	}
	if len(x.Env) > 0 {
		spec.Env = x.Env
	}
	spec.SecretEnv = e.SecretEnv(x.SecretEnv)
	if x.Timeout.Text != "" {
		if spec.Timeout, err = view.ParseDuration(x.Timeout.Text, time.Minute); err != nil {
			return nil, nil, api.Wrap(api.Usage, x.At(x.Timeout.Line, "timeout: %v", err))
		}
	}
	if x.MaxLog.Text != "" {
		if spec.MaxLog, err = view.ParseSize(x.MaxLog.Text); err != nil {
			return nil, nil, api.Wrap(api.Usage, x.At(x.MaxLog.Line, "max_log: %v", err))
		}
	}
	return &api.AddMatrixArgs{Matrix: m, DryRun: c.DryRun, Again: true}, warnings, nil
}

// setUp runs the experiment's setup on the machines of its class, once on each.
func (c *Apply) setUp(ctx context.Context, e *cli.Env, d cli.Daemon, x *grid.Experiment) error {
	if c.DryRun {
		e.Note("the setup would run on the machines of class %s where it hasn't", x.Class)
		return nil
	}
	reply, err := cli.Ask[api.SetupReply](ctx, d, "SetupMachines", &api.SetupArgs{
		MachineSelector: api.MachineSelector{Classes: []string{x.Class}}, Existing: true,
		Steps: x.Setup, Once: !c.Setup, Needed: true,
	})
	switch api.KindOf(err) {
	case api.NotFound, api.NoMatch:
		e.Note("machines that join class %s run the setup first", x.Class)
		return nil
	}
	if err != nil {
		return err
	}
	if len(reply.JIDs) > 0 {
		e.Note("%s: %s", view.Counted(len(reply.JIDs), "setup job"),
			jobRange(reply.JIDs[0], len(reply.JIDs)))
	}
	return nil
}
