//go:build !linux

package daemon

import (
	"context"
	"runtime"

	"jobserver/api"
)

// CheckDriver finds nothing wrong: Run does.
func CheckDriver(string) error { return nil }

// Run only says what is missing: journal, copies and local runs rest on what Linux promises of its
// files and processes.
func Run(context.Context, Options) error {
	return api.Errorf(api.Usage, "the daemon runs on Linux, not on %s", runtime.GOOS).
		WithHint("start it on a Linux host, and reach it from here: `jobserver --host HOST status`")
}
