package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/daemon"
	"jobserver/daemon/wire"
	"jobserver/sched"
	"jobserver/snapshot"
	"jobserver/view"
)

// stateGroup are the commands on the state directory itself: they read its files, with or without a
// daemon.
type stateGroup struct {
	Check  stateCheck  `cmd:"" help:"Read the whole saved state and report what is wrong with it; changes nothing."`
	Export stateExport `cmd:"" help:"Print the saved state as JSON, one object a line."`
}

// stateDirFlag names the state directory.
type stateDirFlag struct {
	StateDir string `name:"state-dir" placeholder:"DIR" predictor:"dir" help:"The state directory; $XDG_STATE_HOME/jobserver by default."`
}

func (f stateDirFlag) dir(e *cli.Env) (string, error) {
	if f.StateDir != "" {
		return f.StateDir, nil
	}
	return e.StateDir()
}

// source is the directory that is read: that of the daemon that is named, if one is. Where none
// answers, as the state of one that was stopped is read, too, the flag has to say which.
func (f stateDirFlag) source(ctx context.Context, e *cli.Env) (string, error) {
	if f.StateDir != "" || e.Globals.Host == "" && e.Globals.Socket == "" {
		return f.dir(e)
	}
	if host := e.Globals.Host; host != "" {
		return "", api.Errorf(api.Usage, "the state of the daemon on %s is on that host", host).
			WithHint("run this command there, or name a directory on this host with " +
				"--state-dir DIR")
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return "", api.Errorf(api.KindOf(err), "ask the daemon where its state is: %w", err).
			WithHint("name the state directory with --state-dir DIR")
	}
	defer d.Close()
	status, err := cli.Ask[api.Status](ctx, d, "Ping", &api.Empty{})
	if err != nil {
		return "", err
	}
	return status.StateDir, nil
}

// stateCheck is `state check`.
type stateCheck struct{ stateDirFlag }

// fileCheck is one file of the state, as `state check` found it.
type fileCheck struct {
	File    string `json:"file"`
	Bytes   int64  `json:"bytes"`
	Records uint64 `json:"records"`
	Error   string `json:"error,omitempty"`
}

// Run reads every file, and rebuilds the state from them.
func (c *stateCheck) Run(ctx context.Context, e *cli.Env) error {
	dir, err := c.source(ctx, e)
	if err != nil {
		return err
	}
	report, err := snapshot.Check(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.NotFound, "check the state: %w", err).
			WithHint("name the directory with --state-dir DIR")
	}
	if err != nil {
		return fmt.Errorf("check the state: %w", err)
	}
	var files []fileCheck
	for _, file := range report.Files {
		files = append(files, checkOf(dir, file))
	}
	if err := cli.List(e, files, fileColumns()); err != nil {
		return err
	}
	for _, notice := range report.Notices {
		e.Note("%s", notice)
	}
	if report.Running {
		e.Note("a daemon has this state open: its newest file is still being written")
	}
	if report.Err != nil {
		return refusedStart(dir, &report)
	}
	state, err := loadState(dir)
	if err != nil {
		return api.Errorf(api.Internal, "the files are sound, but what they say is not: %w", err)
	}
	if !report.Sound() {
		return api.Errorf(api.Internal, "a start would succeed, but some files are damaged")
	}
	e.Note("sound: %s, the last is %d", view.Counted(stateTotal(state), "job"), state.NextID()-1)
	return nil
}

// checkOf is a file's line. One that can't be opened as what it is has its size all the same.
func checkOf(dir string, file snapshot.FileReport) fileCheck {
	check := fileCheck{File: file.Name, Bytes: file.Bytes, Records: file.Records}
	if file.Err == nil {
		return check
	}
	check.Error = file.Err.Error()
	var corrupt *snapshot.CorruptError
	if errors.As(file.Err, &corrupt) && corrupt.File == file.Name {
		check.Error = daemon.DamageIn(corrupt)
	}
	if info, err := os.Stat(filepath.Join(dir, file.Name)); err == nil {
		check.Bytes = info.Size()
	}
	return check
}

// refusedStart says why a start would be refused. What is wrong with a file stands in the table
// already.
func refusedStart(dir string, report *snapshot.Report) error {
	var corrupt *snapshot.CorruptError
	if !errors.As(report.Err, &corrupt) {
		return api.Errorf(api.Internal, "a start would be refused: %w", report.Err).
			WithHint("%s", api.HintOf(report.Err))
	}
	listed := slices.ContainsFunc(report.Files, func(f snapshot.FileReport) bool {
		return f.Name == corrupt.File && f.Err != nil
	})
	text := corrupt.File + " is damaged"
	if !listed {
		text += ": " + daemon.DamageIn(corrupt)
	}
	return api.Errorf(api.Internal, "a start would be refused: %s", text).
		WithHint("%s", daemon.DamageHint(dir))
}

// loadState rebuilds the state as a start would.
func loadState(dir string) (*sched.State, error) {
	restorer := sched.NewRestorer()
	if err := snapshot.ReadAll(dir, restorer.Record, restorer.Change); err != nil {
		return nil, err
	}
	return restorer.State()
}

func stateTotal(state *sched.State) int {
	total := 0
	for id := uint64(1); id < state.NextID(); id++ {
		if state.Job(id) != nil {
			total++
		}
	}
	return total
}

func fileColumns() []view.Column[fileCheck] {
	name := show.Plain("File", "file", func(f fileCheck) string { return f.File })
	name.IsID = true
	return []view.Column[fileCheck]{name,
		{Title: "Size", Key: "bytes", Right: true, Value: func(f fileCheck) string {
			return fmt.Sprint(f.Bytes)
		},
			Cell: view.Text(func(f fileCheck) string { return view.FormatSize(f.Bytes) })},
		{Title: "Records", Key: "records", Right: true, Cell: view.Text(func(f fileCheck) string {
			return fmt.Sprint(f.Records)
		})},
		{Title: "Check", Key: "error", Value: func(f fileCheck) string {
			return f.Error
		}, Cell: func(f fileCheck) []view.Span {
			if f.Error != "" {
				return []view.Span{{Text: f.Error, Style: view.RedUnder}}
			}
			return []view.Span{{Text: "sound", Style: view.Green}}
		}},
	}
}

// stateExport is `state export`.
type stateExport struct{ stateDirFlag }

// Run prints what the state holds: variables without secrets'
// values, machines, tags, matrices, and all jobs by id.
func (c *stateExport) Run(ctx context.Context, e *cli.Env) error {
	dir, err := c.source(ctx, e)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return api.Errorf(api.NotFound, "export the state: %w", err)
	}
	state, err := loadState(dir)
	if err != nil {
		return fmt.Errorf("export the state: %w", err)
	}
	out := bufio.NewWriter(e.Stdout)
	put := func(one wire.Exported) error { return view.WriteObject(out, view.JSONL, one) }
	if err := exportTables(state, put); err != nil {
		return err
	}
	logs := filepath.Join(dir, "logs")
	for id := uint64(1); id < state.NextID() && ctx.Err() == nil; id++ {
		line := wire.ExportJob(state, logs, id)
		if line == nil {
			continue
		}
		if err := put(*line); err != nil {
			return err
		}
	}
	return errors.Join(out.Flush(), ctx.Err())
}

// exportTables exports what isn't a job.
func exportTables(state *sched.State, put func(wire.Exported) error) error {
	for _, v := range state.Vars() {
		variable := wire.Variable(v)
		if err := put(wire.Exported{Variable: &variable}); err != nil {
			return err
		}
	}
	for _, addr := range state.Machines() {
		machine := wire.Machine(state, addr)
		if err := put(wire.Exported{Machine: &machine}); err != nil {
			return err
		}
	}
	for _, id := range state.Tags() {
		tag := wire.Tag(state, id)
		if err := put(wire.Exported{Tag: &tag}); err != nil {
			return err
		}
	}
	for _, id := range state.Matrices() {
		if err := put(*wire.ExportMatrix(state, id)); err != nil {
			return err
		}
	}
	return nil
}
