// Command jobserver runs experiments on a pool of machines that are reached by SSH: a daemon that
// schedules them (`jobserver serve`), a stateless client (every other command), and the agent and
// supervisor that the daemon runs on each machine.
//
// This file is the root: it decides which of these a process is, and it is the one place where an
// error becomes an exit code. The commands are in client_*.go, one file per group; serve.go has the
// daemon.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"syscall"
	"time"

	"jobserver/agent"
	"jobserver/api"
	"jobserver/cli"
	"jobserver/completion"
)

func main() {
	// The agent and the supervisor start once per connection and once per attempt, on the machines:
	// nothing of the client is built for them.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "agent":
			os.Exit(agent.Main(os.Args[2:]))
		case "supervise":
			os.Exit(agent.SuperviseMain(os.Args[2:]))
		case "keep":
			os.Exit(agent.KeepMain(os.Args[2:]))
		}
	}
	e := &cli.Env{
		Name:   filepath.Base(os.Args[0]),
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Getenv: os.Getenv,
		Now:    time.Now,

		Grammar: reflect.TypeFor[grammar](),
	}
	if completion.Asked(os.Getenv) {
		os.Exit(cli.Complete(e, os.Args[1:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, e, os.Args[1:])
	stop()
	os.Exit(code)
}

// run is the whole program but for the process: it runs one command line and gives its exit code.
func run(ctx context.Context, e *cli.Env, args []string) int {
	err := cli.Run(ctx, e, args)
	if err == nil {
		return cli.ExitDone
	}
	if ctx.Err() != nil && api.KindOf(err) == api.Canceled {
		return cli.ExitInterrupted
	}
	var status cli.ExitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	e.ReportError(err)
	return exitCode(api.KindOf(err))
}

// exitCode is the exit code of an error of the kind.
func exitCode(kind api.Kind) int {
	switch kind {
	case api.Usage, api.Invalid:
		return cli.ExitUsage
	case api.NotFound, api.NoMatch:
		return cli.ExitNotFound
	case api.Unavailable:
		return cli.ExitUnavailable
	case api.Incompatible:
		return cli.ExitIncompatible
	case api.Timeout:
		return cli.ExitTimeout
	case api.Canceled:
		return cli.ExitInterrupted
	case api.Conflict, api.Confirm, api.Denied, api.Full, api.TooLarge, api.OutcomeUnknown,
		api.Internal:
		return cli.ExitFailed
	}
	return cli.ExitFailed // kinds that a newer daemon knows
}
