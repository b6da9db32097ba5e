package main

import "context"

// docsCmd is the hidden `docs`.
type docsCmd struct {
	Man bool `name:"man" help:"As a man page, rather than Markdown."`
}

// Run prints the reference.
func (c *docsCmd) Run(_ context.Context, e *env) error { return nil }
