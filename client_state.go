package main

import "context"

// stateGroup are the commands on the state directory itself.
type stateGroup struct {
	Check  stateCheck  `cmd:"" help:"Read all of the saved state, and say what is wrong with it; changes nothing."`
	Export stateExport `cmd:"" help:"Print the saved state as JSON, one record a line."`
}

type stateCheck struct {
	StateDir string `name:"state-dir" placeholder:"DIR" predictor:"dir" help:"The state directory; $XDG_STATE_HOME/jobserver by default."`
}

func (c *stateCheck) Run(_ context.Context, e *env) error { return nil }

type stateExport struct {
	StateDir string `name:"state-dir" placeholder:"DIR" predictor:"dir" help:"The state directory; $XDG_STATE_HOME/jobserver by default."`
}

func (c *stateExport) Run(_ context.Context, e *env) error { return nil }
