package server

import (
	"context"
	"fmt"

	"jobserver/cli"
	"jobserver/version"
)

// Version is `version`.
type Version struct{}

// Run prints the program's version.
func (c *Version) Run(_ context.Context, e *cli.Env) error {
	_, err := fmt.Fprintf(e.Stdout, "jobserver %s\n", version.String())
	return err
}
